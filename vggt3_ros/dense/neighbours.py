"""Which keyframes see the same surfaces from other places, and between which depths they lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vggt3_ros.dense.keyframes import Keyframes
from vggt3_ros.geometry.camera import project
from vggt3_ros.geometry.se3 import se3_inverse, transform_points

_GOOD_ANGLE = math.radians(5.0)
_WIDE_ANGLE = math.radians(25.0)
_ONLY_IN_VIEW = 0.3  # weight of a landmark that falls into an image but was not observed there
_MIN_SHARED = 3.0  # weighted landmarks
_SAMPLED = 500  # landmarks per keyframe
_FEW = 30  # landmarks that tell a keyframe's own range
_BEYOND = 1.8  # how much nearer and farther than its landmarks a keyframe may see
_AS_NEAR = 1.3  # how much nearer than the nearest landmark of any keyframe each may see


def neighbours(keyframes: Keyframes, count: int, least_angle: float) -> Tensor:
    """The `count` keyframes (S, count) int64 that match each best, best first; -1 where there are
    no more.

    Landmarks seen under about 5 degrees or more tell, cameras near a chosen one count half.
    Keyframes that see their landmarks under less than `least_angle` (degrees) in the middle are
    none: any depth would fit.
    """
    chosen = torch.full((len(keyframes), count), -1, dtype=torch.int64)
    poses = keyframes.world_from_cam.double().cpu()
    intrinsics = keyframes.intrinsics.double().cpu()
    points = keyframes.points.double().cpu()
    observed = keyframes.observed.cpu()
    observed_from = keyframes.observed_from.cpu()
    saw = torch.zeros(len(keyframes), len(points), dtype=torch.bool)
    saw[observed_from, observed] = True
    for index in range(len(keyframes)):
        seen = _sample(observed[observed_from == index])
        if len(seen) < _MIN_SHARED:
            continue
        shared = _in_view(points[seen], poses, intrinsics, keyframes.size_hw) * _ONLY_IN_VIEW
        shared = torch.where(saw[:, seen], 1.0, shared)
        worth, usual_angle = _worth(points[seen], poses, index, shared)
        worth[(usual_angle < math.radians(least_angle)) | (shared.sum(1) < _MIN_SHARED)] = 0
        worth[index] = 0
        choose(chosen[index], worth)
    return chosen.to(keyframes.images.device)


def inverse_ranges(keyframes: Keyframes) -> Tensor:
    """Least and greatest inverse depth (S, 2), 1/m, of what each keyframe may see, from the
    landmarks it observes.

    As near as others have landmarks, each may see what has none: a bare wall right before it.
    """
    poses = se3_inverse(keyframes.world_from_cam.double().cpu())
    points = keyframes.points.double().cpu()[keyframes.observed.cpu()]
    from_keyframe = keyframes.observed_from.cpu()
    z = transform_points(poses[from_keyframe], points[:, None])[:, 0, 2]
    from_keyframe = from_keyframe[z > 0]
    z = z[z > 0]
    if len(z) == 0:
        return torch.tensor([[0.1, 2.0]], device=keyframes.images.device).expand(len(keyframes), 2)
    nearest = float(z.quantile(0.005))
    farthest = float(z.quantile(0.995))
    ranges = torch.empty(len(keyframes), 2)
    for index in range(len(keyframes)):
        own = z[from_keyframe == index]
        near, far = (
            (own.quantile(0.02), own.quantile(0.98)) if len(own) >= _FEW else (nearest, farthest)
        )
        ranges[index, 0] = 1 / (_BEYOND * min(float(far), farthest))
        ranges[index, 1] = max(_BEYOND / max(float(near), nearest), _AS_NEAR / nearest)
    return ranges.to(keyframes.images.device)


def _sample(landmarks: Tensor) -> Tensor:
    stride = max(1, math.ceil(len(landmarks) / _SAMPLED))
    return landmarks[::stride]


def _in_view(points: Tensor, poses: Tensor, intrinsics: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """1 where points (n, 3) fall into the images of all cameras (S, 4, 4), else 0: (S, n)."""
    pixels, z = project(transform_points(se3_inverse(poses), points), intrinsics)
    limit = torch.tensor([size_hw[1] - 1.0, size_hw[0] - 1.0], dtype=pixels.dtype)
    return ((z > 0) & (pixels >= 0).all(-1) & (pixels <= limit).all(-1)).double()


def _worth(points: Tensor, poses: Tensor, index: int, shared: Tensor) -> tuple[Tensor, Tensor]:
    """Worth (S, n) of every keyframe as a neighbour of one, for each of points (n, 3), and the
    usual angle (S,).
    """
    rays = points - poses[:, None, :3, 3]
    distance = rays.norm(dim=-1).clamp(min=1e-9)
    cosine = (rays * rays[index]).sum(-1) / (distance * distance[index])
    angle = torch.arccos(cosine.clamp(-1, 1))
    ratio = distance / distance[index]
    weight = (angle / _GOOD_ANGLE).clamp(max=1) * (
        _WIDE_ANGLE / angle.clamp(min=1e-9)
    ).square().clamp(max=1)
    weight = weight * torch.minimum(ratio, 1 / ratio) * shared
    usual = torch.where(shared > 0, angle, torch.nan).nanmedian(dim=1).values.nan_to_num(0.0)
    return weight, usual


def choose(chosen: Tensor, worth: Tensor) -> None:
    """Fill `chosen` (count,) with the worthiest one by one, by their worth (S, n) for each point.

    What a point was served by a chosen keyframe counts half from then on, so that all points are.
    """
    wanted = torch.ones_like(worth[0])
    for place in range(len(chosen)):
        total = worth @ wanted
        best = int(total.argmax())
        if not float(total[best]) > 0:
            return
        chosen[place] = best
        wanted = wanted * (1 - 0.5 * worth[best])
        worth[best] = 0
