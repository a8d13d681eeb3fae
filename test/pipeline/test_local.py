"""Poses by the keyframes most like an image: which these are, what ties the pose to them, and when
they are asked.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.geometry.se3 import rotation_angle, rotation_from_axis_angle, se3
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.landmarks.locate import LandmarkLocalizer
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.frame import Frame, Image
from vggt3_ros.pipeline.local import tied
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.similar_keyframes import SimilarKeyframes
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from ..pretended_device import DEVICE, PretendedDevice

MakeFrames = Callable[[int], list[Frame]]
MakeImage = Callable[..., Image]
LOCAL = LocalizerSettings(propose="local")
BOTH = LocalizerSettings(propose="both")
NEVER = LocateSettings(min_inliers=10_000)  # no pose shows so much


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


@pytest.fixture(scope="module")
def walk() -> RoomSequence:
    """Through a room in which the whole map is too much for the network."""
    return room_sequence(900_017, 16, 6)


def map_frames(walk: RoomSequence) -> list[Frame]:
    return [
        Frame(
            walk.images[i],
            intrinsics=walk.intrinsics,
            prior_world_from_cam=walk.world_from_cam[i],
            name=str(i),
        )
        for i in map(int, walk.map_indices)
    ]


@pytest.fixture(scope="module")
def scene(walk: RoomSequence, network: Vggt3) -> Scene:
    settings = ReconstructionSettings(dense=None, keep_images=True)
    return reconstruct(map_frames(walk), network, settings).scene


def queries(walk: RoomSequence) -> list[tuple[Frame, Tensor]]:
    """Frames to localize, and their true poses."""
    return [
        (Frame(walk.images[i], intrinsics=walk.intrinsics), walk.world_from_cam[i])
        for i in map(int, walk.query_indices)
    ]


def off(found: Localization, true: Tensor) -> tuple[float, float]:
    """Metres and degrees that the network's proposal is off."""
    pose = found.network_map_from_cam
    assert pose is not None
    turned = rotation_angle(pose[:3, :3].T @ true[:3, :3].double())
    return float((pose[:3, 3] - true[:3, 3]).norm()), math.degrees(float(turned))


def turn(*axis_angle: float) -> Tensor:
    return rotation_from_axis_angle(torch.tensor(axis_angle, dtype=torch.float64))


def cameras(*positions: tuple[float, float, float]) -> Tensor:
    """Poses at these places, each turned a little further."""
    poses = [
        se3(turn(0.0, 0.1 * i, 0.0), torch.tensor(place).double())
        for i, place in enumerate(positions)
    ]
    return torch.stack(poses)


@pytest.fixture
def world_from_map() -> Sim3:
    return Sim3(0.3, turn(0.2, -1.0, 0.4), torch.tensor([1.0, 2.0, 3.0]).double())


def test_a_pose_is_tied_by_the_similarity_of_the_keyframes(world_from_map: Sim3) -> None:
    true = cameras((0, 0, 0), (1, 0, 0), (0.4, 0.2, 0.1))
    pose, is_scaled = tied(world_from_map.poses(true), true[:-1])
    assert is_scaled
    torch.testing.assert_close(pose, true[-1], rtol=0, atol=1e-9)


def test_keyframes_that_agree_are_averaged_and_the_others_left_out(world_from_map: Sim3) -> None:
    true = cameras((0, 0, 0), (1, 0, 0), (0, 1, 0), (0.4, 0.2, 0.1))
    seen = world_from_map.poses(true)
    seen[1, :3, :3] @= turn(0.1, 0.0, 0.0)
    seen[2, :3, :3] @= turn(0.0, 0.0, 1.5)
    pose, _ = tied(seen, true[:-1])
    assert float(rotation_angle(pose[:3, :3].T @ true[-1, :3, :3])) == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("which", ["at one place", "otherwise", "far less"])
