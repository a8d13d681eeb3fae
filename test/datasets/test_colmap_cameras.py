from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vggt3_ros.datasets.colmap_cameras import ColmapCameras
from vggt3_ros.errors import InputError
from vggt3_ros.landmarks.colmap import ColmapModel


def model_of(*names: str, width: int = 128) -> ColmapModel:
    """A model whose images differ in position, and in nothing else."""
    poses = np.tile(np.eye(4), (len(names), 1, 1))
    poses[:, 0, 3] = np.arange(len(names))
    intrinsics = np.array([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]])
    sizes = ((width, 96),) * len(names)
    return ColmapModel(
        names, poses, np.tile(intrinsics, (len(names), 1, 1)), (None,) * len(names), sizes
    )


IMAGE = np.full((96, 128, 3), 99, np.uint8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("b.png", 1.0), ("/data/left/b.png", 1.0), ("left/a.png", 0.0), ("/data/right/a.png", 2.0)],
)
def test_image_is_found_by_its_name(name: str, expected: float) -> None:
    frame = ColmapCameras(model_of("left/a.png", "b.png", "right/a.png")).frame(IMAGE, 7, name, 5)
    assert (
        frame.prior_world_from_cam is not None
        and float(frame.prior_world_from_cam[0, 3]) == expected
    )
    assert frame.name == Path(name).name and frame.stamp_ns == 5 and frame.distortion is None


def test_image_that_could_be_several_is_refused() -> None:
    with pytest.raises(InputError, match=r"a.png could be any of 2 images"):
        ColmapCameras(model_of("left/a.png", "right/a.png")).frame(IMAGE, 0, "a.png")


def test_images_of_other_folders_do_not_take_the_pose() -> None:
    cameras = ColmapCameras(model_of("left/a.png", "b.png"))
    assert cameras.frame(IMAGE, 0, "/data/right/a.png").prior_world_from_cam is None
    cameras.frame(IMAGE, 1, "/data/left/b.png")
    with pytest.raises(
        InputError, match=r"left/b\.png and /data/right/b\.png would get the same pose, b\.png"
    ):
        cameras.frame(IMAGE, 2, "/data/right/b.png")
    # however the image was left out
    with pytest.raises(InputError, match="would get the same pose"):
        cameras.check(1)
    assert cameras.left_over == {"poses": 1}


def test_image_unknown_to_the_model_has_the_only_calibration_but_no_pose() -> None:
    frame = ColmapCameras(model_of("a.png", "b.png")).frame(IMAGE, 0, "c.png")
    assert frame.prior_world_from_cam is None and frame.intrinsics is not None
    model = model_of("a.png", "b.png")
    model.intrinsics[1, 0, 0] = 90
    assert ColmapCameras(model).frame(IMAGE, 0, "c.png").intrinsics is None


def test_image_of_another_size_is_refused() -> None:
    with pytest.raises(
        InputError, match="has 128 x 96 pixels, in the COLMAP model it has 256 x 96"
    ):
        ColmapCameras(model_of("a.png", width=256)).frame(IMAGE, 0, "a.png")
