"""Which queries can be answered at all: how much of a query's view the map frames saw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.geometry.camera import project, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.pipeline.undistort import undistorted

ANSWERABLE_FRACTION = 0.3  # of a query's view
_VIEWS = 2  # map frames that must see a surface, as triangulation needs them
_GRID = (18, 24)  # pixels sampled of a query, rows and columns
_SAME_DEPTH = 0.05  # relative difference up to which two cameras see the same surface
# local features bear no greater change of the viewing direction
_COS_ANGLE = math.cos(math.radians(45))


@dataclass(frozen=True, eq=False)
class View:
    """A camera without lens distortion and what it sees: pose (4, 4), intrinsics (3, 3), z-depth
    (H, W) in metres.
    """

    world_from_cam: Tensor
    intrinsics: Tensor
    depth: Tensor


def query_coverage(
    sequence: Sequence, map_indices: Items[int], query_indices: Items[int]
) -> list[float | None]:
    """Fraction (0 to 1) of each query's view that the map covers; None where the query has no true
    depth.

    Of a grid of pixels of known depth, those count whose surface two map frames or more see too,
    from directions that differ by less than 45 degrees.
    """
    queries = [view_of(sequence, index) for index in query_indices]
    known = [query for query in queries if query is not None]
    if not known:
        return [None] * len(queries)
    map_views = (view for index in map_indices if (view := view_of(sequence, index)) is not None)
    fractions = iter(coverage(known, map_views))
    return [None if query is None else next(fractions) for query in queries]


def coverage(queries: Items[View], map_views: Iterable[View]) -> list[float]:
    """The fractions of `query_coverage` for views."""
    points, counts = zip(*(_samples(query) for query in queries), strict=True)
    surface = torch.cat(points)  # (N, 3) world
    centres = torch.stack([query.world_from_cam[:3, 3] for query in queries])
    origin = centres.repeat_interleave(torch.tensor(counts), dim=0)
    seen = torch.zeros(len(surface), dtype=torch.long)
    for view in map_views:
        seen += _sees(view, surface, origin)
    return [
        float(part.double().mean()) if len(part) else 0.0
        for part in (seen >= _VIEWS).split(list(counts))
    ]


def view_of(sequence: Sequence, index: int) -> View | None:
    """Frame `index` of a sequence with its true depth (0 where unknown), None without."""
    frame = undistorted(sequence.frame(index, with_depth=True))
    if frame.depth is None or frame.intrinsics is None:
        return None
    depth = torch.from_numpy(frame.depth).double().nan_to_num(0.0, 0.0, 0.0)
    return View(sequence.world_from_cam[index], frame.intrinsics, depth)


def _samples(view: View) -> tuple[Tensor, int]:
    """World points (n, 3) at the pixels of a grid whose depth is known, and n."""
    height, width = view.depth.shape
    rows = ((torch.arange(_GRID[0]) + 0.5) / _GRID[0] * height).long()
    columns = ((torch.arange(_GRID[1]) + 0.5) / _GRID[1] * width).long()
    in_cam = unproject(view.depth, view.intrinsics)[rows[:, None], columns].reshape(-1, 3)
    in_cam = in_cam[in_cam[:, 2] > 0]
    return transform_points(view.world_from_cam, in_cam), len(in_cam)


def shows(view: View, surface: Tensor, tolerance: float) -> Tensor:
    """Whether (N,) a view shows points (N, 3) of a surface: at the nearest pixel, the depth is
    theirs up to a relative tolerance.
    """
    height, width = view.depth.shape
    pixels, z = project(
        transform_points(se3_inverse(view.world_from_cam), surface), view.intrinsics
    )
    column, row = pixels.nan_to_num(-1.0, -1.0, -1.0).round().unbind(-1)
    inside = (z > 0.01) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    there = view.depth[row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
    return inside & ((there - z).abs() < tolerance * z)


def _sees(view: View, surface: Tensor, origin: Tensor) -> Tensor:
    """Whether (N,) a view sees points (N, 3) of a surface much as they are seen from `origin` (N,
    3).
    """
    cosine = torch.nn.functional.cosine_similarity(
        surface - origin, surface - view.world_from_cam[:3, 3], dim=-1
    )
    return shows(view, surface, _SAME_DEPTH) & (cosine > _COS_ANGLE)