def test_where_keyframes_tell_no_scale_the_position_is_the_most_similar_ones(
    which: str, world_from_map: Sim3
) -> None:
    true = cameras((1, 2, 3), (1, 2, 3.5), (1, 2.2, 3))
    seen = world_from_map.poses(true)
    if which == "at one place":
        true[1, :3, 3] = true[0, :3, 3]
    elif which == "otherwise":  # the network sees them move the other way
        seen[:2, :3, 3] = seen[:2, :3, 3].flip(0)
    else:
        seen[1, :3, 3] = seen[0, :3, 3].lerp(seen[1, :3, 3], 0.01)
    pose, is_scaled = tied(seen, true[:-1])
    assert not is_scaled
    torch.testing.assert_close(pose[:3, 3], true[0, :3, 3], rtol=0, atol=0)
    torch.testing.assert_close(pose[:3, :3], true[-1, :3, :3], rtol=0, atol=1e-9)


def test_the_most_similar_keyframes_are_found_in_small_images(
    scene: Scene, walk: RoomSequence
) -> None:
    assert scene.images is not None
    similar = SimilarKeyframes(scene.images)
    for index, image in enumerate(scene.images):
        shown = image.permute(1, 2, 0).numpy()
        assert similar.most_similar(shown, 3)[0] == index
        shifted = np.roll(shown, 12, axis=1)  # of 96 pixels, which thumbnails would not bear
        assert similar.most_similar(shifted, 3)[0] == index
    assert len(similar.most_similar(np.full((72, 96, 3), 90, np.uint8), 3)) == 0


def test_kept_images_are_those_that_the_network_saw(
    scene: Scene, walk: RoomSequence, network: Vggt3, tmp_path: Path
) -> None:
    folder = save_scene(scene, tmp_path / "map")
    stored = load_scene(folder, with_depth=False)
    prepared = prepare(map_frames(walk), network.config.image_size, network.config.patch_size)
    assert stored.images is not None and torch.equal(stored.images / 255, prepared.images)
    assert load_scene(folder, with_images=False).images is None
    with pytest.raises(InputError, match=r"images of keyframes must be \(16, 3, 72, 96\)"):
        replace(scene, images=stored.images[:-1])


def test_keyframes_propose_better_poses_than_the_memory(
    scene: Scene, walk: RoomSequence, network: Vggt3
) -> None:
    settings = LocalizerSettings(refine="none")
    memory = Localizer(scene, network, settings)
    local = Localizer(scene, network, replace(settings, propose="local"))
    by_memory = []
    by_keyframes = []
    for frame, true in queries(walk):
        found = local.localize(frame)
        assert found.status is LocalizationStatus.UNVERIFIED and found.depth is not None
        assert found.reason.startswith("proposed from 2 keyframes like it")
        assert 0 < found.seconds["local"] < found.seconds["total"]
        by_keyframes.append(off(found, true))
        by_memory.append(off(memory.localize(frame), true))
    better = np.median(by_keyframes, axis=0) / np.median(by_memory, axis=0)
    assert (better < 0.8).all()


def test_keyframes_are_asked_only_where_landmarks_refuse(
    scene: Scene, walk: RoomSequence, network: Vggt3
) -> None:
    frame, true = queries(walk)[0]
    found = Localizer(scene, network, BOTH).localize(frame)
    assert found.status is LocalizationStatus.VERIFIED
    assert found.proposed_by == "memory" and "local" not in found.seconds

    refusing = replace(BOTH, locate=NEVER)
    refused = Localizer(scene, network, refusing).localize(frame)
    assert refused.status is LocalizationStatus.LOST and refused.map_from_cam is None
    assert refused.proposed_by == "local" and refused.seconds["local"] > 0
    assert refused.located is not None and refused.reason == refused.located.reason
    alone = Localizer(scene, network, LOCAL).localize(frame)
    assert alone.network_map_from_cam is not None and refused.network_map_from_cam is not None
    assert torch.equal(alone.network_map_from_cam, refused.network_map_from_cam)


