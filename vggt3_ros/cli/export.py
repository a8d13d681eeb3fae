"""`vggt3 export SCENE --colmap DIR`: keyframes and landmarks of a scene as a COLMAP model."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggt3_ros.cli.common import add_json_option, check_not_input, check_writable, scene_files, write_json
from vggt3_ros.errors import InputError

if TYPE_CHECKING:
    from vggt3_ros.landmarks.landmarks import Landmarks
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser("export", help="write a scene in another program's format", description=__doc__)
    parser.add_argument("scene", type=Path, metavar="SCENE", help="scene folder written by `vggt3 map`")
    parser.add_argument(
        "--colmap", type=Path, required=True, metavar="DIR",
        help="folder for cameras.bin, images.bin and points3D.bin; made if missing, an earlier model in it is replaced",
    )  # fmt: skip
    add_json_option(parser, "write the counts as JSON")


def run(args: argparse.Namespace) -> int:
    """Load the scene and write the model. Raises `SceneError` and `InputError`; a model is whole or not there."""
    from vggt3_ros.landmarks.landmarks import Landmarks
    from vggt3_ros.scene.storage import load_scene

    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", scene_files(args.scene))
    target = args.colmap.resolve()
    check_target(target, args.scene.resolve())
    scene = load_scene(args.scene)
    if not scene.landmarks:
        raise InputError(
            f"{args.scene} has no landmarks to export ({scene.verification.get('reason', 'none were made')}); "
            "map the place again with images that overlap more, or with --poses"
        )
    landmarks = Landmarks.from_tensors(scene.landmarks)
    _export(scene, landmarks, target)
    data: dict[str, Any] = {
        "scene": str(args.scene),
        "colmap": str(args.colmap),
        "images": len(scene.keyframes),
        "points": int(np.unique(landmarks.observed).size),
        "observations": len(landmarks.observed),
        "metric": scene.is_metric,
    }
    write_json(args.json, data)
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    print(f"model     {args.colmap}: {data['images']} images, {data['points']} points, in {unit}")
    print(f"          {data['observations']} observations; pixels and cameras are without lens distortion")
    return 0


def check_target(target: Path, scene: Path) -> None:
    """Raise `InputError` unless `target` is new, empty, or holds nothing but a COLMAP model, outside the scene."""
    from vggt3_ros.landmarks.colmap_files import FILES

    if target == scene or scene in target.parents:
        raise InputError(f"--colmap {target} lies inside the scene; give a folder of its own")
    if target.exists() and not target.is_dir():
        raise InputError(f"--colmap {target} is a file; give the name of a folder")
    if target.is_dir():
        foreign = sorted(entry.name for entry in target.iterdir() if entry.name not in FILES or not entry.is_file())
        if foreign:
            raise InputError(f"--colmap {target} holds {foreign[0]!r}, which is no file of a model; give a new folder")


def _export(scene: Scene, landmarks: Landmarks, target: Path) -> None:
    from vggt3_ros.landmarks.colmap import write_colmap
    from vggt3_ros.scene.replace import locked_parent, new_sibling, replace_folder, sync

    sizes_wh = [(int(width), int(height)) for width, height in scene.verification["image_sizes_wh"]]
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked_parent(target):
        sibling = new_sibling(target)
        try:
            write_colmap(landmarks, scene.keyframes.names, sizes_wh, sibling, _colors(scene, landmarks))
            for file in (*sibling.iterdir(), sibling):
                sync(file)
            replace_folder(sibling, target)
        except BaseException:
            shutil.rmtree(sibling, ignore_errors=True)
            raise


def _colors(scene: Scene, landmarks: Landmarks) -> np.ndarray | None:
    """Colours (N, 3) uint8 of landmarks: those of the dense points nearest to them. None without dense points."""
    from scipy.spatial import cKDTree

    if not len(scene.points):
        return None
    nearest = cKDTree(scene.points.points.numpy()).query(landmarks.positions)[1]
    return scene.points.colors.numpy()[nearest]
