"""What is given beside the images has an effect, is counted where it has none, and is an error
where all has none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.errors import InputError

from .conftest import Outcome

Run = Callable[..., Outcome]
IMAGE = np.full((6, 8, 3), 99, np.uint8)
EYE = "1 0 0 {} 0 1 0 0 0 0 1 0 0 0 0 1"


def poses_file(tmp_path: Path, *keys: object) -> Path:
    """Poses at x = 0, 1, ... of images that the keys name."""
    path = tmp_path / "poses.txt"
    path.write_text("\n".join(f"{key} {EYE.format(x)}" for x, key in enumerate(keys)))
    return path


def xs(known: KnownCameras, *names: str) -> list[float | None]:
    """Where the pose of each of these images is; None for those without."""
    frames = [known.frame(IMAGE, position, name) for position, name in enumerate(names)]
    return [
        None if f.prior_world_from_cam is None else float(f.prior_world_from_cam[0, 3])
        for f in frames
    ]


def depth_folder(tmp_path: Path, *names: str) -> Path:
    """Depth images of 1 m, 2 m, ..."""
    for metres, name in enumerate(names, start=1):
        (tmp_path / "depth" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), 1000 * metres, np.uint16)).save(tmp_path / "depth" / name)
    return tmp_path / "depth"


@pytest.mark.parametrize(
    ("keys", "names", "expected"),
    [
        (["left/0.png", "right/0.png"], ["/d/right/0.png", "/d/left/0.png"], [1, 0]),
        (["my image.png", "b.png"], ["/d/b.png", "/d/my image.png", "/d/c.png"], [1, 0, None]),
        (["7", "3"], ["/d/0003.png", "/d/07.png"], [1, 0]),
        (["0", "1"], ["/d/a.png", "/d/b.png"], [0, 1]),
        (["../d/a.png", "./b.png"], ["/d/a.png", "/d/b.png"], [0, 1]),
        (["\u00fc.png"], ["/d/u\u0308.png"], [0]),
        (["10.5", "11.5"], ["/d/11.51.png", "/d/10.499.png", "/d/12.5.png"], [1, 0, None]),
        (
            ["1403636580.83", "1403636581.83"],
            ["/d/1403636581830000000.png", "/d/1403636580830.png"],
            [1, 0],
        ),
    ],
)
def test_a_pose_belongs_to_the_image_that_it_names(
    keys: list[str], names: list[str], expected: list[float | None], tmp_path: Path
) -> None:
    known = KnownCameras.from_files(poses_file(tmp_path, *keys), None)
    assert xs(known, *names) == expected
    known.check(len(names))


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["0", "1"], ["left/000.png", "right/000.png"]),
        (["7", "8"], ["007.png", "7.jpg"]),
        (["0", "1"], ["a.png", "0.png"]),
        (["000.png", "001.png"], ["left/000.png", "right/000.png"]),
        (["10.5", "11.5"], ["left/10.5.png", "right/10.5.png"]),
    ],
)
def test_two_images_never_get_the_same_pose(
    keys: list[str], names: list[str], tmp_path: Path
) -> None:
    known = KnownCameras.from_files(poses_file(tmp_path, *keys), None)
    with pytest.raises(
        InputError, match=rf"{names[0]} and {names[1]} would get the same pose.*file name"
    ):
        xs(known, *names)
    # the whole run fails, not that image alone
    with pytest.raises(InputError, match="would get the same pose"):
        known.check(1)


def test_a_number_within_the_name_makes_the_position_doubtful(tmp_path: Path) -> None:
    known = KnownCameras.from_files(poses_file(tmp_path, *range(9)), None)
    xs(known, "frame_0005.png", "frame_0006.png")
    with pytest.raises(
        InputError, match=r"frame_0005\.png is number 5 by its name and 0 by its position"
    ):
        known.check(2)


def test_depth_goes_by_name_and_folder_and_to_one_image_alone(tmp_path: Path) -> None:
    known = KnownCameras.from_files(
        None, None, depth_folder(tmp_path, "left/0.png", "right/0.png", "._0.png")
    )
    frames = [
        known.frame(IMAGE, position, f"/d/{side}/0.jpg")
        for position, side in enumerate(("right", "left", "up"))
    ]
    assert [None if f.depth is None else float(f.depth[0, 0]) for f in frames] == [2, 1, None]
    shared = KnownCameras.from_files(None, None, depth_folder(tmp_path / "b", "0.png"))
    shared.frame(IMAGE, 0, "left/0.png")
    with pytest.raises(
        InputError, match=r"left/0\.png and right/0\.png would get the same depth image, 0\.png"
    ):
        shared.frame(IMAGE, 1, "right/0.png")


def test_depth_of_another_size_is_named(tmp_path: Path) -> None:
    known = KnownCameras.from_files(None, None, depth_folder(tmp_path, "0.png"))
    with pytest.raises(
        InputError, match=r"depth/0\.png has 8 x 6 pixels, its image 0\.jpg 4 x 3; .* registered"
    ):
        known.frame(np.full((3, 4, 3), 99, np.uint8), 0, "0.jpg")


def test_depth_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000000.exr").write_bytes(b"depth")
    with pytest.raises(
        InputError, match=r"holds no png but 1 other files such as 000000\.exr; .* 16-bit"
    ):
        KnownCameras.from_files(None, None, tmp_path)


@pytest.mark.parametrize(
    ("keys", "fragments"),
    [
        ([70, 71], ("poses.txt: none of its 2 poses", "5 images", "called 70, 71", "000000.png")),
        (["10.5", "11.5"], ("none of its 2 poses", "called 10.5, 11.5")),
        (["a/x.png", "a/y.png"], ("none of its 2 poses", "called a/x.png, a/y.png")),
    ],
)
def test_poses_of_no_image_are_an_error(
    keys: list[object],
    fragments: tuple[str, ...],
    vggt3: Run,
    images: Path,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    given = ("--poses", poses_file(tmp_path, *keys))
    assert vggt3("map", images, "--out", tmp_path / "s", "--model", checkpoint, *given).failed_with(
        *fragments
    )
    assert not (tmp_path / "s").exists()


def test_depth_of_no_image_is_an_error(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    given = ("--depth", depth_folder(tmp_path, "000000_depth.png", "000001_depth.png"))
    outcome = vggt3("map", images, "--out", tmp_path / "s", "--model", checkpoint, *given)
    assert outcome.failed_with(
        "none of its 2 depth images", "called 000000_depth.png", "its image's name"
    )


def test_same_names_in_two_folders_fail_as_a_whole(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "left")
    shutil.copytree(images, tmp_path / "right")
    given = ("--poses", poses_file(tmp_path, *range(5)))
    outcome = vggt3(
        "map",
        tmp_path / "left",
        tmp_path / "right",
        "--out",
        tmp_path / "s",
        "--model",
        checkpoint,
        *given,
    )
    assert outcome.failed_with(
        "left/000000.png and ", "right/000000.png would get the same pose", "left/000.png"
    )


def test_what_was_used_is_always_said(
    vggt3: Run, own_images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (own_images / "000004.png").write_bytes(b"no image")
    camera = {"K": [100, 0, 64, 0, 100, 48, 0, 0, 1], "width": 128, "height": 96, "k1": 0.01}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    given = ("--poses", poses_file(tmp_path, 0, 1, 9), "--intrinsics", tmp_path / "camera.json")
    scene, report = tmp_path / "s", tmp_path / "map.json"
    outcome = vggt3(
        "map", own_images, "--out", scene, "--model", checkpoint, "--json", report, *given
    )
    assert (
        outcome.code == 0
        and "images    4 of 5 used; 2 with a pose, 0 with depth, 4 calibrated" in outcome.out
    )
    assert "1 poses belong to none of the images" in outcome.out and "plumb_bob 0.01" in outcome.out
    told = json.loads(report.read_text())["given"]
    assert told.pop("calibration").startswith("fx 100 fy 100")
    assert told == {
        "images": 4,
        "left_out": 1,
        "with_pose": 2,
        "with_depth": 0,
        "calibrated": 4,
        "poses_without_image": 1,
    }
    outcome = vggt3(
        "localize", scene, own_images, "--model", checkpoint, "--json", report, *given[2:]
    )
    assert outcome.code == 0 and "vggt3: images    4 of 5 used; 4 calibrated" in outcome.err, (
        outcome
    )
    told = json.loads(report.read_text())["given"]
    assert (told["images"], told["left_out"], told["calibrated"]) == (4, 1, 4)


def test_frames_of_videos_are_not_limited_where_there_are_none(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    outcome = vggt3(
        "map", images, "--out", tmp_path / "s", "--model", checkpoint, "--max-frames", 3
    )
    assert outcome.failed_with("--max-frames chooses among frames of videos")


def test_a_room_takes_nothing_that_is_given(tmp_path: Path) -> None:
    known = KnownCameras.from_files(poses_file(tmp_path, 0), None)
    with pytest.raises(InputError, match=r"--poses .*: rooms bring their own"):
        known.check(16)


def test_a_calibration_that_names_no_size_is_that_of_one_size(tmp_path: Path) -> None:
    (tmp_path / "camera.json").write_text('{"fx": 8, "fy": 8, "cx": 4, "cy": 3}')
    known = KnownCameras.from_files(None, tmp_path / "camera.json")
    with pytest.raises(
        InputError,
        match=r"thumb\.png has 16 x 12 pixels, and the principal point 4 3 is far from its",
    ):
        known.frame(np.full((12, 16, 3), 99, np.uint8), 0, "thumb.png")
    assert known.frame(IMAGE, 1, "a.png").intrinsics is not None
    with pytest.raises(
        InputError, match=r"b\.png has 9 x 6 pixels, the intrinsics are for 8 x 6, as a\.png has"
    ):
        known.frame(np.full((6, 9, 3), 99, np.uint8), 2, "b.png")


@pytest.mark.parametrize("size", ["", ', "width": 80, "height": 60'])
@pytest.mark.parametrize(
    "camera",
    ['"fx": 0.8, "fy": 1, "cx": 0.5, "cy": 0.5', '"fx": 3.6, "fy": 3.6, "cx": 40, "cy": 30'],
)
def test_a_calibration_that_is_not_in_pixels_is_refused(
    camera: str, size: str, tmp_path: Path
) -> None:
    (tmp_path / "camera.json").write_text(f"{{{camera}{size}}}")
    known = KnownCameras.from_files(None, tmp_path / "camera.json")
    with pytest.raises(
        InputError, match="is 80 pixels wide, and fx is .*; give fx, fy, cx, cy in pixels"
    ):
        known.frame(np.full((60, 80, 3), 99, np.uint8), 0, "a.png")


def test_numbers_from_1_do_not_shift_the_poses(tmp_path: Path) -> None:
    known = KnownCameras.from_files(poses_file(tmp_path, 1, 2, 3), None)
    assert xs(known, "a.png", "b.png", "c.png") == [None, 0, 1]
    with pytest.raises(
        InputError, match="counts from 1 to 3, the positions of the images in the list from 0 to 2"
    ):
        known.check(3)
    known = KnownCameras.from_files(poses_file(tmp_path, 1, 2), None)  # some of them, from 0
    xs(known, "a.png", "b.png", "c.png")
    known.check(3)


def test_a_number_beyond_measure_and_a_name_spelt_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its 1 poses"):
        known = KnownCameras.from_files(poses_file(tmp_path, "9" * 5000), None)
        xs(known, "a.png")
        known.check(1)
    with pytest.raises(InputError, match="second pose"):
        KnownCameras.from_files(poses_file(tmp_path, "a.png", "./a.png"), None)


def test_depth_of_other_formats_beside_png_is_named(tmp_path: Path) -> None:
    folder = depth_folder(tmp_path, "a.png")
    (folder / "a.npy").write_bytes(b"the same")
    Image.fromarray(np.full((6, 8), 65535, np.uint16)).save(folder / "a.png")
    depth = KnownCameras.from_files(None, None, folder).frame(IMAGE, 0, "a.png").depth
    assert depth is not None and not depth.any(), "65535 is no depth"
    (folder / "b.tiff").write_bytes(b"metres")
    with pytest.raises(InputError, match=r"holds 1 png and 1 other files such as b\.tiff"):
        KnownCameras.from_files(None, None, folder)
