"""`vggt3 bench growth`: a scene extended by a robot that passes the same place again and again:
seconds, megabytes and errors over the keyframes that it has.
"""

from __future__ import annotations

import argparse
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.growth import Growth


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser("growth", help="a scene that is extended again and again")
    parser.description = __doc__
    parser.add_argument(
        "drive",
        nargs="?",
        default="room:900101:400",
        metavar="SEQUENCE",
        help=(
            "as for `vggt3 evaluate`; its map frames, one drive, are shared out among the"
            " extensions (default: %(default)s)"
        ),
    )
    parser.add_argument(
        "--new",
        type=positive_int,
        default=20,
        help="frames of an extension, spread over the whole drive (default: 20)",
    )
    parser.add_argument(
        "--priors",
        default="noisy:3cm,1deg",
        metavar="FORM",
        help="poses of the frames, as for `vggt3 evaluate` (default: noisy:3cm,1deg)",
    )
    parser.add_argument(
        "--keep-images",
        action="store_true",
        help="scenes keep images of their keyframes, and the network's memory is fitted anew",
    )
    add_model_option(parser)
    add_common_options(parser, "write all rows as JSON, also after Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Extend to the end of the drive; what is done before Ctrl-C is printed and written."""
    from pathlib import Path

    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.growth import grow, heading, line
    from vggt3_ros.evaluation.priors import Priors
    from vggt3_ros.model.checkpoint import load_network

    if args.json is not None:
        check_writable(args.json, "--json")
    priors = Priors.parse(args.priors)
    sequence = load_sequence(args.drive)
    network = load_network(args.model, resolve_device(args.device))
    rows: list[Growth] = []
    last = len(sequence.split().map)
    print(heading(), flush=True)
    try:
        with TemporaryDirectory() as folder, ProgressBar(sequence.name) as progress:
            scene = Path(folder) / "scene"
            for row in grow(sequence, network, priors, scene, args.new, args.keep_images):
                rows.append(row)
                print(line(row), flush=True)
                progress("extending", min(1.0, (row.keyframes + row.new) / last))
    finally:
        write_json(args.json, to_json({"rows": rows}))
    return 0
