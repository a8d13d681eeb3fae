"""`vggt3 export SCENE --nerfstudio DIR`: images, cameras and sparse points in nerfstudio's format.

https://docs.nerf.studio/quickstart/data_conventions.html: transform_matrix is camera to world,
cameras have OpenGL's axes (x right, y up, z back), the world has Z up; principal points are
measured from the image's corner, as COLMAP's are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggt3_ros.cli.export_colmap import tell_left_out
from vggt3_ros.cli.export_folder import (
    IMAGE_FILES,
    IMAGES,
    check_folder,
    new_folder,
    write_images,
)
from vggt3_ros.cli.export_mesh import nearest_colors
from vggt3_ros.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from vggt3_ros.geometry.pointcloud import PointCloud
    from vggt3_ros.pipeline.keyframe_images import KeyframeImages
    from vggt3_ros.scene.scene import Scene

TRANSFORMS = "transforms.json"
POINTS = "sparse_pc.ply"
_OPENGL_FROM_OPENCV = (1.0, -1.0, -1.0, 1.0)  # of the camera's axes
_CORNER = 0.5  # from an image's corner to the centre of its first pixel


def check_nerfstudio_folder(target: Path, scene: Path) -> None:
    """Raise `InputError` unless such an export can be written to `target`."""
    files = rf"{TRANSFORMS}|{POINTS}|{IMAGE_FILES}".replace(".json", r"\.json")
    check_folder("--nerfstudio", target, scene, files, "such an export")


def export_nerfstudio(scene: Scene, folder: Path) -> dict[str, Any]:
    """Write the folder, tell its size, and return that as data for JSON. Raises `SceneError` for a
    scene without images.
    """
    from vggt3_ros.geometry.pointcloud import write_ply
    from vggt3_ros.pipeline.keyframe_images import KeyframeImages

    shown = KeyframeImages.of(scene)
    points = sparse_points(scene)
    with new_folder(folder) as new:
        write_images(shown.images, shown.file_names, new)
        write_ply(points, new / POINTS)
        write_json(new / TRANSFORMS, transforms(shown))
    height, width = scene.input_size
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    print(
        f"nerf      {folder}: {len(shown.rows)} images of {width} x {height} pixels,"
        f" {len(points)} points, in {unit}"
    )
    tell_left_out(scene, len(shown.rows))
    return {"nerfstudio": str(folder), "images": len(shown.rows), "points": len(points)}


def transforms(shown: KeyframeImages) -> dict[str, Any]:
    """The content of transforms.json. What all cameras have in common stands once, as other
    programs demand it.
    """
    import torch

    turned = torch.tensor(_OPENGL_FROM_OPENCV, dtype=torch.float64)
    poses = (shown.world_from_cam * turned).tolist()  # columns are axes
    height, width = shown.images.shape[-2:]
    cameras = [_camera(matrix) for matrix in shown.intrinsics]
    shared = cameras[0] if all(camera == cameras[0] for camera in cameras) else {}
    frames = [
        {"file_path": f"{IMAGES}/{name}", **({} if shared else camera), "transform_matrix": pose}
        for name, camera, pose in zip(shown.file_names, cameras, poses, strict=True)
    ]
    return {
        "camera_model": "OPENCV",
        "w": width,
        "h": height,
        **shared,
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "ply_file_path": POINTS,
        "frames": frames,
    }


def _camera(intrinsics: Tensor) -> dict[str, float]:
    return {
        "fl_x": float(intrinsics[0, 0]),
        "fl_y": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]) + _CORNER,
        "cy": float(intrinsics[1, 2]) + _CORNER,
    }


def sparse_points(scene: Scene) -> PointCloud:
    """The landmarks in the colours of the points nearest to them; in maps without landmarks, the
    points.
    """
    import torch

    from vggt3_ros.geometry.pointcloud import PointCloud

    if not scene.landmarks:
        return scene.points
    positions = scene.landmarks["positions"]
    colors = nearest_colors(scene.points, positions.numpy())
    if colors is None:
        colors = torch.full((len(positions), 3), 128, dtype=torch.uint8)
    return PointCloud(positions, colors, torch.ones(len(positions)))
