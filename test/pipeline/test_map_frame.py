"""What ties a map to the world, and poses that landmarks verify: a drive through a room, seen by
the tiny network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import encode_camera, unproject
from vggt3_ros.geometry.se3 import rotation_angle, se3_inverse, transform_points
from vggt3_ros.geometry.sim3 import Sim3, fit_poses
from vggt3_ros.landmarks.acceptance import LocateSettings
from vggt3_ros.landmarks.features import FeatureSettings, extract, whole_image
from vggt3_ros.landmarks.landmark_settings import LandmarkSettings
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction
from vggt3_ros.pipeline import disposing
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.map_frame import anchor
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.observed import Observed
from vggt3_ros.pipeline.preprocess import prepare
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.pipeline.tie import tie
from vggt3_ros.scene.scene import Scene
from vggt3_ros.worlds.sequence import RoomSequence

VERIFIED, UNVERIFIED, LOST = (
    LocalizationStatus.VERIFIED,
    LocalizationStatus.UNVERIFIED,
    LocalizationStatus.LOST,
)


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


def frame_of(room: RoomSequence, index: int, **known: Any) -> Frame:
    known = {
        "intrinsics": room.intrinsics,
        "stamp_ns": index * 10**9,
        "name": f"{index:06d}.png",
    } | known
    return Frame(room.images[index], **known)


def frames_of(room: RoomSequence, with_prior: bool = True) -> list[Frame]:
    return [
        frame_of(room, int(i), prior_world_from_cam=room.world_from_cam[i] if with_prior else None)
        for i in room.map_indices
    ]


def truth_of(room: RoomSequence) -> Tensor:
    return room.world_from_cam[room.map_indices]


def made_of(frames: Sequence[Frame], network: Vggt3, **settings: Any) -> Reconstruction:
    return reconstruct(frames, network, ReconstructionSettings(anchor=AnchorSettings(**settings)))


def posed_of(frames: Sequence[Frame], network: Vggt3) -> Reconstruction:
    """The poses and what ties them, without points matched between keyframes."""
    return reconstruct(frames, network, ReconstructionSettings(dense=None))


def distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[..., :3, 3] - b[..., :3, 3]).norm(dim=-1)


def fitted(scene: Scene, room: RoomSequence) -> Sim3:
    """The similarity from the map to the true world; asserts that it fits."""
    truth_from_map = fit_poses(scene.map_from_keyframes, truth_of(room))
    assert distances(truth_from_map.poses(scene.map_from_keyframes), truth_of(room)).max() < 0.03
    return truth_from_map


def tilt(scene: Scene, room: RoomSequence) -> float:
    """Radians between the map's Z and true up."""
    return float(torch.acos(fitted(scene, room).rotation[2, 2].clamp(-1, 1)))


@pytest.fixture(scope="module")
def metric(drive: RoomSequence, network: Vggt3) -> Scene:
    """The map of exact priors."""
    return reconstruct(frames_of(drive), network).scene


@pytest.fixture(scope="module")
def unaided(drive: RoomSequence, network: Vggt3) -> Scene:
    """The map of images and a calibration."""
    return reconstruct(frames_of(drive, with_prior=False), network).scene


def test_priors_make_map_metric_and_verified(metric: Scene, drive: RoomSequence) -> None:
    assert metric.is_verified and metric.is_metric
    assert (metric.metric_source, metric.up_source) == ("pose_priors", "pose_priors")
    assert metric.metric_residual_m is not None and metric.metric_residual_m < 0.01
    assert distances(metric.map_from_keyframes, truth_of(drive)).max() < 0.01
    turns = metric.map_from_keyframes[:, :3, :3].mT @ truth_of(drive)[:, :3, :3]
    assert rotation_angle(turns).max() < np.radians(0.3)


def test_dense_points_lie_about_the_surfaces(metric: Scene, drive: RoomSequence) -> None:
    depth = torch.from_numpy(drive.depth[drive.map_indices])[:, ::4, ::4].double()
    intrinsics = drive.intrinsics / torch.tensor([[4.0], [4.0], [1.0]])
    surface = transform_points(truth_of(drive), unproject(depth, intrinsics).flatten(1, 2)).flatten(
        0, 1
    )
    dense = metric.points.points.double()[::50]
    assert float(torch.cdist(dense, surface).amin(1).median()) < 0.3
    agreement = metric.verification["agreement"]
    assert agreement["depth_error_after"] < agreement["depth_error_before"]


def test_without_priors_up_is_known_and_scale_is_not(unaided: Scene, drive: RoomSequence) -> None:
    assert unaided.is_verified and not unaided.is_metric
    assert (
        unaided.metric_source == "none: no frame has a prior pose"
        and unaided.metric_residual_m is None
    )
    assert unaided.up_source in ("floor", "cameras") and tilt(unaided, drive) < np.radians(3)


