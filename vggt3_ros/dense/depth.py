"""Refined depth: how far every pixel of every keyframe is, how that is known, and how well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from vggt3_ros.dense.planes import moved_planes
from vggt3_ros.geometry.sim3 import Sim3


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """S keyframes of h x w pixels.

    depth (S, h, w) float32 along z in metres, 0 where nothing is known; provenance (S, h, w) uint8;
    agreeing (S, h, w) uint8: keyframes that agree; sigma (S, h, w) float32: expected error in
    metres. planes (P, 4) float64 in the world, on the CPU, largest first: unit normal, offset
    (normal . x + offset = 0); plane_shares (P,): of the pixels of all keyframes, those that others
    agree with and that lie on it.
    """

    depth: Tensor
    provenance: Tensor
    agreeing: Tensor
    sigma: Tensor
    planes: Tensor
    plane_shares: Tensor

    def __len__(self) -> int:
        return len(self.depth)

    def transformed(self, new_from_world: Sim3) -> DenseDepth:
        """The same in another frame and unit."""
        return replace(
            self,
            depth=new_from_world.scale * self.depth,
            sigma=new_from_world.scale * self.sigma,
            planes=moved_planes(self.planes, new_from_world),
        )
