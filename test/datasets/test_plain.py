"""The plain layout, whole and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Split
from vggt3_ros.errors import InputError

ReplaceLine = Callable[[Path, int, str], None]


def test_a_whole_folder_is_read(plain_folder: Path) -> None:
    sequence = load_sequence(str(plain_folder))
    assert (sequence.name, len(sequence)) == ("desk", 6)
    assert sequence.world_from_cam[:, 0, 3].tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert sequence.intrinsics.tolist() == [[20, 0, 8], [0, 20, 6], [0, 0, 1]]
    assert sequence.split() == sequence.split("sparse") == Split((0, 2, 4), (3,))


def test_frames_carry_pixels_intrinsics_and_on_request_the_true_pose(plain_folder: Path) -> None:
    sequence = load_sequence(str(plain_folder))
    frame = sequence.frame(3)
    assert frame.image.shape == (12, 16, 3) and int(frame.image[0, 0, 0]) == 70
    assert frame.name == "000003" and frame.prior_world_from_cam is None
    assert frame.intrinsics is not None and float(frame.intrinsics[0, 0]) == 20
    prior = sequence.frame(3, with_prior=True).prior_world_from_cam
    assert prior is not None and float(prior[0, 3]) == pytest.approx(0.3)


def test_depth_is_in_metres_where_there_is_any(plain_folder: Path) -> None:
    sequence = load_sequence(str(plain_folder))
    depth = sequence.read_depth(0)
    assert (
        depth is not None and depth.dtype == np.float32 and float(depth[5, 5]) == pytest.approx(2.0)
    )
    assert sequence.read_depth(1) is None


def test_poses_may_skip_frames_and_splits_name_frames_not_lines(
    plain_folder: Path, replace_line: ReplaceLine
) -> None:
    replace_line(plain_folder / "poses.txt", 3, "# frame 1 was not registered")
    sequence = load_sequence(str(plain_folder))
    assert sequence.split("sparse") == Split((0, 1, 3), (2,))
    assert sequence.names[sequence.split("sparse").query[0]] == "000003"


def test_without_a_split_file_frames_are_divided_in_the_two_standard_ways(
    plain_folder: Path,
) -> None:
    (plain_folder / "split.json").unlink()
    sequence = load_sequence(str(plain_folder))
    assert sequence.splits == {
        "interleaved": Split((0, 2, 4), (1, 3, 5)),
        "temporal": Split((0, 1, 2, 3), (4, 5)),
    }


def test_stamps_come_from_frames_csv(plain_folder: Path) -> None:
    rows = ["index,timestamp,source"] + [f"{i},{0.25 * i},x" for i in range(6)]
    (plain_folder / "frames.csv").write_text("\n".join(rows))
    assert load_sequence(str(plain_folder)).stamps_ns[2] == 500_000_000


@pytest.mark.parametrize("blank", ["", " ", '""', '" "'])
def test_without_a_single_stamp_index_is_second_as_without_the_file(
    plain_folder: Path, blank: str
) -> None:
    (plain_folder / "frames.csv").write_text(
        "index,timestamp\n" + "".join(f"{i},{blank}\n" for i in range(6))
    )
    sequence = load_sequence(str(plain_folder))
    assert sequence.stamps_ns == tuple(i * 1_000_000_000 for i in range(6))
    assert not any("stamp" in note for note in sequence.notes)


def test_where_some_frames_have_no_stamp_none_is_used_and_a_note_says_so(
    plain_folder: Path,
) -> None:
    rows = ["index,timestamp,source"] + [
        f"{i},{'' if i in (2, 5) else 100.5 + i},x" for i in range(6)
    ]
    (plain_folder / "frames.csv").write_text("\n".join(rows))
    sequence = load_sequence(str(plain_folder))
    assert sequence.stamps_ns == tuple(i * 1_000_000_000 for i in range(6))
    assert (
        "no stamp for 2 of 6 frames (the first is 2); none of its stamps is used"
        in sequence.notes[-1]
    )


def test_stamps_of_frames_without_a_pose_do_not_matter(plain_folder: Path) -> None:
    rows = ["index,timestamp"] + [f"{i},{0.25 * i}" for i in range(6)] + ["6,"]
    (plain_folder / "frames.csv").write_text("\n".join(rows))
    assert load_sequence(str(plain_folder)).stamps_ns[2] == 500_000_000


def test_distortion_is_read(plain_folder: Path) -> None:
    camera = json.loads((plain_folder / "intrinsics.json").read_text())
    camera["distortion"] = {"model": "plumb_bob", "coefficients": [0.1, 0, 0, 0, 0]}
    (plain_folder / "intrinsics.json").write_text(json.dumps(camera))
    distortion = load_sequence(str(plain_folder)).distortion
    assert distortion is not None and distortion.coefficients == (0.1, 0, 0, 0, 0)


def test_what_belongs_to_no_frame_is_counted(plain_folder: Path, replace_line: ReplaceLine) -> None:
    replace_line(plain_folder / "poses.txt", 7, "")
    (plain_folder / "split.json").unlink()
    (plain_folder / "depth" / "000005.png").write_bytes(b"")
    first, second = load_sequence(str(plain_folder)).notes
    assert first == "1 of 6 images have no pose and are left out"
    assert second == "1 of 5 frames have depth; 1 files in depth/ are unused"


def test_depth_of_no_frame_is_refused(plain_folder: Path) -> None:
    (plain_folder / "depth" / "000000.png").rename(plain_folder / "depth" / "depth_0.png")
    with pytest.raises(
        InputError, match=r"depth: none of its 1 files \(depth_0\.png, \.\.\.\) belongs to a frame"
    ):
        load_sequence(str(plain_folder))


def test_two_images_of_one_number_are_refused(plain_folder: Path) -> None:
    (plain_folder / "images" / "4.png").write_bytes(
        (plain_folder / "images" / "000004.png").read_bytes()
    )
    with pytest.raises(InputError, match=r"000004\.png and .*4\.png are both frame 4"):
        load_sequence(str(plain_folder))


def test_images_of_another_size_than_the_calibration_are_refused(plain_folder: Path) -> None:
    camera = json.loads((plain_folder / "intrinsics.json").read_text())
    (plain_folder / "intrinsics.json").write_text(json.dumps(camera | {"width": 32, "height": 24}))
    with pytest.raises(
        InputError, match=r"000000\.png has 16 x 12 pixels, the intrinsics are for 32 x 24"
    ):
        load_sequence(str(plain_folder)).frame(0)


def test_columns_of_frames_csv_go_by_their_names(plain_folder: Path) -> None:
    rows = ["timestamp,source_rgb,index"] + [f"{0.25 * i},x,{i}" for i in range(6)]
    (plain_folder / "frames.csv").write_text("\n".join(rows), encoding="utf-8-sig")
    assert load_sequence(str(plain_folder)).stamps_ns[2] == 500_000_000


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1 1 0 0 0", r"poses\.txt, line 3: got 5 columns, expected 17"),
        (
            "1 nan 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
            r"poses\.txt, line 3: 'nan' is not a finite number",
        ),
        ("1 one 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"poses\.txt, line 3: 'one' is not a number"),
        ("1 2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"poses\.txt, line 3.*not a rotation"),
        ("1 1 0 0 0 0 1 0 0 0 0 1 0 0 0 1 1", r"poses\.txt, line 3.*last row"),
        ("0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"poses\.txt, line 3: frame 0 has a second pose"),
        ("-1 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"poses\.txt, line 3: '-1' is not a frame index"),
        ("9 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", r"no image 000009"),
    ],
)
def test_a_bad_pose_is_refused_with_file_and_line(
    plain_folder: Path, replace_line: ReplaceLine, line: str, complaint: str
) -> None:
    replace_line(plain_folder / "poses.txt", 3, line)
    with pytest.raises(InputError, match=complaint):
        load_sequence(str(plain_folder))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("poses.txt", "# nothing\n", "poses.txt: no data"),
        ("intrinsics.json", "{", r"intrinsics\.json, line 1: not valid JSON"),
        ("intrinsics.json", "[]", "expected a JSON object, got list"),
        ("intrinsics.json", '{"fx": 20}', "fy must be a positive number of pixels, got None"),
        ("intrinsics.json", '{"fx": NaN}', "fx must be a positive number of pixels, got nan"),
        (
            "intrinsics.json",
            '{"fx":1,"fy":1,"cx":1,"cy":1,"distortion":"fisheye"}',
            "distortion must be",
        ),
        ("split.json", '{"a": {"map": [0, 1]}}', "query is not"),
        ("split.json", '{"a": {"map": [0, 77], "query": [1]}}', "map frame 77, which has no pose"),
        (
            "split.json",
            '{"a": {"map": [0, 1], "query": [1]}}',
            "frame 1 is both a map and a query frame",
        ),
        ("split.json", '{"a": {"map": [0], "query": [1]}}', "got 1 map and 1 query frames"),
        ("split.json", "{}", "too few"),
        ("frames.csv", "index,timestamp\n0,zero\n", r"frames\.csv, line 2: expected index,seconds"),
        ("frames.csv", "index,timestamp\n0,0\n", "no line for frame 1"),
        ("frames.csv", "index,timestamp\n0,\n", "no line for frame 1"),
        ("frames.csv", "index,timestamp\n0\n", "line 2: expected index,seconds"),
        ("frames.csv", "index,timestamp\n0,nan\n", "line 2: expected index,seconds"),
        ("frames.csv", "index,timestamp\n,0.5\n", "line 2: '' is not a frame index"),
        ("frames.csv", "index,timestamp\n0,\n0,1\n", "line 3: frame 0 has a second stamp"),
        (
            "frames.csv",
            "index,timestmap\n0,0\n",
            r"unknown columns \['timestmap'\]; did you mean 'timestamp'",
        ),
        ("frames.csv", "0,0\n1,1\n", "unknown columns"),
        ("frames.csv", "index,timestamp\n0,0\n0,1\n", "line 3: frame 0 has a second stamp"),
        (
            "split.json",
            '{"a": {"map": [0, 1], "query": [2], "querry": []}}',
            r"unknown keys \['querry'\]",
        ),
    ],
)
def test_a_bad_file_is_refused_by_name(
    plain_folder: Path, name: str, text: str, complaint: str
) -> None:
    (plain_folder / name).write_text(text)
    with pytest.raises(InputError, match=complaint):
        load_sequence(str(plain_folder))


@pytest.mark.parametrize("name", ["intrinsics.json", "images/000004.png"])
def test_a_missing_file_is_named(plain_folder: Path, name: str) -> None:
    (plain_folder / name).unlink()
    with pytest.raises(InputError, match=Path(name).stem):
        load_sequence(str(plain_folder))


def test_a_binary_file_in_place_of_a_text_is_refused(plain_folder: Path) -> None:
    (plain_folder / "poses.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        load_sequence(str(plain_folder))


def test_a_damaged_image_or_depth_is_refused_when_it_is_read(plain_folder: Path) -> None:
    (plain_folder / "images" / "000002.png").write_bytes(b"\x89PNG")
    (plain_folder / "depth" / "000000.png").write_bytes(b"\x89PNG")
    sequence = load_sequence(str(plain_folder))
    with pytest.raises(InputError, match=r"images/000002\.png"):
        sequence.frame(2)
    with pytest.raises(InputError, match=r"depth/000000\.png"):
        sequence.read_depth(0)


def test_a_colour_image_is_no_depth(plain_folder: Path) -> None:
    (plain_folder / "depth" / "000000.png").write_bytes(
        (plain_folder / "images" / "000000.png").read_bytes()
    )
    with pytest.raises(InputError, match="16-bit depth image of one channel"):
        load_sequence(str(plain_folder)).read_depth(0)


def test_an_unknown_split_is_refused_with_the_known_ones(plain_folder: Path) -> None:
    with pytest.raises(InputError, match="no split 'dense'; choose one of sparse"):
        load_sequence(str(plain_folder)).split("dense")


def test_stamps_in_another_encoding_are_refused(plain_folder: Path) -> None:
    (plain_folder / "frames.csv").write_bytes(
        "index,timestamp,caf\u00e9\n0,0,x\n".encode("latin-1")
    )
    with pytest.raises(InputError, match=r"frames\.csv: it is not a text file"):
        load_sequence(str(plain_folder))
