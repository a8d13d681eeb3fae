"""What the network says of a set of frames, and what it keeps of a mapped scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from vggt3_ros.errors import SceneError
from vggt3_ros.geometry.camera import decode_camera, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.model.fast_weights import FastWeights


@dataclass(frozen=True, eq=False)
class Prediction:
    """Cameras, depth and points of S frames of H x W pixels; lengths in scene units, world = first map camera.

    The point head's `pointmap` is None in networks without one; `pointmap_from_depth` is always there.
    """

    pose_encoding: Tensor  # (S, 9): translation, quaternion x y z w, vertical and horizontal field of view
    depth: Tensor  # (S, H, W) along z
    depth_confidence: Tensor  # (S, H, W), at least 1
    pointmap: Tensor | None  # (S, H, W, 3), world frame
    pointmap_confidence: Tensor | None  # (S, H, W), at least 1

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.depth.shape[-2], self.depth.shape[-1]

    @property
    def cam_from_world(self) -> Tensor:
        """Extrinsics (S, 3, 4), OpenCV axes."""
        return decode_camera(self.pose_encoding, self.size_hw)[0]

    @property
    def world_from_cam(self) -> Tensor:
        """Camera poses (S, 4, 4)."""
        return se3_inverse(self.cam_from_world)

    @property
    def intrinsics(self) -> Tensor:
        """Intrinsics (S, 3, 3) in pixels of the network's input, principal point at its centre."""
        return decode_camera(self.pose_encoding, self.size_hw)[1]

    @property
    def pointmap_from_depth(self) -> Tensor:
        """World points (S, H, W, 3) from depth and camera, in double inside; pixels are at integers (no half)."""
        cam_points = unproject(self.depth.double(), self.intrinsics.double()).to(self.depth.dtype)
        world = transform_points(self.world_from_cam.double(), cam_points.double().flatten(1, 2))
        return world.to(self.depth.dtype).view_as(cam_points)

    def to(self, device: torch.device | str) -> Prediction:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in moved.items() if t is not None})


@dataclass(frozen=True, eq=False)
class QueriedCameras:
    """Cameras (as in Prediction) of queried images; their depth and points cost as much again, if they are wanted."""

    pose_encoding: Tensor
    size_hw: tuple[int, int]
    decode: Callable[[], Prediction]


@dataclass(frozen=True, eq=False)
class SceneMemory:
    """The scene MLP: fast weights of every global layer, and the map frames' camera tokens (S, 2C). fp32."""

    fast_weights: tuple[FastWeights, ...]
    camera_tokens: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for storage."""
        named = {f"global.{i}.{n}": t for i, w in enumerate(self.fast_weights) for n, t in w._asdict().items()}
        return {**named, "camera_tokens": self.camera_tokens}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> SceneMemory:
        """Inverse of `tensors`. Raises SceneError when one is missing."""
        layers = sum(name.endswith(".w0") for name in tensors)
        try:
            weights = tuple(
                FastWeights(*(tensors[f"global.{i}.{name}"] for name in FastWeights._fields)) for i in range(layers)
            )
            return SceneMemory(weights, tensors["camera_tokens"])
        except KeyError as error:
            raise SceneError(f"the scene's memory lacks {error}; it holds {sorted(tensors)}") from error

    def to(self, device: torch.device | str) -> SceneMemory:
        """The same on another device."""
        return SceneMemory.from_tensors({name: tensor.to(device) for name, tensor in self.tensors().items()})

    @property
    def nbytes(self) -> int:
        """Size in bytes; grows with the number of frames only by their camera tokens."""
        return sum(tensor.nbytes for tensor in self.tensors().values())
