"""`vggt3 nodes`: run the mapper and the localizer in one process, without `ros2 launch`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vggt3_ros.errors import InputError

_NAMES = ("mapper", "localizer")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "nodes", help="run mapper and localizer as ROS 2 nodes in one process", description=__doc__
    )
    parser.add_argument(
        "--only", choices=_NAMES, default=None, help="run this node alone (default: both)"
    )
    parser.add_argument(
        "--namespace",
        default="vggt3",
        metavar="NAME",
        help="namespace of the nodes (default: vggt3)",
    )
    parser.add_argument(
        "--params-file", type=Path, action="append", default=[], metavar="FILE",
        help="YAML like config/mapper.yaml, over the defaults; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "-r", "--remap", action="append", default=[], metavar="FROM:=TO",
        help="remap a topic, for example image:=/camera/image_raw; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="[NODE:]NAME:=VALUE",
        help=(
            "set a parameter, for example mapper:scene_dir:=/data/scenes; may be given several"
            " times"
        ),
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C. Raises InputError for files and rules that cannot be used."""
    from vggt3_ros.interrupts import end_at_once
    from vggt3_ros.nodes.runtime.middleware import middleware_variables

    end_at_once()  # before what takes seconds to import

    for file in args.params_file:
        if not file.is_file():
            raise InputError(f"--params-file {file}: there is no such file")
    for option, rules in (("--remap", args.remap), ("--param", args.param)):
        for rule in rules:
            if ":=" not in rule:
                raise InputError(
                    f"{option} {rule}: expected a rule with ':=' in it, such as"
                    " image:=/camera/image_raw"
                )
    os.environ.update(middleware_variables(os.environ))  # before rclpy is loaded
    from vggt3_ros.nodes.compose import compose

    compose(
        [args.only] if args.only else _NAMES,
        args.namespace,
        args.params_file,
        args.remap,
        args.param,
    )
    return 0
