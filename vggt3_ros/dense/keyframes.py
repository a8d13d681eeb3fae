"""What refinement starts from: images with known cameras, a predicted depth of each, and points
they observe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggt3_ros.dense.resize import MIN_SIDE
from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import check_pose
from vggt3_ros.geometry.sim3 import Sim3


@dataclass(frozen=True, eq=False)
class Keyframes:
    """S keyframes at the size that is matched, all tensors on one device.

    images (S, 3, h, w) float32 in [0, 1], lens distortion undone; intrinsics (S, 3, 3) in their
    pixels, whose centres lie at whole numbers; world_from_cam (S, 4, 4), metres. predicted (S, h,
    w) float32: depth along z in metres as the network has it, roughly scaled; what is not finite or
    not above 0 is unknown.

    points (P, 3): landmarks in the world, metres. observed (M,), observed_from (M,) int64: landmark
    and keyframe of every observation.
    """

    images: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor
    predicted: Tensor
    points: Tensor
    observed: Tensor
    observed_from: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.shape[1] != 3:
            raise InputError(
                f"keyframes: images must be (S, 3, h, w), got {tuple(self.images.shape)}"
            )
        count, _, height, width = self.images.shape
        expected = {
            "intrinsics": (count, 3, 3),
            "world_from_cam": (count, 4, 4),
            "predicted": (count, height, width),
            "points": (len(self.points), 3),
            "observed": (len(self.observed),),
            "observed_from": (len(self.observed),),
        }
        for name, shape in expected.items():
            given = tuple(getattr(self, name).shape)
            if given != shape:
                raise InputError(
                    f"keyframes: {name} must be {shape} as the images are, got {given}"
                )
        if min(height, width) < MIN_SIDE:
            least = f"{MIN_SIDE} x {MIN_SIDE}"
            raise InputError(
                f"keyframes: images of {height} x {width} pixels are too small; give at least"
                f" {least}"
            )
        if not self.images.dtype.is_floating_point:
            raise InputError(
                f"keyframes: images must be floating point in [0, 1], got {self.images.dtype}"
            )
        for name in ("images", "intrinsics", "points"):
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise InputError(
                    f"keyframes: {name} contain NaN or infinity; leave such values out"
                )
        for index, pose in enumerate(self.world_from_cam.cpu()):
            check_pose(pose, f"keyframe {index}")
        for name, numbers, limit in (
            ("observed", self.observed, len(self.points)),
            ("from", self.observed_from, count),
        ):
            if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < limit:
                raise InputError(
                    f"keyframes: observations ({name}) name what does not exist; expected 0 to"
                    f" {limit - 1}"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[2], self.images.shape[3]

    def transformed(self, new_from_world: Sim3) -> Keyframes:
        """The same in another frame and unit."""
        return replace(
            self,
            world_from_cam=new_from_world.poses(self.world_from_cam),
            predicted=new_from_world.scale * self.predicted,
            points=new_from_world.points(self.points),
        )
