"""`vggt3 bench memories`: how a network localizes by itself in a place that was mapped in two
halves, by how its memory of both came to be.

Drives of 6 m through procedural rooms that no training has seen, in halves that share a tenth.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from vggt3_ros.cli.common import (
    add_common_options,
    add_model_option,
    positive_int,
    resolve_device,
)
from vggt3_ros.cli.progress import track
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import to_json
from vggt3_ros.files import check_writable, write_json


@dataclass(frozen=True)
class Row:
    """Medians over the queries beside the `first` or the `second` half of all drives."""

    memory: str
    half: str
    queries: int
    position_percent: float
    rotation_deg: float


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "memories", help="what a network remembers of two halves", description=__doc__
    )
    add_model_option(parser)
    parser.add_argument(
        "--frames", type=positive_int, default=32, metavar="N", help="mapped frames (default: 32)"
    )
    parser.add_argument(
        "--rooms", type=positive_int, default=12, metavar="N", help="drives (default: 12)"
    )
    add_common_options(parser, "write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare memory by memory over all drives."""
    import torch

    from vggt3_ros.cli.bench.memories import Errors, check_kinds, errors, memories
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.training.validate import FIRST_TOUR_SEED, tour

    if args.frames < 4:
        raise InputError(f"--frames is {args.frames}; two halves take at least 4")
    if args.json is not None:
        check_writable(args.json, "--json")
    network = load_network(args.model, resolve_device(args.device))
    check_kinds(network)
    side, patch = network.config.image_size, network.config.patch_size
    size_hw = patch * round(0.75 * side / patch), side
    found: dict[tuple[str, str], list[Errors]] = {}
    seeds = range(FIRST_TOUR_SEED, FIRST_TOUR_SEED + args.rooms)
    for seed in track(seeds, "drives", len(seeds)):
        drive = tour(seed, size_hw, network.device, args.frames)
        for way, memory in memories(network, drive).items():
            of_first, of_second = errors(network, drive, memory)
            found.setdefault((way, "first"), []).append(of_first)
            found.setdefault((way, "second"), []).append(of_second)
    rows = []
    print(f"{'memory':<14}{'half':<8}{'queries':>8}{'position %':>12}{'rotation deg':>14}")
    for (way, half), parts in found.items():
        position = torch.cat([part.position_percent for part in parts])
        rotation = torch.cat([part.rotation_deg for part in parts])
        row = Row(way, half, len(position), float(position.median()), float(rotation.median()))
        rows.append(row)
        print(
            f"{way:<14}{half:<8}{row.queries:>8}{row.position_percent:>12.1f}"
            f"{row.rotation_deg:>14.1f}"
        )
    write_json(args.json, to_json({"model": network.model_id, "rooms": args.rooms, "rows": rows}))
    return 0
