"""Weighted least squares of few unknowns (Levenberg 1944, Marquardt 1963).

bundle_adjustment.py has its own: it eliminates its points, and ends by what a step gains.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np

from vggt3_ros.geometry.arrays import Floats

_FIRST_DAMPING = 1e-4
_MAX_DAMPING = 1e4


_P = TypeVar("_P", bound="Point")


class Point(Protocol):
    """Values of n unknowns, and a robust cost there."""

    @property
    def cost(self) -> float:
        """The cost, which steps must not raise; NaN where there is none."""

    @property
    def normal_equations(self) -> tuple[Floats, Floats]:
        """Hessian (n, n) and gradient (n,) of the squares, weighted as they are here."""

    def stepped(self: _P, step: Floats) -> _P:
        """The point after a step (n,)."""


def minimised(start: _P, steps: int, settled: float) -> _P | None:
    """The point of least cost from `start` on, after so many steps at most, or one whose predicted
    gain is below `settled`; None where the normal equations are singular.
    """
    point = start
    damping = _FIRST_DAMPING
    for _ in range(steps):
        hessian, gradient = point.normal_equations
        damped = hessian + damping * np.diag(np.diag(hessian))
        try:
            step = np.asarray(-np.linalg.solve(damped, gradient), np.float64)
        except np.linalg.LinAlgError:
            return None
        candidate = point.stepped(step)
        if not candidate.cost <= point.cost:  # also for NaN
            damping *= 10
            if damping > _MAX_DAMPING:
                break
            continue
        point = candidate
        damping = damping / 10
        if -step @ gradient < settled:
            break
    return point
