"""Planes among the points of keyframes, and which of them are one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.dense.shape import camera_points, normals
from vggt3_ros.geometry.sim3 import Sim3

_SAMPLED = 1500  # points
_TRIED = 200  # hypotheses, one oriented point each
_MAX_PLANES = 14  # planes
_THICKNESS = 0.01  # of a plane, as a share of the distance of its points
_SAME_SIDE = math.cos(math.radians(30.0))
_MIN_SHARE = 0.015  # of the points
# how far points may be off a plane that they move, as a share of their depth, and where they count
# a quarter, step by step
_AROUND = 0.02
_NARROWER = (0.02, 0.01, 0.005, 0.0025, 0.0025)
_REFITTED = 12  # points that move a plane
# by how much of it depth may be off a large plane that it lies on, where it is agreed and where a
# plane was carried on, and by how many times the error that is expected
_ON_PLANE = 0.02
_SAME_AS_PLANE = 0.01
_TIMES_EXPECTED = 3.0
# planes of several keyframes are one if their normals differ by less
_SAME_PLANE = math.cos(math.radians(5.0))


@dataclass(frozen=True, eq=False)
class Planes:
    """P planes, on the CPU: equations (P, 4) float64, unit normal and offset (normal . x + offset =
    0); centres (P, 3) float64 of the points on them; pixels (P,) float64: how many those are, in
    all keyframes that saw them.
    """

    equations: Tensor
    centres: Tensor
    pixels: Tensor

    @staticmethod
    def none() -> Planes:
        """An empty set of planes."""
        return Planes(*(torch.zeros(0, *shape, dtype=torch.float64) for shape in ((4,), (3,), ())))

    @staticmethod
    def together(planes: Sequence[Planes]) -> Planes:
        """The planes of several sets as one, in their order."""
        return Planes(
            equations=torch.cat([each.equations for each in planes]),
            centres=torch.cat([each.centres for each in planes]),
            pixels=torch.cat([each.pixels for each in planes]),
        )

    def __len__(self) -> int:
        return len(self.equations)

    def __getitem__(self, chosen: Tensor | slice) -> Planes:
        return Planes(self.equations[chosen], self.centres[chosen], self.pixels[chosen])

    def moved(self, new_from_old: Sim3) -> Planes:
        """The same in another frame and unit."""
        return Planes(
            moved_planes(self.equations, new_from_old),
            new_from_old.points(self.centres),
            self.pixels,
        )

    def merged(self, reach: float) -> Planes:
        """Each plane once, the largest first: what differs by 5 degrees at most and, at the
        centres, by `reach`.

        What is merged is weighted by its pixels; that is repeated until nothing merges.
        """
        fewer = self._merged_once(reach)
        return fewer if len(fewer) == len(self) else fewer.merged(reach)

    def _merged_once(self, reach: float) -> Planes:
        same = self._same(reach)
        left = torch.ones(len(self), dtype=torch.bool)
        joined = [Planes.none()]
        for index in self.pixels.argsort(descending=True, stable=True).tolist():
            if left[index]:
                group = same[index] & left
                left &= ~group
                joined.append(self._joined(group, index))
        every = Planes.together(joined)
        return every[every.pixels.argsort(descending=True, stable=True)]

    def _same(self, reach: float) -> Tensor:
        """Which planes are one: (P, P)."""
        normals = self.equations[:, :3]
        off = (normals @ self.centres.T + self.equations[:, 3:]).abs()
        return ((normals @ normals.T).abs() > _SAME_PLANE) & (off < reach) & (
            off.T < reach
        ) | torch.eye(len(self), dtype=torch.bool)

    def _joined(self, group: Tensor, like: int) -> Planes:
        """The planes of a group as one, facing the way of one of them."""
        weight = self.pixels[group, None]
        normals = self.equations[group, :3]
        mean = (weight * normals * (normals @ self.equations[like, :3]).sign()[:, None]).sum(0)
        normal = mean / mean.norm()
        centre = (weight * self.centres[group]).sum(0) / weight.sum()
        equation = torch.cat([normal, -(normal @ centre)[None]])
        return Planes(equation[None], centre[None], weight.sum(0))


def visible_planes(depth: Tensor, known: Tensor, intrinsics: Tensor) -> Planes:
    """Planes of one keyframe, in camera axes, largest first.

    depth (h, w), of which `known` (h, w) is believed; intrinsics (3, 3).
    """
    points = camera_points(depth[None], intrinsics[None])
    normal, oriented = normals(points, known[None])
    points = points[oriented]
    normal = normal[oriented]
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(points), generator=generator)[:_SAMPLED].to(points.device)
    found = find_planes(points[chosen], normal[chosen], generator)
    return Planes(
        found.equations, found.centres, found.pixels * (len(points) / max(1, len(chosen)))
    )


def find_planes(points: Tensor, normals: Tensor, generator: torch.Generator) -> Planes:
    """Planes among points (N, 3) seen from the origin, with normals (N, 3): the largest first, one
    by one.
    """
    least = max(12, math.ceil(_MIN_SHARE * len(points)))
    thickness = _THICKNESS * points.norm(dim=1)
    found = [Planes.none()]
    while len(points) >= least and len(found) <= _MAX_PLANES:
        tried = torch.randint(len(points), (min(_TRIED, len(points)),), generator=generator).to(
            points.device
        )
        planes = torch.cat(
            [normals[tried], -(normals[tried] * points[tried]).sum(1, keepdim=True)], dim=1
        )
        plane = planes[_on(planes, points, normals, thickness).sum(1).argmax()]
        for _ in range(2):
            near = _on(plane[None], points, normals, thickness)[0]
            if int(near.sum()) < least:
                break
            fitted = _fitted(points[near], 1 / points[near].square().sum(1))
            plane = torch.where(fitted[3] < 0, -fitted, fitted)  # facing the origin
        near = _on(plane[None], points, normals, thickness)[0]
        if int(near.sum()) < least:
            break
        on_it = points[near].double().cpu()
        count = torch.tensor([len(on_it)], dtype=torch.float64)
        found.append(Planes(plane[None].double().cpu(), on_it.mean(0, keepdim=True), count))
        points = points[~near]
        normals = normals[~near]
        thickness = thickness[~near]
    return Planes.together(found)


def refitted(planes: Tensor, points: Tensor, nearness: Tensor) -> Tensor:
    """Planes (P, 4) where most of the points (N, 3) around them lie; float64.

    nearness (N,): 1 / depth, for errors grow with that. What is off by 2 % of the depth counts at
    first, by 0.25 % in the end (weights of Geman and McClure): of a wall and a panel before it,
    the larger remains.
    """
    found = [planes[:0]]
    for plane in planes:
        near = ((points @ plane[:3] + plane[3]) * nearness).abs() < _AROUND
        found.append(_where_most_are(plane, points[near], nearness[near])[None])
    return torch.cat(found)


def _where_most_are(plane: Tensor, points: Tensor, nearness: Tensor) -> Tensor:
    """`refitted` for one plane (4,), given the points around it; itself if these are few."""
    if len(points) < _REFITTED:
        return plane
    for scale in _NARROWER:
        off = (points @ plane[:3] + plane[3]) * nearness
        weight = (nearness / (1 + (off / scale).square())).square()
        moved = _fitted(points, weight)
        plane = torch.where(moved[:3] @ plane[:3] < 0, -moved, moved)
    return plane


def plane_inverse(planes: Tensor, intrinsics: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Inverse depth (P, h, w) of planes (P, 4) in camera axes; not above 0 where a ray does not
    meet it in front.
    """
    rays = camera_points(torch.ones(1, *size_hw, device=planes.device), intrinsics[None])[0]
    along: Tensor = planes[:, :3] @ rays.flatten(0, 1).T
    return -along.view(-1, *size_hw) / planes[:, 3, None, None]


