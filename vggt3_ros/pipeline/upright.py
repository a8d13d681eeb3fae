"""Which way is up: from the floor among the points, otherwise from how the cameras were held."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vggt3_ros.geometry.pointcloud import PointCloud, voxel_thin

_SEED = 0
_MIN_POINTS = 100
_SAMPLE = 20_000  # points looked at
_SPACING = 0.015  # of the extent, between the points that are counted
_HYPOTHESES = 1_000
# of the extent: a hypothesis is three points this close, for then they often share a surface
_REACH = 0.1
_TOLERANCE = 0.01  # of the extent: how far a point may be from its plane
_STEEPEST = math.cos(math.radians(35))
_MAX_BELOW = 0.1  # fraction of points that may lie below a floor: noise, mirrors, stairs
_MIN_FRACTION = 0.06  # fraction of points that must lie on it: with less, cameras know better
_MIN_CONTRAST = 2.0  # points on it over those in the slab of the same thickness right above
_TILTED = math.cos(math.radians(60))
_PITCH = 0.01  # how little the images' up directions weigh beside level horizons
_ROLL = 0.05  # rad: cameras closer to upright than this count alike


@dataclass(frozen=True, eq=False)
class Plane:
    """The points x with normal @ x = offset; normal (3,) float64 of unit length, pointing up.

    fraction: of the points, how many lie on it (0 to 1).
    """

    normal: Tensor
    offset: float
    fraction: float

    def height(self, points: Tensor) -> Tensor:
        """Signed heights (...) of points (..., 3) above the plane, in the points' unit."""
        return points @ self.normal.to(points) - self.offset


@dataclass(frozen=True, eq=False)
class Uprighting:
    """The rotation of a map to Z up and the first camera's gaze along X (REP 103): rotation (3, 3)
    new_from_world.

    source: "floor"; "cameras": they were held upright; "downward cameras": they all look along one
    direction while turning about it, which is taken for down; "unsteady cameras": a guess, they
    were held in all directions. floor is in the old world, floor_height its Z in the new one; both
    None unless the floor was found.
    """

    rotation: Tensor
    source: str
    floor: Plane | None = None

    @property
    def floor_height(self) -> float | None:
        """Z of the floor after the rotation, in the unit of the points."""
        return None if self.floor is None else self.floor.offset


def upright(world_from_cam: Tensor, points: Tensor | None = None) -> Uprighting:
    """Turn a map so that Z is up, given its cameras (S, 4, 4) and, where known, its points (N,
    3).
    """
    poses = world_from_cam.double()
    up, source = camera_up(poses)
    floor = None if points is None else floor_plane(points, up)
    if floor is not None and float(floor.height(poses[:, :3, 3]).median()) > 0:
        return Uprighting(_rotation(floor.normal, poses[0]), "floor", floor)
    return Uprighting(_rotation(up, poses[0]), source)


def camera_up(world_from_cam: Tensor) -> tuple[Tensor, str]:
    """Up (3,) as cameras (S, 4, 4) were held, and its source as in `Uprighting`.

    The mean of the images' up directions, freed of what contradicts level horizons: cameras are
    pitched and turned at will but seldom rolled, so their x axes lie in the horizontal plane.
    Rolled ones lose their say step by step.
    """
    right, down, forward = world_from_cam[:, :3, :3].double().unbind(-1)
    weight = torch.ones(len(right), 1, dtype=torch.float64)
    for _ in range(10):
        mean = (weight * -down).sum(0) / weight.sum()
        level = (weight * right).T @ right / weight.sum()
        up = normalize(
            torch.linalg.solve(level + _PITCH * torch.eye(3, dtype=torch.float64), mean), dim=0
        )
        weight = 1 / (right @ up).abs().clamp(min=_ROLL)[:, None]
    if float((-down @ up).median()) > _TILTED:
        return up, "cameras"
    gaze = forward.mean(0)
    if float(gaze.norm()) > _STEEPEST:
        return normalize(-gaze, dim=0), "downward cameras"
    return up, "unsteady cameras"


