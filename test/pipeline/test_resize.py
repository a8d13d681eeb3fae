"""Images of several sizes in one map: what has the same shape is resized, other cameras need a
calibration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.camera import Distortion, intrinsics_matrix
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.resize import most_like, resized, same_shape, usual_size
from vggt3_ros.pipeline.usable_frames import usable_frames

MakeFrames = Callable[[int], list[Frame]]
NO_LANDMARKS = ReconstructionSettings(anchor=AnchorSettings(landmarks=None))


def enlarged(frame: Frame, factor: int) -> Frame:
    return replace(frame, image=frame.image.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((480, 640), (960, 1280), True),
        ((1080, 1920), (480, 853), True),  # 853.3 rounded
        ((768, 1366), (1080, 1920), True),
        ((3024, 4032), (768, 1024), True),
        ((480, 640), (640, 480), False),
        ((480, 640), (478, 640), False),
        ((480, 640), (360, 640), False),
    ],
)
def test_sizes_have_the_same_shape_but_for_rounding(
    one: tuple[int, int], other: tuple[int, int], same: bool
) -> None:
    assert same_shape(one, other) is same_shape(other, one) is same


def test_the_usual_size_is_the_most_frequent_of_the_most_frequent_shape() -> None:
    sizes = [(60, 80)] * 2 + [(120, 160)] * 3 + [(90, 160)] * 4
    assert usual_size(sizes) == (120, 160) and usual_size([(9, 16), (3, 4)]) == (9, 16)
    assert most_like((30, 41), [(60, 60), (90, 160), (60, 80)]) == 2


@pytest.mark.parametrize("size", [(96, 128), (24, 32), (36, 48)])
def test_a_resized_frame_sees_each_point_where_its_calibration_projects_it(
    size: tuple[int, int],
) -> None:
    """A ramp of brightness tells which pixel of the original each one sees."""
    columns = np.arange(64, dtype=np.float64)
    image = np.repeat(np.tile(20 + 3 * columns, (48, 1))[..., None], 3, axis=2).astype(np.uint8)
    depth = np.tile((1 + columns).astype(np.float32), (48, 1))
    lens = Distortion("plumb_bob", (0.1, 0.0, 0.0, 0.0))
    frame = resized(
        Frame(image, 7, intrinsics_matrix(60.0, 61.0, 30.0, 24.5), lens, None, depth, "a"), size
    )
    assert (frame.size_hw, frame.distortion, frame.name, frame.stamp_ns) == (size, lens, "a", 7)
    assert frame.intrinsics is not None and frame.depth is not None and frame.depth.shape == size
    fx, cx = float(frame.intrinsics[0, 0]), float(frame.intrinsics[0, 2])
    # the column of the original that each column sees
    before = (np.arange(size[1]) - cx) / fx * 60.0 + 30.0
    inside = slice(3, -3)
    assert np.abs(frame.image[size[0] // 2, inside, 0] - (20 + 3 * before[inside])).max() < 1.0, (
        "a third of a pixel"
    )
    assert np.abs(frame.depth[0] - (1 + before)).max() <= 0.51


def test_the_minority_of_another_size_is_not_lost(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = make_frames(5)
    frames[0], frames[3] = enlarged(frames[0], 2), enlarged(frames[3], 3)
    made = reconstruct(frames, small_network, NO_LANDMARKS)
    assert made.skipped == () and len(made.scene.keyframes) == 5
    assert {frame.size_hw for frame in made.frames} == {(48, 64)}


def test_other_shapes_are_used_where_all_are_calibrated_and_named_otherwise(
    small_network: Vggt3, make_frames: MakeFrames
) -> None:
    frames = [
        replace(frame, intrinsics=intrinsics_matrix(60.0, 60.0, 31.5, 23.5))
        for frame in make_frames(4)
    ]
    portrait = np.ascontiguousarray(np.rot90(frames[1].image))
    frames[1] = replace(
        frames[1], image=portrait, intrinsics=intrinsics_matrix(60.0, 60.0, 23.5, 31.5)
    )
    made = reconstruct(frames, small_network)
    assert made.skipped == () and [frame.size_hw for frame in made.frames] == [
        (48, 64),
        (64, 48),
        (48, 64),
        (48, 64),
    ]
    assert torch.allclose(
        made.scene.keyframes.intrinsics[:, 0, 0], torch.tensor(60.0 * 70 / 64).double(), rtol=0.5
    )
    unknown = [
        replace(frame, intrinsics=None) if index == 3 else frame
        for index, frame in enumerate(frames)
    ]
    used, skipped = usable_frames(unknown)
    assert len(used) == 3
    assert skipped == (
        (
            "001.png",
            (
                "the image is 48x64, most are 64x48: images of several shapes can be used together"
                " only if all of them are calibrated"
            ),
        ),
    )
