from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.parameters import LOCALIZER, MAPPER, Parameter, declare, markdown_table, read

NODES = {"mapper": MAPPER, "localizer": LOCALIZER}


@pytest.fixture
def made(ros_context: Context) -> Iterator[list[Node]]:
    nodes: list[Node] = []
    yield nodes
    for node in nodes:
        node.destroy_node()


def values(made: list[Node], parameters: Sequence[Parameter], **given: Any) -> SimpleNamespace:
    """What a node started with these values reads."""
    overrides = [RosParameter(name, value=value) for name, value in given.items()]
    made.append(Node("tested", parameter_overrides=overrides))
    declare(made[-1], parameters)
    return read(made[-1], parameters)


@pytest.mark.parametrize("name", NODES)
def test_what_is_not_given_has_its_default(made: list[Node], name: str) -> None:
    settings = vars(values(made, NODES[name]))
    defaults = {each.name: each.default for each in NODES[name]}
    assert settings == {**defaults, "base_from_camera": []}
    assert settings["map_frame"] == "map" and settings["autostart"] is False


def test_what_is_given_is_read(made: list[Node]) -> None:
    mount = [0.1, 0.0, 0.2, -0.5, 0.5, -0.5, 0.5]
    settings = values(made, MAPPER, min_frames=3, trigger_idle=0.5, odometry_source="topic", base_from_camera=mount)
    assert (settings.min_frames, settings.trigger_idle, settings.odometry_source) == (3, 0.5, "topic")
    assert settings.base_from_camera == mount


@pytest.mark.parametrize(
    "given, words",
    [
        ({"min_frames": "many"}, ["min_frames: expected integer from 2 to 10000", "many"]),
        ({"min_frames": 1}, ["min_frames: expected integer from 2 to 10000", "1"]),
        ({"trigger_idle": -1.0}, ["trigger_idle: expected number from 0 to 3600", "-1"]),
        ({"trigger_idle": 5}, ["trigger_idle", "written with a decimal point"]),
        ({"use_depth": "yes"}, ["use_depth: expected bool", "yes"]),
        ({"odometry_source": "gps"}, ["odometry_source is 'gps'; expected one of 'tf', 'topic', 'none'"]),
        ({"odometry_source": False}, ["odometry_source: expected 'tf', 'topic', 'none'", "False"]),
        ({"base_from_camera": [1, 2, 3]}, ["base_from_camera: expected numbers, written with a decimal point"]),
        ({"base_from_camera": [1.0, 2.0, 3.0]}, ["base_from_camera is [1.0, 2.0, 3.0]; expected 7 finite numbers"]),
        ({"base_from_camera": [0.0] * 7}, ["base_from_camera is [0.0, ", "quaternion of length 1"]),
        ({"base_from_camera": [math.nan] * 3 + [0.0, 0.0, 0.0, 1.0]}, ["base_from_camera is [nan, ", "finite"]),
        ({"base_from_camera": [0.0] * 6 + [1.0], "base_frame": ""}, ["base_frame is empty; name"]),
        ({"bit_depth": 5}, ["bit_depth is 5; expected 8 to 16, or 0"]),
        ({"bit_depth": 17}, ["bit_depth: expected integer from 0 to 16"]),
        ({"map_frame": ""}, ["map_frame is empty; name a TF frame, such as 'map'"]),
        ({"min_frames": 9, "max_frames": 8}, ["min_frames is 9, more than max_frames 8; lower it"]),
        ({"min_frames": 9, "trigger_count": 8}, ["trigger_count is 8, less than min_frames 9"]),
        ({"max_frames": 9, "trigger_count": 10}, ["trigger_count is 10, more than max_frames 9"]),
        ({"trigger_idle": math.nan}, ["trigger_idle", "from 0 to 3600", "nan"]),
        ({"trigger_idle": math.inf}, ["trigger_idle", "from 0 to 3600", "inf"]),
    ],
)
def test_what_does_not_fit_is_refused_with_name_value_and_remedy(
    made: list[Node], given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError, match="Correct them in the parameter file") as refusal:
        values(made, MAPPER, **given)
    assert all(each in str(refusal.value) for each in words), str(refusal.value)


def test_everything_that_does_not_fit_is_told_at_once(made: list[Node]) -> None:
    with pytest.raises(InputError) as refusal:
        values(made, MAPPER, min_frames=0, chunk=0, precision=1)
    assert all(name in str(refusal.value) for name in ("min_frames:", "chunk:", "precision:"))
    with pytest.raises(InputError) as refusal:
        values(made, LOCALIZER, refine="never", tf_mode="always")
    assert "refine is 'never'" in str(refusal.value) and "tf_mode is 'always'" in str(refusal.value)


def test_limits_hold_for_later_changes_too(made: list[Node]) -> None:
    values(made, MAPPER)
    answer = made[-1].set_parameters([RosParameter("min_frames", value=1), RosParameter("min_frames", value=2)])
    assert [each.successful for each in answer] == [False, True]


@pytest.mark.parametrize("name", NODES)
def test_defaults_lie_within_their_own_limits_and_everything_is_explained(name: str) -> None:
    for parameter in NODES[name]:
        assert parameter.description and parameter.name.isidentifier()
        if parameter.low is not None and parameter.high is not None:
            assert isinstance(parameter.default, (int, float)) and parameter.low <= parameter.default <= parameter.high
        if parameter.choices:
            assert parameter.default in parameter.choices
    assert len({parameter.name for parameter in NODES[name]}) == len(NODES[name])


def test_the_table_has_a_row_for_each_parameter() -> None:
    rows = markdown_table(MAPPER).splitlines()
    assert len(rows) == 2 + len(MAPPER) and all(row.count(" | ") == 3 for row in rows[2:])
    assert "| `autostart` | `false` | bool | configure and activate" in rows[2]
    assert "| `min_frames` | `8` | integer from 2 to 10000 | keyframes" in "\n".join(rows)
