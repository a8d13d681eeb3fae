"""Rooms, once for all tests: one mapped by its exact depth to localize in, one driven through to
build landmarks of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from vggt3_ros.landmarks.build import Matches, match_keyframes
from vggt3_ros.landmarks.features import Features, extract
from vggt3_ros.landmarks.landmarks import Landmarks
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from .map_of_room import map_of_room, room_features


@dataclass(frozen=True)
class MappedRoom:
    """A room, the features of all its images, landmarks from its map frames, and its camera."""

    room: RoomSequence
    features: list[Features]
    landmarks: Landmarks

    @property
    def intrinsics(self) -> np.ndarray:
        return self.room.intrinsics.numpy()

    @property
    def poses(self) -> np.ndarray:
        return self.room.world_from_cam.numpy()


@pytest.fixture(scope="session")
def mapped_room() -> MappedRoom:
    room = room_sequence(3, 12, 8)
    features = room_features(room)
    return MappedRoom(room, features, map_of_room(room, features))


@pytest.fixture(scope="session")
def other_room() -> MappedRoom:
    room = room_sequence(4, 1, 8)
    return MappedRoom(room, room_features(room), None)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Visit:
    """A drive through a room: features, matches, true world_from_cam (K, 4, 4) and intrinsics (K,
    3, 3).
    """

    room: RoomSequence
    features: list[Features]
    matches: Matches
    world_from_cam: np.ndarray
    intrinsics: np.ndarray


@pytest.fixture(scope="session")
def visit() -> Visit:
    room = room_sequence(900_002, map_frames=8, query_frames=2, length=2.5)
    features = [extract(room.images[i]) for i in room.map_indices]
    poses = room.world_from_cam[room.map_indices].numpy()
    intrinsics = np.repeat(room.intrinsics.numpy()[None], len(poses), axis=0)
    return Visit(room, features, match_keyframes(features, poses, intrinsics), poses, intrinsics)


@pytest.fixture(scope="session")
def room_images(visit: Visit) -> list[np.ndarray]:
    return [visit.room.images[i] for i in visit.room.map_indices]
