"""Drives around a corridor that leads back to its start, made on the spot: `ring:SEED:METRES`.

`floors:SEED:METRES` comes back one floor above: to a corridor of the same shape, with the same
textures and colours on other things.
"""

from __future__ import annotations

import math
import re
from functools import cache

import numpy as np
import torch

from vggt3_ros.datasets.sequence import Sequence, Split, evenly
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.worlds.lookalike import make_lookalike
from vggt3_ros.worlds.render import render
from vggt3_ros.worlds.ring import Ring
from vggt3_ros.worlds.room import make_rooms
from vggt3_ros.worlds.sequence import held_out_seed

RING = "ring"
FLOORS = "floors"
_SPEC = re.compile(r"(ring|floors):(\d{1,6}):(\d{1,4})(?::(\d{1,4}))?")
_OTHER = 50_000  # between the seeds of two floors
FURTHER_M = 4.0
FLOOR_M = 3.0  # between two floors
_EVERY_M = 0.5  # between map frames, where their number is not given
_MIN_FRAMES = 8
MAX_FRAMES = 1024  # of any procedural place
_QUERIES = 12
_SIZE_WH = (320, 240)
_VIEW = math.radians(75)


def load_drive(spec: str) -> Sequence:
    """The drive `ring:SEED:METRES[:FRAMES]`: once around a corridor whose middle line is so many
    metres long, 20 to 200, and 4 m further, along FRAMES map frames, by default one every half
    metre. Queries lie between. Raises InputError for anything else.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise InputError(
            f"{spec}: a drive is ring:SEED:METRES or floors:SEED:METRES, either with :FRAMES, whole"
            " numbers of at most six and four digits"
        )
    ring = Ring(held_out_seed(int(match[2])), float(match[3]))
    frames = int(match[4]) if match[4] else round((ring.metres + FURTHER_M) / _EVERY_M)
    if not _MIN_FRAMES <= frames <= MAX_FRAMES:
        raise InputError(f"{spec}: a drive has {_MIN_FRAMES} to {MAX_FRAMES} frames, not {frames}")
    poses = ring.drive(2 * frames - 1, FURTHER_M)
    between = evenly(tuple(range(1, len(poses), 2)), _QUERIES)
    count = len(poses)
    above = _above(spec, count)
    true = poses.clone()
    true[above:, 2, 3] += FLOOR_M
    return Sequence(
        name=spec,
        names=tuple(f"{i:06d}" for i in range(count)),
        stamps_ns=tuple(i * 1_000_000_000 for i in range(count)),
        world_from_cam=true,
        intrinsics=_intrinsics(),
        splits={"standard": Split(tuple(range(0, count, 2)), between)},
        read_image=_Painter(ring, poses, above).image,
        read_depth=lambda i: None,
        up=torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64),
    )


def next_floor(sequence: Sequence, index: int) -> bool:
    """Whether a frame of a drive shows the next floor."""
    return index >= _above(sequence.name, len(sequence))


def _above(spec: str, count: int) -> int:
    """The first of a drive's frames that shows the next floor; beyond the last where none does."""
    if not spec.startswith(f"{FLOORS}:"):
        return count
    metres = float(spec.split(":")[2])
    return int(count * (metres - 1) / (metres + FURTHER_M))


def _intrinsics() -> torch.Tensor:
    width, height = _SIZE_WH
    focal = width / 2 / math.tan(_VIEW / 2)
    return intrinsics_matrix(focal, focal, width / 2, height / 2)


class _Painter:
    """Images of a ring, painted when they are asked for."""

    def __init__(self, ring: Ring, poses: torch.Tensor, above: int) -> None:
        self._floors = [make_rooms([ring.seed], plan=ring.planner)]
        if above < len(poses):
            other = ring.seed + _OTHER
            self._floors.append(make_lookalike(other, ring.seed, plan=ring.planner))
        self._poses = poses
        self._above = above
        self.image = cache(self._image)

    @torch.no_grad()
    def _image(self, index: int) -> np.ndarray:
        width, height = _SIZE_WH
        pose = self._poses[None, index : index + 1]
        room = self._floors[int(index >= self._above)]
        seen = render(room, pose, _intrinsics(), height, width, supersample=2)
        image: np.ndarray = seen.images[0, 0].mul(255).round().byte().permute(1, 2, 0).numpy()
        return image
