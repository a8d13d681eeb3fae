from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vggt3_ros.landmarks.levenberg_marquardt import minimised


@dataclass(frozen=True)
class Rosenbrock:
    """Residuals 10 (y - x^2) and 1 - x: least at (1, 1), along a bent valley."""

    x: float
    y: float

    @property
    def cost(self) -> float:
        return 100 * (self.y - self.x**2) ** 2 + (1 - self.x) ** 2

    @property
    def normal_equations(self) -> tuple[np.ndarray, np.ndarray]:
        jacobian = np.array([[-20 * self.x, 10.0], [-1.0, 0.0]])
        return jacobian.T @ jacobian, jacobian.T @ [10 * (self.y - self.x**2), 1 - self.x]

    def stepped(self, step: np.ndarray) -> Rosenbrock:
        return Rosenbrock(self.x + step[0], self.y + step[1])


class Flat(Rosenbrock):
    @property
    def normal_equations(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((2, 2)), np.zeros(2)


def test_the_least_is_found_along_a_bent_valley() -> None:
    found = minimised(Rosenbrock(-1.2, 1.0), steps=100, settled=1e-20)
    assert found is not None
    np.testing.assert_allclose((found.x, found.y), (1.0, 1.0), atol=1e-6)


def test_no_step_raises_the_cost() -> None:
    start = Rosenbrock(-1.2, 1.0)
    costs = [start.cost]
    for steps in range(1, 20):
        found = minimised(start, steps, settled=0.0)
        assert found is not None
        costs.append(found.cost)
    assert all(after <= before for before, after in zip(costs, costs[1:], strict=False))


def test_what_nothing_determines_has_no_answer() -> None:
    assert minimised(Flat(0.0, 0.0), steps=5, settled=0.0) is None
