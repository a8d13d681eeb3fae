"""How figures appear in tables and sentences."""

from __future__ import annotations

import math


def shown(value: float, digits: int) -> str:
    """The number with so many digits behind the point, or a dash where it is infinite or NaN."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
