"""`vggt3 merge A B [C...] --out NEW`: scenes of one place become one; they stay as they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    add_common_options,
    add_execution_option,
    add_model_option,
    add_precision_option,
    check_not_input,
    positive_int,
    scene_files,
)
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.cli.refit import refitted
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser("merge", help="join scenes of one place", description=__doc__)
    parser.add_argument(
        "scenes",
        nargs="+",
        type=Path,
        metavar="SCENE",
        help="scene folders written by `vggt3 map`, in any order; they are not changed",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="scene folder to write or replace"
    )
    parser.add_argument(
        "--frame-of",
        type=Path,
        default=None,
        metavar="SCENE",
        help="which of them the new scene keeps the frame of (default: the oldest in metres)",
    )
    add_max_landmarks_option(parser)
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_common_options(parser, "write what was joined as JSON")


def run(args: argparse.Namespace) -> int:
    """Merge and save. Outputs that cannot be written are refused before the work begins."""
    from vggt3_ros.maps.merge import MergeSettings, merge
    from vggt3_ros.scene.storage import check_target, load_scene, save_scene

    for folder in args.scenes:
        if args.out.resolve() == folder.resolve():
            raise argparse.ArgumentTypeError(
                f"--out {args.out} is one of the scenes that are merged; name another folder"
            )
    same = [folder.resolve() for folder in args.scenes]
    if args.frame_of is not None and args.frame_of.resolve() not in same:
        raise argparse.ArgumentTypeError(
            f"--frame-of {args.frame_of} is none of the scenes that are merged"
        )
    frame_of = None if args.frame_of is None else same.index(args.frame_of.resolve())
    check_target(args.out)
    inputs = [file for folder in (*args.scenes, args.out) for file in scene_files(folder)]
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", inputs)
    scenes = [load_scene(folder) for folder in args.scenes]
    names = [str(folder) for folder in args.scenes]
    with ProgressBar("merging") as progress:
        merged = merge(scenes, names, MergeSettings(args.max_landmarks), progress, frame_of)
    scene = (
        merged.scene if merged.scene.images is None else refitted(merged.scene, args, joined=True)
    )
    save_scene(scene, args.out)
    data = joined_data(scene, args.out, merged.left_out)
    write_json(args.json, data)
    print_joined(data)
    return 0


def add_max_landmarks_option(parser: argparse.ArgumentParser) -> None:
    """Add --max-landmarks N: of MergeSettings."""
    parser.add_argument(
        "--max-landmarks",
        type=positive_int,
        default=20_000,
        metavar="N",
        help="most landmarks of the new scene (default: 20000)",
    )


def joined_data(scene: Scene, folder: Path, left_out: Sequence[str]) -> dict[str, Any]:
    """What is said of a joined scene as JSON, and `print_joined` prints."""
    return {
        "scene": str(folder),
        "scene_id": scene.scene_id,
        "parents": [parent.name for parent in scene.parents],
        "keyframes": len(scene.keyframes),
        "points": len(scene.points),
        "landmarks": len(scene.landmarks["positions"]),
        "seams": scene.report["seams"],
        "left_out": list(left_out),
    }


def print_joined(data: dict[str, Any]) -> None:
    """The new scene, its seams, and what it lacks of its parents, from `joined_data`."""
    print(
        f"scene     {data['scene']}: {data['keyframes']} keyframes, {data['landmarks']} landmarks,"
        f" {data['points']} points"
    )
    for seam in data["seams"]:
        found = " and ".join(str(count) for count in seam["keyframes_found_in_the_other"])
        print(
            f"seam      {' with '.join(seam['scenes'])}: {found} keyframes found in the other,"
            f" {seam['landmarks_in_both']} landmarks in both ({seam['agreeing']:.0%} agree), scale"
            f" {seam['scale']:.4f}"
        )
    for sentence in data["left_out"]:
        print(f"left out  {sentence}")
