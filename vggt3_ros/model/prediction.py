"""What the network says of a set of frames, and what it keeps of a mapped scene."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from vggt3_ros.errors import SceneError, Vggt3Error
from vggt3_ros.geometry.camera import decode_camera, unproject
from vggt3_ros.geometry.se3 import se3_inverse, transform_points
from vggt3_ros.model.anchors import AnchorKeys
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.ranks import Ranks

_STORED_NAME = re.compile(r"global\.(?P<layer>\d+)\.(?P<part>\w+)")
_MIN_VIEW = math.radians(1)
_MAX_VIEW = math.radians(170)


@dataclass(frozen=True, eq=False)
class PredictedCameras:
    """Cameras of S frames in double, so that poses are rigid to 1e-15.

    cam_from_world (S, 3, 4) in scene units, OpenCV axes. intrinsics (S, 3, 3) in pixels of the
    network's input, with the principal point at its centre.
    """

    cam_from_world: Tensor
    intrinsics: Tensor

    @staticmethod
    def decoded(pose_encoding: Tensor, size_hw: tuple[int, int]) -> PredictedCameras:
        """From the camera head's finite numbers (S, 9) for images of this size.

        Fields of view are limited to 1 to 170 degrees: a network may say 0, which no camera has.
        """
        encoding = pose_encoding.double().clone()
        encoding[:, 7:] = encoding[:, 7:].clamp(_MIN_VIEW, _MAX_VIEW)
        return PredictedCameras(*decode_camera(encoding, size_hw))

    @cached_property
    def world_from_cam(self) -> Tensor:
        """Camera poses (S, 4, 4)."""
        return se3_inverse(self.cam_from_world)

    def points(self, depth: Tensor) -> Tensor:
        """World points (S, H, W, 3) of depth (S, H, W) along z, in double inside; pixels are at
        integers (no half).
        """
        in_cam = unproject(depth.double(), self.intrinsics).to(depth.dtype)
        world = transform_points(self.world_from_cam, in_cam.double().flatten(1, 2))
        return world.to(depth.dtype).view_as(in_cam)

    def __getitem__(self, frames: slice) -> PredictedCameras:
        return PredictedCameras(self.cam_from_world[frames], self.intrinsics[frames])


@dataclass(frozen=True, eq=False)
class Prediction:
    """Cameras, depth and points of S frames of H x W pixels; lengths in scene units, world = first
    map camera.

    The point head's `pointmap` is None in networks without one; `cameras.points(depth)` are always
    to be had.
    """

    # (S, 9): translation, quaternion x y z w, vertical and horizontal field of view
    pose_encoding: Tensor
    depth: Tensor  # (S, H, W) along z
    depth_confidence: Tensor  # (S, H, W), at least 1
    pointmap: Tensor | None = None  # (S, H, W, 3), world frame
    pointmap_confidence: Tensor | None = None  # (S, H, W), at least 1

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.depth.shape[-2], self.depth.shape[-1]

    @cached_property
    def cameras(self) -> PredictedCameras:
        """The cameras, decoded; the pose encoding must be finite."""
        return PredictedCameras.decoded(self.pose_encoding, self.size_hw)

    def require_finite_cameras(self) -> None:
        """Raise Vggt3Error for cameras that hold NaN or infinity."""
        if not bool(self.pose_encoding.isfinite().all()):
            raise Vggt3Error(
                "the network returned poses that are not finite: its weights are damaged or the"
                " precision is too low; try another checkpoint or fp32"
            )

    def to(self, device: torch.device | str) -> Prediction:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in moved.items() if t is not None})

    def __getitem__(self, frames: slice | Tensor) -> Prediction:
        """That of some frames, in this order."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: t[frames] for name, t in given.items() if t is not None})

    @staticmethod
    def joined(parts: Sequence[Prediction]) -> Prediction:
        """That of the frames of all parts, one after the other; the parts are of one network."""
        whole = {}
        for f in fields(parts[0]):
            if getattr(parts[0], f.name) is not None:
                whole[f.name] = torch.cat([getattr(part, f.name) for part in parts])
        return Prediction(**whole)

    def collected(self, ranks: Ranks, frames: int) -> Prediction:
        """That of all `frames` at the first of several processes, each of which has that of its
        share on the CPU; the others keep theirs.
        """
        shares = {f.name: getattr(self, f.name) for f in fields(self)}
        whole = {n: ranks.collect(t, frames) for n, t in shares.items() if t is not None}
        return replace(self, **whole)