def test_calibration_can_be_estimated(drive: RoomSequence, network: Vggt3) -> None:
    frames = [replace(frame, intrinsics=None) for frame in frames_of(drive)]
    scene = posed_of(frames, network).scene
    assert scene.is_verified, scene.verification
    assert float(scene.landmarks["intrinsics"][0, 0, 0]) == pytest.approx(
        float(drive.intrinsics[0, 0]), rel=0.03
    )


def test_lying_prior_is_named_and_repaired(drive: RoomSequence, network: Vggt3) -> None:
    frames = frames_of(drive)
    lie = truth_of(drive)[5].clone()
    lie[:3, 3] += torch.tensor([0.6, 0.3, 0.0], dtype=torch.float64)
    frames[5] = replace(frames[5], prior_world_from_cam=lie)
    made = posed_of(frames, network)
    assert made.prior_outliers == ("000005.png",) and made.scene.is_verified
    assert distances(made.scene.map_from_keyframes, truth_of(drive)).max() < 0.02


def test_frames_without_a_prior_find_their_place(drive: RoomSequence, network: Vggt3) -> None:
    frames = [
        f if i not in (2, 6) else replace(f, prior_world_from_cam=None)
        for i, f in enumerate(frames_of(drive))
    ]
    scene = posed_of(frames, network).scene
    assert scene.is_metric and scene.is_verified
    assert distances(scene.map_from_keyframes, truth_of(drive)).max() < 0.02


def test_priors_of_another_unit_give_the_shape_alone(drive: RoomSequence, network: Vggt3) -> None:
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    other = Sim3(0.01, turn, torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64))
    frames = [
        replace(f, prior_world_from_cam=other.poses(truth_of(drive)[i]))
        for i, f in enumerate(frames_of(drive))
    ]
    scene = made_of(frames, network, priors_are_metric=False).scene
    assert scene.is_verified and not scene.is_metric and "no scale" in scene.metric_source
    assert tilt(scene, drive) < np.radians(3)


def test_poses_from_the_images_alone(drive: RoomSequence, network: Vggt3) -> None:
    pytest.importorskip("pycolmap")
    scene = made_of(frames_of(drive, with_prior=False), network, sfm=True).scene
    assert scene.is_verified and not scene.is_metric and scene.verification["sfm"]
    assert tilt(scene, drive) < np.radians(3)


def test_strangers_are_mapped_and_stay_unverified(
    drive: RoomSequence, elsewhere: RoomSequence, network: Vggt3
) -> None:
    frames = [
        frame_of(drive, 0),
        frame_of(elsewhere, 0, name="other.png", intrinsics=drive.intrinsics),
    ]
    scene = reconstruct(frames, network).scene
    assert (
        not scene.is_verified
        and scene.landmarks == {}
        and "landmarks were found" in scene.verification["reason"]
    )
    found = Localizer(scene, network).localize(frame_of(drive, 1))
    assert found.status is UNVERIFIED and found.covariance is None and found.located is None


def test_queries_are_verified_with_their_uncertainty(
    metric: Scene, drive: RoomSequence, network: Vggt3
) -> None:
    # one of the views lies far off the path
    settings = LocalizerSettings(locate=LocateSettings(min_support=0.2))
    localizer = Localizer(metric, network, settings)
    for query in map(int, drive.query_indices):
        found, truth = localizer.localize(frame_of(drive, query)), drive.world_from_cam[query]
        assert found.status is VERIFIED and found.metric and found.map_from_cam is not None, (
            found.reason
        )
        assert found.located is not None and found.located.source in ("descriptor", "network")
        assert distances(found.map_from_cam, truth) < 0.02
        assert rotation_angle(found.map_from_cam[:3, :3].T @ truth[:3, :3]) < np.radians(0.5)
        assert found.covariance is not None and torch.linalg.eigvalsh(found.covariance).min() > 0
        sigma = float(found.covariance[:3, :3].trace().sqrt())
        assert float(distances(found.map_from_cam, truth)) < 4 * sigma < 0.1
        assert set(found.seconds) >= {"prepare", "network", "features", "total"}


def test_last_pose_is_looked_at_first(metric: Scene, drive: RoomSequence, network: Vggt3) -> None:
    query, localizer = int(drive.query_indices[0]), Localizer(metric, network)
    found = localizer.localize(frame_of(drive, query), drive.world_from_cam[query])
    assert found.status is VERIFIED and found.located is not None and found.located.source == "last"
    away = drive.world_from_cam[query].clone()
    away[:3, 3] += 50
    misled = localizer.localize(frame_of(drive, query), away)
    assert (
        misled.status is VERIFIED and misled.located is not None and misled.located.source != "last"
    )
    assert (
        misled.map_from_cam is not None
        and distances(misled.map_from_cam, drive.world_from_cam[query]) < 0.02
    )


def test_another_place_is_lost(
    metric: Scene, drive: RoomSequence, elsewhere: RoomSequence, network: Vggt3
) -> None:
    for index in (0, 1):
        found = Localizer(metric, network).localize(
            frame_of(elsewhere, index, intrinsics=drive.intrinsics)
        )
        assert found.status is LOST and found.map_from_cam is None and found.covariance is None
        assert found.reason and found.network_map_from_cam is not None


