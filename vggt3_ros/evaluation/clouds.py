"""How near a cloud of points comes to the true surface of a place, and how much of it the cloud
holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.true_surface import SAMPLE, TrueSurface, sampled
from vggt3_ros.evaluation.voxels import voxel_means
from vggt3_ros.geometry.arrays import Floats

DISTANCES_CM = (1, 5, 10)  # of precision, recall and F
_NEIGHBOURS = 20  # points that a normal is fitted to
NORMALS = 30_000  # compared each way


@dataclass(frozen=True)
class Distances:
    """Of points to the nearest ones of another cloud; NaN without any."""

    mean: float = field(metadata=figure("cm"))
    median: float = field(metadata=figure("cm"))
    p90: float = field(metadata=figure("cm"))


@dataclass(frozen=True)
class Within:
    """Fractions of points, and of true points, within a distance of each other, and their harmonic
    mean.
    """

    precision: float = field(metadata=figure("share"))
    recall: float = field(metadata=figure("share"))
    f_score: float = field(metadata=figure("share"))


@dataclass(frozen=True)
class CloudFigures:
    """How near a cloud comes to the true surface, and how much of it the cloud holds.

    points, voxels: of the cloud, before and after its positions are averaged in cubes of side
    voxel_m; true_points: of the true surface, in cubes of side true_voxel_m, from true_frames
    frames; seen_share: of these points, those that two map frames or more see. within: by distance,
    in the order of DISTANCES_CM.
    """

    points: float = field(metadata=figure("count"))
    voxels: float = field(metadata=figure("count"))
    voxel_m: float = field(metadata=figure("m"))
    true_points: float = field(metadata=figure("count"))
    true_voxel_m: float = field(metadata=figure("m"))
    true_frames: float = field(metadata=figure("count"))
    seen_share: float = field(metadata=figure("share"))
    accuracy_cm: Distances = field(metadata=figure("cm"))
    completeness_cm: Distances = field(metadata=figure("cm"))
    chamfer_cm: float = field(metadata=figure("cm"))
    normal_consistency: float = field(metadata=figure("|cos|"))
    within: dict[str, Within]

    def within_cm(self, limit: int) -> Within:
        """The fractions within one of DISTANCES_CM."""
        return self.within[f"{limit}cm"]


@dataclass(frozen=True, eq=False)
class CloudComparison:
    """points (N, 3): those that were compared, in metres of the true world; off (N,): metres to the
    nearest true point.
    """

    points: Floats
    off: Floats
    figures: CloudFigures


def compare_cloud(points: Tensor, surface: TrueSurface) -> CloudComparison:
    """Compare points (N, 3), in metres of the true world, with the true surface, in voxels of
    surface.voxel.

    Accuracy is from the cloud to the truth, completeness from the true points that two map frames
    or more see to the cloud; of more than SAMPLE points, so many are asked for their nearest one.
    Figures of an empty cloud are NaN, but for its precision, recall and F, which are 0.
    """
    from scipy.spatial import cKDTree

    thinned = voxel_means(points, surface.voxel)
    cloud = thinned[sampled(len(thinned), SAMPLE)].numpy()
    truth = surface.points.numpy()
    seen = truth[surface.sample[surface.seen].numpy()]
    off = np.full(len(cloud), np.inf)
    missing = np.full(len(seen), np.inf)
    cosines: list[Floats] = []
    if len(cloud) and len(truth):
        off, nearest = cKDTree(truth).query(cloud)
        tree = cKDTree(thinned.numpy())
        missing, covering = tree.query(seen)
        true_tree = cKDTree(voxel_means(surface.points, surface.voxel).numpy())
        for first, second in ((cloud, truth[nearest]), (thinned.numpy()[covering], seen)):
            some = sampled(len(first), NORMALS).numpy()
            cosines.append(
                unsigned_cosines(normals_at(first[some], tree), normals_at(second[some], true_tree))
            )
    accuracy = _distances(off)
    completeness = _distances(missing)
    figures = CloudFigures(
        points=len(points),
        voxels=len(thinned),
        voxel_m=surface.voxel,
        true_points=len(truth),
        true_voxel_m=surface.grain,
        true_frames=surface.frames,
        seen_share=float(surface.seen.double().mean()) if len(surface.seen) else math.nan,
        accuracy_cm=accuracy,
        completeness_cm=completeness,
        chamfer_cm=(accuracy.mean + completeness.mean) / 2,
        normal_consistency=_mean(np.array([_mean(each) for each in cosines])),
        within={f"{limit}cm": _within(off, missing, limit / 100) for limit in DISTANCES_CM},
    )
    return CloudComparison(cloud, off, figures)


def _distances(metres: Floats) -> Distances:
    known = 100 * metres[np.isfinite(metres)]
    if len(known) == 0:
        return Distances(math.nan, math.nan, math.nan)
    return Distances(float(known.mean()), float(np.median(known)), float(np.quantile(known, 0.9)))


def _within(off: Floats, missing: Floats, limit: float) -> Within:
    precision = float(np.mean(off <= limit)) if len(off) else 0.0
    recall = _mean((missing <= limit).astype(np.float64))
    both = precision + recall
    return Within(precision, recall, 2 * precision * recall / both if both else 0.0)


def normals_at(points: Floats, tree: Any) -> Floats:
    """Unit normals (N, 3), of either sign, of a surface at points (N, 3): across the nearest 20
    points of a cKDTree.
    """
    count = min(_NEIGHBOURS, tree.n)
    around = np.asarray(tree.data)[tree.query(points, k=count)[1].reshape(len(points), count)]
    offsets = around - around.mean(1, keepdims=True)
    return np.asarray(np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))[1][..., 0])


def unsigned_cosines(first: Floats, second: Floats) -> Floats:
    """|cos| of the angles between unit vectors, both (N, 3)."""
    return np.asarray(np.abs(np.einsum("ni,ni->n", first, second)))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan
