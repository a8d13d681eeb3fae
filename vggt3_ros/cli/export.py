"""`vggt3 export SCENE`: a scene in other programs' formats: COLMAP (--colmap DIR), nerfstudio
(--nerfstudio DIR), a mesh (--mesh FILE), points and cameras (--glb FILE), a trajectory (--tum
FILE), an occupancy grid (--nav2 DIR).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vggt3_ros.cli.common import add_json_option, check_not_input, positive_float, scene_files
from vggt3_ros.cli.export_colmap import check_colmap_folder, export_colmap
from vggt3_ros.cli.export_glb import check_glb_path, export_glb
from vggt3_ros.cli.export_mesh import check_mesh_path, export_mesh
from vggt3_ros.cli.export_nav2 import (
    add_nav2_options,
    check_nav2_folder,
    check_nav2_options,
    export_nav2,
)
from vggt3_ros.cli.export_nerfstudio import check_nerfstudio_folder, export_nerfstudio
from vggt3_ros.cli.export_tum import check_tum_path, export_tum
from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json


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
        "--with-images",
        action="store_true",
        help=(
            "with --colmap: also the keyframes' images, undistorted, in DIR/images, and the model"
            " in their pixels in DIR/sparse/0; needs a scene of --keep-images"
        ),
    )
    parser.add_argument(
        "--nerfstudio",
        type=Path,
        default=None,
        metavar="DIR",
        help=(
            "folder for transforms.json, undistorted images and sparse_pc.ply; made if missing, an"
            " earlier export in it is replaced; needs a scene of --keep-images"
        ),
    )
    _add_file_options(parser)
    add_nav2_options(parser)
    add_json_option(parser, "write the counts as JSON")


def _add_file_options(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--glb",
        type=Path,
        default=None,
        metavar="FILE",
        help="points, keyframes and the way between them to write, .glb (Y up)",
    )
    parser.add_argument(
        "--tum",
        type=Path,
        default=None,
        metavar="FILE",
        help="trajectory of the keyframes to write, a row of seconds, position, quaternion each",
    )


def run(args: argparse.Namespace) -> int:
    """Load the scene and write what is asked for, each whole or not at all. Raises `SceneError` and
    `InputError`.
    """
    from vggt3_ros.scene.storage import load_scene

    _check(args)
    scene = load_scene(args.scene)
    data: dict[str, Any] = {"scene": str(args.scene), "metric": scene.is_metric}
    if args.colmap is not None:
        data |= export_colmap(scene, args.scene, args.colmap, args.with_images)
    if args.nerfstudio is not None:
        data["nerfstudio"] = export_nerfstudio(scene, args.nerfstudio)
    if args.mesh is not None:
        data |= export_mesh(scene, args.scene, args.mesh, args.voxel)
    if args.glb is not None:
        data["glb"] = export_glb(scene, args.glb)
    if args.tum is not None:
        data["tum"] = export_tum(scene, args.tum)
    if args.nav2 is not None:
        data["nav2"] = export_nav2(scene, args)
    write_json(args.json, data)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be written or means nothing, before the scene is read."""
    targets = (args.colmap, args.nerfstudio, args.mesh, args.glb, args.tum, args.nav2)
    if not any(targets):
        raise argparse.ArgumentTypeError(
            "nothing to export: give --colmap DIR, --nerfstudio DIR, --mesh FILE, --glb FILE,"
            " --tum FILE or --nav2 DIR, or several of them"
        )
    if args.voxel is not None and args.mesh is None:
        raise argparse.ArgumentTypeError(
            "--voxel is the resolution of a mesh; give --mesh FILE, too"
        )
    if args.with_images and args.colmap is None:
        raise argparse.ArgumentTypeError(
            "--with-images puts images beside a COLMAP model; give --colmap DIR, too"
        )
    check_nav2_options(args)
    if args.json is not None:
        check_writable(args.json, "--json")
        check_not_input(args.json, "--json", scene_files(args.scene))
    checks = (
        check_colmap_folder,
        check_nerfstudio_folder,
        check_mesh_path,
        check_glb_path,
        check_tum_path,
        check_nav2_folder,
    )
    for path, check in zip(targets, checks, strict=True):
        if path is not None:
            check(path, args.scene)
    given = [path.resolve() for path in (*targets, args.json) if path is not None]
    for path in given:
        if given.count(path) > 1 or any(other in path.parents for other in given):
            raise InputError(f"{path} would be written twice; give each export a place of its own")
