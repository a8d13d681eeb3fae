"""docs/ros.md says what the nodes are: its tables are made of their declarations.

`UPDATE_DOCS=1 python -m pytest test/ros/test_documentation.py` writes them anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rclpy.node import Node

from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.mapper_node import MapperNode
from vggt3_ros.nodes.runtime.parameters import markdown_table, parameters_of
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters
from vggt3_ros.nodes.sim_camera_node import SimCamera

from ..few_textures import few_textures
from .processes import wait_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "ros.md"
PARAMETERS = {
    "mapper": MapperParameters,
    "localizer": LocalizerParameters,
    "sim_camera": SimCameraParameters,
}
INFRASTRUCTURE = re.compile(
    r"parameter|/rosout|transition|(get|change)_state|get_(available|type)|clock"
)

# What the table says about each name beyond its type.
MEANINGS = {
    "image": "the camera; `image/compressed` with `image_transport: compressed`",
    "camera_info": "its calibration",
    "/tf": "the way from `odom_frame` to the camera; the localizer's transform",
    "/tf_static": "where the camera is on the robot",
    "points": "coloured points of the newest scene: x y z rgb confidence; latched",
    "keyframes": "poses of its keyframes; latched",
    "keyframes_cloud": (
        "the same as dotted pyramids, coloured by the scene that they were first in, and the loops"
        " that they close as dotted lines; latched"
    ),
    "grid": "what is in a robot's way there, for Nav2 ([how](grid.md)); latched",
    "scene": "what and where it is; latched",
    "mapper/status": "at every change, and `status_rate` times a second",
    "mapper/reconstruct": "make a scene of the collection, with progress; can be cancelled",
    "mapper/save_scene": "save the newest scene; answers when it is on the disk",
    "mapper/load_scene": "make a stored scene the newest",
    "mapper/reset": "forget the collected frames",
    "mapper/pause": "leave images out",
    "mapper/resume": "collect again",
    "/diagnostics": "state, reasons, counts",
    "pose": "`base_frame` in the map, with covariance, only while LOCALIZED; stamp of the image",
    "localizer/status": "state and reason of every attempt",
    "localizer/depth/image_rect": (
        "with `refine_depth`: metres along z, of the image as the network takes it"
    ),
    "localizer/depth/camera_info": "its calibration",
    "localizer/load_scene": "use a stored scene",
    "localizer/pause": "leave images out",
    "localizer/resume": "localize again",
    "localizer/relocalize": "forget where the robot is, search everywhere; answers at once",
    "localizer/relocalize_and_wait": (
        "the same; answers with the place, or after `relocalize_timeout` why there is none"
    ),
    "initialpose": "where to look first",
    "odom": "odometry, with its drift",
    "sim_camera/true_pose": "the truth: `base_frame` in the map",
    "sim_camera/leg": "which leg is driven, and whether it is done; latched",
    "sim_camera/next_leg": "drive on",
    "sim_camera/teleport": "carry the camera elsewhere; odometry does not notice",
    "sim_camera/odom_jump": "let odometry jump by a metre",
}


@pytest.fixture
def nodes(executor: Any, tmp_path: Path) -> Iterator[dict[str, Node]]:
    """One of each, active, in this process."""
    arguments = [
        "--ros-args",
        "-r",
        "__ns:=/vggt3",
        "-p",
        f"scene_dir:={tmp_path}",
        "-p",
        "autostart:=true",
    ]
    small = [
        "--ros-args",
        "-r",
        "__ns:=/vggt3",
        "-p",
        "width:=32",
        "-p",
        "height:=24",
        "-p",
        "length:=0.5",
    ]
    made = {
        "mapper": MapperNode(cli_args=arguments, use_global_arguments=False),
        "localizer": LocalizerNode(cli_args=arguments, use_global_arguments=False),
    }
    # the camera paints its room before it is there, and renders until it is destroyed
    with few_textures():
        made["sim_camera"] = SimCamera(cli_args=small, use_global_arguments=False)
        for name in ("mapper", "localizer"):
            assert made[name].autostart()
        yield made
        for name in ("mapper", "localizer"):
            made[name].stop()
        for node in made.values():
            node.destroy_node()


def interface_table(node: Node) -> str:
    """Topics, services and actions of a node, from its own graph."""
    name, namespace = node.get_name(), node.get_namespace()
    kinds: list[tuple[str, Callable[..., Any]]] = [
        ("publishes", node.get_publisher_names_and_types_by_node),
        ("subscribes", node.get_subscriber_names_and_types_by_node),
        ("service", node.get_service_names_and_types_by_node),
    ]
    wait_for(
        lambda: len(node.get_service_names_and_types_by_node(name, namespace)) > 2,
        "the node's own graph",
    )
    found: dict[tuple[str, str], str] = {}
    for kind, ask in kinds:
        for topic, types in ask(name, namespace):
            short = topic.removeprefix(f"{namespace}/")
            if "/_action/" in short:
                action = short.partition("/_action/")[0]
                if "send_goal" in short:
                    found["action", action] = types[0].removesuffix("_SendGoal")
            elif not INFRASTRUCTURE.search(short):
                found[kind, short] = types[0]
    rows = ["| | name | type | |", "|---|---|---|---|"]
    for (kind, short), type_name in sorted(found.items()):
        package, _, message = type_name.split("/")
        rows.append(f"| {kind} | `{short}` | {package}/{message} | {MEANINGS[short]} |")
    return "\n".join(rows) + "\n"


def section(text: str, marker: str) -> tuple[int, int]:
    """Where the table behind a marker begins and ends."""
    begin = text.index(f"<!-- {marker} -->\n") + len(f"<!-- {marker} -->\n")
    return begin, text.index("<!-- end -->", begin)


def compare(marker: str, table: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = section(text, marker)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(text[:begin] + table + text[end:], encoding="utf-8")
    else:
        assert text[begin:end] == table, f"docs/ros.md differs; {__doc__}"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_code(name: str) -> None:
    compare(f"parameters: {name}", markdown_table(parameters_of(PARAMETERS[name])))


def test_topics_services_and_actions_are_those_of_the_nodes(nodes: dict[str, Node]) -> None:
    for name, node in nodes.items():
        compare(f"interface: {name}", interface_table(node))
