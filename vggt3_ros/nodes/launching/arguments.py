"""Arguments of the launch files: what each is called and means; unknown ones, and files that give
nothing, are refused.

For launch files alone: `launch` comes with ROS and is not on PyPI. Only what Humble has is used.
"""

from __future__ import annotations

import posixpath
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

from launch import Action, LaunchContext
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.logging import get_logger

from vggt3_ros.errors import InputError, did_you_mean
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.runtime.given import check, read_file
from vggt3_ros.nodes.sim_camera.parameters import SimCameraParameters

PACKAGE = "vggt3_ros"
NAMESPACE = "vggt3"  # that of the topics in vggt3.rviz
_BOOL = ["true", "false"]
_UNSET = "; empty: as the parameter files say"

# Name of an argument: default, description, choices.
_ARGUMENTS: dict[str, tuple[str, str, list[str] | None]] = {
    "image_topic": (
        "image",
        "images; compressed ones are expected at this name followed by /compressed",
        None,
    ),
    "image_transport": (
        "",
        "raw, or compressed: images are taken from there" + _UNSET,
        ["", "raw", "compressed"],
    ),
    "camera_info_topic": (
        "",
        "calibration of the camera; empty: camera_info beside the image topic",
        None,
    ),
    "odom_topic": ("", "take the odometry from this topic instead of TF" + _UNSET, None),
    "depth_topic": (
        "",
        "depth images, registered to the images, for the scale of the map; empty: none",
        None,
    ),
    "tf_topic": ("/tf", "transforms of this robot, where each robot has a tree of its own", None),
    "tf_static_topic": (
        "",
        "transforms that stay; empty: the name of tf_topic followed by _static",
        None,
    ),
    "namespace": (NAMESPACE, "namespace of the nodes and their topics", None),
    "params_file": (
        "",
        "parameter file, loaded after those of config/; it may name a few parameters only",
        None,
    ),
    "model": (
        "",
        "network: tiny, a file or folder of weights, or a Hugging Face name" + _UNSET,
        None,
    ),
    "device": ("", "device of the network: auto, cpu, cuda or cuda:N" + _UNSET, None),
    "scene_dir": (
        "",
        "where scenes are saved, or the scene, or folder of scenes, to localize in" + _UNSET,
        None,
    ),
    "map_frame": ("", "frame of maps and poses" + _UNSET, None),
    "odom_frame": ("", "frame of the odometry" + _UNSET, None),
    "base_frame": ("", "frame of the robot; \"''\": none but the camera's" + _UNSET, None),
    "camera_frame": ("", "optical frame of the camera" + _UNSET, None),
    "use_sim_time": (
        "",
        "take the time from /clock, for recordings and simulators" + _UNSET,
        ["", *_BOOL],
    ),
    "rviz": ("false", "show it all in RViz", _BOOL),
}
FRAMES = ("map_frame", "odom_frame", "base_frame", "camera_frame")
# of all launch files
COMMON = (*FRAMES, "tf_topic", "tf_static_topic", "namespace", "params_file", "rviz")

_PARAMETERS = {
    "mapper": MapperParameters,
    "localizer": LocalizerParameters,
    "sim_camera": SimCameraParameters,
}
_EMPTY = ("''", '""')  # an empty name: ros2 launch takes no argument without a value


def arguments(*names: str, **defaults: str) -> list[Action]:
    """Declarations of launch arguments, with the description and default that each has everywhere,
    or one of these.

    Before them, arguments that are none of these are refused (launch would ignore them), and after
    them a parameter file that gives nothing to any of our nodes: InputError.
    """
    actions: list[Action] = [OpaqueFunction(function=_check_arguments, args=[names])]
    for name in names:
        default, description, choices = _ARGUMENTS[name]
        actions.append(
            DeclareLaunchArgument(
                name,
                default_value=defaults.get(name, default),
                description=description,
                choices=choices,
            )
        )
    actions.append(OpaqueFunction(function=_check_parameter_file))
    return actions


def require_scene() -> OpaqueFunction:
    """Raises InputError, when launched, unless an argument or the parameter file names a scene: it
    would be waited for.

    Comes before all that is started.
    """
    return OpaqueFunction(function=_require_scene)


def value(context: LaunchContext, name: str) -> str | None:
    """The value of an argument; None if it was left to the parameter files, empty if that was given
    in quotes.
    """
    given = context.launch_configurations.get(name) or None
    return "" if given in _EMPTY else given


def own_parameter_file(context: LaunchContext) -> Path | None:
    """The file that params_file names. Raises InputError if it is none: launch_ros would go on
    without it.
    """
    given = value(context, "params_file")
    if not given:
        return None
    file = Path(given).expanduser()
    if not file.is_file():
        raise InputError(
            f"params_file is {given!r}, which is not a file; expected a YAML file of parameters"
        )
    return file.resolve()


def absolute(namespace: str, name: str) -> str:
    """The full name of a topic or a node."""
    return posixpath.join("/", namespace, name)


def _check_arguments(context: LaunchContext, names: tuple[str, ...]) -> list[Action]:
    """Refuse arguments that do not exist.

    In a launch file that includes this one, others' arguments are seen here as well; near misses
    are warned of.
    """
    unknown = [name for name in context.launch_configurations if name not in names]
    if _is_launched_by_itself(context.get_locals_as_dict().get("current_launch_file_path", "")):
        for name in unknown:
            raise InputError(
                f"there is no launch argument {name!r}{did_you_mean(name, names)}; --show-args"
                " lists them"
            )
    for name in unknown:
        if near := did_you_mean(name, names, 0.9):
            get_logger(PACKAGE).warning(f"launch argument {name!r} means nothing here{near}")
    return []


def _is_launched_by_itself(file: str) -> bool:
    """Whether `ros2 launch` was asked for this very file, and not for one that includes it."""
    words = [word for word in sys.argv if ":=" not in word]
    named = any(pair == (PACKAGE, Path(file).name) for pair in pairwise(words))
    return named or any(
        word.endswith(".py") and Path(word).resolve() == Path(file).resolve() for word in words
    )


def _check_parameter_file(context: LaunchContext) -> list[Action]:
    file = own_parameter_file(context)
    if file is not None:
        namespace = value(context, "namespace") or ""
        declared = {}
        for node, parameters in _PARAMETERS.items():
            declared[absolute(namespace, node)] = [each.name for each in fields(parameters)]
        for warning in check(read_file(file), declared):
            get_logger(PACKAGE).warning(warning)
    return []


def _require_scene(context: LaunchContext) -> list[Action]:
    file = own_parameter_file(context)
    node = absolute(value(context, "namespace") or "", "localizer")
    in_file = file is not None and any(
        "scene_dir" in part.names and part.fits(node) for part in read_file(file)
    )
    if not (value(context, "scene_dir") or in_file):
        raise InputError(
            "scene_dir is empty; name a scene, or a folder of scenes, to localize in:"
            " scene_dir:=FOLDER"
        )
    return []
