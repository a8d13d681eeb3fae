"""What is done of a map so that it keeps within its budget: a function of what things cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from vggt3_ros.errors import InputError
from vggt3_ros.pipeline.costs import Costs

Dense = Literal["off", "fast", "fine"]

_LEAST = 8  # frames that a map is made of and fitted to, if there are so many
_MARGIN = 0.9  # of the seconds: stages differ from one map to the next
_TRIED = 2  # further TTT steps at most: the inner loss falls with each, what comes of it does not
_HELD_OUT = 8  # every 8th fitted frame, where further steps are tried


@dataclass(frozen=True)
class Wish:
    """What is done where the budget suffices. frames: all that there are, of which none may be left
    out where they are `needed`; novel: those of them that show something new.
    """

    frames: int
    novel: int
    steps: int
    landmarks: bool
    dense: Dense
    needed: bool = False


@dataclass(frozen=True)
class Plan:
    """frames: how many are used, those that add most; fitted: to how many the map is fitted, steps:
    TTT steps, trials: how many further ones are tried, each judged by frames held out.
    """

    frames: int
    fitted: int
    steps: int
    dense: Dense
    trials: int = 0

    @property
    def held_out(self) -> int:
        """How many of the frames that show something new are not fitted, to judge the trials."""
        return self.fitted // _HELD_OUT if self.trials else 0

    def seconds(self, costs: Costs, landmarks: bool) -> dict[str, float]:
        """What it takes, by stage."""
        fitted = self.fitted - self.held_out
        steps = range(self.steps, self.steps + self.trials + 1)
        network = network_seconds(costs, fitted, self.frames - fitted, steps)
        return {
            "prepare": self.frames * costs.prepare,
            "network": network,
            "landmarks": self.frames * costs.landmarks if landmarks else 0.0,
            "depth": self.frames * costs.dense(self.dense) if landmarks else 0.0,
            "points": self.frames * costs.points,
            "scene": self.frames * costs.scene,
        }

    def left_out(self, wish: Wish) -> list[str]:
        """What the wish has and the plan has not, in words."""
        told = []
        if self.frames < wish.frames:
            told.append(f"{wish.frames - self.frames} frames, those that add least")
        fitted = min(wish.novel, self.frames)
        if self.fitted < fitted:
            count = fitted - self.fitted
            told.append(f"fitting {count} of {fitted} frames that show something new")
        if self.steps < wish.steps:
            told.append(f"{wish.steps - self.steps} of {wish.steps} TTT steps")
        if self.dense != wish.dense and wish.landmarks:
            told.append(f"depth refined {wish.dense}" + (": fast" if self.dense == "fast" else ""))
        return told

    def report(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "frames": self.frames,
            "fitted": self.fitted,
            "steps": self.steps,
            "further_steps_tried": self.trials,
            "dense": self.dense,
        }

    def __str__(self) -> str:
        more = f", {self.trials} more if frames held out show that they help"
        tried = more if self.trials else ""
        return (
            f"{self.frames} frames, {self.fitted} of them fitted in {self.steps} TTT steps{tried},"
            f" depth refinement {self.dense}"
        )


def network_seconds(costs: Costs, fitted: int, queried: int, steps: Iterable[int]) -> float:
    """What the network takes for maps in so many steps each."""
    return sum(fitted * (costs.fit + each * costs.step) + queried * costs.query for each in steps)


def make_plan(
    costs: Costs, wish: Wish, seconds: float | None, fits: Callable[[int, int], bool]
) -> Plan:
    """The plan nearest to the wish that takes at most so many seconds, None for any, and the memory
    that there is: fits(fitted, queried) says whether so many frames do. Raises InputError, with
    figures, where none does.

    First fewer frames are fitted, and in fewer steps, for the others are localized in them; then
    depth is refined less; then frames are left out.
    """
    there = wish.frames
    while there > 2 and not wish.needed and not fits(min(_LEAST, there), max(0, there - _LEAST)):
        there -= 1
    within = replace(wish, frames=there, novel=min(wish.novel, there))
    allowed = math.inf if seconds is None else _MARGIN * seconds

    def taken(plan: Plan) -> float:
        return sum(plan.seconds(costs, wish.landmarks).values())

    for plan in _plans(within):
        if taken(plan) <= allowed and fits(plan.fitted, plan.frames - plan.fitted):
            break
    else:
        stages = plan.seconds(costs, wish.landmarks).items()
        told = ", ".join(f"{stage} {each:.2g}" for stage, each in stages if each)
        raise InputError(
            f"mapping {plan.frames} of {wish.frames} frames takes about {taken(plan):.2g} s"
            f" ({told}), of {seconds:.4g} s that are given {allowed:.3g} are planned; give more"
            " seconds or memory"
        )
    if seconds is not None and plan.fitted >= 2 * _HELD_OUT and not plan.left_out(wish):
        for trials in range(_TRIED, 0, -1):
            tried = replace(plan, trials=trials)
            if taken(tried) <= allowed:
                return tried
    return plan


def _plans(wish: Wish) -> Iterator[Plan]:
    """From the wish down to the least."""
    least = min(_LEAST, wish.novel)
    levels: list[Dense] = ["fine", "fast", "off"]
    for dense in levels[levels.index(wish.dense) :]:
        count = wish.novel
        while count > least:
            yield Plan(wish.frames, count, wish.steps, dense)
            count //= 2
        for steps in sorted({wish.steps, 1}, reverse=True):
            yield Plan(wish.frames, least, steps, dense)
    if wish.needed:
        return
    for frames in range(wish.frames - 1, min(_LEAST, wish.frames) - 1, -1):
        yield Plan(frames, min(least, frames), 1, "off")
