"""What the launch files have in common: arguments, nodes, the middleware's profile, RViz.

For launch files alone: `launch` and `launch_ros` come with ROS and are not on PyPI. Only what Humble has is used.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, LaunchContext
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.share import config_file, middleware_variables

_PACKAGE = "vggt3_ros"
_NAMESPACE = "vggt3"  # that of the topics in vggt3.rviz
_BOOL = ["true", "false"]
_TIME_TO_END = "20"  # seconds from SIGINT to SIGTERM; on a busy computer the 5 s of launch cut nodes off
_UNSET = "; empty: as the parameter files say"

# Name of an argument: default, description, choices.
_ARGUMENTS: dict[str, tuple[str, str, list[str] | None]] = {
    "image_topic": ("image", "images; compressed ones are expected at this name followed by /compressed", None),
    "camera_info_topic": ("", "calibration of the camera; empty: camera_info beside the image topic", None),
    "odom_topic": ("", "take the odometry from this topic instead of TF" + _UNSET, None),
    "depth_topic": ("", "depth images, registered to the images, for the scale of the map; empty: none", None),
    "namespace": (_NAMESPACE, "namespace of the nodes and their topics", None),
    "params_file": ("", "parameter file, loaded after those of config/; it may name a few parameters only", None),
    "model": ("", "network: tiny, a file or folder of weights, or a Hugging Face name" + _UNSET, None),
    "device": ("", "device of the network: auto, cpu, cuda or cuda:N" + _UNSET, None),
    "scene_dir": ("", "where scenes are saved, or the scene, or folder of scenes, to localize in" + _UNSET, None),
    "base_frame": ("", "frame of the robot" + _UNSET, None),
    "use_sim_time": ("", "take the time from /clock, for recordings and simulators" + _UNSET, ["", *_BOOL]),
    "rviz": ("false", "show it all in RViz", _BOOL),
}

# A topic's argument: our name of the topic, and the parameter that makes a node listen to it.
_TOPICS: dict[str, tuple[str, dict[str, Any]]] = {
    "image_topic": ("image", {}),
    "camera_info_topic": ("camera_info", {}),
    "odom_topic": ("odom", {"odometry_source": "topic"}),
    "depth_topic": ("depth", {"use_depth": True}),
}

_RVIZ_TOPICS = ("points", "keyframes", "pose", "initialpose", "image")  # those in vggt3.rviz, below /vggt3


def arguments(*names: str, **defaults: str) -> list[DeclareLaunchArgument]:
    """Declarations of launch arguments, with the description and default that each has everywhere, or one of these."""
    return [
        DeclareLaunchArgument(name, default_value=defaults.get(name, default), description=description, choices=choices)
        for name, (default, description, choices) in ((name, _ARGUMENTS[name]) for name in names)
    ]


def middleware_profile() -> OpaqueFunction:
    """Lets Fast DDS carry images and clouds (config/fastdds.xml), unless the user has chosen a profile already."""
    return OpaqueFunction(function=_middleware_profile)


def managed_node(executable: str, *passed_on: str, **parameters: Any) -> OpaqueFunction:
    """A lifecycle node that activates itself, named as its executable; gets the named arguments if they are not empty.

    parameters: others that it gets in any case.

    An argument of a topic remaps it, any other sets the parameter of its name. When launched, raises InputError if
    params_file is not a file: launch_ros would go on without it.
    """
    return OpaqueFunction(function=_node, args=[executable, passed_on, {"autostart": True, **parameters}])


def plain_node(executable: str, *passed_on: str) -> OpaqueFunction:
    """As `managed_node`, for a node without a lifecycle."""
    return OpaqueFunction(function=_node, args=[executable, passed_on, {}])


def true_if_installed(package: str) -> str:
    """Default of an argument that needs a package which may be missing."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return "false"
    return "true"


def rviz() -> OpaqueFunction:
    """RViz with config/vggt3.rviz, its topics in the nodes' namespace, if the argument `rviz` says so.

    Comes before the nodes: where RViz is not installed, launch gives up, but leaves running what it has started.
    """
    return OpaqueFunction(function=_rviz, condition=IfCondition(LaunchConfiguration("rviz")))


def _middleware_profile(context: LaunchContext) -> list[Action]:
    variables = middleware_variables(context.environment)
    return [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def _node(context: LaunchContext, executable: str, passed_on: tuple[str, ...], fixed: dict[str, Any]) -> list[Action]:
    values = {name: value for name in passed_on if (value := _value(context, name))}
    parameters = dict(fixed, **_sim_time(context))
    remappings = []
    for name, value in values.items():
        if name in _TOPICS:
            topic, implied = _TOPICS[name]
            remappings.append((topic, value))
            parameters.update(implied)
        else:
            parameters[name] = value
    if "image_topic" in values:
        image = values["image_topic"]
        remappings.append(("image/compressed", f"{image}/compressed"))
        if "camera_info_topic" not in values:
            remappings.append(("camera_info", posixpath.join(posixpath.dirname(image), "camera_info")))
    node = Node(
        package=_PACKAGE,
        executable=executable,
        name=executable,
        namespace=_value(context, "namespace"),
        output="screen",
        parameters=[*_parameter_files(context), parameters],
        remappings=remappings,
        sigterm_timeout=_TIME_TO_END,
    )
    return [node]


def _rviz(context: LaunchContext) -> list[Action]:
    namespace = _value(context, "namespace")
    remappings = [(f"/{_NAMESPACE}/{topic}", _absolute(namespace, topic)) for topic in _RVIZ_TOPICS if topic != "image"]
    remappings.append((f"/{_NAMESPACE}/image", _absolute(namespace, _value(context, "image_topic") or "image")))
    node = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", str(config_file("vggt3.rviz"))],
        parameters=[_sim_time(context)],
        remappings=remappings,
    )
    return [node]


def _value(context: LaunchContext, name: str) -> str:
    return str(context.launch_configurations.get(name, ""))


def _sim_time(context: LaunchContext) -> dict[str, Any]:
    value = _value(context, "use_sim_time")
    return {"use_sim_time": value == "true"} if value else {}


def _parameter_files(context: LaunchContext) -> list[str]:
    files = [str(config_file(f"{name}.yaml")) for name in ("mapper", "localizer")]
    given = _value(context, "params_file")
    if given:
        file = Path(given).expanduser()
        if not file.is_file():
            raise InputError(f"params_file is {given!r}, which is not a file; expected a YAML file of parameters")
        files.append(str(file.resolve()))
    return files


def _absolute(namespace: str, topic: str) -> str:
    return posixpath.join("/", namespace, topic)
