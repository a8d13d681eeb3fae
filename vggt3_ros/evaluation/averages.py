"""Medians and means of figures that not all rows have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


def median_or_none(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return float(np.median(values)) if len(values) else None


def mean_of_known(values: Iterable[float | None]) -> float:
    """The mean of those that are not None; NaN of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def mean_of_defined(values: Iterable[float]) -> float:
    """The mean of those that are not NaN; NaN of nothing."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
