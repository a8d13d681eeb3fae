"""Arguments of the command line that ROS reads: what is wrong with them is said in one line, before a node is made."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import rclpy
import yaml
from rclpy.context import Context
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vggt3_ros.errors import InputError

_VALUES = "ros__parameters"
_SHAPE = f"expected 'NODE:', below it, indented, '{_VALUES}:', and below that 'name: value'; see config/mapper.yaml"
_SOURCE_LINE = re.compile(r",?\s*at /\S+:\d+$")  # of ROS's own code


def initialize(args: Sequence[str] | None = None, context: Context | None = None) -> None:
    """rclpy.init with the program's arguments, or with `args`, and without its signal handlers.

    Raises InputError that says which argument, file or environment variable cannot be used, why, and what to do.
    """
    given = list(sys.argv[1:] if args is None else args)
    for file in _parameter_files(given):
        check_parameter_file(Path(file))
    log = get_logger("rcl")
    log.set_level(LoggingSeverity.FATAL)  # it would announce with a line of its own what is raised
    try:
        rclpy.init(args=given, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # RCLError and others, which have no public name
        raise InputError(_explained(error)) from error
    finally:
        log.set_level(LoggingSeverity.UNSET)
    strange = remove_ros_args(given)
    if strange:
        what = f"unknown arguments {' '.join(strange)}"
        raise InputError(f"{what}; arguments of ROS, such as -p max_rate:=5.0, come behind --ros-args")


def check_parameter_file(file: Path) -> None:
    """Raise InputError unless it is YAML that holds parameters of nodes, each below its name and `ros__parameters`."""
    try:
        root = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"{error.strerror}"
        raise InputError(f"parameter file {file}: {what}; expected a YAML file like config/mapper.yaml") from error
    except yaml.YAMLError as error:
        raise InputError(f"parameter file {file}: it is no YAML ({_place(error)}); correct it there") from error
    if root is None:
        raise InputError(f"parameter file {file}: it is empty; {_SHAPE}")
    problem = _problem(root)
    if problem:
        raise InputError(f"parameter file {file}: {problem}; {_SHAPE}")


def _place(error: yaml.YAMLError) -> str:
    """Where YAML ends to be YAML, and why."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _problem(node: yaml.Node, name: str = "") -> str:
    """What is wrong with the shape of a file (name: ''), or of what is below a name in it; empty if nothing is."""
    if not isinstance(node, yaml.MappingNode):
        line = f"line {node.start_mark.line + 1}"
        if not name:
            return f"{line}: it holds no names"
        return f"{line}: {name!r} has a value " + ("for itself" if name == _VALUES else f"without {_VALUES!r} above it")
    if name == _VALUES:
        return ""
    for key, value in node.value:
        if not name and key.value == _VALUES:
            return f"line {key.start_mark.line + 1}: there is no node's name above {_VALUES!r}"
        problem = _problem(value, str(key.value))
        if problem:
            return problem
    return ""


def _parameter_files(arguments: Sequence[str]) -> Iterator[str]:
    """What follows --params-file between --ros-args and --."""
    is_ros = False
    for argument, following in zip(arguments, arguments[1:]):  # noqa: B905
        if argument in ("--ros-args", "--"):
            is_ros = argument == "--ros-args"
        elif is_ros and argument == "--params-file":
            yield following


def _explained(error: RuntimeError) -> str:
    """One line for people of what rcl says, without the places in its own code."""
    text = " ".join(str(error).split())
    while text != (shorter := _SOURCE_LINE.sub("", text)):
        text = shorter
    text = text.removeprefix("failed to initialize rcl: ").replace(" Error: error not set", "")
    if text.startswith("["):
        text = f"unknown arguments after --ros-args: {text}"
    if "remap" in text:
        text += "; expected FROM:=TO, such as -r image:=/camera/image_raw"
    elif "parameter override" in text:
        text += "; expected NAME:=VALUE with a value in YAML, such as -p max_rate:=5.0"
    return f"ROS does not start: {text}; correct it and start again"
