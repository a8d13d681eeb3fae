"""Arguments of the command line that ROS reads: what is wrong with them is said in one line, before
a node is made.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vggt3_ros.errors import InputError
from vggt3_ros.nodes.runtime.given import options
from vggt3_ros.nodes.runtime.parameter_file import check_value, read_parameter_file

_SOURCE_LINE = re.compile(r",?\s*at /\S+:\d+$")  # of ROS's own code


def initialize(args: Sequence[str] | None = None, context: Context | None = None) -> None:
    """rclpy.init with the program's arguments, or with `args`, and without its signal handlers.

    Raises InputError that says which argument, file or environment variable cannot be used, why,
    and what to do.
    """
    given = list(sys.argv[1:] if args is None else args)
    for flag, value in options(given):
        if flag == "--params-file":
            read_parameter_file(Path(value))
        elif flag == "-p":
            _check_rule(value)
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
        raise InputError(
            f"{what}; arguments of ROS, such as -p max_rate:=5.0, come behind --ros-args"
        )


def _check_rule(rule: str) -> None:
    value = rule.partition(":=")[2]
    try:
        check_value(value)
    except InputError as error:
        raise InputError(f"-p {rule}: {error}") from error


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
