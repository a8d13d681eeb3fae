"""`vggt3 map`: what it writes, and what it takes from its arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vggt3_ros.cli.frames import collect
from vggt3_ros.datasets.image_reader import ImageReader
from vggt3_ros.datasets.known_cameras import KnownCameras
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pointcloud import read_ply
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.scene.storage import load_scene

Run = Callable[..., Any]


def names(*arguments: object) -> list[str]:
    return [frame.name for frame in ImageReader([str(a) for a in arguments], "map", KnownCameras())]


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    import cv2

    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()


def test_map_writes_scene_points_picture_and_json(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    scene_folder = tmp_path / "scene"
    outcome = vggt3(
        "map", images, "--out", scene_folder, "--model", checkpoint, "--json", tmp_path / "map.json"
    )
    assert outcome.code == 0, outcome
    scene = load_scene(scene_folder)
    assert scene.keyframes.names == tuple(f"{i:06d}.png" for i in range(5))
    points = read_ply(scene_folder / "points.ply")
    assert len(points) == len(scene.points) > 100
    with Image.open(tmp_path / "scene.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    data = json.loads((tmp_path / "map.json").read_text())
    assert (data["keyframes"], data["points"], data["metric"]) == (5, len(points), False)
    assert data["seconds"]["total"] > data["seconds"]["network"] > 0
    assert f"5 keyframes, {len(points)} points" in outcome.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "scene", "scene.png"]


def test_the_same_images_give_the_same_scene(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        assert vggt3("map", images, "--out", tmp_path / name, "--model", checkpoint).code == 0
    a, b = load_scene(tmp_path / "a"), load_scene(tmp_path / "b")
    assert torch.equal(a.keyframes.cam_from_world, b.keyframes.cam_from_world)
    assert torch.equal(a.points.points, b.points.points)


def test_poses_that_move_like_the_map_make_it_metric(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    def map_with(*extra: object) -> Any:
        return vggt3("map", images, "--out", tmp_path / "scene", "--model", checkpoint, *extra)

    assert map_with().code == 0
    cam_from_world = load_scene(tmp_path / "scene").keyframes.cam_from_world
    rows = []
    for index, pose in enumerate(se3_inverse(cam_from_world)):
        pose[:3, 3] *= 2.5
        rows.append(" ".join([str(index), *(repr(float(value)) for value in pose.flatten())]))
    poses = tmp_path / "poses.txt"
    poses.write_text("# index and pose\n" + "\n".join(rows))
    outcome = map_with("--poses", poses)
    assert outcome.code == 0 and "metric, residual" in outcome.out, outcome
    metric_from_scene = load_scene(tmp_path / "scene").metric_from_scene
    assert metric_from_scene is not None and metric_from_scene.scale == pytest.approx(2.5, rel=1e-4)


def test_folder_is_read_in_natural_order_and_list_as_given(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.png", "IMG1.PNG", "notes.txt"):
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / name, format="png")
    assert names(tmp_path) == ["IMG1.PNG", "img2.png", "img10.png"]
    assert names(tmp_path / "img10.png", tmp_path / "img2.png") == ["img10.png", "img2.png"]


def test_pose_belongs_to_the_number_in_the_name_else_to_the_position(
    own_images: Path, tmp_path: Path
) -> None:
    (own_images / "000003.png").rename(own_images / "third.png")
    (own_images / "000001.png").write_bytes(b"no image")
    eye = "1 0 0 {} 0 1 0 0 0 0 1 0 0 0 0 1"
    poses = tmp_path / "poses.txt"
    poses.write_text("\n".join(f"{index} " + eye.format(index) for index in (0, 1, 2, 3, 4)))
    reader = ImageReader(
        [str(own_images / n) for n in ("000004.png", "000001.png", "000000.png", "third.png")],
        "map",
        KnownCameras.from_files(poses, None),
    )
    numbers = [
        float(frame.prior_world_from_cam[0, 3])
        for frame in reader
        if frame.prior_world_from_cam is not None
    ]
    assert numbers == [4.0, 0.0, 3.0]
    assert [name for name, _ in reader.skipped] == ["000001.png"]


def test_video_gives_what_shows_something_new(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    frames = [np.asarray(Image.open(file)) for file in sorted(images.iterdir())]
    write_video(tmp_path / "video.avi", [frame for frame in frames for _ in range(4)])
    outcome = vggt3(
        "map", tmp_path / "video.avi", "--out", tmp_path / "scene", "--model", checkpoint
    )
    assert outcome.code == 0 and "left out  15 video frames" in outcome.out, outcome
    keyframes = load_scene(tmp_path / "scene").keyframes
    assert keyframes.names == tuple(f"video_{index:06d}" for index in (0, 4, 8, 12, 16))
    assert keyframes.stamps_ns == tuple(index * 100_000_000 for index in (0, 4, 8, 12, 16))


def test_no_frame_is_lost_for_coming_after_a_video(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    frames = [np.asarray(Image.open(file)) for file in sorted(images.iterdir())]
    write_video(tmp_path / "a.avi", frames[:2])
    write_video(tmp_path / "b.avi", frames[2:4])
    sources = [tmp_path / "a.avi", tmp_path / "b.avi", images / "000004.png"]
    outcome = vggt3("map", *sources, "--out", tmp_path / "scene", "--model", checkpoint)
    assert outcome.code == 0 and "left out" not in outcome.out, outcome
    keyframes = load_scene(tmp_path / "scene").keyframes
    assert keyframes.names == ("a_000000", "a_000001", "b_000000", "b_000001", "000004.png")
    assert list(keyframes.stamps_ns) == sorted(set(keyframes.stamps_ns))
    assert keyframes.stamps_ns[3] - keyframes.stamps_ns[2] == 100_000_000


def test_photographs_beside_a_video_are_all_used_and_no_video_frames(
    images: Path, tmp_path: Path
) -> None:
    image = np.asarray(Image.open(images / "000000.png"))
    write_video(tmp_path / "v.avi", [image] * 3)
    Image.fromarray(image).save(tmp_path / "same.png")
    files = [
        images / "000000.png",
        tmp_path / "v.avi",
        images / "000001.png",
        tmp_path / "same.png",
    ]
    frames, left_out = collect(ImageReader([str(file) for file in files], "map", KnownCameras()), 2)
    assert [frame.name for frame in frames] == ["000000.png", "v_000000", "000001.png", "same.png"]
    assert sum(left_out.values()) == 2, "of the video alone"


def test_decoded_size_is_known_from_the_headers(own_images: Path, tmp_path: Path) -> None:
    (own_images / "000001.png").write_text("no image")
    write_video(tmp_path / "video.avi", [np.zeros((48, 64, 3), np.uint8)] * 3)
    reader = ImageReader([str(own_images), str(tmp_path / "video.avi")], "map", KnownCameras())
    photograph, frame = 96 * 128 * 3, 48 * 64 * 3
    assert reader.decoded_bytes() == 4 * photograph + 3 * frame
    assert [reader.decoded_bytes(most) for most in (2, 6)] == [
        4 * photograph + 2 * frame,
        4 * photograph + 3 * frame,
    ]


def test_video_keeps_red_red(tmp_path: Path) -> None:
    red = np.zeros((96, 128, 3), np.uint8)
    red[..., 0] = 250
    write_video(tmp_path / "red.avi", [red, red])
    frames = list(ImageReader([str(tmp_path / "red.avi")], "map", KnownCameras()))
    assert len(frames) == 2
    assert frames[1].image[..., 0].mean() > 200 and frames[1].image[..., 2].mean() < 50


def test_intrinsics_of_another_image_size_are_refused(images: Path, tmp_path: Path) -> None:
    calibration = tmp_path / "intrinsics.json"
    calibration.write_text(
        json.dumps({"fx": 100, "fy": 100, "cx": 64, "cy": 48, "width": 640, "height": 480})
    )
    known = KnownCameras.from_files(None, calibration)
    with pytest.raises(InputError, match="128 x 96 pixels, the intrinsics are for 640 x 480"):
        known.frame(np.zeros((96, 128, 3), np.uint8), 0, "a.png")
    calibration.write_text(
        json.dumps({"fx": 100, "fy": 100, "cx": 64, "cy": 48, "width": 128, "height": 96})
    )
    frame = next(
        iter(ImageReader([str(images)], "map", KnownCameras.from_files(None, calibration)))
    )
    assert frame.intrinsics is not None and frame.intrinsics[0].tolist() == [100, 0, 64]


def test_a_budget_is_planned_told_and_kept_in_the_scene(
    vggt3: Run, images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ("map", images, "--model", checkpoint, "--out", tmp_path / "scene")
    outcome = vggt3(*arguments, "--budget", "600s,8GB", "--json", tmp_path / "map.json")
    assert outcome.code == 0, outcome
    assert "vggt3: for 600 s and 8 GB: 5 frames" in outcome.err
    assert "planned: 5 frames, 5 of them fitted in 2 TTT steps, images of 70x56" in outcome.out
    budget = json.loads((tmp_path / "map.json").read_text())["verification"]["budget"]
    assert budget["given"] == {"seconds": 600.0, "memory_bytes": 8 * 10**9}
    assert budget["left_out"] == [] and budget["taken_s"]["network"] > 0
    assert load_scene(tmp_path / "scene").report["budget"] == budget
    assert len(list((tmp_path / "cache" / "vggt3_ros" / "costs").iterdir())) == 1
    refused = vggt3(*arguments, "--budget", "1MB")
    assert refused.code == 1 and "use fewer frames" in refused.err
    assert vggt3(*arguments, "--budget", "soon").code == 2
