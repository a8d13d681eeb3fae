"""A sequence of a room is consistent, reproducible, and its queries left the mapped path."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import check_pose, se3_inverse, transform_points
from vggt3_ros.worlds.probe import cast, clearance
from vggt3_ros.worlds.room import MAX_SEED, make_room
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence, unmapped_views
from vggt3_ros.worlds.viewpoints import CLEARANCE


@pytest.fixture(scope="module")
def sequence() -> RoomSequence:
    return room_sequence(3, map_frames=8, query_frames=6, height=60, width=80)


def test_shapes_and_types(sequence: RoomSequence) -> None:
    assert sequence.images.shape == (14, 60, 80, 3) and sequence.images.dtype == np.uint8
    assert sequence.depth.shape == (14, 60, 80) and sequence.depth.dtype == np.float32
    assert np.isfinite(sequence.depth).all() and sequence.depth.min() > 0
    assert sequence.intrinsics.shape == (3, 3) and sequence.intrinsics.dtype == torch.float64
    assert sequence.map_indices.tolist() == list(
        range(8)
    ) and sequence.query_indices.tolist() == list(range(8, 14))
    for index, pose in enumerate(sequence.world_from_cam):
        check_pose(pose, f"frame {index}")


def test_queries_are_free_off_the_path_and_turned(sequence: RoomSequence) -> None:
    centres = sequence.world_from_cam[:, :3, 3]
    assert clearance(make_room(900_003), centres[None]).min() >= CLEARANCE - 1e-4
    assert torch.cdist(centres[8:], centres[:8]).amin(1).min() > 0.25
    assert torch.linalg.vector_norm(centres[1:8] - centres[:7], dim=-1).sum() > 2.0


def test_small_seeds_name_held_out_rooms_and_results_repeat(sequence: RoomSequence) -> None:
    again = room_sequence(3, map_frames=8, query_frames=6, height=60, width=80)
    assert np.array_equal(again.images, sequence.images) and np.array_equal(
        again.depth, sequence.depth
    )
    assert torch.equal(again.world_from_cam, sequence.world_from_cam)


def test_a_small_seed_is_the_held_out_room_with_its_path_and_camera(sequence: RoomSequence) -> None:
    full = room_sequence(900_003, map_frames=8, query_frames=6, height=60, width=80)
    assert full.seed == sequence.seed == 900_003
    assert torch.equal(full.intrinsics, sequence.intrinsics)
    assert torch.equal(full.world_from_cam, sequence.world_from_cam)
    assert np.array_equal(full.images, sequence.images)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_seeds_beyond_64_bits_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        room_sequence(seed)
    with pytest.raises(InputError, match="seed"):
        make_room(seed)


def test_the_largest_seed_has_a_room() -> None:
    assert (
        len(room_sequence(MAX_SEED, map_frames=2, query_frames=1, height=16, width=16).images) == 3
    )


def test_without_queries_and_wrong_counts() -> None:
    assert len(room_sequence(1, map_frames=2, query_frames=0, height=32, width=48).images) == 2
    with pytest.raises(InputError, match="map_frames"):
        room_sequence(1, map_frames=0)


def test_unmapped_views_show_nothing_of_the_map(sequence: RoomSequence) -> None:
    mapped, depth = sequence.world_from_cam[:8], torch.from_numpy(sequence.depth[:8])
    images, poses = unmapped_views(3, mapped, depth, sequence.intrinsics, 4)
    assert len(images) == len(poses) == 4 and images.shape[1:] == (60, 80, 3)
    room = make_room(900_003)
    assert clearance(room, poses[None, :, :3, 3]).min() >= CLEARANCE - 1e-4
    rays = poses[:, :3, 2]
    points = poses[:, :3, 3] + rays * cast(room, poses[None, :, :3, 3], rays[None])[0, :, None]
    for pose, seen in zip(mapped, depth, strict=True):
        in_cam = transform_points(se3_inverse(pose), points)
        pixels, z = project(in_cam, sequence.intrinsics)
        column, row = pixels.round().long().unbind(-1)
        inside = (z > 0) & (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
        hidden = seen[row[inside], column[inside]] < 0.97 * z[inside]
        assert bool(hidden.all()), (
            "the middle of every view is outside all map frames, or behind something"
        )
    again, _ = unmapped_views(3, mapped, depth, sequence.intrinsics, 4)
    assert np.array_equal(images, again)
    assert unmapped_views(3, mapped, depth, sequence.intrinsics, 0)[0].shape == (0, 60, 80, 3)
