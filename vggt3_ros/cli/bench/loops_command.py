"""`vggt3 bench loops DRIVE...`: drifting odometry before and after the loops of a drive are closed,
and false loops; features alone, no network and no bundle adjustment.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import add_common_options, add_seed_option, drift_of
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.drives import DriveRow


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser("loops", help="loops within one drive", description=__doc__)
    parser.add_argument(
        "drives",
        nargs="+",
        metavar="DRIVE",
        help=(
            "sequences as `vggt3 evaluate` takes them, whose map frames are one drive, such as"
            " ring:SEED:METRES[:FRAMES]; or floors:SEED:METRES[:FRAMES], which comes back one floor"
            " above, to a corridor of the same shape and colours"
        ),
    )
    parser.add_argument(
        "--drift",
        type=drift_of,
        default="2%,0.1deg",
        metavar="SCALE,ANGLE",
        help="of the odometry: of the way, and per metre (default: %(default)s)",
    )
    add_common_options(parser, "write all rows as JSON")
    add_seed_option(parser, "which sides odometry drifts to (default: 0)", 0)


def run(args: argparse.Namespace) -> int:
    """Close drive by drive; what is done before Ctrl-C is printed."""
    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.drives import close_drive, markdown

    if args.json is not None:
        check_writable(args.json, "--json")
    sequences = [load_sequence(spec) for spec in args.drives]
    rows: list[DriveRow] = []
    try:
        for sequence in sequences:
            with ProgressBar(sequence.name) as progress:
                rows.append(
                    close_drive(
                        sequence, args.drift, args.seed, lambda done: progress("loops", done)
                    )
                )
    finally:
        print(markdown(rows))
    write_json(args.json, to_json({"rows": rows}))
    return 0
