"""What is asked of a GPU, held against what was measured: a row for each target."""

from __future__ import annotations

from dataclasses import dataclass

from vggt3_ros.cli.bench.gpu.bench import Bench

_SECONDS = {"H200": 10.0, "H100": 12.0}  # by what the card's name holds


@dataclass(frozen=True)
class Target:
    """A limit, the most or the least that is asked, in a unit for people."""

    name: str
    limit: float
    unit: str
    at_most: bool = True

    def judge(self, bench: Bench, figure: float, of: str) -> None:
        """A row: target, figure and whether it is met; `of` says what was measured."""
        met = figure <= self.limit if self.at_most else figure >= self.limit
        bound = "at most" if self.at_most else "at least"
        verdict = "met" if met else "NOT MET"
        text = f"{verdict}: {figure:.3g} {self.unit}, {bound} {self.limit:g} asked ({of})"
        figures = {"figure": figure, "limit": self.limit, "at_most": self.at_most, "met": met}
        bench.record(f"target {self.name}", text, unit=self.unit, **figures)


PEAK = Target("peak", 20.0, "GB")
FASTER = Target("faster", 4.0, "times the reference flow's pace", at_most=False)
LEANER = Target("leaner", 3.0, "times less memory than the reference flow", at_most=False)
SOFTMAX = Target("softmax", 20.0, "times softmax's pace", at_most=False)
EXPONENT = Target("exponent", 1.05, "is the exponent of seconds over frames")
RATE = Target("localizing", 40.0, "localizations a second", at_most=False)
EVEN = Target("even rate", 5.0, "% between the rates in small and large maps")


def seconds_target(card: str) -> Target | None:
    """That of mapping, where one is asked of the card."""
    for name, seconds in _SECONDS.items():
        if name in card:
            return Target("seconds", seconds, "s")
    return None
