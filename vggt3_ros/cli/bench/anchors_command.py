"""`vggt3 bench anchors`: what a network reaches with more and fewer anchors, and what that costs.

Drives of 6 m through procedural rooms that no training has seen: poses and depth of their frames,
poses of images beside them, by the network alone; seconds, and bytes of the scene.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

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

if TYPE_CHECKING:
    from vggt3_ros.model.config import GlobalAttention
    from vggt3_ros.model.network import Vggt3
    from vggt3_ros.training.validate import ValidationRoom

_SAME_WEIGHTS = {"softmax", "anchored", "frame"}
_ACCURACY = (
    "pair_rotation_deg",
    "pair_direction_deg",
    "ate_percent",
    "depth_abs_rel",
    "query_position_percent",
    "query_rotation_deg",
)


@dataclass(frozen=True)
class Row:
    """Medians over all frames and queries of some drives. Positions in percent of their extent."""

    layers: str
    anchors: int
    frames: int
    pair_rotation_deg: float
    pair_direction_deg: float
    ate_percent: float
    depth_abs_rel: float
    query_position_percent: float
    query_rotation_deg: float
    map_s: float  # mean of the drives
    query_ms: float  # of an image, mean of all
    scene_bytes: int


def add_parser(tasks: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the task's arguments."""
    parser = tasks.add_parser(
        "anchors", help="accuracy over the number of anchors, and its cost", description=__doc__
    )
    add_model_option(parser)
    parser.add_argument(
        "--layers", type=_kinds, nargs="+", default=[()], metavar="KINDS",
        help="kinds of the global layers, one for all or one each with commas between, such as"
        " anchored or anchored,frame,ttt,ttt: layers of softmax, anchored and frame have the same"
        " weights (default: as the model has them)",
    )  # fmt: skip
    parser.add_argument(
        "--anchors", type=positive_int, nargs="+", default=[2, 4, 8, 16], metavar="K",
        help="numbers of anchors (default: 2 4 8 16)",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=positive_int, nargs="+", default=[16, 64], metavar="N",
        help="numbers of mapped frames (default: 16 64)",
    )  # fmt: skip
    parser.add_argument(
        "--rooms", type=positive_int, default=12, metavar="N", help="drives (default: 12)"
    )
    add_common_options(parser, "write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure row by row, each drawn as a line of a table."""
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.training.validate import FIRST_TOUR_SEED, tour

    if args.json is not None:
        check_writable(args.json, "--json")
    network = load_network(args.model, resolve_device(args.device))
    networks = [_with_layers(network, kinds) for kinds in args.layers]
    side, patch = network.config.image_size, network.config.patch_size
    size_hw = patch * round(0.75 * side / patch), side
    rows = []
    print(_HEADING)
    for frames in args.frames:
        seeds = range(FIRST_TOUR_SEED, FIRST_TOUR_SEED + args.rooms)
        drives = track(seeds, f"{frames} frames", len(seeds))
        rooms = [tour(seed, size_hw, network.device, frames) for seed in drives]
        for each in networks:
            counts = args.anchors if each.config.has_anchors else [0]
            for count in counts:
                if count <= frames:
                    rows.append(_measured(each, rooms, count))
                    print(_line(rows[-1]), flush=True)
    write_json(args.json, to_json({"model": network.model_id, "rooms": args.rooms, "rows": rows}))
    return 0


def _measured(network: Vggt3, rooms: list[ValidationRoom], anchors: int) -> Row:
    from vggt3_ros.training.validate import Cost, validate

    figures = {}
    cost = Cost()
    for name, value in validate(network, rooms, anchors or None, cost).items():
        figures[name.removeprefix("tour_")] = value
    frames = rooms[0].map_views
    queries = sum(len(room.images) - frames for room in rooms)
    kinds = network.config.global_kinds
    return Row(
        layers=",".join(kinds if len(set(kinds)) > 1 else kinds[:1]),
        anchors=anchors,
        frames=frames,
        map_s=cost.map_s / len(rooms),
        query_ms=1e3 * cost.query_s / queries,
        scene_bytes=cost.memory_bytes,
        **{name: figures[name] for name in _ACCURACY},
    )


def _with_layers(network: Vggt3, kinds: tuple[GlobalAttention, ...]) -> Vggt3:
    """The network with other kinds of global layers, of the same weights."""
    from vggt3_ros.model.checkpoint import load_stored_state, stored_state
    from vggt3_ros.model.network import Vggt3

    if not kinds:
        return network
    config = network.config
    kinds = kinds if len(kinds) > 1 else kinds * config.depth
    for own, other in zip(config.global_kinds, kinds, strict=False):
        if own != other and not {own, other} <= _SAME_WEIGHTS:
            raise InputError(
                f"--layers {','.join(kinds)}: {network.model_id} has"
                f" {','.join(config.global_kinds)}, and the weights of {own} are not those of"
                f" {other}; {', '.join(sorted(_SAME_WEIGHTS))} may take each other's place"
            )
    mixture = Vggt3(replace(config, attn=None, global_attention=kinds), network.precision)
    given = stored_state(network)
    load_stored_state(mixture, {name: given[name] for name in stored_state(mixture)})
    mixture.model_id = network.model_id
    return mixture.to(network.device).eval().requires_grad_(False)


def _kinds(text: str) -> tuple[GlobalAttention, ...]:
    from vggt3_ros.model.config import GlobalAttention

    known: dict[str, GlobalAttention] = {kind: kind for kind in get_args(GlobalAttention)}
    kinds = text.split(",")
    if not set(kinds) <= set(known):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not some of {', '.join(known)} with commas between"
        )
    return tuple(known[kind] for kind in kinds)


_HEADING = (
    "layers                      frames  anchors  pairs deg  direction  ATE %  AbsRel"
    "  query %  query deg  map s  query ms  scene MB"
)


def _line(row: Row) -> str:
    return (
        f"{row.layers:<28}{row.frames:>6}{row.anchors or '-':>9}{row.pair_rotation_deg:>11.1f}"
        f"{row.pair_direction_deg:>11.1f}{row.ate_percent:>7.1f}{row.depth_abs_rel:>8.3f}"
        f"{row.query_position_percent:>9.1f}{row.query_rotation_deg:>11.1f}{row.map_s:>7.2f}"
        f"{row.query_ms:>10.1f}{row.scene_bytes / 1e6:>10.2f}"
    )
