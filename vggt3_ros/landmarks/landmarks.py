"""The landmarks of a scene: what every proposed pose is verified and refined against."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.arrays import Floats, Mask
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.landmarks.tensors import (
    to_array,
    to_tensor,
    transformed_points,
    transformed_poses,
)

_MAX_HALF = 6e4


@dataclass(frozen=True, eq=False)
class Landmarks:
    """N landmarks seen O times from K keyframes, in the map frame (metres if the scene is metric).

    Keyframes, in the order of the scene's: world_from_cam (K, 4, 4) float64 adjusted poses, OpenCV
    camera axes; pose_covariance (K, 6, 6) float32 of (position in the world, rotation in the camera
    frame in rad); intrinsics (K, 3, 3) float64 in pixels of the whole image without lens
    distortion; keyframe_descriptors (K, D) int8, for retrieval.

    Landmarks: positions (N, 3) float32; covariance_roots (N, 3, 3) float16, lower triangular L with
    covariance L L^T; descriptors (N, 128) uint8 of unit length times 512; repeated (N,) bool: a
    keyframe saw a copy of it elsewhere.

    Observations, sorted by keyframe: observed_from (O,) int32 keyframe; observed (O,) int32
    landmark; pixels (O, 2) float32 x y, pixel centres at whole numbers, lens distortion undone.

    vocabulary (W, 128) float32: what keyframe_descriptors are made with. noise_px: robust standard
    deviation of a reprojection, per axis, as the map was adjusted.
    """

    world_from_cam: Floats
    pose_covariance: NDArray[np.float32]
    intrinsics: Floats
    keyframe_descriptors: NDArray[np.int8]
    positions: NDArray[np.float32]
    covariance_roots: NDArray[np.float16]
    descriptors: NDArray[np.uint8]
    repeated: Mask
    observed_from: NDArray[np.int32]
    observed: NDArray[np.int32]
    pixels: NDArray[np.float32]
    vocabulary: NDArray[np.float32]
    noise_px: float

    def __post_init__(self) -> None:
        k = len(self.world_from_cam)
        n = len(self.positions)
        o = len(self.observed)
        expected = {
            "world_from_cam": (k, 4, 4),
            "pose_covariance": (k, 6, 6),
            "intrinsics": (k, 3, 3),
            "keyframe_descriptors": (k, self.keyframe_descriptors.shape[-1]),
            "positions": (n, 3),
            "covariance_roots": (n, 3, 3),
            "descriptors": (n, self.descriptors.shape[-1]),
            "repeated": (n,),
            "observed_from": (o,),
            "observed": (o,),
            "pixels": (o, 2),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise InputError(f"landmarks: {name} must be {shape}, got {value.shape}")
            if not np.isfinite(value).all():
                raise InputError(f"landmarks: {name} contains NaN or infinity")
        if o and (
            self.observed.min() < 0 or self.observed.max() >= n or self.observed_from.max() >= k
        ):
            raise InputError(
                "landmarks: an observation names a landmark or keyframe that does not exist"
            )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, about those of the file."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    @property
    def usual_distance(self) -> float:
        """Median distance from which keyframes see landmarks."""
        cameras = self.world_from_cam[self.observed_from, :3, 3]
        return float(np.median(np.linalg.norm(self.positions[self.observed] - cameras, axis=1)))

    def seen_from(self, keyframe: int) -> NDArray[np.int32]:
        """Landmarks observed from a keyframe."""
        first, last = np.searchsorted(self.observed_from, [keyframe, keyframe + 1])
        return self.observed[first:last]

    def transformed(self, new_from_world: Sim3) -> Landmarks:
        """The same landmarks in another frame and scale."""
        scale = new_from_world.scale
        rotation = to_array(new_from_world.rotation)
        jacobian = np.eye(6)
        jacobian[:3, :3] = scale * rotation
        roots = scale * rotation @ self.covariance_roots.astype(np.float64)
        return replace(
            self,
            world_from_cam=transformed_poses(new_from_world, self.world_from_cam),
            pose_covariance=(jacobian @ self.pose_covariance @ jacobian.T).astype(np.float32),
            positions=transformed_points(new_from_world, self.positions),
            covariance_roots=lower_roots(roots @ roots.swapaxes(-1, -2)),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors, as a scene stores them."""
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        return {name: to_tensor(array.copy()) for name, array in arrays.items()}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> Landmarks:
        """Inverse of `tensors`. Raises InputError for missing or contradicting ones."""
        names = [field.name for field in fields(Landmarks)]
        missing = sorted(set(names) - set(tensors))
        if missing:
            raise InputError(f"landmarks lack {', '.join(missing)}; map the place again")
        arrays: dict[str, Any] = {name: to_array(tensors[name]) for name in names}
        return Landmarks(**{**arrays, "noise_px": float(arrays["noise_px"])})


def are_determined(points: Floats, covariances: Floats) -> Mask:
    """Which of points (N, 3) with covariances (N, 3, 3) are finite and have deviations that a half
    can hold.
    """
    variance = np.trace(covariances, axis1=1, axis2=2)
    finite = np.isfinite(points).all(1) & np.isfinite(covariances).all((1, 2))
    determined: Mask = finite & (variance > 0) & (variance < _MAX_HALF**2)
    return determined


def lower_roots(covariances: Floats) -> NDArray[np.float16]:
    """Cholesky roots (N, 3, 3) float16 of covariances (N, 3, 3): halves keep 1e-4 to 6e4 well, not
    their squares.

    What rounding lets look negative is raised above zero, by less than a half tells apart.
    """
    floor = 1e-12 + 1e-7 * np.trace(covariances, axis1=1, axis2=2)
    return np.linalg.cholesky(covariances + floor[:, None, None] * np.eye(3)).astype(np.float16)
