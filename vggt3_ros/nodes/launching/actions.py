"""What the launch files start: nodes, with the middleware's profile, and RViz.

For launch files alone: `launch` and `launch_ros` come with ROS and are not on PyPI. Only what
Humble has is used.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, LaunchContext
from launch.actions import OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vggt3_ros.nodes.launching.arguments import (
    NAMESPACE,
    PACKAGE,
    absolute,
    own_parameter_file,
    value,
)
from vggt3_ros.nodes.runtime.config_files import config_file
from vggt3_ros.nodes.runtime.middleware import middleware_variables

# seconds from SIGINT to SIGTERM; on a busy computer the 5 s of launch cut nodes off
_TIME_TO_END = "20"

# A topic's argument: our name of the topic, and the parameter that makes a node listen to it.
_TOPICS: dict[str, tuple[str, dict[str, Any]]] = {
    "image_topic": ("image", {}),
    "camera_info_topic": ("camera_info", {}),
    "odom_topic": ("odom", {"odometry_source": "topic"}),
    "depth_topic": ("depth", {"use_depth": True}),
}
_COMPRESSED = "/compressed"
# those in vggt3.rviz, below /vggt3
_RVIZ_TOPICS = ("points", "keyframes", "keyframes_cloud", "pose", "initialpose", "image")


def middleware_profile() -> OpaqueFunction:
    """Lets Fast DDS carry images and clouds (config/fastdds.xml), unless the user has chosen a
    profile already.
    """
    return OpaqueFunction(function=_middleware_profile)


def managed_node(executable: str, *passed_on: str, **parameters: Any) -> OpaqueFunction:
    """A lifecycle node that activates itself, named as its executable; gets the named arguments if
    they are not empty.

    parameters: others that it gets in any case.

    An argument of a topic remaps it, any other sets the parameter of its name.
    """
    return OpaqueFunction(
        function=_node, args=[executable, passed_on, {"autostart": True, **parameters}]
    )


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
    """RViz with config/vggt3.rviz, its topics in the nodes' namespace, if the argument `rviz` says
    so.

    Comes before the nodes: where RViz is not installed, launch gives up, but leaves running what it
    has started.
    """
    return OpaqueFunction(function=_rviz, condition=IfCondition(LaunchConfiguration("rviz")))


def _middleware_profile(context: LaunchContext) -> list[Action]:
    variables = middleware_variables(context.environment)
    return [SetEnvironmentVariable(name, setting) for name, setting in variables.items()]


def _node(
    context: LaunchContext, executable: str, passed_on: tuple[str, ...], fixed: dict[str, Any]
) -> list[Action]:
    values = {name: given for name in passed_on if (given := value(context, name)) is not None}
    parameters = dict(fixed, **_sim_time(context))
    remappings = _transforms(context)
    if values.get("image_topic", "").endswith(_COMPRESSED):
        values["image_topic"] = _image_topic(context)
        values.setdefault("image_transport", "compressed")
    for name, given in values.items():
        if name in _TOPICS:
            topic, implied = _TOPICS[name]
            remappings.append((topic, given))
            parameters.update(implied)
        else:
            parameters[name] = given
    if "image_topic" in values:
        image = values["image_topic"]
        remappings.append((f"image{_COMPRESSED}", f"{image}{_COMPRESSED}"))
        if "camera_info_topic" not in values:
            remappings.append(
                ("camera_info", posixpath.join(posixpath.dirname(image), "camera_info"))
            )
    node = Node(
        package=PACKAGE,
        executable=executable,
        name=executable,
        namespace=value(context, "namespace") or "",
        output="screen",
        parameters=[*_parameter_files(context, executable), parameters],
        remappings=remappings,
        sigterm_timeout=_TIME_TO_END,
    )
    return [node]


def _rviz(context: LaunchContext) -> list[Action]:
    namespace = value(context, "namespace") or ""
    remappings = [
        (f"/{NAMESPACE}/{topic}", absolute(namespace, topic))
        for topic in _RVIZ_TOPICS
        if topic != "image"
    ]
    remappings.append((f"/{NAMESPACE}/image", absolute(namespace, _image_topic(context))))
    frame = value(context, "map_frame")
    node = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", str(config_file("vggt3.rviz")), *(["-f", frame] if frame else [])],
        parameters=[_sim_time(context)],
        remappings=[*remappings, *_transforms(context)],
    )
    return [node]


def _image_topic(context: LaunchContext) -> str:
    """The topic of the images, also where that of compressed ones was named."""
    return (value(context, "image_topic") or "image").removesuffix(_COMPRESSED)


def _transforms(context: LaunchContext) -> list[tuple[str, str]]:
    """Remappings of /tf and /tf_static, if the arguments ask for any."""
    moving = value(context, "tf_topic") or "/tf"
    topics = {"/tf": moving, "/tf_static": value(context, "tf_static_topic") or f"{moving}_static"}
    return [(topic, wanted) for topic, wanted in topics.items() if wanted != topic]


def _sim_time(context: LaunchContext) -> dict[str, Any]:
    given = value(context, "use_sim_time")
    return {"use_sim_time": given == "true"} if given else {}


def _parameter_files(context: LaunchContext, executable: str) -> list[Path]:
    """The file of config/ for a node, if there is one, and the user's."""
    ours = [config_file(f"{executable}.yaml")] if executable in ("mapper", "localizer") else []
    own = own_parameter_file(context)
    return ours if own is None else [*ours, own]
