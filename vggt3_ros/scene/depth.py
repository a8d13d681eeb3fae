"""Depth of a scene's keyframes, and the arrays it is stored as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError

_STEPS = 65535  # of 16 bits, from nothing to the farthest depth


@dataclass(frozen=True, eq=False)
class KeyframeDepth:
    """Depth of the S keyframes of a scene, h x w pixels each, in the unit of the map frame: metres
    if that is metric.

    depth (S, h, w) float32 along z, 0 where it is not known; provenance (S, h, w) uint8, numbers of
    geometry.provenance; intrinsics (S, 3, 3) float64 of these pixels, undistorted, pixel centres at
    whole numbers; world_from_cam (S, 4, 4) float64, in the map frame; images (S, 3, h, w) uint8 RGB
    of these pixels, or None. Raises InputError when a shape or type differs, a number is not finite
    or a depth is negative.
    """

    depth: Tensor
    provenance: Tensor
    intrinsics: Tensor
    world_from_cam: Tensor
    images: Tensor | None = None

    def __post_init__(self) -> None:
        if self.depth.ndim != 3:
            raise InputError(f"depth of keyframes must be (S, h, w), got {tuple(self.depth.shape)}")
        count, height, width = self.depth.shape
        expected: dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]] = {
            "depth": (self.depth, (count, height, width), torch.float32),
            "provenance": (self.provenance, (count, height, width), torch.uint8),
            "intrinsics": (self.intrinsics, (count, 3, 3), torch.float64),
            "world_from_cam": (self.world_from_cam, (count, 4, 4), torch.float64),
        }
        if self.images is not None:
            expected["images"] = (self.images, (count, 3, height, width), torch.uint8)
        for name, (value, shape, kind) in expected.items():
            if tuple(value.shape) != shape or value.dtype != kind:
                got = f"{tuple(value.shape)} {value.dtype}"
                raise InputError(f"depth of keyframes: {name} must be {shape} {kind}, got {got}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"depth of keyframes: {name} contains NaN or infinity; leave that keyframe out"
                )
        if bool((self.depth < 0).any()):
            raise InputError(
                "depth of keyframes is negative somewhere; put 0 where nothing is known"
            )

    def __len__(self) -> int:
        return len(self.depth)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays, without making them."""
        kept = (
            self.provenance,
            self.intrinsics,
            self.world_from_cam,
            *(() if self.images is None else (self.images,)),
        )
        step = 8
        return 2 * self.depth.numel() + step + sum(int(tensor.nbytes) for tensor in kept)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, as a scene stores them: depth as uint16 in steps of `step`, so that the
        farthest is 65535.
        """
        depth = self.depth.cpu().numpy()
        step = float(depth.max(initial=0.0)) / _STEPS or 1.0
        steps = np.round(depth / step).clip(1, _STEPS)
        arrays = {
            "depth": np.where(depth > 0, steps, 0).astype(np.uint16),
            "step": np.array([step]),
            "provenance": self.provenance.cpu().numpy(),
            "intrinsics": self.intrinsics.cpu().numpy(),
            "world_from_cam": self.world_from_cam.cpu().numpy(),
        }
        if self.images is not None:
            arrays["images"] = self.images.cpu().numpy()
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]]) -> KeyframeDepth:
        """Inverse of `arrays`, to half a step. Raises InputError for missing or contradicting
        ones.
        """
        missing = sorted(
            {"depth", "step", "provenance", "intrinsics", "world_from_cam"} - set(arrays)
        )
        if missing:
            raise InputError(f"depth of keyframes lacks {', '.join(missing)}; map the place again")
        if (
            arrays["depth"].dtype != np.uint16
            or arrays["step"].shape != (1,)
            or not 0 < arrays["step"][0] < np.inf
        ):
            got = f"{arrays['depth'].dtype}, {arrays['step']}"
            raise InputError(f"depth of keyframes must be uint16 in a step above 0, got {got}")
        depth = (arrays["depth"] * float(arrays["step"][0])).astype(np.float32)
        return KeyframeDepth(
            depth=torch.from_numpy(depth),
            provenance=torch.from_numpy(arrays["provenance"].copy()),
            intrinsics=torch.from_numpy(arrays["intrinsics"].copy()),
            world_from_cam=torch.from_numpy(arrays["world_from_cam"].copy()),
            images=torch.from_numpy(arrays["images"].copy()) if "images" in arrays else None,
        )
