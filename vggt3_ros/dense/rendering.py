"""What a camera should see of surfaces whose depth keyframes know: their nearest points, in each of
its pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.dense.cameras import homogeneous_pixels, mapping
from vggt3_ros.dense.neighbours import choose
from vggt3_ros.dense.windows import box_sum, smallest
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points

_SAMPLES = 16  # of a side of a keyframe, by which it is chosen
_CELLS = 8  # of a side of the image, which chosen keyframes are to cover
_MIN_DEPTH = 0.05  # of the median depth: what comes nearer to the camera is not rendered
_SAME_SURFACE = 0.03  # relative depth behind the nearest point of a pixel
# relative depth behind the nearest point of the pixels around, for what may be seen through a hole
_BEHIND = 0.1
_SUPPORTED = 4  # of the 3 x 3 pixels around, on the same surface, and no hole


class DepthRenderer:
    """Depth of S keyframes as a camera elsewhere sees it.

    depth (S, h, w) float32 along z, 0 where it is not known; intrinsics (S, 3, 3) of these pixels,
    whose centres lie at whole numbers; world_from_cam (S, 4, 4).
    """

    def __init__(self, depth: Tensor, intrinsics: Tensor, world_from_cam: Tensor) -> None:
        self._depth = depth
        self._intrinsics = intrinsics
        self._world_from_cam = world_from_cam
        rows, columns = (
            torch.linspace(0, size - 1, _SAMPLES).round().long() for size in depth.shape[1:]
        )
        self._size_hw = (depth.shape[1], depth.shape[2])
        pixels = homogeneous_pixels(self._size_hw, depth.double())[
            :, rows[:, None], columns
        ].flatten(1)
        rays = (torch.linalg.inv(intrinsics.double()) @ pixels).transpose(1, 2)
        in_cam = rays * depth[:, rows[:, None], columns].flatten(1)[..., None].double()
        self._samples = transform_points(world_from_cam.double(), in_cam)
        self._known = in_cam[..., 2] > 0

    def overlapping(
        self, intrinsics: Tensor, world_from_cam: Tensor, size_hw: tuple[int, int], count: int
    ) -> Tensor:
        """The keyframes (n,), `count` at most, that together show most of what a camera sees, from
        about where it is.

        intrinsics (3, 3), world_from_cam (4, 4) and size_hw are the camera's.
        """
        height, width = size_hw
        points = transform_points(se3_inverse(world_from_cam.double()), self._samples)
        pixels, z = project(points, intrinsics.double())
        pixels = pixels.nan_to_num(-1.0)
        limits = torch.tensor([width - 0.5, height - 0.5]).to(pixels)
        inside = self._known & (z > 0) & (pixels >= -0.5).all(-1) & (pixels < limits).all(-1)
        from_keyframe = self._samples - self._world_from_cam[:, None, :3, 3].double()
        from_camera = self._samples - world_from_cam[:3, 3].double()
        ratio = from_keyframe.norm(dim=-1) / from_camera.norm(dim=-1).clamp(min=1e-9)
        cosine = torch.nn.functional.cosine_similarity(from_keyframe, from_camera, dim=-1).clamp(
            min=0
        )
        alike = torch.where(
            inside, cosine.square() * torch.minimum(ratio, 1 / ratio.clamp(min=1e-9)), 0.0
        )
        cell = ((pixels + 0.5) / (limits + 0.5) * _CELLS).long().clamp(0, _CELLS - 1)
        worth = torch.zeros(
            len(self._depth), _CELLS * _CELLS, dtype=torch.float64, device=alike.device
        )
        worth.scatter_reduce_(1, cell[..., 1] * _CELLS + cell[..., 0], alike, "amax")
        chosen = torch.full((count,), -1, dtype=torch.int64)
        choose(chosen, worth)
        return chosen[chosen >= 0]

    def rendered(
        self, intrinsics: Tensor, world_from_cam: Tensor, size_hw: tuple[int, int], count: int
    ) -> Tensor:
        """Depth (*size_hw) along z that the camera sees of `count` keyframes, 0 where they show
        nothing.
        """
        which = self.overlapping(intrinsics, world_from_cam, size_hw, count)
        if len(which) == 0:
            return self._depth.new_zeros(size_hw)
        place, z = self._splats(which, intrinsics, world_from_cam, size_hw)
        pixels = size_hw[0] * size_hw[1]
        nearest = z.new_full((pixels,), torch.inf).scatter_reduce_(0, place, z, "amin")
        front = z < nearest[place] * (1 + _SAME_SURFACE)
        place = place[front]
        inverse = 1 / z[front]
        total = z.new_zeros(pixels).index_add_(0, place, inverse)
        number = z.new_zeros(pixels).index_add_(0, place, torch.ones_like(inverse))
        depth = torch.where(number > 0, number / total, 0.0).view(size_hw)
        return torch.where(_is_hole(depth), 0.0, depth)

    def _splats(
        self, which: Tensor, intrinsics: Tensor, world_from_cam: Tensor, size_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Pixel (N,) int64, row by row, and depth (N,) there of everything that keyframes `which`
        show in a camera.
        """
        height, width = size_hw
        all_intrinsics = torch.cat([self._intrinsics[which], intrinsics[None].to(self._intrinsics)])
        poses = torch.cat(
            [self._world_from_cam[which], world_from_cam[None].to(self._world_from_cam)]
        )
        camera = torch.full((len(which), 1), len(which))
        into = mapping(all_intrinsics, poses, torch.arange(len(which)), camera)
        depth = self._depth[which].flatten(1)
        rays = into.turn[:, 0] @ homogeneous_pixels(self._size_hw, depth).flatten(1)
        x, y, z = (depth[:, None] * rays + into.shift[:, 0, :, None]).unbind(1)
        least = _MIN_DEPTH * depth[depth > 0].median() if bool((depth > 0).any()) else 0.0
        column = (x / z).round()
        row = (y / z).round()
        inside = (
            (depth > 0)
            & (z > least)
            & (column >= 0)
            & (column < width)
            & (row >= 0)
            & (row < height)
        )
        return (row[inside] * width + column[inside]).long(), z[inside]


def _is_hole(depth: Tensor) -> Tensor:
    """Where depth (h, w) is seen through the gaps between the points of a nearer surface."""
    known = torch.where(depth > 0, depth, torch.inf)[None]
    behind = known > smallest(known, 1) * (1 + _BEHIND)
    alike = (behind & (known < torch.inf)).float()
    return (behind & (box_sum(alike, 1) < _SUPPORTED))[0]
