"""Folders of images, with poses, calibration and depth, as frames; what fits none is an error."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggt3_ros.datasets.frames import read_frames
from vggt3_ros.errors import InputError
from vggt3_ros.worlds.sequence import RoomSequence


def test_a_folder_becomes_frames_with_poses_calibration_and_depth(
    room: Path, drive: RoomSequence
) -> None:
    frames = read_frames(
        room / "map",
        poses=room / "poses.txt",
        intrinsics=room / "intrinsics.json",
        depth=room / "depth",
    )
    assert [frame.name for frame in frames] == [f"{index:06d}.png" for index in drive.map_indices]
    for frame, index in zip(frames, drive.map_indices, strict=True):
        np.testing.assert_array_equal(frame.image, drive.images[index])
        torch.testing.assert_close(frame.prior_world_from_cam, drive.world_from_cam[index])
        torch.testing.assert_close(frame.intrinsics, drive.intrinsics)
        np.testing.assert_allclose(frame.depth, drive.depth[index], atol=0.001)


def test_what_is_not_given_is_not_known(room: Path) -> None:
    (frame,) = read_frames(str(room / "other.png"))
    assert frame.intrinsics is None and frame.prior_world_from_cam is None and frame.depth is None


def test_several_arguments_are_read_in_their_order(room: Path) -> None:
    frames = read_frames([room / "other.png", room / "queries"])
    assert [frame.name for frame in frames] == [
        "other.png",
        *(f"{index:06d}.png" for index in range(8, 12)),
    ]
    assert all(
        first.stamp_ns < second.stamp_ns for first, second in zip(frames, frames[1:], strict=False)
    )


def test_what_cannot_be_used_is_left_out_with_a_warning(tmp_path: Path, room: Path) -> None:
    (tmp_path / "1.png").write_bytes((room / "other.png").read_bytes())
    (tmp_path / "2.png").write_bytes((room / "other.png").read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"2\.png is left out: .*"):
        assert [frame.name for frame in read_frames(tmp_path)] == ["1.png"]
    (tmp_path / "1.png").unlink()
    with (
        warnings.catch_warnings(),
        pytest.raises(InputError, match="none of the 1 images can be used"),
    ):
        warnings.simplefilter("ignore")
        read_frames(tmp_path)


def test_poses_that_fit_no_image_are_an_error(room: Path) -> None:
    with pytest.raises(
        InputError, match=r"poses\.txt: none of its 8 poses belongs to one of the 4 images"
    ):
        read_frames(room / "queries", poses=room / "poses.txt")


def test_a_calibration_of_other_images_is_an_error(tmp_path: Path, room: Path) -> None:
    Image.new("RGB", (64, 48), "white").save(tmp_path / "small.png")
    with (
        pytest.warns(UserWarning, match="320 x 240"),
        pytest.raises(InputError, match="none of the 1 images"),
    ):
        read_frames(tmp_path, intrinsics=room / "intrinsics.json")


@pytest.mark.parametrize("option", ["poses", "intrinsics", "depth"])
def test_a_file_that_is_not_there_is_named(room: Path, option: str) -> None:
    with pytest.raises(InputError, match="missing"):
        read_frames(room / "map", **{option: room / "missing"})
