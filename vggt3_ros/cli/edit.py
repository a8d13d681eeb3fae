"""`vggt3 edit SCENE --out NEW`: a scene without some keyframes, cut to a box, with a level floor,
or scaled by distances that were measured; the scene itself is not changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.common import (
    add_common_options,
    add_execution_option,
    add_model_option,
    add_precision_option,
    check_not_input,
    positive_float,
    scene_files,
)
from vggt3_ros.cli.refit import refitted
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.maps.edit import Edited
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "edit", help="drop keyframes, crop, level or scale a scene", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder to edit; it is not changed"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NEW", help="scene folder to write or replace"
    )
    edits = parser.add_argument_group(
        "edits", "done in this order; boxes and distances are in the map frame of SCENE"
    )
    edits.add_argument(
        "--drop-keyframes",
        nargs="+",
        default=None,
        metavar="NAME",
        help="without these keyframes and what only they saw; keyframes.json has the names",
    )
    edits.add_argument(
        "--crop",
        nargs=6,
        type=float,
        default=None,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="what lies in the box from its lowest to its highest corner (metres in metric maps)",
    )
    edits.add_argument(
        "--rotate-to-floor", action="store_true", help="level the floor, and put it at Z = 0"
    )
    edits.add_argument(
        "--scale",
        nargs=3,
        action="append",
        default=None,
        metavar=("NAME", "NAME", "METRES"),
        help="in metres, by the distance between the cameras of two keyframes; may be repeated",
    )
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help=(
            "do not fit the network's memory anew where keyframes have gone (it needs the images of"
            " --keep-images, and --model)"
        ),
    )
    add_model_option(parser)
    add_precision_option(parser)
    add_execution_option(parser)
    add_common_options(parser, "write what was done, and what does not follow, as JSON")


def run(args: argparse.Namespace) -> int:
    """Edit, fit the memory anew where keyframes have gone, and save. Outputs that cannot be written
    are refused before the work begins.
    """
    from vggt3_ros.maps.edit import descendant
    from vggt3_ros.scene.storage import check_target, load_scene, save_scene

    source = args.scene.resolve()
    if source in (args.out.resolve(), *args.out.resolve().parents):
        raise argparse.ArgumentTypeError(
            f"--out {args.out} is the scene that is edited, or in it; name another folder"
        )
    if not (args.drop_keyframes or args.crop or args.rotate_to_floor or args.scale):
        raise argparse.ArgumentTypeError(
            "nothing to edit: give --drop-keyframes, --crop, --rotate-to-floor or --scale"
        )
    check_target(args.out)
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", [*scene_files(args.scene), *scene_files(args.out)])
    scene = load_scene(args.scene)
    edited = _edited(scene, args)
    if edited.is_memory_stale:
        edited = _with_memory(edited, args)
    made = descendant(edited, scene, source.name)
    save_scene(made, args.out)
    data = {
        "scene": str(args.out),
        "scene_id": made.scene_id,
        "edited": str(args.scene),
        "done": list(edited.done),
        "does_not_follow": list(edited.does_not_follow),
        "keyframes": len(made.keyframes),
        "points": len(made.points),
        "verified": made.is_verified,
        "metric": made.is_metric,
    }
    write_json(args.json, data)
    _print(data)
    return 0


def _edited(scene: Scene, args: argparse.Namespace) -> Edited:
    from vggt3_ros.maps.edit import (
        Edited,
        Measured,
        cropped,
        rotated_to_floor,
        scaled,
        without_keyframes,
    )

    edited = Edited(scene)
    distances = [
        Measured(first, second, _metres(metres)) for first, second, metres in args.scale or ()
    ]
    if args.drop_keyframes:
        edited = without_keyframes(edited, args.drop_keyframes)
    if args.crop:
        x0, y0, z0, x1, y1, z1 = args.crop
        edited = cropped(edited, (x0, y0, z0), (x1, y1, z1))
    if args.rotate_to_floor:
        edited = rotated_to_floor(edited)
    if distances:
        edited = scaled(edited, distances, scene)
    return edited


def _metres(text: str) -> float:
    try:
        return positive_float(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"--scale takes two keyframes' names and the metres between them: {error}"
        ) from error


def _with_memory(edited: Edited, args: argparse.Namespace) -> Edited:
    """With the memory fitted anew, or with what to do about it."""
    scene = edited.scene
    if not scene.memory:
        return edited
    if args.keep_memory or scene.images is None:
        why = "as asked for" if args.keep_memory else "there are no images to fit it to"
        remedy = "`vggt3 refit`" if scene.images is not None else "maps of --keep-images have them"
        return edited.but(
            f"the network's memory, which was fitted to keyframes that have gone, too ({why};"
            f" {remedy})"
        )
    made = refitted(scene, args, joined=False)
    fitted = made.report["views"]["fitted"]
    return edited.then(made, f"fitted the network's memory anew, to {fitted} keyframes")


def _print(data: dict[str, Any]) -> None:
    print(f"scene     {data['scene']}: {data['keyframes']} keyframes, {data['points']} points")
    for sentence in data["done"]:
        print(f"done      {sentence}")
    for sentence in data["does_not_follow"]:
        print(f"stays     {sentence}")
