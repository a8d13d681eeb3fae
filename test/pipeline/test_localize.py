from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.geometry.se3 import rotation_from_axis_angle
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.pipeline.localization import LocalizationStatus
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import reconstruct
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import save_scene

from ..patience import PATIENCE_S

MakeFrames = Callable[[int], list[Frame]]
MakeImage = Callable[..., Image]
TESTS = Path(__file__).parents[1]

# A second process: the same network from its seed, the scene from the disk, a frame from a file.
LOCALIZE = """
import importlib.util, json, sys
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.scene.storage import load_scene


def load(path):
    spec = importlib.util.spec_from_file_location("loaded", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


network = load(sys.argv[2]).with_plausible_view(load(sys.argv[1]).make_network("ttt"))
found = Localizer(load_scene(sys.argv[3]), network).localize(Frame.from_file(sys.argv[4]))
pose, intrinsics = found.map_from_cam.tolist(), found.intrinsics.tolist()
print(json.dumps([found.status.name, pose, intrinsics, found.confidence]))
"""


@pytest.fixture(scope="module")
def metric() -> Sim3:
    turn = rotation_from_axis_angle(torch.tensor([0.1, 0.9, -0.4], dtype=torch.float64))
    return Sim3(2.0, turn, torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64))


@pytest.fixture
def scene(small_network: Vggt3, make_frames: MakeFrames) -> Scene:
    return reconstruct(make_frames(4), small_network).scene


def test_a_frame_gets_the_pose_that_the_network_proposes(
    small_network: Vggt3, scene: Scene, make_image: MakeImage
) -> None:
    frame = Frame(make_image(50))
    found = Localizer(scene, small_network).localize(frame)
    _, memory = small_network.map(prepare([Frame(make_image(i)) for i in range(4)], 70, 14).images)
    direct = small_network.query(prepare([frame], 70, 14).images, memory)
    assert found.status is LocalizationStatus.UNVERIFIED and not found.metric
    assert found.map_from_cam is not None and found.map_from_cam.dtype == torch.float64
    upright = scene.map_from_scene.poses(direct.cameras.world_from_cam[0])
    torch.testing.assert_close(found.map_from_cam, upright, rtol=1e-5, atol=1e-5)
    assert found.intrinsics is not None and found.depth is not None
    torch.testing.assert_close(found.depth, direct.depth[0])
    assert 0 < found.confidence < 1 and set(found.seconds) == {"prepare", "network", "total"}


def test_in_a_metric_scene_the_pose_is_rigid_and_in_metres(
    small_network: Vggt3, scene: Scene, make_image: MakeImage, metric: Sim3
) -> None:
    in_units = Localizer(scene, small_network).localize(Frame(make_image(50)))
    metric_scene = replace(
        scene, map_from_scene=metric, is_metric=True, metric_source="pose_priors"
    )
    found = Localizer(metric_scene, small_network).localize(Frame(make_image(50)))
    assert found.metric and found.map_from_cam is not None and in_units.map_from_cam is not None
    scene_from_cam = scene.map_from_scene.inverse().poses(in_units.map_from_cam)
    torch.testing.assert_close(found.map_from_cam, metric.poses(scene_from_cam), rtol=0, atol=1e-12)
    rotation = found.map_from_cam[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double(), rtol=0, atol=1e-12)
    assert found.depth is not None and in_units.depth is not None
    torch.testing.assert_close(found.depth, 2 * in_units.depth)


def test_localizing_in_another_process_gives_the_same_pose(
    tmp_path: Path, small_network: Vggt3, scene: Scene, make_image: MakeImage, metric: Sim3
) -> None:
    from PIL import Image as Pillow

    scene = replace(scene, map_from_scene=metric, is_metric=True, metric_source="pose_priors")
    folder = save_scene(scene, tmp_path / "map")
    Pillow.fromarray(make_image(50)).save(tmp_path / "query.png")
    here = Localizer(scene, small_network).localize(Frame(make_image(50)))
    conftests = [TESTS / "conftest.py", TESTS / "pipeline" / "conftest.py"]
    arguments = [sys.executable, "-c", LOCALIZE, *conftests, folder, tmp_path / "query.png"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stderr
    status, pose, intrinsics, confidence = json.loads(run.stdout)
    assert here.map_from_cam is not None and here.intrinsics is not None
    assert status == here.status.name and confidence == pytest.approx(here.confidence, abs=1e-6)
    torch.testing.assert_close(torch.tensor(pose).double(), here.map_from_cam, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        torch.tensor(intrinsics).double(), here.intrinsics, rtol=1e-6, atol=1e-4
    )


def test_frames_do_not_influence_each_other(
    small_network: Vggt3, scene: Scene, make_image: MakeImage
) -> None:
    localizer = Localizer(scene, small_network)
    first = localizer.localize(Frame(make_image(50)))
    for i in range(3):
        localizer.localize(Frame(make_image(60 + i)))
    again = localizer.localize(Frame(make_image(50)))
    assert first.map_from_cam is not None and again.map_from_cam is not None
    assert torch.equal(first.map_from_cam, again.map_from_cam)


def test_a_frame_of_another_shape_is_localized_too(
    small_network: Vggt3, scene: Scene, make_image: MakeImage
) -> None:
    found = Localizer(scene, small_network).localize(Frame(make_image(50, 90, 50)))
    assert found.status is LocalizationStatus.UNVERIFIED
    assert found.depth is not None and tuple(found.depth.shape) == (70, 42)


def test_known_intrinsics_are_reported_in_prepared_pixels(
    small_network: Vggt3, scene: Scene, make_image: MakeImage
) -> None:
    frame = Frame(make_image(50), intrinsics=intrinsics_matrix(60.0, 61.0, 30.0, 24.5))
    found, prepared = Localizer(scene, small_network).localize(frame), prepare([frame], 70, 14)
    assert found.intrinsics is not None and prepared.intrinsics is not None
    assert torch.equal(found.intrinsics, prepared.intrinsics[0])


def test_a_black_frame_is_lost_with_the_reason(small_network: Vggt3, scene: Scene) -> None:
    found = Localizer(scene, small_network).localize(Frame(np.zeros((48, 64, 3), np.uint8)))
    assert found.status is LocalizationStatus.LOST and found.reason == "the image is black"
    assert found.map_from_cam is None and found.confidence == 0


def test_an_unusable_answer_of_the_network_is_lost(
    small_network: Vggt3, scene: Scene, make_image: MakeImage
) -> None:
    tokens = scene.memory["camera_tokens"]
    damaged = replace(scene, memory={**scene.memory, "camera_tokens": tokens * float("nan")})
    found = Localizer(damaged, small_network).localize(Frame(make_image(50)))
    assert found.status is LocalizationStatus.LOST and "not finite" in found.reason


def test_scenes_that_do_not_fit_the_network_are_refused(
    small_network: Vggt3, softmax_network: Vggt3, scene: Scene, make_frames: MakeFrames
) -> None:
    with pytest.raises(SceneError, match="was made by network 'small-ttt-0' with fingerprint"):
        Localizer(scene, softmax_network)
    of_softmax = reconstruct(make_frames(2), softmax_network).scene
    assert of_softmax.ttt_steps == 0
    found = Localizer(of_softmax, softmax_network).localize(make_frames(1)[0])
    assert found.network_map_from_cam is not None
    with pytest.raises(SceneError, match="holds no memory: it is of an earlier version"):
        Localizer(replace(of_softmax, memory={}), softmax_network)
