"""`vggt3 bench halves`: drives mapped in two halves that share a tenth of their frames.

What localizes in the halves merged, and in the first one extended by the second, beside the drive
mapped at once; and whether places that look alike are kept apart.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    add_seed_option,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.halves import Half

_ROOMS = tuple(f"room:{900_101 + number}:36" for number in range(10))
_PLACES = (*_ROOMS, "corridor:900101:36", "corridor:900102:36")


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "halves", help="maps merged and extended, beside maps made at once", description=__doc__
    )
    parser.add_argument(
        "places",
        nargs="*",
        default=list(_PLACES),
        metavar="SEQUENCE",
        help="as for `vggt3 evaluate` (default: ten rooms and two corridors of 36 map frames)",
    )
    parser.add_argument(
        "--priors",
        default="noisy:3cm,1deg",
        metavar="FORM",
        help="poses of the map frames: given, none or noisy (default: noisy:3cm,1deg)",
    )
    parser.add_argument(
        "--strangers",
        action="store_true",
        help="also merge each place with another one that wears its textures, which has to fail",
    )
    parser.add_argument(
        "--keep-images",
        action="store_true",
        help="maps keep images of their keyframes, and the network's memory is fitted anew to them",
    )
    add_seed_option(parser, "draws the noise of the poses (default: 0)", 0)
    add_model_option(parser)
    add_common_options(parser, "write all rows and the totals as JSON, also after Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Examine place by place; what is done before Ctrl-C is printed and written. 1 where places
    that only look alike were merged.
    """
    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.halves import halves, heading, line, strangers
    from vggt3_ros.evaluation.priors import Priors
    from vggt3_ros.model.checkpoint import load_network

    if args.json is not None:
        check_writable(args.json, "--json")
    priors = Priors.parse(args.priors)
    network = load_network(args.model, resolve_device(args.device))
    rows: list[Half] = []
    apart: dict[str, str] = {}
    print(heading(), flush=True)
    try:
        with ProgressBar("bench halves") as progress:
            for done, place in enumerate(args.places):
                progress(place, done / len(args.places))
                sequence = load_sequence(place)
                for row in halves(sequence, network, priors, args.seed, args.keep_images):
                    rows.append(row)
                    print(line(row), flush=True)
                if args.strangers and sequence.place is not None:
                    apart[place] = strangers(sequence, network, priors, args.seed)
                    print(f"{place:<22}stranger  {apart[place] or 'MERGED'}", flush=True)
    finally:
        _finish(args, rows, apart)
    return 1 if any(not reason for reason in apart.values()) else 0


def _finish(args: argparse.Namespace, rows: list[Half], apart: dict[str, str]) -> None:
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.halves import totals

    of_each: dict[str, dict[str, Any]] = totals(rows)
    for way, total in of_each.items():
        print(
            f"{way:<10}{total['places']} places: {total['accepted']} of {total['asked']} accepted,"
            f" {total['wrong']} wrong; {100 * total['position_m']:.2f} cm,"
            f" {total['rotation_deg']:.3f} deg, the network alone {total['network_m']:.2f} m,"
            f" {total['network_deg']:.1f} deg (means of medians)"
        )
    if apart:
        merged = sum(not reason for reason in apart.values())
        print(f"strangers {merged} of {len(apart)} merged")
    write_json(args.json, to_json({"rows": rows, "totals": of_each, "strangers": apart}))
