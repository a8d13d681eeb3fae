"""`vggt3 bench grid PLACE...`: occupancy grids beside the true ones, which procedural places have.

Each place is mapped with its true poses as priors and refined depth. A truly occupied cell is one
in whose column, between the two heights, a map frame sees a point of an exact surface; surfaces
that no map frame sees count neither way.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_float,
    resolve_device,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.evaluation.grids import GridRow

_PLACES = tuple(f"room:{number}:36" for number in range(10))


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "grid", help="occupancy grids, beside the true ones", description=__doc__
    )
    parser.add_argument(
        "places",
        nargs="*",
        default=list(_PLACES),
        metavar="PLACE",
        help=(
            "room:SEED[:FRAMES], corridor:SEED[:FRAMES] or yard:SEED[:FRAMES] (default: ten rooms"
            " of 36 map frames)"
        ),
    )
    parser.add_argument(
        "--dense",
        choices=("fast", "fine"),
        default="fast",
        help="how depth is refined (default: fast)",
    )
    parser.add_argument(
        "--resolution",
        type=positive_float,
        default=0.05,
        metavar="METRES",
        help="side of a cell (default: 0.05)",
    )
    add_model_option(parser)
    add_common_options(parser, "write all rows and the totals as JSON, also after Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Map place by place; what is done before Ctrl-C is printed and written."""
    from vggt3_ros.datasets.load import load_sequence
    from vggt3_ros.evaluation.grids import grid_row, heading, line
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.pipeline.dense import DENSE
    from vggt3_ros.pipeline.grid_lattice import GridSettings

    if args.json is not None:
        check_writable(args.json, "--json")
    settings = GridSettings(resolution=args.resolution)
    dense = DENSE[args.dense]
    assert dense is not None
    network = load_network(args.model, resolve_device(args.device))
    rows: list[GridRow] = []
    print(heading(), flush=True)
    try:
        with ProgressBar("bench grid") as progress:
            for done, place in enumerate(args.places):
                progress(place, done / len(args.places))
                rows.append(grid_row(load_sequence(place), network, dense, settings))
                print(line(rows[-1]), flush=True)
    finally:
        _finish(args, rows)
    return 0


def _finish(args: argparse.Namespace, rows: list[GridRow]) -> None:
    from vggt3_ros.evaluation.blocks import to_json
    from vggt3_ros.evaluation.grids import totals

    total = totals(rows)
    print(
        f"{total['places']} places: IoU of occupied {total['occupied_iou']:.2f}, to a cell"
        f" {total['occupied_iou_near']:.2f}, of free {total['free_iou']:.2f} (means);"
        f" {total['free_inside']} free inside something, {total['false_occupied']} occupied where"
        " nothing is"
    )
    write_json(args.json, to_json({"rows": rows, "totals": total}))
