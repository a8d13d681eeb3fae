"""Which pixels of keyframes show a bare wall, and whether other keyframes see it there."""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.agreement import agreement
from vggt3_ros.dense.labels import mostly_confirmed, surface_labels, without_strips
from vggt3_ros.dense.planes import moved_planes, plane_inverse
from vggt3_ros.dense.views import Views
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3

_SAME_WALL = 0.02  # relative depth
_BEYOND = 1.5  # how much nearer and farther than the range of a keyframe walls may be


class WallSearch:
    """Depth of S keyframes, and the walls that some of their pixels show instead.

    neighbours (S, A): -1 for none; ranges (S, 2): inverse depths; depth (S, h, w), where it is
    agreed (S, h, w), and where it lies on a plane that is likely (S, h, w). Keyframes are labelled,
    then confirmed, some at a time.

    walls (S, h, w): depth of the wall that a pixel shows, 0 for none; with_walls (S, h, w): depth,
    but that of the wall where it is not agreed.
    """

    def __init__(
        self,
        views: Views,
        neighbours: Tensor,
        ranges: Tensor,
        depth: Tensor,
        agreed: Tensor,
        likely: Tensor,
    ) -> None:
        self._views = views
        self._half = views.halved()
        self._neighbours = neighbours
        self._ranges = ranges
        self._depth = depth
        self._agreed = agreed
        self._likely = likely
        self._label = torch.zeros_like(depth, dtype=torch.int64)  # 0 where agreed
        self._confirmed = torch.zeros_like(agreed)
        self._known = agreed.clone()
        self.walls = torch.zeros_like(depth)
        self.with_walls = depth.clone()

    def label(self, batch: Tensor, planes: Tensor, views: int) -> None:
        """Which of planes (P, 4) in the world each pixel shows, told by so many neighbours."""
        surfaces = torch.stack([inverse_in_view(planes, self._views, i) for i in batch.tolist()])
        least, most = self._ranges[batch].T[..., None, None, None]
        inside = (surfaces > least / _BEYOND) & (surfaces < most * _BEYOND)
        surfaces = torch.where(inside, surfaces, 0.0)
        matching = self._half.matching(batch, self._neighbours[batch, :views])
        agreed = self._agreed[batch]
        best = surface_labels(
            matching, 1 / self._depth[batch], agreed, self._likely[batch], surfaces
        )
        chosen = surfaces.gather(1, (best - 1).clamp(min=0)[:, None])[:, 0]
        shown = (best > 0) & (chosen > 0)
        self.walls[batch] = torch.where(shown, 1 / chosen, 0.0)
        self._label[batch] = torch.where(shown & ~agreed, best, 0)
        is_wall = self._label[batch] > 0
        self.with_walls[batch] = torch.where(is_wall, self.walls[batch], self._depth[batch])
        self._known[batch] = is_wall | agreed

    def confirm(self, batch: Tensor) -> None:
        """Whether another keyframe has the wall there too, and no more see through it."""
        said = agreement(
            self._views,
            batch,
            self._neighbours[batch],
            self.with_walls[batch],
            self.with_walls,
            self._known,
            _SAME_WALL,
            0.0,
        )
        seen = (said.agreeing > 0) & (said.through <= said.agreeing)
        self._confirmed[batch] = seen & (self._label[batch] > 0)

    def mostly_confirmed(self) -> Tensor:
        """Confirmed pixels (S, h, w) of the walls of which most are, and many."""
        return self._confirmed & mostly_confirmed(self._label, self._confirmed)

    def without_strips(self, batch: Tensor, taken: Tensor) -> Tensor:
        """What is taken (B, h, w) but for strips, unless beside agreed pixels of a wall."""
        off = (self.walls[batch] / self._depth[batch] - 1).abs()
        return without_strips(taken, self._agreed[batch] & (off < _SAME_WALL))


def inverse_in_view(planes: Tensor, views: Views, index: int) -> Tensor:
    """Inverse depth (P, h, w) in a keyframe of planes (P, 4) in the world."""
    cam_from_world = se3_inverse(views.world_from_cam[index].double().cpu())
    own = moved_planes(planes, Sim3(1.0, cam_from_world[:3, :3], cam_from_world[:3, 3]))
    return plane_inverse(own.to(views.grey), views.intrinsics[index], views.size_hw)
