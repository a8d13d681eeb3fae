"""When an alignment to the truth means nothing: it shrinks the estimates to a spot, and scores like
the mean pose.
"""

from __future__ import annotations

import math

from torch import Tensor

SPOT = 0.1  # of the spread of the truth
_MIN_RATIO = 0.5  # leaves 87 % of the error of the mean pose
_MAX_ASKED = 0.9  # of two positions: 26 degrees between the two directions
# deviations of a Gaussian that unrelated estimates exceed once in twenty times
_ONE_IN_TWENTY = 1.645


def spread(world_from_cam: Tensor) -> float:
    """Rms distance of the positions of poses (N, 4, 4) from their mean."""
    positions = world_from_cam[:, :3, 3].double()
    return float((positions - positions.mean(0)).square().sum(-1).mean().sqrt())


def least_fitted_ratio(count: int) -> float:
    """Spread, over that of the truth, that `count` positions have after a least-squares similarity
    if they follow it.

    It is the correlation of both: what follows the truth half, and more than unrelated positions do
    by chance, which with two or three positions is much.
    """
    by_chance = _ONE_IN_TWENTY / math.sqrt(3 * max(count - 1, 1))
    return min(_MAX_ASKED, max(_MIN_RATIO, by_chance))


def collapse(aligned: Tensor, true: Tensor, least_ratio: float) -> str | None:
    """Why errors of aligned poses (N, 4, 4) say nothing against true ones (N, 4, 4); None if they
    do.

    least_ratio of the spread of the true positions is what the aligned ones must have.
    """
    true_spread = spread(true)
    if not true_spread > 0:
        return "the true positions coincide, and no scale can be told from them"
    ratio = spread(aligned) / true_spread
    if ratio >= least_ratio:
        return None
    return (
        f"aligned to the truth, the estimated positions spread over {100 * ratio:.2g} % of what the"
        f" true ones do; {len(true)} that follow it reach {100 * least_ratio:.0f} % or more"
    )
