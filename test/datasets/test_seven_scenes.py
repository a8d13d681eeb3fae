"""7-Scenes folders, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.datasets.seven_scenes import _in_color_camera
from vggt3_ros.errors import InputError


def test_the_split_files_say_what_is_mapped(seven_scenes_folder: Path) -> None:
    sequence = load_sequence(str(seven_scenes_folder))
    assert sequence.names == tuple(
        f"seq-{s}"
        for s in (
            "01/frame-000000",
            "01/frame-000001",
            "01/frame-000002",
            "02/frame-000000",
            "02/frame-000001",
        )
    )
    assert sequence.split() == sequence.split("standard") == Split((0, 1, 2), (3, 4))
    assert sequence.world_from_cam[:, 0, 3].tolist() == pytest.approx([1, 1.1, 1.2, 2, 2.1])
    assert int(sequence.frame(1).image[0, 0, 0]) == 10


def test_depth_is_brought_to_the_colour_camera_and_65535_is_unknown(
    seven_scenes_folder: Path,
) -> None:
    sequence = load_sequence(str(seven_scenes_folder))
    known, unknown = sequence.read_depth(0), sequence.read_depth(2)
    assert known is not None and float(known[6, 8]) == pytest.approx(1.5)
    assert unknown is not None and not unknown.any()
    assert "no calibration between colour and depth" in sequence.notes[0]


def test_the_wider_view_of_the_colour_camera_has_no_depth_at_its_border() -> None:
    depth = np.tile(np.arange(1, 641, dtype=np.float32), (480, 1))
    seen = _in_color_camera(depth, color_focal=525)
    assert seen[240, 320] == depth[240, 320]
    assert seen[240, 320 + 105] == depth[240, 320 + 117]
    assert not seen[:, 0].any() and not seen[0].any()


def test_a_long_scene_has_a_sparse_split_too(seven_scenes_folder: Path) -> None:
    folder = seven_scenes_folder / "seq-01"
    for i in range(3, 61):
        for suffix in ("color.png", "pose.txt"):
            (folder / f"frame-{i:06d}.{suffix}").symlink_to(folder / f"frame-000000.{suffix}")
    assert load_sequence(str(seven_scenes_folder)).split("sparse") == Split((0, 30, 60), (61,))


def test_a_single_sequence_is_read_at_one_frame_per_second(seven_scenes_folder: Path) -> None:
    folder = seven_scenes_folder / "seq-01"
    for i in range(3, 120):
        for suffix in ("color.png", "pose.txt"):
            (folder / f"frame-{i:06d}.{suffix}").symlink_to(folder / f"frame-000000.{suffix}")
    assert load_sequence(str(folder)).split("interleaved") == Split((0, 60), (30, 90))


def test_a_short_sequence_cannot_be_divided(seven_scenes_folder: Path) -> None:
    with pytest.raises(InputError, match="too few"):
        load_sequence(str(seven_scenes_folder / "seq-01"))


def test_a_pose_with_infinities_is_refused_by_file(seven_scenes_folder: Path) -> None:
    path = seven_scenes_folder / "seq-01" / "frame-000001.pose.txt"
    path.write_text(path.read_text().replace("1.1", "-inf"))
    with pytest.raises(InputError, match=r"frame-000001\.pose\.txt: '-inf' is not a finite number"):
        load_sequence(str(seven_scenes_folder))


def test_a_pose_cut_short_is_refused_by_file(seven_scenes_folder: Path) -> None:
    path = seven_scenes_folder / "seq-01" / "frame-000001.pose.txt"
    path.write_text("1 0 0 0\n0 1 0 0\n")
    with pytest.raises(
        InputError, match=r"frame-000001\.pose\.txt: got 8 numbers, expected the 16"
    ):
        load_sequence(str(seven_scenes_folder))


def test_a_missing_image_is_named(seven_scenes_folder: Path) -> None:
    (seven_scenes_folder / "seq-02" / "frame-000001.color.png").unlink()
    with pytest.raises(InputError, match=r"frame-000001\.color\.png is missing"):
        load_sequence(str(seven_scenes_folder))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sequence9\n", "line 1: the folder .*seq-09 does not exist"),
        ("all of them\n", "line 1: got 3 columns"),
        ("first\n", "line 1: expected a name such as sequence1, got 'first'"),
        ("", "no data"),
    ],
)
def test_a_bad_split_file_is_refused(seven_scenes_folder: Path, text: str, complaint: str) -> None:
    (seven_scenes_folder / "TestSplit.txt").write_text(text)
    with pytest.raises(InputError, match=rf"TestSplit\.txt.*{complaint}"):
        load_sequence(str(seven_scenes_folder))
