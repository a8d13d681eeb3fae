"""Pointmaps of a network beside the true ones, as in the evaluation of the VGG-T3 paper: after
Umeyama and ICP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.clouds import NORMALS, normals_at, unsigned_cosines
from vggt3_ros.evaluation.true_surface import SAMPLE, sampled
from vggt3_ros.geometry.arrays import Floats
from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import transform_points
from vggt3_ros.geometry.sim3 import Sim3, umeyama
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.published_loader import EvaluationCrop, target_size
from vggt3_ros.pipeline.undistort import undistorted
from vggt3_ros.progress import Progress

_ICP_THRESHOLD = 0.1  # metres
_ICP_ROUNDS = 30
_ICP_CHANGE = 1e-6  # of the fraction of pairs, and of their rms distance in metres; less is the end


def true_pointmap(
    frame: Frame, world_from_cam: Tensor, image_size: int, patch_size: int
) -> Tensor | None:
    """World points (h, w, 3) float32 of a frame's depth at the pixels that the network sees of it;
    NaN where unknown.

    Pixel (column, row) has its ray through (column + 0.5, row + 0.5), and intrinsics change as in
    the published loader. None without depth or intrinsics.
    """
    frame = undistorted(frame)
    if frame.depth is None or frame.intrinsics is None:
        return None
    height, width = frame.size_hw
    centre = (float(frame.intrinsics[0, 2]), float(frame.intrinsics[1, 2]))
    crop = EvaluationCrop.plan(
        (width, height), centre, target_size(width, height, image_size, patch_size)
    )
    depth = crop.depth(frame.depth).double()
    depth[~(depth > 0) | depth.isinf()] = math.nan
    in_cam = unproject(depth, crop.published_intrinsics(frame.intrinsics), pixel_offset=0.5)
    return transform_points(world_from_cam, in_cam.flatten(0, 1)).view_as(in_cam).float()


@dataclass(frozen=True)
class Middle:
    """What values are in the middle; NaN without any."""

    mean: float
    median: float


@dataclass(frozen=True)
class PointmapErrors:
    """Of so many predicted points: how far they are from the truth, the truth from them, and how
    alike normals are.
    """

    points: float = field(metadata=figure("count"))
    accuracy_m: Middle = field(metadata=figure("m"))
    completion_m: Middle = field(metadata=figure("m"))
    normal_consistency: Middle = field(metadata=figure("|cos|"))


def compare_pointmaps(
    predicted: Tensor, true: Tensor, progress: Progress | None = None
) -> tuple[PointmapErrors, str | None]:
    """Errors of predicted points (..., 3), in any frame and unit, against the true ones (..., 3) of
    the same pixels.

    true is in metres, NaN where unknown. Where both are known, the predicted points get the Sim(3)
    that brings them nearest to their own true ones, then `icp`. Accuracy is from them to the
    nearest true points, completion from those to them; of more than SAMPLE points so many are
    asked. Where no similarity is determined, errors are NaN, and the second result says why.
    progress(0..1) is called now and then; what it raises cancels.
    """
    from scipy.spatial import cKDTree

    report = progress or (lambda done: None)
    valid = (predicted.isfinite() & true.isfinite()).all(-1)
    points = predicted[valid].double()
    truth = true[valid].double()
    report(0.0)
    try:
        aligned = umeyama(points, truth).points(points)
        true_tree = cKDTree(truth.numpy())
        report(0.3)
        asked = sampled(len(truth), SAMPLE)
        motion = icp(aligned[asked].numpy(), true_tree, lambda done: report(0.3 + 0.3 * done))
    except InputError as error:
        nothing = np.empty(0)
        return _errors(nothing, nothing, [nothing, nothing], len(truth)), str(error)
    aligned = motion.points(aligned)
    tree = cKDTree(aligned.numpy())
    report(0.8)
    cloud = aligned[asked].numpy()
    surface = truth[asked].numpy()
    off, nearest = true_tree.query(cloud)
    missing, covering = tree.query(surface)
    report(0.9)
    some = sampled(len(asked), NORMALS).numpy()
    to_truth = cloud[some], truth.numpy()[nearest[some]]
    from_truth = aligned.numpy()[covering[some]], surface[some]
    cosines = [
        unsigned_cosines(normals_at(ours, tree), normals_at(theirs, true_tree))
        for ours, theirs in (to_truth, from_truth)
    ]
    report(1.0)
    return _errors(off, missing, cosines, len(truth)), None


def icp(
    points: Floats,
    tree: Any,
    progress: Progress | None = None,
) -> Sim3:
    """The motion, of scale 1, that brings points (N, 3) to those of a cKDTree, point to point (Besl
    and McKay 1992).

    Pairs farther apart than _ICP_THRESHOLD do not count. At most 30 rounds, fewer once the fraction
    of points with a pair and their rms distance stay the same. Points of which hardly any has a
    pair stay where they are. Raises InputError when pairs lie on one line.
    """
    moved = points
    motion = Sim3.identity()
    last = (-1.0, -1.0)
    for done in range(_ICP_ROUNDS):
        if progress is not None:
            progress(done / _ICP_ROUNDS)
        off, nearest = tree.query(moved, distance_upper_bound=_ICP_THRESHOLD)
        paired = np.isfinite(off)
        if paired.sum() < 3:
            break
        now = (float(paired.mean()), float(np.sqrt(np.mean(off[paired] ** 2))))
        if max(abs(a - b) for a, b in zip(now, last, strict=True)) < _ICP_CHANGE:
            break
        last = now
        step = _rigid(
            torch.from_numpy(moved[paired]),
            torch.from_numpy(np.asarray(tree.data)[nearest[paired]]),
        )
        motion = step @ motion
        moved = motion.points(torch.from_numpy(points)).numpy()
    return motion


def _rigid(source: Tensor, target: Tensor) -> Sim3:
    """Least-squares motion with target ~ motion(source), both (N, 3): the rotation is that of any
    scale.
    """
    rotation = umeyama(source, target).rotation
    return Sim3(1.0, rotation, target.mean(0) - rotation @ source.mean(0))


def _errors(off: Floats, missing: Floats, cosines: list[Floats], points: int) -> PointmapErrors:
    middles = [_middle(each) for each in cosines]
    return PointmapErrors(
        points=points,
        accuracy_m=_middle(off),
        completion_m=_middle(missing),
        normal_consistency=Middle(
            mean=float(np.mean([each.mean for each in middles])),
            median=float(np.mean([each.median for each in middles])),
        ),
    )


def _middle(values: Floats) -> Middle:
    if len(values) == 0:
        return Middle(math.nan, math.nan)
    return Middle(float(values.mean()), float(np.median(values)))
