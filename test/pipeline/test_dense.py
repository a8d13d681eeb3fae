"""Maps that landmarks verify have points where the surfaces are: a drive through a room, seen by
the tiny network.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.geometry.camera import Distortion, unproject
from vggt3_ros.geometry.provenance import Provenance
from vggt3_ros.geometry.se3 import transform_points
from vggt3_ros.geometry.sim3 import fit_poses
from vggt3_ros.landmarks.picture import Picture
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.model.network import Vggt3
from vggt3_ros.pipeline.dense import FINE
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.map_frame_settings import AnchorSettings
from vggt3_ros.pipeline.points import PointSettings
from vggt3_ros.pipeline.reconstruct import Reconstruction, ReconstructionSettings, reconstruct
from vggt3_ros.worlds.sequence import RoomSequence

BARREL = Distortion("plumb_bob", (-0.12, 0.02, 0.0, 0.0))
SMALL = DenseSettings(long_side=96)


@pytest.fixture(scope="module")
def network() -> Vggt3:
    return load_network("tiny")


def frames_of(room: RoomSequence) -> list[Frame]:
    return [
        Frame(
            room.images[i],
            intrinsics=room.intrinsics,
            prior_world_from_cam=room.world_from_cam[i],
            name=str(i),
        )
        for i in map(int, room.map_indices)
    ]


@pytest.fixture(scope="module")
def refined(drive: RoomSequence, network: Vggt3) -> Reconstruction:
    return reconstruct(frames_of(drive), network)


@pytest.fixture(scope="module")
def surface(drive: RoomSequence) -> cKDTree:
    """What the map frames truly see."""
    depth = torch.from_numpy(drive.depth[drive.map_indices])[:, ::2, ::2].double()
    intrinsics = drive.intrinsics / torch.tensor([[2.0], [2.0], [1.0]])
    points = transform_points(
        drive.world_from_cam[drive.map_indices], unproject(depth, intrinsics).flatten(1, 2)
    )
    return cKDTree(points.flatten(0, 1).numpy())


def off(points: Tensor, surface: cKDTree) -> np.ndarray:
    """Metres (N,) from the true surface."""
    return surface.query(points.numpy())[0]


def test_images_look_like_the_refined_points(refined: Reconstruction) -> None:
    difference = refined.scene.require_calibration().colour_difference
    assert difference is not None and 0 < difference < 0.15


def test_a_localizer_compares_images_with_the_refined_points(
    refined: Reconstruction, drive: RoomSequence, network: Vggt3
) -> None:
    query = int(drive.query_indices[0])
    frame = Frame(drive.images[query], intrinsics=drive.intrinsics, distortion=BARREL)
    for difference in (0.1, None):
        calibration = replace(refined.scene.require_calibration(), colour_difference=difference)
        scene = replace(refined.scene, calibration=calibration)
        answer = Localizer(scene, network).localize(replace(frame, distortion=None))
        assert answer.located is not None and answer.is_verified
        assert (answer.located.evidence.unlike > 0) == (difference is not None)
        distorted = Localizer(scene, network).localize(frame)
        assert distorted.searched is not None
        picture = distorted.searched.features.picture
        assert (picture is not None) == (difference is not None)
        if picture is not None:
            own = Picture.of(frame.image, distorted.searched.intrinsics, BARREL)
            assert np.array_equal(picture.colours, own.colours)


def test_points_lie_on_the_surfaces(refined: Reconstruction, surface: cKDTree) -> None:
    assert refined.refined is not None
    distances = off(refined.scene.points.points, surface)
    assert len(distances) > 20_000
    assert np.median(distances) < 0.015 and np.mean(distances < 0.05) > 0.93


def test_what_is_agreed_is_exact_and_the_scene_says_how_much_is(
    refined: Reconstruction, drive: RoomSequence
) -> None:
    assert refined.refined is not None
    depth, report = refined.refined.depth, refined.scene.verification["depth"]
    rows, columns = (((torch.arange(side) + 0.5) * 320 / 224).long() for side in (168, 224))
    true = torch.from_numpy(drive.depth[drive.map_indices])[:, rows][:, :, columns]
    agreed = depth.provenance == Provenance.AGREED
    assert float(((depth.depth - true).abs() / true)[agreed].median()) < 0.01
    assert report["size_wh"] == [224, 168] and sum(report["shares"].values()) == pytest.approx(
        1, abs=1e-3
    )
    assert report["shares"]["agreed"] == pytest.approx(float(agreed.float().mean()), abs=1e-3)


def test_what_is_off_or_unverified_stays_as_the_network_has_it(
    drive: RoomSequence, network: Vggt3
) -> None:
    frames = frames_of(drive)[:4]
    settings = ReconstructionSettings(dense=None)
    for made in (
        reconstruct(frames, network, settings),
        reconstruct(frames, network, ReconstructionSettings(anchor=AnchorSettings(landmarks=None))),
    ):
        assert (
            made.refined is None
            and "depth" not in made.scene.verification
            and len(made.scene.points) > 0
        )
        calibration = made.scene.calibration
        assert calibration is None or calibration.colour_difference is None


def test_distortion_is_undone_and_cameras_may_differ(
    drive: RoomSequence, network: Vggt3, surface: cKDTree
) -> None:
    """Half of the frames come through a barrel lens, one of them upright."""
    frames = frames_of(drive)
    height, width = drive.images.shape[1:3]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    matrix, numbers = drive.intrinsics.numpy(), np.array(BARREL.coefficients)
    straight = (
        cv2.undistortPoints(pixels, matrix, numbers, P=matrix)
        .reshape(height, width, 2)
        .astype(np.float32)
    )
    mixed = []
    for index, frame in enumerate(frames):
        image = cv2.remap(
            frame.image,
            straight[..., 0],
            straight[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        mixed.append(replace(frame, image=image, distortion=BARREL) if index % 2 else frame)
    left = int(width / 4)
    upright = mixed[2].intrinsics.clone()
    upright[0, 2] -= left
    image = np.ascontiguousarray(mixed[2].image[:, left : left + width // 2])
    mixed[2] = replace(mixed[2], image=image, intrinsics=upright)
    made = reconstruct(mixed, network, ReconstructionSettings(dense=SMALL))
    assert made.refined is not None and len(made.frames) == len(frames)
    distances = off(made.scene.points.points, surface)
    assert np.median(distances) < 0.02 and np.mean(distances < 0.05) > 0.85


def test_a_map_without_metres_is_refined_in_its_own_units(
    drive: RoomSequence, network: Vggt3
) -> None:
    frames = [replace(frame, prior_world_from_cam=None) for frame in frames_of(drive)]
    made = reconstruct(frames, network, ReconstructionSettings(dense=SMALL))
    assert made.scene.is_verified and not made.scene.is_metric
    assert made.refined is not None and len(made.scene.points) > 5_000


def test_floor_of_refined_depth_gives_up_and_metres_and_all_of_the_scene_follows(
    drive: RoomSequence, network: Vggt3, surface: cKDTree
) -> None:
    frames = [replace(frame, prior_world_from_cam=None) for frame in frames_of(drive)]
    truth = drive.world_from_cam[drive.map_indices]
    anchor = AnchorSettings(camera_height_m=float(truth[:, 2, 3].quantile(0.5)))
    scene = reconstruct(frames, network, ReconstructionSettings(anchor=anchor)).scene
    assert (scene.metric_source, scene.up_source) == ("camera_height", "floor")
    truth_from_map = fit_poses(scene.map_from_keyframes, truth)
    assert truth_from_map.scale == pytest.approx(1, abs=0.03)
    assert float(truth_from_map.rotation[2, 2]) > np.cos(np.radians(1))
    floor = torch.tensor([0.0, 0.0, scene.verification["floor_z"]], dtype=torch.float64)
    assert abs(float(truth_from_map.points(floor)[2])) < 0.05
    assert scene.depth is not None
    assert torch.allclose(scene.depth.world_from_cam, scene.landmarks["world_from_cam"], atol=1e-9)
    distances = off(truth_from_map.points(scene.points.points.double()), surface)
    assert np.median(distances) < 0.02
    assert (
        np.median(off(truth_from_map.points(scene.landmarks["positions"].double()), surface)) < 0.02
    )


def test_points_are_no_more_than_asked_for(drive: RoomSequence, network: Vggt3) -> None:
    settings = ReconstructionSettings(dense=SMALL, points=PointSettings(max_points=3000))
    assert 500 < len(reconstruct(frames_of(drive)[:4], network, settings).scene.points) <= 3000


def test_with_too_little_time_fine_becomes_fast_and_fast_is_left(
    drive: RoomSequence, network: Vggt3, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = frames_of(drive)[:4]
    fine = ReconstructionSettings(dense=replace(FINE, seconds=1e-6))
    left = reconstruct(frames, network, fine).scene
    assert left.depth is None and "depth" not in left.verification and len(left.points) > 0
    assert "at 224 pixels" in left.verification["depth_given_up"]
    ticks = itertools.chain((0.0, 100.0), itertools.repeat(100.0))
    monkeypatch.setattr("vggt3_ros.dense.refine.perf_counter", lambda: next(ticks))
    smaller = reconstruct(frames, network, fine).scene.verification["depth"]
    assert smaller["size_wh"] == [224, 168] and "at 320 pixels" in smaller["note"]


def test_refinement_can_be_cancelled(drive: RoomSequence, network: Vggt3) -> None:
    stages = []

    def cancel(stage: str, share: float) -> None:
        stages.append((stage, share))
        if stage == "depth" and share > 0.9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(frames_of(drive)[:4], network, ReconstructionSettings(dense=SMALL), cancel)
    shares = [share for _, share in stages]
    assert shares == sorted(shares) and stages[-1][0] == "depth"
