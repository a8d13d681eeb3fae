"""`vggt3 bench changes`: rooms in which a third of the furniture is moved after they were mapped.

What localizes before and after in the old map and in the refreshed one, and whether the landmarks
taken out were on what had moved.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    add_seed_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.changes import Asked, TakenOut

_ROOMS = tuple(f"room:{900_101 + number}:36" for number in range(10))


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "changes", help="maps of rooms in which furniture is moved", description=__doc__
    )
    parser.add_argument(
        "rooms",
        nargs="*",
        default=list(_ROOMS),
        metavar="ROOM",
        help="room:SEED[:FRAMES] (default: ten rooms of 36 map frames)",
    )
    parser.add_argument(
        "--priors",
        default="noisy:3cm,1deg",
        metavar="FORM",
        help="poses of the map frames: given, none or noisy (default: noisy:3cm,1deg)",
    )
    parser.add_argument(
        "--views",
        type=positive_int,
        default=48,
        metavar="N",
        help="images of each drive that a log is of (default: 48)",
    )
    add_seed_option(parser, "draws the noise of the poses (default: 0)", 0)
    add_model_option(parser)
    add_common_options(parser, "write all rows and the totals as JSON, also after Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Examine room by room; what is done before Ctrl-C is printed and written."""
    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.changes import changes, line
    from vggt3_ros.evaluation.priors import Priors
    from vggt3_ros.model.checkpoint import load_network

    if args.json is not None:
        check_writable(args.json, "--json")
    priors = Priors.parse(args.priors)
    network = load_network(args.model, resolve_device(args.device))
    rows: list[Asked | TakenOut] = []
    try:
        with ProgressBar("bench changes") as progress:
            for done, room in enumerate(args.rooms):
                progress(room, done / len(args.rooms))
                for row in changes(load_sequence(room), network, priors, args.seed, args.views):
                    rows.append(row)
                    print(line(row), flush=True)
    finally:
        _finish(args, rows)
    return 0


def _finish(args: argparse.Namespace, rows: list[Asked | TakenOut]) -> None:
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.changes import Asked, TakenOut, totals

    of_all = totals(rows)
    for name, total in of_all.items():
        figures = ", ".join(f"{key} {value:.4g}" for key, value in total.items())
        print(f"{name:<26}{figures}")
    data = {
        "asked": [row for row in rows if isinstance(row, Asked)],
        "taken_out": [row for row in rows if isinstance(row, TakenOut)],
        "totals": of_all,
    }
    write_json(args.json, to_json(data))