@dataclass(frozen=True, eq=False)
class UndecodedPrediction:
    """A prediction of S frames whose depth and points are decoded when they are wanted; they cost
    as much again.
    """

    pose_encoding: Tensor  # (S, 9), as in Prediction
    size_hw: tuple[int, int]  # height and width in pixels
    decode: Callable[[], Prediction]

    @cached_property
    def cameras(self) -> PredictedCameras:
        """The cameras, decoded; the pose encoding must be finite."""
        return PredictedCameras.decoded(self.pose_encoding, self.size_hw)


@dataclass(frozen=True, eq=False)
class LayerMemory:
    """What a global layer keeps of a scene: fast weights (fp32), keys and values of anchors (fp16),
    either, or both.
    """

    fast_weights: FastWeights | None = None
    anchors: AnchorKeys | None = None

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors."""
        parts = [part._asdict() for part in (self.fast_weights, self.anchors) if part is not None]
        return {name: tensor for part in parts for name, tensor in part.items()}

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """By name the sizes that a network determines: of fast weights all, of anchors heads and
        width.
        """
        sizes = {name: tuple(tensor.shape[-3:]) for name, tensor in self.tensors().items()}
        for name in AnchorKeys._fields:
            if name in sizes:
                heads, _, width = sizes[name]
                sizes[name] = heads, width
        return sizes

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> LayerMemory:
        """Inverse of `tensors`. Raises KeyError when one is missing."""
        fast_weights = anchors = None
        if tensors.keys() & set(FastWeights._fields):
            fast_weights = FastWeights(*(tensors[name] for name in FastWeights._fields))
        if tensors.keys() & set(AnchorKeys._fields):
            anchors = AnchorKeys(*(tensors[name] for name in AnchorKeys._fields))
        return LayerMemory(fast_weights, anchors)


@dataclass(frozen=True, eq=False)
class SceneMemory:
    """The scene as a network knows it: what each global layer keeps of it, by layer, where that is
    anything; and the camera tokens (K, 2C) in fp32 of the map frames that the camera head attends
    to (anchors.choose_anchors).
    """

    layers: dict[int, LayerMemory]
    camera_tokens: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for storage."""
        named = {}
        for layer, memory in self.layers.items():
            for name, tensor in memory.tensors().items():
                named[f"global.{layer}.{name}"] = tensor
        return {**named, "camera_tokens": self.camera_tokens}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> SceneMemory:
        """Inverse of `tensors`. Raises SceneError when one is missing."""
        by_layer: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            stored = _STORED_NAME.fullmatch(name)
            if stored:
                by_layer.setdefault(int(stored["layer"]), {})[stored["part"]] = tensor
        layer = None
        try:
            layers = {}
            for layer, parts in sorted(by_layer.items()):
                layers[layer] = LayerMemory.from_tensors(parts)
            layer = None
            return SceneMemory(layers, tensors["camera_tokens"])
        except KeyError as error:
            name = error.args[0] if layer is None else f"global.{layer}.{error.args[0]}"
            raise SceneError(
                f"the scene's memory lacks {name!r}; it holds {sorted(tensors)}"
            ) from error

    def to(self, device: torch.device | str) -> SceneMemory:
        """The same on another device."""
        return SceneMemory.from_tensors(
            {name: tensor.to(device) for name, tensor in self.tensors().items()}
        )

    @property
    def nbytes(self) -> int:
        """Size in bytes; it no longer grows when there are as many frames as anchors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())
