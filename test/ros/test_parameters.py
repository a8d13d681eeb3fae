from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.signals import SignalHandlerOptions

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.runtime.parameter_values import Settings, change, declare, fitted, read
from vggt3_ros.nodes.runtime.parameters import NodeParameters, markdown_table, parameters_of
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters

NODES: dict[str, type[NodeParameters]] = {
    "mapper": MapperParameters,
    "localizer": LocalizerParameters,
    "sim_camera": SimCameraParameters,
}
MAPPER, LOCALIZER = (parameters_of(NODES[name]) for name in ("mapper", "localizer"))


@pytest.fixture(scope="module")
def ros_context(ros_environment: None) -> Iterator[Context]:
    """One for all nodes here, which read their parameters and meet nobody."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield rclpy.get_default_context()
    rclpy.try_shutdown()


@pytest.fixture
def made(ros_context: Context) -> Iterator[list[Node]]:
    nodes: list[Node] = []
    yield nodes
    for node in nodes:
        node.destroy_node()


def values(made: list[Node], parameters: type[Settings], **given: Any) -> Settings:
    """What a node started with these values reads."""
    overrides = [RosParameter(name, value=value) for name, value in given.items()]
    made.append(Node("tested", parameter_overrides=overrides))
    declare(made[-1], parameters)
    return read(made[-1], parameters)


@pytest.mark.parametrize("name", NODES)
def test_what_is_not_given_has_its_default(made: list[Node], name: str) -> None:
    settings = values(made, NODES[name])
    assert settings == NODES[name]()
    assert asdict(settings) == {each.name: each.default for each in parameters_of(NODES[name])}


def test_what_is_given_is_told_from_the_defaults() -> None:
    assert SimCameraParameters(width=640, rate=10.0, distortion=()).given() == {"width": 640}


def test_what_is_given_is_read(made: list[Node]) -> None:
    mount = [0.1, 0.0, 0.2, -0.5, 0.5, -0.5, 0.5]
    settings = values(
        made,
        MapperParameters,
        min_frames=3,
        trigger_idle=0.5,
        odometry_source="topic",
        base_from_camera=mount,
    )
    assert (settings.min_frames, settings.trigger_idle, settings.odometry_source) == (
        3,
        0.5,
        "topic",
    )
    assert settings.base_from_camera == tuple(mount)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"min_frames": "many"}, ["min_frames is 'many'; expected integer from 2 to 10000"]),
        ({"min_frames": 1}, ["min_frames is 1; expected integer from 2 to 10000"]),
        ({"min_frames": 8.0}, ["min_frames is 8.0; expected integer from 2 to 10000"]),
        ({"trigger_idle": -1}, ["trigger_idle is -1; expected number from 0 to 3600"]),
        ({"trigger_idle": True}, ["trigger_idle is True; expected number from 0 to 3600"]),
        ({"use_depth": "yes"}, ["use_depth is 'yes'; expected true or false"]),
        ({"scene_dir": 2026}, ["scene_dir is 2026; expected a string: write it in quotes"]),
        (
            {"base_frame": "null"},
            ["base_frame is 'null'; expected a string, which this is not in YAML: write ''"],
        ),
        (
            {"odometry_source": "gps"},
            ["odometry_source is 'gps'; expected one of 'tf', 'topic', 'none'"],
        ),
        ({"odometry_source": "topik"}, ["odometry_source is 'topik'", "did you mean 'topic'?"]),
        (
            {"odometry_source": False},
            ["odometry_source is False; expected one of 'tf', 'topic', 'none'"],
        ),
        ({"base_from_camera": ["x", "y"]}, ["base_from_camera is ['x', 'y']; expected numbers"]),
        (
            {"base_from_camera": "[0.1, 0, 1]"},
            ["expected numbers, all of them with decimal points"],
        ),
        ({"base_from_camera": [1, 2, 3]}, ["base_from_camera is ", "expected 7 finite numbers"]),
        (
            {"base_from_camera": [1.0, 2.0, 3.0]},
            ["base_from_camera is ", "expected 7 finite numbers"],
        ),
        (
            {"base_from_camera": [0.0] * 7},
            ["base_from_camera is ", "[0.0, ", "quaternion of length 1"],
        ),
        (
            {"base_from_camera": [math.nan] * 3 + [0.0, 0.0, 0.0, 1.0]},
            ["base_from_camera is ", "[nan, ", "finite"],
        ),
        ({"base_from_camera": [0.0] * 6 + [1.0], "base_frame": ""}, ["base_frame is empty; name"]),
        ({"map_frame": ""}, ["map_frame is ''; expected the name of a TF frame, such as 'map'"]),
        (
            {"odom_frame": "/"},
            ["odom_frame is '/'; expected the name of a TF frame, such as 'odom'"],
        ),
        ({"map_frame": "odom"}, ["map_frame and odom_frame are both 'odom'"]),
        ({"map_frame": "/odom"}, ["map_frame and odom_frame are both 'odom'"]),
        ({"base_frame": "/map"}, ["map_frame and base_frame are both 'map'"]),
        ({"odom_frame": "base_link"}, ["odom_frame and base_frame are both 'base_link'"]),
        ({"camera_frame": "odom"}, ["odom_frame and camera_frame are both 'odom'"]),
        ({"bit_depth": 5}, ["bit_depth is 5; expected 8 to 16, or 0"]),
        ({"bit_depth": 17}, ["bit_depth is 17; expected integer from 0 to 16"]),
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
    with pytest.raises(InputError, match="Correct them where they were given") as refusal:
        values(made, MapperParameters, **given)
    assert all(each in str(refusal.value) for each in words), str(refusal.value)


def test_everything_that_does_not_fit_is_told_at_once(made: list[Node]) -> None:
    with pytest.raises(InputError) as refusal:
        values(made, MapperParameters, min_frames=0, chunk=-1, precision=1)
    assert all(
        name in str(refusal.value) for name in ("min_frames is 0", "chunk is -1", "precision is 1")
    )
    with pytest.raises(InputError) as refusal:
        values(made, LocalizerParameters, refine="never", tf_mode="always")
    assert "refine is 'never'" in str(refusal.value) and "tf_mode is 'always'" in str(refusal.value)


def test_a_robot_is_not_lost_between_two_attempts(made: list[Node]) -> None:
    with pytest.raises(
        InputError,
        match="max_rate is 0.5, one attempt in 2 s, and lost_after 2 s.*raise one of them",
    ):
        values(made, LocalizerParameters, max_rate=0.5)
    assert values(made, LocalizerParameters, max_rate=0.5, lost_after=5).max_rate == 0.5


def test_integers_are_numbers_and_frames_lose_their_slash(made: list[Node]) -> None:
    mount = [0, 0, 1, 0, 0, 0, 1]
    given = {
        "trigger_idle": 5,
        "base_from_camera": mount,
        "map_frame": "/map",
        "base_frame": "/robot1/base_link",
    }
    settings = values(made, MapperParameters, **given)
    assert (settings.trigger_idle, settings.base_from_camera) == (5.0, tuple(mount))
    assert (settings.map_frame, settings.base_frame) == ("map", "robot1/base_link")
    assert made[-1].get_parameter("trigger_idle").type_ is RosParameter.Type.DOUBLE
    assert made[-1].get_parameter("map_frame").value == "map", "what tools show is what is used"


@pytest.mark.parametrize("name, expected", [("base_frame", ""), ("base_from_camera", ())])
def test_nothing_is_the_empty_value_where_there_is_one(name: str, expected: object) -> None:
    (parameter,) = [each for each in MAPPER if each.name == name]
    assert fitted(parameter, None) == expected


@pytest.mark.parametrize("name", ["max_rate", "refine", "confirmations", "follow_mapper"])
def test_nothing_is_refused_where_a_value_is_needed(name: str) -> None:
    (parameter,) = [each for each in LOCALIZER if each.name == name]
    with pytest.raises(InputError, match=f"{name} is None; expected"):
        fitted(parameter, None)


class Running(Node):
    """A node that works with its settings."""

    def __init__(self) -> None:
        super().__init__("running", allow_undeclared_parameters=True)
        declare(self, LocalizerParameters)
        self.settings = read(self, LocalizerParameters)
        self.add_on_set_parameters_callback(self._on_set_parameters)

    def _on_set_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        result, self.settings = change(self, changes, self.settings)
        return result


@pytest.fixture
def running(made: list[Node]) -> Running:
    made.append(Running())
    return made[-1]


def test_what_can_be_changed_while_it_runs_is_changed(running: Running) -> None:
    before = running.settings
    changes = {"max_rate": 5, "lost_after": 1.5, "publish_unverified": True, "confirmations": 3}
    answer = running.set_parameters_atomically(
        [RosParameter(name, value=value) for name, value in changes.items()]
    )
    assert answer.successful, answer.reason
    assert running.settings == replace(before, **changes) and isinstance(
        running.settings.max_rate, float
    )
    assert before == LocalizerParameters(), "whoever works with settings is not disturbed meanwhile"


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("max_rat", 2.0, "there is no parameter 'max_rat' (did you mean 'max_rate'?)"),
        ("max_rate", "fast", "max_rate is 'fast'; expected number from 0 to 1000"),
        ("max_rate", -1, "max_rate is -1; expected number from 0 to 1000"),
        ("lost_after", 0.0, "lost_after"),
        ("max_rate", None, "max_rate cannot be deleted"),
        (
            "refine",
            "refined",
            "refine is 'refined'; expected one of 'refine', 'verify', 'none' (did you",
        ),
        ("refine", "verify", "refine cannot be changed while the node runs"),
        ("map_frame", "odom", "map_frame cannot be changed while the node runs"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_with_all_that_come_with_it(
    running: Running, name: str, value: object, reason: str
) -> None:
    kind = RosParameter.Type.NOT_SET if value is None else None
    wish = [RosParameter("confirmations", value=5), RosParameter(name, kind, value)]
    answer = running.set_parameters_atomically(wish)
    assert not answer.successful and reason in answer.reason
    assert (
        running.settings == LocalizerParameters()
        and running.get_parameter("confirmations").value == 2
    )
    assert running.describe_parameter("max_rate").type == RosParameter.Type.DOUBLE.value, (
        "what tools are told"
    )


def test_the_same_value_is_no_change(running: Running) -> None:
    wish = [RosParameter("refine", value="refine"), RosParameter("map_frame", value="/map")]
    assert all(answer.successful for answer in running.set_parameters(wish)), (
        "ros2 param load of a dump"
    )


@pytest.mark.parametrize("name", NODES)
def test_defaults_lie_within_their_own_limits_and_everything_is_explained(name: str) -> None:
    parameters = parameters_of(NODES[name])
    for parameter in parameters:
        assert parameter.description and parameter.name.isidentifier()
        if parameter.low is not None and parameter.high is not None:
            assert (
                isinstance(parameter.default, (int, float))
                and parameter.low <= parameter.default <= parameter.high
            )
        if parameter.choices:
            assert parameter.default in parameter.choices
    assert len({parameter.name for parameter in parameters}) == len(parameters)


def test_the_table_has_a_row_for_each_parameter() -> None:
    rows = markdown_table(MAPPER).splitlines()
    assert len(rows) == 2 + len(MAPPER) and all(row.count(" | ") == 3 for row in rows[2:])
    assert "| `autostart` | `false` | bool | configure and activate" in rows[2]
    assert "| `min_frames` | `8` | integer from 2 to 10000 | keyframes" in "\n".join(rows)
