"""Textured rectangles filmed by cameras at exact poses: small scenes of which everything is
known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.geometry.camera import intrinsics_matrix, project
from vggt3_ros.geometry.se3 import look_at, se3_inverse, transform_points

HEIGHT, WIDTH = 60, 80
INTRINSICS = intrinsics_matrix(70.0, 70.0, 39.5, 29.5)


@dataclass(frozen=True)
class Rectangle:
    """centre, and two orthogonal unit vectors along its sides, with half their lengths in metres.

    blank: half sides of the part in its middle that has no texture, or `faint` of it. seed: of its
    texture.
    """

    centre: tuple[float, float, float]
    along: tuple[float, float, float]
    up: tuple[float, float, float]
    half: tuple[float, float] = (4.0, 3.0)
    blank: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    faint: float = 0.0

    def axes(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre, both directions and the normal, each (3,) float64."""
        centre, along, up = (
            torch.tensor(each, dtype=torch.float64) for each in (self.centre, self.along, self.up)
        )
        return centre, along, up, torch.linalg.cross(along, up)

    def colour(self, place: Tensor) -> Tensor:
        """RGB (..., 3) in [0, 1] at places (..., 2) in metres from the centre: waves of 15 cm and
        more.
        """
        generator = torch.Generator().manual_seed(self.seed)
        angle = 2 * math.pi * torch.rand(24, generator=generator, dtype=torch.float64)
        wave = 2 * math.pi / (0.15 + 0.6 * torch.rand(24, generator=generator, dtype=torch.float64))
        phase = 2 * math.pi * torch.rand(24, 3, generator=generator, dtype=torch.float64)
        direction = torch.stack([angle.cos(), angle.sin()]) * wave
        value = 0.5 + 0.08 * torch.sin((place @ direction)[..., None] + phase).sum(-2)
        is_blank = (place.abs() < torch.tensor(self.blank, dtype=torch.float64)).all(-1)
        return torch.where(is_blank[..., None], 0.5 + self.faint * (value - 0.5), value).clamp(0, 1)


def wall(distance: float = 3.0, **more: object) -> Rectangle:
    """A wall that faces cameras at the origin, which look along y."""
    return Rectangle((0.0, distance, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), **more)  # type: ignore[arg-type]


def floor(height: float = -1.0) -> Rectangle:
    """A floor below cameras at the origin: they look at it at a grazing angle."""
    return Rectangle((0.0, 4.0, height), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 4.0), seed=5)


def row(
    count: int = 5, step: float = 0.2, target: tuple[float, float, float] = (0.0, 3.0, 0.0)
) -> Tensor:
    """world_from_cam (count, 4, 4) of cameras side by side that look at one point."""
    across = step * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    position = torch.stack(
        [across, torch.zeros_like(across), 0.3 * step * (-1.0) ** torch.arange(count)], dim=1
    )
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return look_at(position, torch.tensor(target, dtype=torch.float64).expand(count, 3), up)


def filmed(surfaces: Sequence[Rectangle], world_from_cam: Tensor) -> tuple[Tensor, Tensor]:
    """Images (S, 3, h, w) float32 and depth (S, h, w) float32, infinite where nothing is."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).double().view(-1, 3)
    # (S, N, 3)
    rays = pixels @ torch.linalg.inv(INTRINSICS).T @ world_from_cam[:, :3, :3].transpose(1, 2)
    origin = world_from_cam[:, None, :3, 3]
    depth = torch.full(rays.shape[:2], torch.inf, dtype=torch.float64)
    colours = torch.zeros_like(rays)
    for surface in surfaces:
        centre, along, up, normal = surface.axes()
        far = ((centre - origin) @ normal) / (rays @ normal)
        off = origin + far[..., None] * rays - centre
        place = torch.stack([off @ along, off @ up], dim=-1)
        hit = (
            (far > 0)
            & (far < depth)
            & (place.abs() <= torch.tensor(surface.half, dtype=torch.float64)).all(-1)
        )
        depth = torch.where(hit, far, depth)
        colours = torch.where(hit[..., None], surface.colour(place), colours)
    size = (len(world_from_cam), HEIGHT, WIDTH)
    return colours.view(*size, 3).permute(0, 3, 1, 2).float(), depth.view(size).float()


def keyframes(
    surfaces: Sequence[Rectangle],
    world_from_cam: Tensor,
    predicted: Tensor | None = None,
    per_keyframe: int = 150,
) -> tuple[Keyframes, Tensor]:
    """Keyframes of a scene with landmarks on what is textured, and their true depth (S, h, w).

    predicted (S, h, w): by default the true depth, wrong by up to 20 % in a smooth way.
    """
    images, depth = filmed(surfaces, world_from_cam)
    if predicted is None:
        ramp = torch.linspace(-0.2, 0.2, WIDTH) * torch.linspace(0, 1, HEIGHT)[:, None]
        predicted = depth * (1 + ramp)
    points, observed, observed_from = landmarks(images, depth, world_from_cam, per_keyframe)
    intrinsics = INTRINSICS.expand(len(images), 3, 3)
    return Keyframes(
        images, intrinsics, world_from_cam, predicted, points, observed, observed_from
    ), depth


def landmarks(
    images: Tensor, depth: Tensor, world_from_cam: Tensor, per_keyframe: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Landmarks (P, 3) at textured pixels, and the observations of them: landmark (M,) and keyframe
    (M,).
    """
    generator = torch.Generator().manual_seed(2)
    textured = images.mean(1)[:, 1:-1, 1:-1].sub(images.mean(1)[:, 1:-1, 2:]).abs() > 1e-3
    points = []
    for index, pose in enumerate(world_from_cam):
        places = textured[index].logical_and(depth[index, 1:-1, 1:-1].isfinite()).nonzero() + 1
        places = places[torch.randperm(len(places), generator=generator)[:per_keyframe]]
        pixels = torch.cat([places.flip(1), torch.ones(len(places), 1)], dim=1).double()
        rays = pixels @ torch.linalg.inv(INTRINSICS).T
        points.append(
            transform_points(pose, rays * depth[index, places[:, 0], places[:, 1], None].double())
        )
    every = torch.cat(points)
    pairs = []
    for index, pose in enumerate(world_from_cam):
        pixels, z = project(transform_points(se3_inverse(pose), every), INTRINSICS)
        column, row = pixels.nan_to_num(-1.0).round().long().unbind(-1)
        inside = (z > 0) & (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        there = depth[index, row.clamp(0, HEIGHT - 1), column.clamp(0, WIDTH - 1)]
        seen = (inside & ((there / z - 1).abs() < 0.02)).nonzero()[:, 0]
        pairs.append(torch.stack([seen, torch.full_like(seen, index)]))
    observed, observed_from = torch.cat(pairs, dim=1)
    return every.float(), observed, observed_from
