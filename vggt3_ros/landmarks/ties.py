"""Whether the parts of a map are tied to each other as the images say.

Where two places look alike, matches of what looks alike may tie them in a wrong way, and each part for itself is right:
residuals are small, covariances too. What tells is that the matches which really join the parts, verified between pairs
of images, disagree with the result and were left out of it. The same goes for a part in a wrong scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Counts = NDArray[np.integer]

# Share of the matches between two parts that must agree with the result. Of 43 right maps 0.82 or more, of one
# 0.77; where a part was tied wrongly, 0.35 to 0.75.
_LEAST_AGREEING = 0.8
_LEAST_MATCHED = 15  # matches between two parts that can contradict


def at_odds(members: Mask, measured: Mask, matched: Counts, agreeing: Counts) -> Mask:
    """Which of the members (K,) stand in parts whose ties to the rest contradict each other.

    matched and agreeing (K, K): how many landmarks two keyframes saw both by their matches, and how many of these agree
    with the poses. Of two parts the larger one stays; where some keyframes are `measured` (K,), the one that holds
    those, and parts that both do are not compared: priors tell how they lie.
    """
    left = members.copy()
    while True:
        inside = np.flatnonzero(left)
        apart = _worst_part(measured[inside], matched[np.ix_(inside, inside)], agreeing[np.ix_(inside, inside)])
        if apart is None:
            return members & ~left
        left[inside[apart]] = False


def _worst_part(measured: Mask, matched: Counts, agreeing: Counts) -> Mask | None:
    """The part (n,) to leave out at the worst of all cuts; None where no cut is bad."""
    worst, part = _LEAST_AGREEING, None
    for side in _cuts(agreeing):
        total = matched[side][:, ~side].sum()
        if total < _LEAST_MATCHED or (measured[side].any() and measured[~side].any()):
            continue
        share = agreeing[side][:, ~side].sum() / total
        if share < worst:
            larger = measured[side].any() or (not measured[~side].any() and 2 * side.sum() >= len(side))
            worst, part = share, ~side if larger else side
    return part


def _cuts(agreeing: Counts) -> Iterator[Mask]:
    """Each way (n,) to part n keyframes in two by cutting one tie, of the strongest ones that join them all."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    ties = agreeing - np.diag(np.diag(agreeing))
    tree = minimum_spanning_tree(csr_matrix(np.where(ties > 0, 1.0 / np.maximum(ties, 1), 0.0))).tocoo()
    for cut in range(tree.nnz):
        kept = np.arange(tree.nnz) != cut
        rest = csr_matrix((tree.data[kept], (tree.row[kept], tree.col[kept])), shape=tree.shape)
        label = connected_components(rest, directed=False)[1]
        yield label == label[tree.row[cut]]
