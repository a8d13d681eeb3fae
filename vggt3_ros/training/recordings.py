"""Posed RGB-D sequences as training data: windows of views that see the same surfaces.

Which frames see the same follows from their depth and poses, since neither nearness nor order in
time implies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.training.scenes import Views

# fraction of either view's surface that the other one has to see, too (published recipe)
OVERLAP = 0.2
# distance between views, in units of _REACH x distance to the surface
_MIN_DISTANCE = 0.10
_NARROW = 0.15
_WIDE = 0.45
_REACH = 0.7
_AROUND = 1.5  # views within 1.5 b of their anchor along a path have a median distance of about b
_OCCLUSION = 0.05  # relative depth difference above which a point counts as hidden
_GRID = 24  # rows and columns of pixels that overlap is measured on
# of its points, how many steps further is the next one that is tried on the poses of all frames
_THIN = 4
_MIN_KNOWN = 0.2  # fraction of pixels with depth that an anchor needs
_ANCHORS = 8  # frames tried as the middle of a window
_READ = 4  # frames read for every view wanted, at most
_THREADS = 8

Picture = tuple[np.ndarray, np.ndarray]
"""Image (H, W, 3) uint8 RGB and z-depth (H, W) float32 in metres, 0 where unknown."""


@dataclass(frozen=True, eq=False)
class Recording:
    """N images of one camera with true poses and depth; `read` is called when a frame is needed,
    from any thread.
    """

    name: str
    world_from_cam: Tensor  # (N, 4, 4) float64 metres
    intrinsics: Tensor  # (3, 3) float64 pixels
    read: Callable[[int], Picture]

    def surface(self, index: int, depth: np.ndarray) -> Tensor:
        """Points (K, 3) in the world, K up to _GRID^2, of a frame with this depth."""
        height, width = depth.shape
        rows = ((torch.arange(_GRID) + 0.5) * height / _GRID).long()
        columns = ((torch.arange(_GRID) + 0.5) * width / _GRID).long()
        sparse = torch.from_numpy(depth)[rows[:, None], columns].double()
        y, x = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
        rays = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.linalg.inv(self.intrinsics).T
        return transform_points(self.world_from_cam[index], (rays * sparse[..., None])[sparse > 0])

    def sees(self, index: int, depth: np.ndarray, points: Tensor) -> float:
        """Fraction of points (K, 3) in the world that a frame with this depth shows; 0 without
        points.
        """
        pixels, z = project(
            transform_points(se3_inverse(self.world_from_cam[index]), points), self.intrinsics
        )
        inside = _inside(pixels, z, depth.shape)
        x, y = pixels[inside].round().long().unbind(-1)
        there = torch.from_numpy(depth)[y, x]
        visible = (there > 0) & ((z[inside] - there).abs() < _OCCLUSION * there)
        return float(visible.sum()) / max(1, len(points))


def draw_window(recording: Recording, views: int, span: float, generator: torch.Generator) -> Views:
    """`views` frames in random order, each of which overlaps with one of them, the anchor.

    They stand around it within 1.5 x a distance that is drawn from 0.10 to 0.15 (span 0) or 0.45
    (span 1) times 0.7 x the median depth of the anchor; where too few do, the next nearest are
    taken, and where too few overlap, some twice. The generator lives on the CPU. Raises InputError
    where no frame overlaps with another one.
    """
    best: dict[int, Picture] = {}
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in range(_ANCHORS):
            anchor = int(torch.randint(len(recording.world_from_cam), (1,), generator=generator))
            found = _around(recording, anchor, views, span, generator, threads)
            if len(found) > len(best):
                best = found
            if len(best) == views:
                break
    if len(best) < 2:
        raise InputError(
            f"{recording.name}: none of {_ANCHORS} frames tried shares {OVERLAP:.0%} of its surface"
            " with another; check that poses and depth belong together, or leave the folder out"
        )
    chosen = list(best)
    order = torch.randperm(views, generator=generator).tolist()
    picked = [chosen[i % len(chosen)] for i in order]
    images = torch.stack([torch.from_numpy(best[i][0]) for i in picked]).movedim(-1, 1)
    depth = torch.stack([torch.from_numpy(best[i][1]) for i in picked])
    return Views(
        images,
        depth,
        recording.world_from_cam[picked].float(),
        recording.intrinsics.float(),
        synthetic=False,
    )


def _around(
    recording: Recording,
    anchor: int,
    views: int,
    span: float,
    generator: torch.Generator,
    threads: ThreadPoolExecutor,
) -> dict[int, Picture]:
    """Up to `views` frames with their pictures: the anchor, and what overlaps with it; none where
    it shows too little.

    Poses and the anchor's depth tell which frames may overlap; those are read in random order, and
    their own depth decides whether they do.
    """
    found = {anchor: recording.read(anchor)}
    depth = found[anchor][1]
    points = recording.surface(anchor, depth)
    if len(points) < _MIN_KNOWN * _GRID**2:
        return {}
    longest = _NARROW * (_WIDE / _NARROW) ** span
    ratio = (
        math.exp(math.log(longest / _MIN_DISTANCE) * float(torch.rand(1, generator=generator)))
        * _MIN_DISTANCE
    )
    reach = _AROUND * ratio * _REACH * float(np.median(depth[depth > 0]))
    candidates = _candidates(recording, anchor, points, reach, depth.shape, generator)
    candidates = candidates[: _READ * views]
    while candidates and len(found) < views:
        wanted = views - len(found)
        some = candidates[:wanted]
        candidates = candidates[wanted:]
        for index, picture in zip(some, threads.map(recording.read, some), strict=True):
            there = recording.surface(index, picture[1])
            shared = (
                recording.sees(index, picture[1], points),
                recording.sees(anchor, depth, there),
            )
            if min(shared) >= OVERLAP:
                found[index] = picture
    return found


def _candidates(
    recording: Recording,
    anchor: int,
    points: Tensor,
    reach: float,
    size_hw: tuple[int, ...],
    generator: torch.Generator,
) -> list[int]:
    """Frames whose images, by their poses, hold enough of the anchor's points.

    Those within `reach` metres of it come first, in random order, then the others, nearest first.
    """
    in_cams = transform_points(se3_inverse(recording.world_from_cam), points[::_THIN])
    pixels, z = project(in_cams, recording.intrinsics)
    overlaps = _inside(pixels, z, size_hw).double().mean(-1) >= OVERLAP
    overlaps[anchor] = False
    indices = overlaps.nonzero().flatten()
    centres = recording.world_from_cam[:, :3, 3]
    distance = torch.linalg.vector_norm(centres[indices] - centres[anchor], dim=-1)
    rank = torch.where(
        distance <= reach, -torch.rand(len(indices), generator=generator).double(), distance
    )
    return indices[rank.argsort()].tolist()


def _inside(pixels: Tensor, z: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    """Which pixels (..., 2) of points at depth z (...) are in an image of that size."""
    x, y = pixels.unbind(-1)
    return (z > 1e-3) & (x >= 0) & (y >= 0) & (x <= size_hw[1] - 1) & (y <= size_hw[0] - 1)
