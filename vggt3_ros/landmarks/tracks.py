"""Tracks: the features of all keyframes that show one point, chained from matches of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Indices, Mask


@dataclass(frozen=True, eq=False)
class Tracks:
    """O observations of N points: keyframe (O,), feature of that keyframe (O,) and point (O,), all
    int, sorted by point; no point is seen twice by a keyframe.
    """

    keyframe: Indices
    feature: Indices
    point: Indices

    @property
    def points(self) -> int:
        """Number N of points, 0 without observations."""
        return int(self.point[-1]) + 1 if len(self.point) else 0

    def select(self, keep: Mask, least: int = 2) -> Tracks:
        """The observations that `keep` (O,), of points that still have `least` of them; points are
        numbered anew.
        """
        counts = np.bincount(self.point[keep], minlength=self.points)
        keep = keep & (counts[self.point] >= least)
        _, point = np.unique(self.point[keep], return_inverse=True)
        return Tracks(self.keyframe[keep], self.feature[keep], point)


def build_tracks(
    counts: Sequence[int], matches: Mapping[tuple[int, int], NDArray[np.int32]]
) -> Tracks:
    """Chain matches {(i, j): (M, 2) feature pairs} of keyframes with `counts` features into tracks.

    Where a chain runs through two features of one keyframe at least one of its matches is wrong:
    those features are left out, and what remains of the track must prove itself in the adjustment.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first = np.concatenate([[0], np.cumsum(counts)])
    edges = [first[[i, j]] + pairs for (i, j), pairs in matches.items() if len(pairs)]
    ends = np.concatenate(edges) if edges else np.zeros((0, 2), np.int64)
    graph = coo_matrix(
        (np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(first[-1], first[-1])
    )
    label = connected_components(graph, directed=False)[1]
    node = np.unique(ends)
    keyframe = np.searchsorted(first, node, side="right") - 1
    _, twice, times = np.unique(
        label[node] * len(counts) + keyframe, return_inverse=True, return_counts=True
    )
    order = np.argsort(label[node], kind="stable")
    _, point = np.unique(label[node][order], return_inverse=True)
    tracks = Tracks(keyframe[order], (node - first[keyframe])[order], point)
    return tracks.select((times[twice] == 1)[order])
