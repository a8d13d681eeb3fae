"""`vggt3 export SCENE --colmap DIR`: keyframes and landmarks as a COLMAP model; with --with-images
the keyframes' images beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggt3_ros.cli.export_folder import IMAGE_FILES, check_folder, new_folder, write_images
from vggt3_ros.cli.export_mesh import nearest_colors
from vggt3_ros.errors import InputError

if TYPE_CHECKING:
    from vggt3_ros.scene.scene import Scene

_SPARSE = "sparse/0"


def check_colmap_folder(target: Path, scene: Path) -> None:
    """Raise `InputError` unless a model can be written to `target`."""
    from vggt3_ros.landmarks.colmap_files import FILES

    model = "|".join(name.replace(".", r"\.") for name in FILES)
    files = rf"({_SPARSE}/)?({model})|{IMAGE_FILES}"
    check_folder("--colmap", target, scene, files, "a model")


def export_colmap(scene: Scene, source: Path, folder: Path, with_images: bool) -> dict[str, Any]:
    """Write the model of a scene read from `source`, tell its size, and return that as data for
    JSON.

    With images, these are in `folder`/images and the model, in their pixels and of their names, is
    in `folder`/sparse/0.
    """
    from vggt3_ros.landmarks.colmap import write_colmap
    from vggt3_ros.landmarks.landmarks import Landmarks
    from vggt3_ros.pipeline.keyframe_images import KeyframeImages

    if not scene.landmarks:
        raise InputError(
            f"{source} has no landmarks to export ({scene.verdict.reason}); "
            "map the place again with images that overlap more, or with --poses"
        )
    landmarks = Landmarks.from_tensors(scene.landmarks)
    names = scene.keyframes.names
    sizes_wh = scene.require_calibration().image_sizes_wh
    shown = KeyframeImages.of(scene) if with_images else None
    if shown is not None:
        landmarks = shown.landmarks(scene)
        names = shown.file_names
        height, width = scene.input_size
        sizes_wh = ((width, height),) * len(names)
    colors = nearest_colors(scene.points, landmarks.positions)
    with new_folder(folder) as new:
        model = new
        if shown is not None:
            write_images(shown.images, shown.file_names, new)
            model = new / _SPARSE
            model.mkdir(parents=True)
        write_colmap(landmarks, names, sizes_wh, model, None if colors is None else colors.numpy())
    data = {
        "colmap": str(folder),
        "images": len(names),
        "with_images": with_images,
        "points": int(np.unique(landmarks.observed).size),
        "observations": len(landmarks.observed),
    }
    _tell(data, scene)
    return data


def _tell(data: dict[str, Any], scene: Scene) -> None:
    unit = "metres" if scene.is_metric else "the scene's units, not metres"
    where = data["colmap"]
    print(f"model     {where}: {data['images']} images, {data['points']} points, in {unit}")
    print(
        f"          {data['observations']} observations; pixels and cameras are without lens"
        " distortion"
    )
    if data["with_images"]:
        height, width = scene.input_size
        print(f"          images of {width} x {height} pixels in images, the model in {_SPARSE}")
        tell_left_out(scene, data["images"])


def tell_left_out(scene: Scene, exported: int) -> None:
    """Say how many keyframes were left out of an export, if any."""
    left_out = len(scene.keyframes) - exported
    if left_out:
        print(
            f"          {left_out} of {len(scene.keyframes)} keyframes left out: no landmarks tie"
            " them to the others"
        )
