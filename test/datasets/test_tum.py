"""TUM RGB-D folders, whole and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.errors import InputError

ReplaceLine = Callable[[Path, int, str], None]


def test_images_take_the_pose_and_depth_nearest_in_time(tum_folder: Path) -> None:
    sequence = load_sequence(str(tum_folder))
    assert len(sequence) == 9
    assert sequence.world_from_cam[:, 0, 3].tolist() == pytest.approx([0.5 * i for i in range(9)])
    # turned by 90 deg about z
    assert sequence.world_from_cam[0, :2, 0].tolist() == pytest.approx([0, 1], abs=1e-6)
    depth = sequence.read_depth(8)
    assert depth is not None and float(depth[0, 0]) == pytest.approx(1.0)
    assert sequence.stamps_ns[1] == 100_500_000_000


def test_splits_take_one_frame_per_second(tum_folder: Path) -> None:
    splits = load_sequence(str(tum_folder)).splits
    assert splits["interleaved"] == Split((0, 4, 8), (2, 6))
    assert splits["temporal"] == Split((0, 2, 4, 6), (8,))


def test_the_camera_follows_from_the_name_of_the_folder(tum_folder: Path) -> None:
    sequence = load_sequence(str(tum_folder))
    assert float(sequence.intrinsics[0, 0]) == 517.3
    assert sequence.distortion is not None and sequence.distortion.coefficients[0] == 0.2624
    assert sequence.notes == ()
    unnamed = load_sequence(str(tum_folder.rename(tum_folder.parent / "office")))
    assert float(unnamed.intrinsics[0, 0]) == 525 and unnamed.distortion is None
    assert "intrinsics assumed" in unnamed.notes[0]


def test_an_intrinsics_file_comes_first(tum_folder: Path) -> None:
    (tum_folder / "intrinsics.json").write_text(json.dumps({"fx": 20, "fy": 20, "cx": 8, "cy": 6}))
    sequence = load_sequence(str(tum_folder))
    assert float(sequence.intrinsics[0, 0]) == 20 and sequence.distortion is None


def test_images_without_a_pose_are_left_out_and_counted(
    tum_folder: Path, replace_line: ReplaceLine
) -> None:
    (tum_folder / "rgb" / "late.png").write_bytes(
        (tum_folder / "rgb" / "104.000000.png").read_bytes()
    )
    replace_line(tum_folder / "rgb.txt", 10, "108.0 rgb/late.png")
    sequence = load_sequence(str(tum_folder))
    assert len(sequence) == 8
    assert "1 of 9 images have no true pose" in sequence.notes[0]


def test_names_with_spaces_marks_and_commas_are_read(tum_folder: Path) -> None:
    (tum_folder / "rgb").rename(tum_folder / "my rgb")
    (tum_folder / "intrinsics.json").write_text(json.dumps({"fx": 20, "fy": 20, "cx": 8, "cy": 6}))
    changes = (
        ("rgb.txt", " rgb/", ",my rgb/"),
        ("groundtruth.txt", " ", ","),
        ("depth.txt", "/", "\\"),
    )
    for name, before, after in changes:
        text = (tum_folder / name).read_text().replace(before, after)
        (tum_folder / name).write_text(
            text, encoding="utf-16" if name == "rgb.txt" else "utf-8-sig"
        )
    sequence = load_sequence(str(tum_folder))
    assert (
        len(sequence) == 9
        and sequence.read_image(2)[0, 0, 0] == 20
        and sequence.read_depth(0) is not None
    )


def test_depth_of_another_time_is_refused(tum_folder: Path) -> None:
    depth = (tum_folder / "depth.txt").read_text().replace("\n10", "\n20")
    (tum_folder / "depth.txt").write_text(depth.replace("depth/20", "depth/10"))
    with pytest.raises(InputError, match=r"depth\.txt: none of its stamps, 200\.012 to 204\.012 s"):
        load_sequence(str(tum_folder))


def test_without_depth_txt_there_is_no_depth(tum_folder: Path) -> None:
    (tum_folder / "depth.txt").unlink()
    assert load_sequence(str(tum_folder)).read_depth(0) is None


def test_timestamps_that_do_not_meet_are_refused_with_both_ranges(tum_folder: Path) -> None:
    (tum_folder / "groundtruth.txt").write_text("7.0 0 0 0 0 0 0 1\n8.0 1 0 0 0 0 0 1\n")
    with pytest.raises(
        InputError,
        match=r"rgb\.txt runs from 100\.000 to 104\.000 s, groundtruth\.txt from 7\.000 to 8",
    ):
        load_sequence(str(tum_folder))


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        (
            "groundtruth.txt",
            "100.1 0 0 0 0 0 1",
            r"line 4: got 7 columns, expected 8 \(timestamp tx ty tz qx qy qz qw\)",
        ),
        ("groundtruth.txt", "100.1 0 nan 0 0 0 0 1", "line 4: 'nan' is not a finite number"),
        (
            "groundtruth.txt",
            "100.1 0 0 0 0 0 0 0",
            "line 4: the quaternion has length 0, expected 1",
        ),
        ("groundtruth.txt", "99.0 0 0 0 0 0 0 1", "timestamp 99.000000 follows 100.003000"),
        ("rgb.txt", "101.0 rgb/nowhere.png", "line 4: the image .*nowhere.png does not exist"),
        ("rgb.txt", "101.0", "line 4: got 1 columns, expected 2"),
        ("depth.txt", "now depth/101.000000.png", "line 4: 'now' is not a number"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(
    tum_folder: Path, replace_line: ReplaceLine, file: str, line: str, complaint: str
) -> None:
    replace_line(tum_folder / file, 4, line)
    with pytest.raises(InputError, match=rf"{file}.*{complaint}"):
        load_sequence(str(tum_folder))


def test_missing_truth_is_named(tum_folder: Path) -> None:
    (tum_folder / "groundtruth.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read .*groundtruth\.txt: No such file"):
        load_sequence(str(tum_folder))
