"""Rooms as batches of padded convex primitives: a box seen from inside (the shell), boxes,
cylinders, ellipsoids.

World axes are metres with Z up; the floor is z = 0 and the shell is centred on the Z axis. Every
primitive has a local frame in which it fills the cube [-1, 1]^3 (a cylinder stands along local z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.worlds.furnish import plan_room
from vggt3_ros.worlds.plan import BOX, ELLIPSOID, RoomPlan
from vggt3_ros.worlds.surfaces import FACE_FIELDS, paint
from vggt3_ros.worlds.textures import bank_name

MAX_PRIMITIVES = 64  # the renderer keeps a primitive's number in the six lowest bits of a depth key
MAX_SEED = 2**63 - 1  # what fits every random generator


@dataclass(frozen=True)
class RoomBatch:
    """B rooms of up to P primitives each, float32; primitive 0 is the shell, boxes come before
    rounded primitives.

    local_from_world (B, P, 3, 4) into the primitive's unit cube; half_sizes (B, P, 3) metres, 0 for
    padding; centres (B, P, 3); rotations (B, P, 3, 3) columns are the primitive's axes in the
    world; box_counts (B,) int64 boxes including the shell; sphere (B, P) 1 for ellipsoids and 0
    else; faces (B, P * 6, FACE_FIELDS) see surfaces; lights (B, L, 6) position and colour; ambient
    (B, 3); shadow_depth (B, S, S) what the first light sees through shadow_camera (B, 3, 4), with S
    = 0 where nothing casts shadows (see shadows); seeds and the name of the texture bank they use.
    """

    seeds: tuple[int, ...]
    bank: str
    local_from_world: Tensor
    half_sizes: Tensor
    centres: Tensor
    rotations: Tensor
    box_counts: Tensor
    sphere: Tensor
    faces: Tensor
    lights: Tensor
    ambient: Tensor
    shadow_depth: Tensor
    shadow_camera: Tensor

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.half_sizes.device

    @property
    def bounds(self) -> Tensor:
        """Corners (B, 2, 3) of the shells, metres: lowest and highest."""
        shell = self.half_sizes[:, 0]
        return torch.stack([self.centres[:, 0] - shell, self.centres[:, 0] + shell], dim=1)

    def select(self, index: slice) -> RoomBatch:
        """The rooms of a slice, as a batch."""
        tensors = {
            f.name: getattr(self, f.name)[index]
            for f in fields(self)
            if f.name not in ("seeds", "bank")
        }
        return RoomBatch(seeds=self.seeds[index], bank=self.bank, **tensors)

    def to(self, device: torch.device | str) -> RoomBatch:
        """The same rooms on another device."""
        tensors = {
            f.name: getattr(self, f.name).to(device)
            for f in fields(self)
            if f.name not in ("seeds", "bank")
        }
        return RoomBatch(seeds=self.seeds, bank=self.bank, **tensors)


def make_room(seed: int) -> RoomBatch:
    """A batch of the one room that `seed` (>= 0) describes; seeds >= 900000 use textures no
    training room has.
    """
    return make_rooms([seed])


def make_rooms(
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    plan: Callable[[int], RoomPlan] = plan_room,
) -> RoomBatch:
    """A batch with the rooms of these seeds, on a device; a seed always gives the same room.

    `plan` may be a planner of other places (places.place_planner). Raises InputError if seeds are
    missing, negative, beyond MAX_SEED, or fall on both sides of 900000 (two texture banks).
    """
    seeds = tuple(int(seed) for seed in seeds)
    if not seeds or min(seeds) < 0 or max(seeds) > MAX_SEED:
        raise InputError(
            f"make_rooms needs one or more seeds from 0 to {MAX_SEED}, got {list(seeds)[:5]}"
        )
    names = {bank_name(seed) for seed in seeds}
    if len(names) > 1:
        raise InputError(
            f"seeds {min(seeds)} and {max(seeds)} use different texture banks (training below"
            " 900000, held out from there); make two batches"
        )
    bank = names.pop()
    plans = [plan(seed) for seed in seeds]
    painted = [
        paint(plan, bank, np.random.default_rng([seed, 1]))
        for seed, plan in zip(seeds, plans, strict=True)
    ]
    return _collate(seeds, bank, plans, painted).to(device)


def _collate(
    seeds: tuple[int, ...], bank: str, plans: list[RoomPlan], painted: list[np.ndarray]
) -> RoomBatch:
    batch = len(plans)
    most = max(len(plan.kinds) for plan in plans)
    if most > MAX_PRIMITIVES:
        raise InputError(f"a room may have {MAX_PRIMITIVES} primitives, a plan has {most}")
    centres = np.zeros((batch, most, 3))
    half = np.zeros((batch, most, 3))
    rotations = np.zeros((batch, most, 3, 3))
    rotations[:] = np.eye(3)
    sphere = np.zeros((batch, most), np.float32)
    faces = np.zeros((batch, most * 6, FACE_FIELDS), np.float32)
    for index, (plan, table) in enumerate(zip(plans, painted, strict=True)):
        count = len(plan.kinds)
        centres[index, :count] = plan.centres
        half[index, :count] = plan.halves
        rotations[index, :count] = plan.rotations
        sphere[index, :count] = plan.kinds == ELLIPSOID
        faces[index, : count * 6] = table
    scale = 1.0 / np.maximum(half, 1e-6)
    linear = rotations.swapaxes(-1, -2) * scale[..., None]  # (B, P, 3, 3)
    offset = -(linear @ centres[..., None])
    return RoomBatch(
        seeds=seeds,
        bank=bank,
        local_from_world=_float(np.concatenate([linear, offset], axis=-1)),
        half_sizes=_float(half),
        centres=_float(centres),
        rotations=_float(rotations),
        box_counts=torch.tensor([int((plan.kinds == BOX).sum()) for plan in plans]),
        sphere=_float(sphere),
        faces=_float(faces),
        lights=_float(np.stack([plan.lights for plan in plans])),
        ambient=_float(np.stack([plan.ambient for plan in plans])),
        shadow_depth=torch.zeros(batch, 0, 0),
        shadow_camera=torch.zeros(batch, 3, 4),
    )


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
