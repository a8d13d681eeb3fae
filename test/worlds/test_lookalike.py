"""A look-alike wears the original's textures and colours on a layout of its own."""

from __future__ import annotations

import numpy as np
import torch

from vggt3_ros.worlds.lookalike import make_lookalike
from vggt3_ros.worlds.room import make_room
from vggt3_ros.worlds.sequence import room_sequence
from vggt3_ros.worlds.surfaces import BIAS, GAIN, NORMAL, TEXTURE

SEED, ORIGINAL = 900_004, 900_003


def looks(faces: torch.Tensor) -> set[tuple[float, ...]]:
    """Texture and colours of all faces (1, F, FACE_FIELDS) that exist."""
    rows = faces[0][faces[0, :, NORMAL : NORMAL + 3].abs().sum(1) > 0]
    return {tuple(row) for row in rows[:, [TEXTURE, *range(GAIN, BIAS + 3)]].tolist()}


def test_the_layout_is_that_of_the_seed_and_the_paint_that_of_the_original() -> None:
    room, plain, original = make_lookalike(SEED, ORIGINAL), make_room(SEED), make_room(ORIGINAL)
    count = plain.half_sizes.shape[1]
    assert torch.equal(room.half_sizes[:, :count], plain.half_sizes)
    assert torch.equal(room.centres[:, :count], plain.centres)
    assert looks(room.faces) <= looks(original.faces)
    assert not looks(room.faces) & looks(plain.faces)


def test_every_wall_shows_what_the_same_wall_of_the_original_shows() -> None:
    room, original = make_lookalike(SEED, ORIGINAL), make_room(ORIGINAL)
    assert torch.equal(room.faces[0, :6, TEXTURE], original.faces[0, :6, TEXTURE])
    assert torch.equal(room.faces[0, :6, BIAS], original.faces[0, :6, BIAS])


def test_a_room_that_looks_like_itself_is_itself() -> None:
    assert torch.equal(make_lookalike(SEED, SEED).faces, make_room(SEED).faces)


def test_a_sequence_in_a_lookalike_has_the_same_path_and_depth_and_other_colours() -> None:
    plain = room_sequence(4, map_frames=2, query_frames=0, height=24, width=32)
    painted = room_sequence(4, map_frames=2, query_frames=0, height=24, width=32, painted_like=3)
    assert torch.equal(painted.world_from_cam, plain.world_from_cam)
    assert np.array_equal(painted.depth, plain.depth)
    assert np.abs(painted.images.astype(int) - plain.images).mean() > 10