def floor_plane(
    points: Tensor, up_hint: Tensor, min_fraction: float = _MIN_FRACTION
) -> Plane | None:
    """The dominant plane of points (N, 3) within 35 degrees of horizontal and below most of them,
    None without one.

    RANSAC over triples of neighbours (seeded), then refitting. up_hint (3,) is the roughly known
    direction up. min_fraction: of the points, that must lie on it.
    """
    points = points[points.isfinite().all(1)].float().cpu()
    if len(points) < _MIN_POINTS:
        return None
    dice = torch.Generator().manual_seed(_SEED)
    points = points[torch.randperm(len(points), generator=dice)[:_SAMPLE]]
    extent = 2 * float((points - points.median(0).values).norm(dim=1).quantile(0.9))
    points = _evenly(points, _SPACING * extent)
    up = normalize(up_hint.float().cpu(), dim=0)
    tolerance = _TOLERANCE * extent

    corners, normals = _triples(points, _REACH * extent, dice)
    normals = normals * (normals @ up).sign()[:, None]
    level = normals @ up > _STEEPEST
    if not bool(level.any()):
        return None
    corners = corners[level]
    normals = normals[level]
    heights = normals @ points.T - (normals * corners).sum(1, keepdim=True)
    on_it = _fraction(heights.abs() < tolerance)
    below = _fraction(heights < -tolerance)
    height = heights[torch.where(below < _MAX_BELOW, on_it, -below).argmax()]
    for _ in range(10):
        floor = points[height.abs() < tolerance]
        middle = floor.mean(0)
        normal = torch.linalg.svd(floor - middle, full_matrices=False)[2][2]
        normal = normal * (normal @ up).sign()
        height = (points - middle) @ normal
    fraction = _fraction(height.abs() < tolerance)
    below = _fraction(height < -tolerance)
    above = _fraction((height > tolerance) & (height < 3 * tolerance))
    stands_out = fraction > min_fraction and fraction > _MIN_CONTRAST * above
    if not (stands_out and below < _MAX_BELOW and float(normal @ up) > _STEEPEST):
        return None
    normal = normalize(normal.double(), dim=0)
    return Plane(normal, float(middle.double() @ normal), float(fraction))


def _evenly(points: Tensor, spacing: float) -> Tensor:
    """One point per cube of side `spacing`: cameras see far more pixels of a wall than of a
    floor.
    """
    if not spacing > 0:
        return points
    empty = torch.zeros(len(points))
    return voxel_thin(
        PointCloud(points, empty[:, None].expand(-1, 3).byte(), empty), spacing
    ).points


def _triples(points: Tensor, reach: float, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Planes through three neighbouring points: one of the points (M, 3), and normals (M, 3) of
    unit length.
    """
    corners = points[torch.randint(len(points), (_HYPOTHESES,), generator=dice)]
    near = torch.cdist(corners, points) < reach
    enough = near.sum(1) > 2
    if not bool(enough.any()):
        return corners[:0], corners[:0]
    corners = corners[enough]
    a, b = points[torch.multinomial(near[enough].float(), 2, generator=dice)].unbind(1)
    return corners, normalize(torch.linalg.cross(a - corners, b - corners, dim=1), dim=1)


def _fraction(mask: Tensor) -> Tensor:
    """The fraction of the last dimension that is True."""
    return mask.float().mean(-1)


def _rotation(up: Tensor, world_from_cam: Tensor) -> Tensor:
    """The rotation (3, 3) that takes `up` to Z and the camera's level gaze to X; a camera that
    looks along `up` gives its image's upward (or downward) direction.
    """
    _, down, forward = world_from_cam[:3, :3].unbind(-1)
    candidates = torch.stack([forward, -down])
    level = candidates - (candidates @ up)[:, None] * up
    x = normalize(level[0] if float(level[0].norm()) > 0.1 else level[1], dim=0)
    return torch.stack([x, torch.linalg.cross(up, x, dim=0), up])
