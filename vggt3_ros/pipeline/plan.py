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
FEWEST_ANCHORS = 4  # with 2, poses are worse by far; 16 are hardly better than 8
MOST_ANCHORS = 16
_FRAMES_OF_ANCHOR = 4  # fitted ones that each stands for, at least, where more are taken


@dataclass(frozen=True)
class Wish:
    """What is done where the budget suffices. frames: all that there are, of which none may be left
    out where they are `needed`; novel: those of them that show something new.

    size_hw: of the network's images, sizes_hw: those that they may have instead, the largest first;
    empty for none. anchors: how many the network keeps, 0 where its layers attend to none;
    most_anchors: where there is time for more.
    """

    frames: int
    novel: int
    steps: int
    landmarks: bool
    dense: Dense
    size_hw: tuple[int, int]
    sizes_hw: tuple[tuple[int, int], ...] = ()
    anchors: int = 0
    most_anchors: int = 0
    needed: bool = False


@dataclass(frozen=True)
class Plan:
    """frames: how many are used, those that add most; fitted: to how many the map is fitted, steps:
    TTT steps; size_hw and anchors: of the network; trials: how many further steps are tried, each
    judged by frames held out.
    """

    frames: int
    fitted: int
    steps: int
    dense: Dense
    size_hw: tuple[int, int]
    anchors: int = 0
    trials: int = 0

    @property
    def held_out(self) -> int:
        """How many of the frames that show something new are not fitted, to judge the trials."""
        return self.fitted // _HELD_OUT if self.trials else 0

    def seconds(self, costs: Costs, wish: Wish) -> dict[str, float]:
        """What it takes, by stage, where the costs are those of the wish's size of images."""
        fitted = self.fitted - self.held_out
        steps = range(self.steps, self.steps + self.trials + 1)
        landmarks = self.frames if wish.landmarks else 0
        return {
            "prepare": self.frames * costs.prepare,
            "network": self.network_seconds(costs, wish, fitted, self.frames - fitted, steps),
            "landmarks": landmarks * costs.landmarks,
            "depth": landmarks * costs.dense(self.dense),
            "points": self.frames * costs.points,
            "scene": self.frames * costs.scene,
        }

    def network_seconds(
        self, costs: Costs, wish: Wish, fitted: int, queried: int, steps: Iterable[int]
    ) -> float:
        """What the network takes for maps of so many frames, in so many steps each."""
        scaled = costs.of_size(math.prod(self.size_hw) / math.prod(wish.size_hw))
        keys = (fitted + queried) * min(self.anchors, fitted) * scaled.anchor
        return sum(
            fitted * (scaled.fit + each * scaled.step) + queried * scaled.query + keys
            for each in steps
        )

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
        if self.anchors < wish.anchors:
            told.append(f"{wish.anchors - self.anchors} of {wish.anchors} anchors")
        if self.size_hw != wish.size_hw:
            told.append(f"images of {_size(wish.size_hw)} pixels: {_size(self.size_hw)}")
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
            "anchors": self.anchors,
            "size_hw": list(self.size_hw),
            "dense": self.dense,
            "in_words": str(self),
        }

    def __str__(self) -> str:
        more = f", {self.trials} more if frames held out show that they help"
        tried = more if self.trials else ""
        anchors = f" with {self.anchors} anchors" if self.anchors else ""
        return (
            f"{self.frames} frames, {self.fitted} of them fitted in {self.steps} TTT steps{tried},"
            f" images of {_size(self.size_hw)} pixels{anchors}, depth refinement {self.dense}"
        )


def make_plan(
    costs: Costs, wish: Wish, seconds: float | None, fits: Callable[[Plan], bool]
) -> Plan:
    """The plan nearest to the wish that takes at most so many seconds, None for any, and the memory
    that there is, as `fits` says. Raises InputError, with figures, where none does.

    First fewer frames are fitted, and in fewer steps, for the others are localized in them, then
    fewer anchors kept; then depth is refined less; then images are smaller; then frames are left
    out. Where memory is short, images are smaller before anything else is left out for it.
    """
    within = _within_memory(wish, fits)
    allowed = math.inf if seconds is None else _MARGIN * seconds

    def taken(plan: Plan) -> float:
        return sum(plan.seconds(costs, wish).values())

    for plan in _plans(within):
        if taken(plan) <= allowed and fits(plan):
            break
    else:
        if seconds is None:
            raise InputError(
                f"mapping {plan.frames} of {wish.frames} frames, {plan.fitted} of them fitted, does"
                " not fit into the memory that is given; give more"
            )
        stages = plan.seconds(costs, wish).items()
        told = ", ".join(f"{stage} {each:.2g}" for stage, each in stages if each)
        raise InputError(
            f"mapping {plan.frames} of {wish.frames} frames takes about {taken(plan):.2g} s"
            f" ({told}), of {seconds:.4g} s that are given {allowed:.3g} are planned; give more"
            " seconds or memory"
        )
    if seconds is not None and not plan.left_out(wish):
        for more in _further(plan, wish):
            if taken(more) <= allowed and fits(more):
                return more
    return plan


def _within_memory(wish: Wish, fits: Callable[[Plan], bool]) -> Wish:
    """The wish of as many frames as memory holds, if some may be left out, and for these in the
    largest images.
    """
    sizes = wish.sizes_hw or (wish.size_hw,)
    anchors = min(FEWEST_ANCHORS, wish.anchors)
    least = wish.frames if wish.needed else min(2, wish.frames)
    for frames in range(wish.frames, least - 1, -1):
        for index, size_hw in enumerate(sizes):
            if fits(Plan(frames, min(_LEAST, frames), 1, "off", size_hw, anchors)):
                novel = min(wish.novel, frames)
                return replace(wish, frames=frames, novel=novel, sizes_hw=sizes[index:])
    return replace(wish, frames=least, novel=min(wish.novel, least), sizes_hw=sizes[-1:])


def _plans(wish: Wish) -> Iterator[Plan]:
    """From the wish down to the least."""
    least = min(_LEAST, wish.novel)
    levels: list[Dense] = ["fine", "fast", "off"]
    for dense in levels[levels.index(wish.dense) :]:
        plan = Plan(wish.frames, wish.novel, wish.steps, dense, wish.sizes_hw[0], wish.anchors)
        while plan.fitted > least:
            yield plan
            plan = replace(plan, fitted=plan.fitted // 2)
        plan = replace(plan, fitted=least)
        yield plan
        plan = replace(plan, steps=1)
        yield plan
        while plan.anchors > FEWEST_ANCHORS:
            plan = replace(plan, anchors=max(FEWEST_ANCHORS, plan.anchors // 2))
            yield plan
    fewest = wish.frames if wish.needed else min(_LEAST, wish.frames)
    for frames in range(wish.frames, fewest - 1, -1):
        for size_hw in wish.sizes_hw:
            yield replace(plan, frames=frames, fitted=min(least, frames), size_hw=size_hw)


def _further(plan: Plan, wish: Wish) -> Iterator[Plan]:
    """What adds to a plan that leaves nothing out, the most first: anchors, in maps of many frames,
    and trials.
    """
    trials = _TRIED if plan.fitted >= 2 * _HELD_OUT else 0
    many = min(wish.most_anchors, plan.fitted // _FRAMES_OF_ANCHOR)
    for anchors in sorted({max(many, plan.anchors), plan.anchors}, reverse=True):
        for tried in range(trials, -1, -1):
            yield replace(plan, anchors=anchors, trials=tried)


def _size(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}x{size_hw[0]}"
