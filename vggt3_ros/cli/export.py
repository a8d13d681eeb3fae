"""`vggt3 export SCENE`: keyframes and landmarks as a COLMAP model (--colmap DIR), surfaces as a
mesh (--mesh FILE).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggt3_ros.cli.common import add_json_option, check_not_input, positive_float, scene_files
from vggt3_ros.cli.export_mesh import check_mesh_path, export_mesh, nearest_colors
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

if TYPE_CHECKING:
    from vggt3_ros.landmarks.landmarks import Landmarks
    from vggt3_ros.scene.scene import Scene


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "export", help="write a scene in another program's format", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder written by `vggt3 map`"
    )
    parser.add_argument(
        "--colmap",
        type=Path,
        default=None,
        metavar="DIR",
        help=(
            "folder for cameras.bin, images.bin and points3D.bin; made if missing, an earlier model"
            " in it is replaced"
        ),
    )
    parser.add_argument(
        "--mesh",
        type=Path,
        default=None,
        metavar="FILE",
        help=(
            "triangle mesh with colours to write, .ply (Z up) or .glb (Y up, as glTF demands);"
            " needs scikit-image"
        ),
    )
    parser.add_argument(
        "--voxel",
        type=positive_float,
        default=None,
        metavar="LENGTH",
        help=(
            "with --mesh: side of the cubes that depth is fused in, in the map's unit (default:"
            " that of a pixel)"
        ),
    )
    add_json_option(parser, "write the counts as JSON")


def run(args: argparse.Namespace) -> int:
    """Load the scene and write what is asked for, whole or not at all. Raises `SceneError` and
    `InputError`.
    """
    from vggt3_ros.scene.storage import load_scene

    if args.colmap is None and args.mesh is None:
        raise argparse.ArgumentTypeError(
            "nothing to export: give --colmap DIR, --mesh FILE, or both"
        )
    if args.voxel is not None and args.mesh is None:
        raise argparse.ArgumentTypeError(
            "--voxel is the resolution of a mesh; give --mesh FILE, too"
        )
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", scene_files(args.scene))
    if args.colmap is not None:
        check_target(args.colmap.resolve(), args.scene.resolve())
    if args.mesh is not None:
        check_mesh_path(args.mesh, args.scene)
    scene = load_scene(args.scene)
    data: dict[str, Any] = {"scene": str(args.scene), "metric": scene.is_metric}
    if args.colmap is not None:
        data |= _export_colmap(scene, args.scene, args.colmap)
    if args.mesh is not None:
        data |= export_mesh(scene, args.scene, args.mesh, args.voxel)
    write_json(args.json, data)
    return 0


def _export_colmap(scene: Scene, source: Path, folder: Path) -> dict[str, Any]:
    """Write the model of a scene read from `source`, tell its size, and return that as data for
    JSON.
    """
    from vggt3_ros.landmarks.landmarks import Landmarks

    if not scene.landmarks:
        raise InputError(
            f"{source} has no landmarks to export ({scene.verdict.reason}); "
            "map the place again with images that overlap more, or with --poses"
        )
    landmarks = Landmarks.from_tensors(scene.landmarks)
    _write_colmap(scene, landmarks, folder.resolve())
    data = {
        "colmap": str(folder),
        "images": len(scene.keyframes),
        "points": int(np.unique(landmarks.observed).size),
        "observations": len(landmarks.observed),
    }
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    print(f"model     {folder}: {data['images']} images, {data['points']} points, in {unit}")
    print(
        f"          {data['observations']} observations; pixels and cameras are without lens"
        " distortion"
    )
    return data


def check_target(target: Path, scene: Path) -> None:
    """Raise `InputError` unless `target` is new, empty, or holds nothing but a COLMAP model,
    outside the scene.
    """
    from vggt3_ros.landmarks.colmap_files import FILES

    if target == scene or scene in target.parents:
        raise InputError(f"--colmap {target} lies inside the scene; give a folder of its own")
    if target.exists() and not target.is_dir():
        raise InputError(f"--colmap {target} is a file; give the name of a folder")
    if target.is_dir():
        foreign = sorted(
            entry.name
            for entry in target.iterdir()
            if entry.name not in FILES or not entry.is_file()
        )
        if foreign:
            raise InputError(
                f"--colmap {target} holds {foreign[0]!r}, which is no file of a model; give a new"
                " folder"
            )


def _write_colmap(scene: Scene, landmarks: Landmarks, target: Path) -> None:
    from vggt3_ros.landmarks.colmap import write_colmap
    from vggt3_ros.scene.replace import locked_parent, new_sibling, replace_folder, sync

    sizes_wh = scene.require_calibration().image_sizes_wh
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked_parent(target):
        sibling = new_sibling(target)
        try:
            colors = nearest_colors(scene.points, landmarks.positions)
            names = scene.keyframes.names
            write_colmap(
                landmarks, names, sizes_wh, sibling, None if colors is None else colors.numpy()
            )
            for file in (*sibling.iterdir(), sibling):
                sync(file)
            replace_folder(sibling, target)
        except BaseException:
            shutil.rmtree(sibling, ignore_errors=True)
            raise
