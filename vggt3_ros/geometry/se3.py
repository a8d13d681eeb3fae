"""Rotations and rigid transforms as tensors; every function works over any leading dimensions.

`a_from_b` maps points of frame b into frame a. Quaternions are x y z w. Angles are radians.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt3_ros.errors import InputError


def se3(rotation: Tensor, translation: Tensor) -> Tensor:
    """Assemble rotation (..., 3, 3) and translation (..., 3) into a transform (..., 4, 4)."""
    return homogeneous(torch.cat([rotation, translation.unsqueeze(-1)], dim=-1))


def homogeneous(a_from_b: Tensor) -> Tensor:
    """Append the row 0 0 0 1 to (..., 3, 4); a (..., 4, 4) is returned as it is."""
    if a_from_b.shape[-2] == 4:
        return a_from_b
    row = torch.eye(4, dtype=a_from_b.dtype, device=a_from_b.device)[3:]  # a GPU makes it itself
    return torch.cat([a_from_b, row.expand(*a_from_b.shape[:-2], 1, 4)], dim=-2)


def se3_inverse(a_from_b: Tensor) -> Tensor:
    """Invert rigid transforms (..., 3|4, 4); returns b_from_a (..., 4, 4)."""
    rotation = a_from_b[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ a_from_b[..., :3, 3:]).squeeze(-1)
    return se3(rotation, translation)


def transform_points(a_from_b: Tensor, points: Tensor) -> Tensor:
    """Map points (..., N, 3) of frame b into frame a with a_from_b (..., 3|4, 4)."""
    return points @ a_from_b[..., :3, :3].transpose(-1, -2) + a_from_b[..., None, :3, 3]


def rotation_angle(rotation: Tensor) -> Tensor:
    """Angle (...) in [0, pi] of rotations (..., 3, 3), accurate near 0 and near pi (atan2, not
    acos).
    """
    skew = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        dim=-1,
    )
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    angle: Tensor = torch.atan2(torch.linalg.vector_norm(skew, dim=-1), trace - 1.0)
    return angle


def cross_matrix(vectors: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of the cross product with vectors v (..., 3): matrix @ x = v x x."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    entries = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    matrix: Tensor = entries.unflatten(-1, (3, 3))
    return matrix


def rotation_from_axis_angle(axis_angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from axis times angle (..., 3)."""
    rotation: Tensor = torch.linalg.matrix_exp(cross_matrix(axis_angle))
    return rotation


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle (..., 3) in radians, angle in [0, pi], of rotations (..., 3, 3).

    The inverse of rotation_from_axis_angle.
    """
    quaternion = quaternion_from_rotation(rotation)
    axis = quaternion[..., :3]
    cosine = quaternion[..., 3:]
    sine = axis.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, cosine)
    vector: Tensor = torch.where(sine > 1e-12, axis * angle / sine.clamp(min=1e-12), 2 * axis)
    return vector


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from quaternions x y z w (..., 4), which need not have unit length."""
    i, j, k, r = quaternion.unbind(-1)
    n = 2.0 / quaternion.square().sum(-1)
    entries = [
        1 - n * (j * j + k * k), n * (i * j - k * r), n * (i * k + j * r),
        n * (i * j + k * r), 1 - n * (i * i + k * k), n * (j * k - i * r),
        n * (i * k - j * r), n * (j * k + i * r), 1 - n * (i * i + j * j),
    ]  # fmt: skip
    rotation: Tensor = torch.stack(entries, dim=-1).unflatten(-1, (3, 3))
    return rotation


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions x y z w (..., 4) with w >= 0, from rotations (..., 3, 3).

    The numerically largest component is computed first and divides the others (Shepperd 1978).
    """
    m = rotation
    m00 = m[..., 0, 0]
    m11 = m[..., 1, 1]
    m22 = m[..., 2, 2]
    squares = torch.stack(
        [1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22], -1
    )
    a = m[..., 2, 1] - m[..., 1, 2]
    b = m[..., 0, 2] - m[..., 2, 0]
    c = m[..., 1, 0] - m[..., 0, 1]
    d = m[..., 1, 0] + m[..., 0, 1]
    e = m[..., 2, 0] + m[..., 0, 2]
    f = m[..., 2, 1] + m[..., 1, 2]
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], d, e, a], -1),
            torch.stack([d, squares[..., 1], f, b], -1),
            torch.stack([e, f, squares[..., 2], c], -1),
            torch.stack([a, b, c, squares[..., 3]], -1),
        ],
        dim=-2,
    )  # (..., 4, 4): row n is the quaternion times 4 * component n
    largest = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = candidates.gather(-2, largest).squeeze(-2)
    quaternion = torch.nn.functional.normalize(quaternion, dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def chordal_mean(rotations: Tensor) -> Tensor:
    """The rotation (3, 3) with the least sum of squared differences (Frobenius) from rotations (N,
    3, 3).

    Of a single matrix that is not quite orthonormal, it is the nearest rotation.
    """
    u, _, vt = torch.linalg.svd(rotations.sum(0))
    sign = torch.ones(3, dtype=rotations.dtype, device=rotations.device)
    sign[2] = torch.linalg.det(u @ vt).sign()
    mean: Tensor = u @ torch.diag(sign) @ vt
    return mean


def look_at(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """world_from_cam (..., 4, 4) of a camera (OpenCV axes) at position (..., 3) that looks at
    target (..., 3).

    `up` (..., 3) is the world direction that shall point to the image's top; it must not be
    parallel to the view.
    """
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    right = torch.linalg.cross(forward, up.expand_as(forward), dim=-1)
    right = torch.nn.functional.normalize(right, dim=-1)
    down = torch.linalg.cross(forward, right, dim=-1)
    return se3(torch.stack([right, down, forward], dim=-1), position)


def check_pose(world_from_cam: Tensor, name: str, tolerance: float = 1e-3) -> None:
    """Raise InputError naming `name` unless world_from_cam is a finite rigid (4, 4) transform."""
    if tuple(world_from_cam.shape) != (4, 4):
        raise InputError(f"{name}: a pose must be 4x4, got {tuple(world_from_cam.shape)}")
    if not bool(torch.isfinite(world_from_cam).all()):
        raise InputError(
            f"{name}: the pose contains NaN or infinity; leave the pose out or repair it"
        )
    rotation = world_from_cam[:3, :3].double()
    error = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if error > tolerance or float(torch.linalg.det(rotation)) < 0:
        raise InputError(
            f"{name}: the upper left 3x3 is not a rotation (deviates from orthonormal by"
            f" {error:.3g}, allowed {tolerance:g}, determinant must be +1); give world_from_cam"
            " with unit axes"
        )
    if not torch.equal(
        world_from_cam[3].cpu().double(), torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    ):
        raise InputError(
            f"{name}: the last row of a pose must be 0 0 0 1, got {world_from_cam[3].tolist()}"
        )
