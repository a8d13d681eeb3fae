"""`vggt3 bench maps`: maps that are hard to make and easy to get wrong, from procedural rooms.

Sparse ones, of a camera that turns on the spot, through a door, with poses of half of the frames,
with a weakly tied group; with true, noisy and no prior poses. Counts the wrong poses that are
accepted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.hard_maps import Case
    from vggt3_ros.evaluation.trials import Outcome

_ROOMS = (910_200, 910_201, 910_202)


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "maps", help="wrong poses in sparse, turning and weakly tied maps", description=__doc__
    )
    parser.add_argument(
        "--rooms", type=int, nargs="+", default=list(_ROOMS), metavar="SEED",
        help=f"rooms in which all cases are made (default: {' '.join(map(str, _ROOMS))})",
    )  # fmt: skip
    parser.add_argument(
        "--only", default="", metavar="CASE", help="cases whose name holds this, such as turning"
    )
    parser.add_argument(
        "--limit", type=positive_int, default=None, metavar="N", help="the first N cases alone"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=None,
        metavar="DIR",
        help="keep the rooms' images here for the next run",
    )
    add_model_option(parser)
    add_common_options(parser, "write every case and the totals as JSON, also after Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Examine case by case; what is done before Ctrl-C is printed and written. 1 where a case ended
    in an error.
    """
    from vggt3_ros.evaluation.hard_maps import HardMaps
    from vggt3_ros.evaluation.trials import examine, heading, line, summary
    from vggt3_ros.model.checkpoint import load_network

    if args.json is not None:
        check_writable(args.json, "--json")
    cases: list[Case] = []
    for seed in args.rooms:
        cases += (case for case in HardMaps(seed, args.cache).cases() if args.only in case.name)
    if not cases:
        names = ", ".join(case.name for case in HardMaps(args.rooms[0]).cases())
        raise InputError(f"--only {args.only}: no case has that in its name; there are {names}")
    network = load_network(args.model, resolve_device(args.device))
    outcomes: list[Outcome] = []
    chosen = cases[: args.limit]
    print(heading(), flush=True)
    try:
        with ProgressBar("bench maps") as progress:
            for done, case in enumerate(chosen):
                progress(case.name, done / len(chosen))
                outcomes.append(examine(case.make(), network, in_parts=True))
                print(line(outcomes[-1]), flush=True)
    finally:
        print(summary(outcomes))
        _write(args.json, outcomes, len(chosen))
    return 1 if any(each.traceback for each in outcomes) else 0


def _write(path: Path | None, outcomes: list[Outcome], of: int) -> None:
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.trials import totals

    write_json(path, to_json({"cases": outcomes, "of": of, "totals": totals(outcomes)}))
