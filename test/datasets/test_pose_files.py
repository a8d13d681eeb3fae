"""Pose files of KITTI, TUM, EuRoC and our own layout, with commas, tabs, marks and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from vggt3_ros.datasets.pose_files import PoseFile, read_pose_file
from vggt3_ros.errors import InputError

EYE = "1 0 0 {} 0 1 0 0 0 0 1 0"


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> PoseFile:
    (tmp_path / "poses.txt").write_bytes(text.encode(encoding))
    return read_pose_file(tmp_path / "poses.txt")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";"])
def test_separators_and_marks_do_not_matter(separator: str, encoding: str, tmp_path: Path) -> None:
    row = f"7 {EYE.format(2)} 0 0 0 1".replace(" ", separator)
    file = read(tmp_path, f"# a comment\r\n\r\n{row}\r\n", encoding)
    assert (file.kind, file.rows[0].key) == ("number", "7") and file.rows[0].world_from_cam()[
        0, 3
    ] == 2


@pytest.mark.parametrize(
    ("text", "kind", "keys"),
    [
        (f"{EYE.format(0)}\n{EYE.format(1)}\n", "number", ["0", "1"]),
        (f"{EYE.format(0)} 0 0 0 1\n{EYE.format(1)} 0 0 0 1\n", "number", ["0", "1"]),
        (f"5 {EYE.format(0)}\n9 {EYE.format(1)}\n", "number", ["5", "9"]),
        ("# timestamp tx ty tz qx qy qz qw\n10.5 0 0 0 0 0 0 1\n10.75 1 0 0 0 0 0 1\n", "time",
         ["10.5", "10.75"]),
        ("5 0 0 0 0 0 0 1\n9 1 0 0 0 0 0 1\n", "number", ["5", "9"]),
        (f"left/my image 1.png {EYE.format(0)}\nright\\b.png {EYE.format(1)}\n", "name",
         ["left/my image 1.png", "right/b.png"]),
        (f'"a, b.png", {EYE.format(0)}\n"c 7", {EYE.format(1)}\n', "name", ["a, b.png", "c 7"]),
    ],
)  # fmt: skip
def test_layouts_are_told_from_the_rows(
    text: str, kind: str, keys: list[str], tmp_path: Path
) -> None:
    file = read(tmp_path, text)
    assert (file.kind, [row.key for row in file.rows]) == (kind, keys)
    assert [float(row.world_from_cam()[0, 3]) for row in file.rows] == [0, 1]


@pytest.mark.parametrize(
    "header",
    [
        "timestamp,tx,ty,tz,qw,qx,qy,qz",
        "# timestamp x y z qw qx qy qz",
        (
            "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [],"
            " q_RS_z []"
        ),
        "time,pose.position.x,pose.position.y,pose.position.z,orientation_w,orientation_x,orientation_y,orientation_z",
    ],
)
def test_columns_are_taken_by_their_names(header: str, tmp_path: Path) -> None:
    pose = read(tmp_path, f"{header}\n1.5,3,4,5,0,0,0,1\n").rows[0].world_from_cam()
    assert pose[:3, :3].diagonal().tolist() == [-1, -1, 1] and pose[:3, 3].tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1.5 0 0 0 0 0 1\n", r"line 1: got 7 columns, expected 17, 12 or 8 .*KITTI.*TUM"),
        (f"{EYE.format(0)}\n3 {EYE.format(0)}\n", "line 2: got 13 columns, expected 12"),
        (f"0 {EYE.format(0)} 0 0 0 1\n1 {EYE.format(0)}\n", "line 2: got 13 columns, expected 17"),
        ("1.5 0 0 0 0 0 0 2\n", "line 1: the quaternion has length 2"),
        (f"1 {EYE.format(0)}\n01 {EYE.format(0)}\n", "line 2: frame 01 has a second pose"),
        (
            f"a.png {EYE.format(0)}\na.png {EYE.format(0)}\n",
            "line 2: frame a.png has a second pose",
        ),
        (
            "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n1 1 0 0 0 0 0 0 1 a.png\n",
            "with --from-colmap",
        ),
        (f",{EYE.format(0)}\n1 {EYE.format(0)}\n", "line 1: the first field is empty"),
        (f"0;{EYE.format(0)}\n;{EYE.format(0)}\n", "line 2: the first field is empty"),
        (
            "1.5,0,0,0,0,0,0,1\n,0,0,0,0,0,0,1\n",
            "line 2: the first field is empty; give every row its frame, time",
        ),
        ('{"frames": []}', "is JSON"),
        ("timestamp,tx,ty,tz,qx,qy,qz,quality\n1,2,3,4,0,0,0,1\n", "not a"),
        (
            "time,tx,ty,tz,qx,qy,qw,gz\n1,2,3,4,0,0,0,1\n",
            r"line 1: unknown columns \['gz'\]; did you mean '.z'",
        ),
        ("time,tx,ty,tz,qx,qy,qw,qw\n1,2,3,4,0,0,0,1\n", "expected a frame, time or image, then"),
        ("# t x y z qw qx qy qz vx vy\n1.5 1 2 3 1 0 0 0 9 9\n", r"unknown columns \['vx', 'vy'\]"),
    ],
)
def test_other_conventions_are_refused_by_name(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        for row in read(tmp_path, text).rows:
            row.world_from_cam()
