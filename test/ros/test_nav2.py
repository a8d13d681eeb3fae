"""What is said to Nav2, as far as that can be checked without it: names in config/nav2_params.yaml
and docs/nav2.md are those of our nodes, and of Nav2's documentation.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.context import Context
from rclpy.node import Node
from std_srvs.srv import Empty, Trigger

from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.runtime.config_files import config_file

from ..patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "config" / "nav2_params.yaml").read_text(encoding="utf-8")
SETTINGS: dict[str, Any] = yaml.safe_load(TEXT)
PAGE = (ROOT / "docs" / "nav2.md").read_text(encoding="utf-8")
FROM_THE_ROBOT = {"/odom", "/scan"}
WITHIN_NAV2 = {"cmd_vel", "cmd_vel_smoothed", "/local_costmap/published_footprint"}

# Parameters of the layers in docs.nav2.org, Costmap 2D: static, obstacle and inflation layer.
LAYERS = {
    "nav2_costmap_2d::StaticLayer": {
        *("plugin", "enabled", "map_topic", "map_subscribe_transient_local"),
        *("subscribe_to_updates", "footprint_clearing_enabled", "restore_cleared_footprint"),
    },
    "nav2_costmap_2d::ObstacleLayer": {
        *("plugin", "enabled", "footprint_clearing_enabled", "max_obstacle_height"),
        *("combination_method", "observation_sources", "scan"),
    },
    "nav2_costmap_2d::InflationLayer": {
        *("plugin", "enabled", "inflation_radius", "cost_scaling_factor"),
        *("inflate_unknown", "inflate_around_unknown"),
    },
}
SOURCE = {
    *("topic", "sensor_frame", "observation_persistence", "expected_update_rate", "data_type"),
    *("min_obstacle_height", "max_obstacle_height", "inf_is_valid", "marking", "clearing"),
    *("obstacle_max_range", "obstacle_min_range", "raytrace_max_range", "raytrace_min_range"),
}


def given(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every parameter with its value, however deep."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from given(value)
        else:
            yield name, value


def own_names() -> set[str]:
    """Full names of our topics and services, by the tables of docs/ros.md."""
    text = (ROOT / "docs" / "ros.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:publishes|subscribes|service|action) \| `([^`]+)` \|", text, re.M)
    return {name if name.startswith("/") else f"/vggt3/{name}" for name in rows}


def costmap(name: str) -> dict[str, Any]:
    found: dict[str, Any] = SETTINGS[name][name]["ros__parameters"]
    return found


def test_it_is_installed_with_the_others() -> None:
    assert config_file("nav2_params.yaml").name == "nav2_params.yaml"


def test_nobody_but_the_localizer_says_where_odometry_is() -> None:
    assert not {"amcl", "slam_toolbox", "map_server"} & set(SETTINGS)
    assert LocalizerParameters().tf_mode == "map_to_odom"


def test_topics_are_those_of_our_nodes_or_of_the_robot() -> None:
    topics = {value for name, value in given(SETTINGS) if name.endswith("topic")}
    ours = {topic for topic in topics if topic.startswith("/vggt3/")}
    assert ours and ours <= own_names()
    assert topics - ours == FROM_THE_ROBOT | WITHIN_NAV2


def test_frames_are_the_defaults_of_the_localizer() -> None:
    frames = LocalizerParameters()
    named = {"odom_frame_id": frames.odom_frame, "local_frame": frames.odom_frame}
    named |= {"fixed_frame": frames.odom_frame}
    named |= dict.fromkeys(("robot_base_frame", "base_frame_id", "base_frame"), frames.base_frame)
    for name, value in given(SETTINGS):
        if "frame" in name and name != "global_frame":
            assert value == named[name], name
    assert costmap("global_costmap")["global_frame"] == frames.map_frame
    assert costmap("local_costmap")["global_frame"] == frames.odom_frame
    for server in ("bt_navigator", "behavior_server"):
        assert SETTINGS[server]["ros__parameters"]["global_frame"] == frames.map_frame


@pytest.mark.parametrize("name", ["local_costmap", "global_costmap"])
def test_every_layer_is_there_with_parameters_that_nav2_knows(name: str) -> None:
    settings = costmap(name)
    for layer in settings["plugins"]:
        assert set(settings[layer]) <= LAYERS[settings[layer]["plugin"]], layer
        if "scan" in settings[layer]:
            assert set(settings[layer]["scan"]) <= SOURCE


def test_every_plugin_that_is_named_says_what_it_is() -> None:
    for server, content in SETTINGS.items():
        values = content.get("ros__parameters", {})
        for parameter in (name for name in values if re.search("_plugins?$", name)):
            for plugin in values[parameter]:
                assert "::" in values[plugin]["plugin"], f"{server}: {plugin}"


def test_ros_itself_reads_the_file_and_a_latched_grid_is_asked_for() -> None:
    context = Context()
    arguments = ["--ros-args", "--params-file", str(ROOT / "config" / "nav2_params.yaml")]
    context.init(args=arguments)
    node = Node(
        "global_costmap",
        namespace="/global_costmap",
        context=context,
        automatically_declare_parameters_from_overrides=True,
    )
    read = {
        name: node.get_parameter(f"static_layer.{name}").value
        for name in ("map_topic", "map_subscribe_transient_local")
    }
    node.destroy_node()
    context.try_shutdown()
    assert read == {"map_topic": "/vggt3/grid", "map_subscribe_transient_local": True}


def test_page_names_services_and_topics_that_exist() -> None:
    named = set(re.findall(r"/vggt3/[a-z_/]*[a-z]", PAGE))
    assert "/vggt3/localizer/relocalize" in named and named <= own_names()
    from_page = re.findall(r"-r ([a-z_/]+):=/", PAGE)
    assert {f"/vggt3/{name}" for name in from_page} <= own_names()
    (tree,) = re.findall(r"```xml\n(.*?)```", PAGE, re.DOTALL)
    (asks,) = ElementTree.fromstring(tree).iter("ReinitializeGlobalLocalization")
    assert asks.get("service_name") == "/vggt3/localizer/relocalize"


def test_services_have_the_types_that_are_promised_also_by_amcls_name(
    start_node: Any, node: Node
) -> None:
    renamed = "localizer/relocalize:=/reinitialize_global_localization"
    process = start_node("localizer_node", "-r", renamed)
    for kind, name in (
        (Empty, "/reinitialize_global_localization"),
        (Trigger, "/vggt3/localizer/relocalize_and_wait"),
    ):
        client = node.create_client(kind, name)
        assert client.wait_for_service(PATIENCE_S), f"{name}: {process.log}"
        node.destroy_client(client)
    assert "remaps nothing" not in process.log
