"""Standard deviations from medians, which hold while fewer than half of the errors are wild."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vggt3_ros.geometry.arrays import Floats

PER_MEDIAN = 1.4826  # standard deviation of normal errors over the median of their absolute values
MEDIAN_NORM = 1.538  # median length of a vector of three standard normals


def robust_deviation(errors: Tensor | Floats) -> float:
    """Standard deviation of errors (any shape) around zero, by their median absolute value; 0 of
    none.
    """
    if isinstance(errors, Tensor):
        return PER_MEDIAN * float(errors.abs().quantile(0.5)) if errors.numel() else 0.0
    return PER_MEDIAN * float(np.median(np.abs(errors))) if errors.size else 0.0