@pytest.mark.parametrize("refine", ["refine", "verify"])
def test_what_keyframes_propose_is_shown_to_the_landmarks(
    scene: Scene, walk: RoomSequence, network: Vggt3, refine: str, monkeypatch
) -> None:
    """Here they propose the truth, and the landmarks have nothing else to go by."""
    frame, true = queries(walk)[0]
    settings = replace(BOTH, refine=refine)
    locate = LandmarkLocalizer.locate

    def only_local(landmarks, features, intrinsics, proposals, sources):
        sources = [source for source in sources if source == "local"]
        return locate(landmarks, features, intrinsics, proposals, sources)

    monkeypatch.setattr(LandmarkLocalizer, "locate", only_local)
    monkeypatch.setattr("vggt3_ros.pipeline.local.tied", lambda *given: (true.double(), True))
    found = Localizer(scene, network, settings).localize(frame)
    assert found.status is LocalizationStatus.VERIFIED and found.proposed_by == "local"
    assert found.located is not None
    assert found.located.source == ("local" if refine == "refine" else "given")


def test_a_scene_without_images_says_what_stores_them(
    scene: Scene, walk: RoomSequence, network: Vggt3
) -> None:
    bare = replace(scene, images=None)
    with pytest.raises(SceneError, match=r"no images of its keyframes.*--keep-images"):
        Localizer(bare, network, LOCAL)
    localizer = Localizer(bare, network, replace(BOTH, locate=NEVER))
    assert "--keep-images" in localizer.no_local
    assert localizer.localize(queries(walk)[0][0]).proposed_by == "memory"
    assert Localizer(scene, network, BOTH).no_local == ""


def test_keyframes_that_landmarks_do_not_tie_propose_nothing(
    scene: Scene, walk: RoomSequence, network: Vggt3
) -> None:
    """One of them stands far away, and an image just like it is shown."""
    astray = 3
    landmarks = dict(scene.landmarks)
    poses = landmarks["world_from_cam"].clone()
    poses[astray, :3, 3] += 100
    tied_ones = landmarks["observed_from"] != astray
    for name in ("observed_from", "observed", "pixels"):
        landmarks[name] = landmarks[name][tied_ones]
    partly = replace(scene, landmarks={**landmarks, "world_from_cam": poses})
    localizer = Localizer(partly, network, replace(LOCAL, refine="none"))
    found = localizer.localize(map_frames(walk)[astray])
    assert off(found, walk.world_from_cam[int(walk.map_indices[astray])])[0] < 3


def test_an_image_that_shows_nothing_has_no_local_proposal(scene: Scene, network: Vggt3) -> None:
    wall = Frame(np.full((240, 320, 3), 90, np.uint8))
    settings = LocalizerSettings(refine="none", propose="local")
    found = Localizer(scene, network, settings).localize(wall)
    assert found.status is LocalizationStatus.LOST and found.network_map_from_cam is None
    assert "too little to find keyframes like it" in found.reason


def test_images_of_another_shape_are_compared_too(
    scene: Scene, walk: RoomSequence, network: Vggt3
) -> None:
    frame, true = queries(walk)[0]
    upright = Frame(np.ascontiguousarray(frame.image[:, 80:240]))
    found = Localizer(scene, network, replace(LOCAL, refine="none")).localize(upright)
    assert found.proposed_by == "local" and off(found, true)[1] < 20


def test_on_a_device_keyframes_propose_as_on_the_cpu(
    small_network: Vggt3, make_frames: MakeFrames, make_image: MakeImage
) -> None:
    frame = Frame(make_image(2, 60, 90))  # of another shape than the keyframes
    with sdpa_kernel(SDPBackend.MATH):
        settings = ReconstructionSettings(keep_images=True)
        made = reconstruct(make_frames(4), small_network, settings).scene
        here = Localizer(made, small_network, LOCAL).localize(frame)
        with PretendedDevice():
            there = Localizer(made, copy.deepcopy(small_network).to(DEVICE), LOCAL).localize(frame)
    assert here.proposed_by == there.proposed_by == "local"
    assert here.map_from_cam is not None and there.map_from_cam is not None
    torch.testing.assert_close(here.map_from_cam, there.map_from_cam, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("propose", "network"), ("neighbours", 1)])
def test_settings_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name} is {value!r}"):
        LocalizerSettings(**{name: value})  # type: ignore[arg-type]
