"""Drives past points without any image: along a ring whose walls carry points that look unlike each
other, or alike at even distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vggt3_ros.geometry.drift import Drift
from vggt3_ros.landmarks.features import Features
from vggt3_ros.worlds.odometry import DriftingOdometry
from vggt3_ros.worlds.ring import Ring

METRES = 30.0
FRAMES = 46
FURTHER = 4.0
K = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
DRIFT = Drift(0.02, np.radians(0.4))
_AHEAD = (0.3, 6.0)  # metres along the corridor in which points are seen
_WIDTH = 2.4
_NOISE = 6.0  # of descriptors


@dataclass(frozen=True)
class Wall:
    """Points (N, 3), metres along (N,) the ring, and descriptors (N, 128)."""

    points: np.ndarray
    along: np.ndarray
    descriptors: np.ndarray


def ring() -> Ring:
    return Ring(900_000, METRES)


def poses() -> np.ndarray:
    """True poses (FRAMES, 4, 4), once around and 4 m further."""
    return ring().drive(FRAMES, FURTHER).numpy()


def unlike(count: int, seed: int) -> Wall:
    """Points that look unlike each other."""
    rng = np.random.default_rng(seed)
    return _wall(rng.uniform(0, METRES, count), rng.integers(0, 120, (count, 128)), rng)


def alike(every: float, seed: int) -> Wall:
    """The same 12 points again and again."""
    rng = np.random.default_rng(seed)
    door = rng.uniform(0, 0.9, 12)
    looks = rng.integers(0, 120, (12, 128))
    count = int(METRES / every)
    along = (every * np.arange(count)[:, None] + door).ravel()
    rng = np.random.default_rng(seed)
    wall = _wall(door, looks, rng)
    side = np.sign(wall.points[:, 2] - 1.2)
    return _placed(along, np.tile(side, count), np.tile(wall.points[:, 2], count), looks, count)


def seen(poses: np.ndarray, walls: Sequence[Wall], seed: int = 0) -> list[Features]:
    """Features of keyframes at poses (K, 4, 4), in the order of a drive around the ring."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([wall.points for wall in walls])
    along = np.concatenate([wall.along for wall in walls])
    looks = np.concatenate([wall.descriptors for wall in walls])
    here = np.linspace(0, METRES + FURTHER, FRAMES) + ring().sides[0] / 3
    found = []
    for pose, start in zip(poses, here, strict=True):
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        pixels = local @ K.T
        pixels = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
        ahead = np.mod(along - start, METRES)
        visible = (local[:, 2] > 0.3) & (pixels > 0).all(1) & (pixels < [320, 240]).all(1)
        visible &= (ahead > _AHEAD[0]) & (ahead < _AHEAD[1])
        noisy = looks[visible] + _NOISE * rng.standard_normal((int(visible.sum()), 128))
        places = pixels[visible] + 0.3 * rng.standard_normal((int(visible.sum()), 2))
        found.append(
            Features(places.astype(np.float32), np.clip(noisy, 0, 255).astype(np.uint8), (320, 240))
        )
    return found


def odometry(true: np.ndarray) -> np.ndarray:
    """Poses (K, 4, 4) that drift by DRIFT."""
    drifting = DriftingOdometry(torch.from_numpy(true[0]), DRIFT.scale, DRIFT.rotation)
    given = []
    for pose in true:
        drifting.move(torch.from_numpy(pose))
        given.append(drifting.odom_from_base.numpy())
    return np.stack(given)


def intrinsics() -> np.ndarray:
    return np.tile(K, (FRAMES, 1, 1))


def _wall(along: np.ndarray, looks: np.ndarray, rng: np.random.Generator) -> Wall:
    side = rng.choice([-1.0, 1.0], len(along))
    height = 1.2 + side * rng.uniform(0.05, 1.1, len(along))
    return _placed(along, side, height, looks, 1)


def _placed(
    along: np.ndarray, side: np.ndarray, height: np.ndarray, looks: np.ndarray, times: int
) -> Wall:
    middle, forward = ring().middle(along)
    left = np.stack([-forward[:, 1], forward[:, 0]], axis=1)
    points = np.concatenate([middle + side[:, None] * _WIDTH / 2 * left, height[:, None]], axis=1)
    return Wall(points, along, np.tile(looks, (times, 1)))
