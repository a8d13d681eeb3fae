"""What a node has while it is configured and while it is active: made and closed by the
transitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.localizer import active as active_localizer
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.mapper import active as active_mapper
from vggt3_ros.nodes.mapper_node import MapperNode
from vggt3_ros.nodes.runtime.lifecycle import ManagedNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Stage:
    def __init__(self, name: str, closed: list[str], trouble: bool = False) -> None:
        self.name, self._closed, self._trouble = name, closed, trouble

    def close(self) -> None:
        self._closed.append(self.name)
        if self._trouble:
            raise RuntimeError("it is stuck")


class Managed(ManagedNode[LocalizerParameters, Stage, Stage]):
    def __init__(self) -> None:
        super().__init__("managed", LocalizerParameters)
        self.closed: list[str] = []
        self.missing = self.stuck = False
        self.rates: list[float] = []

    def configure(self) -> Stage:
        if self.settings.model == "none":
            raise InputError("there is no network 'none'")
        return Stage("configured", self.closed)

    def activate(self, configured: Stage) -> Stage:
        if self.missing:
            raise InputError("the device is gone")
        return Stage(f"active, {configured.name}", self.closed, self.stuck)

    def settings_changed(self) -> None:
        self.rates.append(self.settings.max_rate)


@pytest.fixture
def node(ros_context: Context) -> Iterator[Managed]:
    node = Managed()
    yield node
    node.destroy_node()


def test_what_is_made_is_there_until_the_transition_back_closes_it(node: Managed) -> None:
    assert node.configured is None and node.active is None
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        assert node.configured is not None and node.active is not None and node.closed == []
        assert node.trigger_deactivate() == SUCCESS
        assert (
            node.configured is not None
            and node.active is None
            and node.closed == ["active, configured"]
        )
        assert node.trigger_cleanup() == SUCCESS
        assert node.configured is None and node.closed == ["active, configured", "configured"]
        node.closed.clear()


def test_stopped_in_any_state_it_closes_what_there_is_once(node: Managed) -> None:
    node.stop()
    assert node.closed == []
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    node.stop()
    node.stop()
    assert node.closed == ["active, configured", "configured"]


def test_a_failed_transition_makes_nothing_and_can_be_tried_again(
    node: Managed, capfd: pytest.CaptureFixture[str]
) -> None:
    node.set_parameters([Parameter("model", value="none")])
    assert node.trigger_configure() == FAILURE and node.configured is None
    node.set_parameters([Parameter("model", value="tiny")])
    node.missing = True
    assert node.trigger_configure() == SUCCESS
    assert (
        node.trigger_activate() == FAILURE and node.active is None and node.configured is not None
    )
    node.missing = False
    assert node.trigger_activate() == SUCCESS and node.active is not None
    log = capfd.readouterr().err
    assert (
        "cannot configure: there is no network 'none'" in log
        and "cannot activate: the device is gone" in log
    )


def test_what_cannot_be_closed_keeps_no_node_active(
    node: Managed, capfd: pytest.CaptureFixture[str]
) -> None:
    node.stuck = True
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    assert node.trigger_deactivate() == SUCCESS and node.active is None
    assert "cannot deactivate" in (log := capfd.readouterr().err) and "it is stuck" in log


def test_settings_are_those_of_the_configuration_and_of_live_changes_since(node: Managed) -> None:
    node.set_parameters([Parameter("max_rate", value=3.0)])
    assert node.settings == LocalizerParameters() and node.rates == []
    assert node.trigger_configure() == SUCCESS and node.settings == LocalizerParameters(
        max_rate=3.0
    )
    (answer,) = node.set_parameters([Parameter("max_rate", value=4.0)])
    assert answer.successful and node.rates == [4.0]
    (answer,) = node.set_parameters([Parameter("refine", value="verify")])
    assert (
        not answer.successful
        and node.rates == [4.0]
        and node.settings == LocalizerParameters(max_rate=4.0)
    )


@pytest.mark.parametrize(
    "kind, module", [(MapperNode, active_mapper), (LocalizerNode, active_localizer)]
)
def test_a_node_that_fails_half_way_hears_nothing_any_more(
    kind: type[ManagedNode[Any, Any, Any]],
    module: ModuleType,
    ros_context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise InputError("there are no threads left")

    node = kind(parameter_overrides=[Parameter("scene_dir", value=str(tmp_path))])
    assert node.trigger_configure() == SUCCESS
    before = len(list(node.subscriptions)), len(list(node.timers))
    with monkeypatch.context() as patch:
        patch.setattr(module, "Worker", fail)
        assert node.trigger_activate() == FAILURE and node.active is None
    assert (len(list(node.subscriptions)), len(list(node.timers))) == before
    assert node.trigger_activate() == SUCCESS
    assert len(list(node.subscriptions)) > before[0] and len(list(node.timers)) > before[1]
    node.stop()
    assert (len(list(node.subscriptions)), len(list(node.timers))) == before
    node.destroy_node()