def test_a_frame_that_is_not_found_is_searched_in_another_size_where_there_is_one(
    metric: Scene,
    drive: RoomSequence,
    elsewhere: RoomSequence,
    network: Vggt3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scales = []
    monkeypatch.setattr(
        disposing, "extract", lambda *given: scales.append(given[-1].scale) or extract(*given)
    )
    small = frame_of(elsewhere, 0, intrinsics=drive.intrinsics)
    assert max(small.image.shape) <= FeatureSettings().least_side
    large = replace(
        small, image=np.ascontiguousarray(small.image.repeat(2, 0).repeat(2, 1)), intrinsics=None
    )
    for frame, first, searched in (
        (small, FeatureSettings(), [0.5]),
        (small, whole_image(), [1.0]),
        (small, FeatureSettings(least_side=100), [0.5, 1.0]),
        (large, FeatureSettings(), [0.5, 1.0]),
        (large, whole_image(), [1.0, 0.5]),
    ):
        scales.clear()
        assert (
            Localizer(metric, network, LocalizerSettings(features=first)).localize(frame).status
            is LOST
        )
        assert scales == searched


def test_what_one_size_does_not_find_the_other_does(
    metric: Scene, drive: RoomSequence, network: Vggt3
) -> None:
    frame = frame_of(drive, int(drive.query_indices[0]))
    poor = FeatureSettings(least_side=100, count=8)
    found = Localizer(metric, network, LocalizerSettings(features=poor)).localize(frame)
    assert (
        found.status is VERIFIED
        and found.searched is not None
        and len(found.searched.features) > 100
    )


def test_queries_need_no_calibration(metric: Scene, drive: RoomSequence, network: Vggt3) -> None:
    query = int(drive.query_indices[0])
    half = frame_of(drive, query, intrinsics=None)
    half = replace(half, image=np.ascontiguousarray(half.image[::2, ::2]))
    for frame in (frame_of(drive, query, intrinsics=None), half):
        found = Localizer(metric, network).localize(frame)
        assert found.status is VERIFIED and found.map_from_cam is not None, found.reason
        assert distances(found.map_from_cam, drive.world_from_cam[query]) < 0.05


def test_refinement_can_be_limited(metric: Scene, drive: RoomSequence, network: Vggt3) -> None:
    frame = frame_of(drive, int(drive.query_indices[0]))

    def found_with(refine: Any) -> Localization:
        return Localizer(metric, network, LocalizerSettings(refine=refine)).localize(frame)

    unverified = found_with("none")
    assert (
        unverified.status is UNVERIFIED
        and unverified.located is None
        and unverified.covariance is None
    )
    checked = found_with("verify")
    assert checked.network_map_from_cam is not None and unverified.map_from_cam is not None
    assert torch.equal(checked.network_map_from_cam, unverified.map_from_cam)
    assert (
        (checked.status is LOST) == (checked.map_from_cam is None) == (checked.covariance is None)
    )
    with pytest.raises(InputError, match="choose 'refine', 'verify' or 'none'"):
        found_with("on")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="camera_height_m is 0"):
        AnchorSettings(camera_height_m=0)
    for wrong in ({"sfm": True}, {"priors_are_metric": False}):
        with pytest.raises(InputError, match="need landmarks"):
            AnchorSettings(landmarks=None, **wrong)
    assert AnchorSettings(landmarks=LandmarkSettings()).camera_height_m is None


def test_the_known_height_of_the_camera_gives_metres(drive: RoomSequence) -> None:
    """With exact depths and poses in units of two metres, so that the floor is there to be
    found.
    """
    frames = [
        Frame(drive.images[i], intrinsics=drive.intrinsics, name=str(i)) for i in drive.map_indices
    ]
    prepared = prepare(frames, 320, 8)
    world_from_cam = drive.world_from_cam[drive.map_indices]
    scene_from_cam = se3_inverse(world_from_cam[:1]) @ world_from_cam
    scene_from_cam[:, :3, 3] /= 2
    depth = torch.from_numpy(drive.depth[drive.map_indices]) / 2
    encoding = encode_camera(
        se3_inverse(scene_from_cam), drive.intrinsics.expand(len(frames), 3, 3), (240, 320)
    )
    prediction = Prediction(encoding, depth, torch.ones_like(depth), None, None)
    observed = Observed(tuple(frames), prepared, prediction)
    settings = AnchorSettings(
        landmarks=None, camera_height_m=float(world_from_cam[:, 2, 3].quantile(0.5))
    )
    tied = tie(observed, settings, lambda *_: None)
    found = anchor(observed, tied, settings)
    assert found.is_metric and found.metric_source == "camera_height" and found.up_source == "floor"
    assert found.map_from_scene.scale == pytest.approx(2, rel=0.03)
