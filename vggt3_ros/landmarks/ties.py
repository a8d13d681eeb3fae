"""Whether the parts of a map are tied to each other as the images say.

Where two places look alike, matches of what looks alike may tie them in a wrong way, and each part
for itself is right: residuals are small, covariances too. What tells is that the matches which
really join the parts, verified between pairs of images, disagree with the result and were left out
of it. The same goes for a part in a wrong scale.

Where look-alikes match better than what really joins the parts, only keyframes that follow one
another tell: a camera that moves on sees in both what they share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Mask

Counts = NDArray[np.integer]

# Fraction of the matches between two parts that must agree with the result. Of 43 right maps 0.82
# or more, of one 0.77; where a part was tied wrongly, 0.35 to 0.75.
_MIN_AGREEING = 0.8
_MIN_MATCHED = 15  # matches between two parts that can contradict
# The same for keyframes that follow one another. In right maps of drives 0.86 or more, in five
# wrong maps 0 to 0.54.
_MIN_FOLLOWING = 0.6
_MIN_MATCHED_FOLLOWING = 30


def at_odds(members: Mask, measured: Mask, matched: Counts, agreeing: Counts) -> Mask:
    """Which of the members (K,) stand in parts whose ties to the rest contradict each other.

    matched and agreeing (K, K): how many landmarks two keyframes saw both by their matches, and how
    many of these agree with the poses. Keyframes are in the order in which the camera took them. Of
    two parts the larger one stays; where some keyframes are `measured` (K,), the one that holds
    those, and parts that both do are not compared: priors tell how they lie.
    """
    left = members.copy()
    while True:
        inside = np.flatnonzero(left)
        counts = (matched[np.ix_(inside, inside)], agreeing[np.ix_(inside, inside)])
        apart = _broken_off(measured[inside], *counts)
        if apart is None:
            apart = _worst_part(measured[inside], *counts)
        if apart is None:
            return members & ~left
        left[inside[apart]] = False


def _broken_off(measured: Mask, matched: Counts, agreeing: Counts) -> Mask | None:
    """The part (n,) to leave out where keyframes that follow one another contradict each other
    most; None if none.
    """
    worst = _MIN_FOLLOWING
    part = None
    for last in range(len(measured) - 1):
        side = np.arange(len(measured)) <= last
        total = matched[last, last + 1]
        if total < _MIN_MATCHED_FOLLOWING or not _comparable(side, measured):
            continue
        fraction = agreeing[last, last + 1] / total
        if fraction < worst:
            worst = fraction
            part = _left_out(side, measured)
    return part


def _worst_part(measured: Mask, matched: Counts, agreeing: Counts) -> Mask | None:
    """The part (n,) to leave out at the worst of all cuts; None where no cut is bad."""
    worst = _MIN_AGREEING
    part = None
    for side in _cuts(agreeing):
        total = matched[side][:, ~side].sum()
        if total < _MIN_MATCHED or not _comparable(side, measured):
            continue
        fraction = agreeing[side][:, ~side].sum() / total
        if fraction < worst:
            worst = fraction
            part = _left_out(side, measured)
    return part


def _comparable(side: Mask, measured: Mask) -> bool:
    """Whether priors leave open how a side (n,) and the other one lie."""
    return not (measured[side].any() and measured[~side].any())


def _left_out(side: Mask, measured: Mask) -> Mask:
    """Of a side (n,) and the other one, the one without priors; without any, the smaller one."""
    stays = measured[side].any() or (not measured[~side].any() and 2 * side.sum() >= len(side))
    return ~side if stays else side


def _cuts(agreeing: Counts) -> Iterator[Mask]:
    """Each way (n,) to part n keyframes in two by cutting one tie, of the strongest ones that join
    them all.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    ties = agreeing - np.diag(np.diag(agreeing))
    tree = minimum_spanning_tree(
        csr_matrix(np.where(ties > 0, 1.0 / np.maximum(ties, 1), 0.0))
    ).tocoo()
    for cut in range(tree.nnz):
        kept = np.arange(tree.nnz) != cut
        rest = csr_matrix((tree.data[kept], (tree.row[kept], tree.col[kept])), shape=tree.shape)
        label = connected_components(rest, directed=False)[1]
        yield label == label[tree.row[cut]]
