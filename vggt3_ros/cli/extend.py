"""`vggt3 extend SCENE IMAGES... --out NEW`: new images are mapped where a scene has them, and
joined to it. The scene stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    INTRINSICS_HELP,
    add_bit_depth_option,
    add_common_options,
    add_execution_option,
    add_model_option,
    add_precision_option,
    check_not_input,
    print_skipped,
    resolve_device,
    scene_files,
)
from vggt3_ros.cli.frames import MAX_FRAMES, collect, require_memory
from vggt3_ros.cli.merge import add_max_landmarks_option, joined_data, print_joined
from vggt3_ros.cli.parts import print_siblings, siblings_data
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.datasets.image_files import IMAGES_HELP
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.maps.siblings import Siblings


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser("extend", help="add new images to a scene", description=__doc__)
    parser.add_argument(
        "scene",
        type=Path,
        metavar="SCENE",
        help="scene folder with landmarks, written by `vggt3 map`; it is not changed",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help=IMAGES_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="scene folder to write or replace"
    )
    parser.add_argument(
        "--poses",
        type=Path,
        default=None,
        metavar="FILE",
        help=(
            "odometry of the new images in metres, in any frame: it places those that the scene"
            " does not show; files as for `vggt3 map`"
        ),
    )
    parser.add_argument(
        "--intrinsics", type=Path, default=None, metavar="FILE", help=INTRINSICS_HELP
    )
    add_bit_depth_option(parser)
    add_max_landmarks_option(parser)
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_common_options(parser, "write what was joined as JSON")


def run(args: argparse.Namespace) -> int:
    """Extend and save. Outputs that cannot be written are refused before the work begins."""
    from vggt3_ros.datasets.image_reader import ImageReader
    from vggt3_ros.datasets.known_cameras import KnownCameras
    from vggt3_ros.maps.extend import extend
    from vggt3_ros.maps.merge import MergeSettings
    from vggt3_ros.maps.siblings import siblings_beside
    from vggt3_ros.model.checkpoint import load_network
    from vggt3_ros.scene.storage import load_scene, save_scene

    _check_outputs(args)
    device = resolve_device(args.device)
    cameras = KnownCameras.from_files(args.poses, args.intrinsics, None)
    reader = ImageReader(args.images, "map", cameras, args.bit_depth)
    require_memory(reader, MAX_FRAMES)
    network = load_network(args.model, device, args.precision, args.execution)
    scene = load_scene(args.scene, network.fingerprint())
    siblings = siblings_beside(args.scene.resolve(), scene)
    _check_no_sibling(args.out, args.scene, siblings)
    frames, _ = collect(reader, MAX_FRAMES)
    print_skipped(reader.skipped)
    cameras.check(len(frames))
    if args.poses is not None and all(frame.prior_world_from_cam is None for frame in frames):
        raise InputError(f"--poses {args.poses}: none of the {len(frames)} images has a pose of it")
    with ProgressBar("extending") as progress:
        extended = extend(
            scene,
            str(args.scene),
            frames,
            network,
            MergeSettings(args.max_landmarks),
            progress,
            siblings=siblings,
        )
    print_skipped(extended.unconnected)
    save_scene(extended.scene, args.out)
    data = joined_data(extended.scene, args.out, extended.left_out) | {
        "new_images": len(frames),
        "found_in_the_scene": extended.located,
        "seconds": dict(extended.seconds),
        **siblings_data(extended),
        "skipped": [
            {"image": name, "reason": reason}
            for name, reason in (*reader.skipped, *extended.unconnected)
        ],
    }
    write_json(args.json, data)
    _print(data)
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse to write over what is read."""
    from vggt3_ros.datasets.image_reader import input_files
    from vggt3_ros.scene.storage import check_target

    if args.out.resolve() == args.scene.resolve():
        raise argparse.ArgumentTypeError(
            f"--out {args.out} is the scene that is extended; name another folder"
        )
    check_target(args.out)
    if args.json is not None:
        given = [Path(file) for file in (args.poses, args.intrinsics) if file is not None]
        check_writable(args.json, "--json")
        check_not_input(
            args.json,
            "--json",
            [
                *input_files(args.images),
                *given,
                *scene_files(args.scene),
                *scene_files(args.out),
            ],
        )


def _check_no_sibling(out: Path, scene: Path, siblings: Siblings) -> None:
    """Refuse to write over a part of the same drive, which is read as well."""
    beside = scene.resolve().parent
    if out.resolve() in [beside / sibling.name for sibling in siblings.found]:
        raise argparse.ArgumentTypeError(
            f"--out {out} is another part of the drive that {scene} was made of; name another"
            " folder"
        )


def _print(data: dict[str, Any]) -> None:
    print(
        f"images    {data['found_in_the_scene']} of {data['new_images']} were found in"
        f" {data['parents'][0]}"
    )
    print_joined(data)
    print_siblings(data)
