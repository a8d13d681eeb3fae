"""One room, mapped in two halves that share a third of their keyframes, each in a frame of its
own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.features import Features
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.maps.overlap import Side
from vggt3_ros.scene.scene import Keyframes, Scene
from vggt3_ros.scene.verification import MapCalibration, MapVerdict
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from ..landmarks.map_of_room import map_of_room, room_features

SIZE_WH = (320, 240)
FIRST = slice(0, 8)
SECOND = slice(4, 12)


def similarity(scale: float) -> Sim3:
    """Another frame, turned by 2 rad about a slanted axis."""
    rotation = rotation_from_axis_angle(torch.tensor([0.6, -1.2, 1.5], dtype=torch.float64))
    return Sim3(scale, rotation, torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Halves:
    """A room and the features of all its images; landmarks of its first and second half, and of
    all, in the frame of the room.
    """

    room: RoomSequence
    features: list[Features]
    first: Landmarks
    second: Landmarks
    whole: Landmarks


def halves_of(room: RoomSequence) -> Halves:
    features = room_features(room)

    def half(which: slice) -> Landmarks:
        return map_of_room(replace(room, map_indices=room.map_indices[which]), features)

    return Halves(room, features, half(FIRST), half(SECOND), half(slice(None)))


@pytest.fixture(scope="session")
def halves() -> Halves:
    return halves_of(room_sequence(3, 12, 8))


@pytest.fixture(scope="session")
def lookalike() -> Landmarks:
    """Of another room that wears the textures of the first."""
    room = room_sequence(4, 8, 1, painted_like=3)
    return map_of_room(room, room_features(room))


def side(landmarks: Landmarks, is_metric: bool = True) -> Side:
    return Side(landmarks, [SIZE_WH] * len(landmarks.world_from_cam), None, is_metric)


def scene_of(landmarks: Landmarks, seed: int, **changes: Any) -> Scene:
    """A verified scene of landmarks, whose points are these."""
    poses = torch.from_numpy(landmarks.world_from_cam)
    points = torch.from_numpy(landmarks.positions)
    count = len(poses)
    intrinsics = torch.from_numpy(landmarks.intrinsics) * torch.tensor([[0.3], [0.3], [1.0]])
    values: dict[str, Any] = {
        "memory": {"fast.0.w0": torch.full((2, 8, 16), float(seed))},
        "keyframes": Keyframes(
            tuple(f"{index:03}.png" for index in range(count)),
            tuple(range(count)),
            se3_inverse(poses)[:, :3],
            intrinsics.double(),
        ),
        "points": PointCloud(
            points,
            torch.full((len(points), 3), seed, dtype=torch.uint8),
            torch.ones(len(points)),
        ),
        "bounds": (tuple(points.amin(0).tolist()), tuple(points.amax(0).tolist())),
        "model_id": "small",
        "model_fingerprint": "0123456789abcdef",
        "input_size": (72, 96),
        "ttt_steps": 2,
        "is_metric": True,
        "metric_source": "pose_priors",
        "landmarks": landmarks.tensors(),
        "verdict": MapVerdict(True, "they hold together", "held as given"),
        "calibration": MapCalibration((SIZE_WH,) * count, 1.0, 1.0),
        "scene_id": f"{seed:032x}",
        "created": f"2026-01-0{seed}T12:00:00+00:00",
    }
    return Scene(**{**values, **changes})


def pose_errors(landmarks: Landmarks, true: np.ndarray) -> np.ndarray:
    """Distances (K,) of keyframes from where they are."""
    return np.linalg.norm(landmarks.world_from_cam[:, :3, 3] - true[:, :3, 3], axis=1)