def reach_of_planes(depth: Tensor, expected: Tensor, agreed: Tensor, carried_on: Tensor) -> Tensor:
    """By how much depth (S, h, w) with expected errors (S, h, w) may be off a plane that it lies
    on: 2 % where it is agreed (S, h, w), 1 % where a plane was carried on (S, h, w), and three
    times the error; 0 elsewhere.
    """
    share = torch.where(agreed, _ON_PLANE, 0.0)
    share = torch.where(carried_on, _SAME_AS_PLANE, share)
    return torch.minimum(share * depth, _TIMES_EXPECTED * expected)


def straightened(depth: Tensor, reach: Tensor, surfaces: Tensor) -> Tensor:
    """Depth (h, w), but that of the nearest of surfaces (P, h, w) of inverse depth where it is off
    by less than `reach` (h, w).
    """
    nearest = 1 / surfaces.gather(0, (surfaces * depth - 1).abs().min(0).indices[None])[0]
    return torch.where((nearest - depth).abs() < reach, nearest, depth)


def moved_planes(planes: Tensor, new_from_old: Sim3) -> Tensor:
    """Planes (P, 4) in another frame and unit."""
    normals = planes[:, :3].double() @ new_from_old.rotation.to(planes.device).T
    shift = normals @ new_from_old.translation.to(planes.device)
    offset = new_from_old.scale * planes[:, 3].double() - shift
    return torch.cat([normals, offset[:, None]], dim=1).to(planes.dtype)


def _on(planes: Tensor, points: Tensor, normals: Tensor, thickness: Tensor) -> Tensor:
    """Which points (N, 3) lie on which planes (P, 4), with normals that look about the same way:
    (P, N).
    """
    distance = (planes[:, :3] @ points.T + planes[:, 3:]).abs()
    return (distance < thickness) & ((planes[:, :3] @ normals.T).abs() > _SAME_SIDE)


def _fitted(points: Tensor, weight: Tensor) -> Tensor:
    """The plane (4,) with the least sum of squared distances to points (N, 3) of weights (N,)."""
    weight = weight[:, None]
    centre = (weight * points).sum(0) / weight.sum()
    off = points - centre
    normal = torch.linalg.eigh((off * weight).T @ off).eigenvectors[:, 0]
    return torch.cat([normal, -(normal @ centre)[None]])
