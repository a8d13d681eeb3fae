"""Rooms that are easily taken for another: its textures and colours on the furniture of a room of
its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.plan import RoomPlan
from vggt3_ros.worlds.room import RoomBatch, make_rooms
from vggt3_ros.worlds.surfaces import (
    BIAS,
    DETAIL,
    DETAIL_GAIN,
    DETAIL_LOG,
    DETAIL_SCALE,
    GAIN,
    TEXTURE,
)

_LOOK = [
    TEXTURE,
    *range(GAIN, GAIN + 3),
    *range(BIAS, BIAS + 3),
    DETAIL,
    DETAIL_SCALE,
    DETAIL_LOG,
    DETAIL_GAIN,
]


def make_lookalike(
    seed: int,
    original: int,
    device: torch.device | str = "cpu",
    plan: Callable[[int], RoomPlan] = plan_room,
) -> RoomBatch:
    """A batch of one room: laid out like room `seed`, painted like room `original`; or other places
    that `plan` plans.

    Walls, furniture and pictures show what the original's walls, furniture and pictures show, in
    its colours, at sizes that fit the new surfaces. Raises InputError for seeds that make_rooms
    refuses.
    """
    both = make_rooms([seed, original], plan=plan)
    source = _counterparts(plan(seed), plan(original))
    faces = both.faces.unflatten(1, (-1, 6)).clone()  # (2, P, 6, FACE_FIELDS)
    faces[0, : len(source), :, _LOOK] = faces[1, source][..., _LOOK]
    return replace(both, faces=faces.flatten(1, 2)).select(slice(0, 1)).to(device)


def _counterparts(plan: RoomPlan, original: RoomPlan) -> NDArray[np.int64]:
    """For each primitive of a plan, one of the original (P,): alike in style; what shares a
    material stays together.
    """
    source = np.zeros(len(plan.kinds), np.int64)
    for style in np.unique(plan.styles):
        candidates = np.flatnonzero(original.styles == style)
        candidates = candidates if len(candidates) else np.arange(len(original.kinds))
        _, first = np.unique(original.materials[candidates], return_index=True)
        for number, material in enumerate(np.unique(plan.materials[plan.styles == style])):
            source[plan.materials == material] = candidates[first[number % len(first)]]
    return source
