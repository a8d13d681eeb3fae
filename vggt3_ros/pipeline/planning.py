"""A map within a budget: what is going to be done, what was, and what it teaches of costs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.dense.settings import DenseSettings
from vggt3_ros.errors import InputError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.prediction import Prediction, SceneMemory
from vggt3_ros.pipeline.budget import Budget
from vggt3_ros.pipeline.costs import CostMemory, measured_costs
from vggt3_ros.pipeline.dense import DENSE
from vggt3_ros.pipeline.held_out import HeldOut
from vggt3_ros.pipeline.mapping import NetworkSettings, Trial, map_in_trials, map_views
from vggt3_ros.pipeline.memory_check import MapFit
from vggt3_ros.pipeline.plan import (
    FEWEST_ANCHORS,
    MOST_ANCHORS,
    Dense,
    Plan,
    Wish,
    make_plan,
)
from vggt3_ros.pipeline.preprocess import PreparedFrames
from vggt3_ros.pipeline.views import NOTHING_NEW, Views, by_novelty, descriptors, fitting
from vggt3_ros.progress import StageProgress

_DENSE_MARGIN = 0.9  # of the seconds that are left when depth is refined


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which frames are used (indices, ascending), as prepared for the network, which of them the
    map is fitted to, and those held out to judge further steps, None where none are tried.
    """

    used: Tensor
    prepared: PreparedFrames
    views: Views
    held_out: HeldOut | None


class Planning:
    """How the budget of one map is spent; its clock begins here, or once costs are measured, for
    that is done once.

    settings: how the network maps where the budget suffices. The wish's anchors are those of the
    settings and the network. Raises InputError, with figures, where the budget suffices for no map.
    """

    def __init__(
        self,
        budget: Budget,
        wish: Wish,
        network: Vggt3,
        settings: NetworkSettings,
    ) -> None:
        self.budget = budget
        self._network = network
        self._settings = settings
        self._known = CostMemory(network, wish.size_hw)
        self.costs = self._known.find() or measured_costs(network, wish.size_hw)
        self._begin = time.perf_counter()
        if network.config.attends_to_anchors:
            given = settings.anchors
            usual = given or network.config.anchors.count
            most = given or max(usual, MOST_ANCHORS)
            wish = replace(wish, anchors=usual, most_anchors=most)
        self.wish = wish
        self.plan = self._planned(wish)
        self.unused: tuple[int, ...] = ()  # indices of frames that are left out
        self.trials: list[Trial] = []

    @property
    def steps(self) -> int:
        """TTT steps of the map that was made."""
        kept = [trial.steps for trial in self.trials if trial.kept]
        return kept[-1] if kept else self.plan.steps

    @property
    def settings(self) -> NetworkSettings:
        """How the network maps by the plan."""
        return self._settings_of(self.plan)

    def told(self) -> str:
        """What is going to be done, and what not, in a sentence."""
        expected = sum(self.plan.seconds(self.costs, self.wish).values())
        left_out = ", ".join(self.plan.left_out(self.wish)) or "nothing"
        return f"for {self.budget}: {self.plan}; about {expected:.1f} s. Left out: {left_out}"

    def choose(self, prepared: PreparedFrames) -> Chosen:
        """Plan again, now that images tell which frames add most, and how many show something new;
        the others are not to be fitted, unless settings say so.
        """
        order, novelty = by_novelty(descriptors(prepared.images))
        if self._settings.redundant_views == "query":
            novel = max(2, int((novelty >= NOTHING_NEW).sum()))
            self.wish = replace(self.wish, novel=novel)
        # images have their size by now
        self.plan = self._planned(replace(self.wish, sizes_hw=(self.plan.size_hw,)))
        used = order[: self.plan.frames].sort().values
        place = torch.full((len(order),), -1)
        place[used] = torch.arange(len(used))
        self.unused = tuple((place < 0).nonzero()[:, 0].tolist())
        if self.unused:
            prepared = prepared.of(used)
        images = prepared.images
        shown = place[order[: self.plan.fitted]].sort().values
        if self.plan.trials:
            is_held = torch.zeros(len(shown), dtype=torch.bool)
            is_held[torch.linspace(1, len(shown) - 1, self.plan.held_out).round().long()] = True
            held_out = HeldOut(images, shown[is_held], shown[~is_held])
            if held_out.tells:
                return Chosen(used, prepared, fitting(images, shown[~is_held]), held_out)
            self.plan = replace(self.plan, trials=0)
        return Chosen(used, prepared, fitting(images, shown), None)

    def map(
        self, chosen: Chosen, fit: MapFit, progress: StageProgress | None
    ) -> tuple[Prediction, SceneMemory]:
        """Map the chosen frames in the planned steps, as map_views does, and in further ones as
        long as these help and there is time.
        """
        how = self.settings
        images = chosen.prepared.images
        if chosen.held_out is None:
            return map_views(self._network, images, chosen.views, how, fit, progress)
        prediction, memory, self.trials = map_in_trials(
            self._network,
            images,
            chosen.views,
            chosen.held_out,
            how,
            fit,
            self.plan.trials,
            self._is_time_for,
            progress,
        )
        return prediction, memory

    def dense(self, asked: DenseSettings | None, frames: int) -> DenseSettings | None:
        """How depth of so many frames is refined in the time that is left, None for not at all."""
        planned = DENSE[self.plan.dense]
        if self.budget.seconds is None or asked is None or planned is None:
            return asked if self.budget.seconds is None else None
        left = _DENSE_MARGIN * self._left(self.budget.seconds) / frames
        if left <= 0:
            return None
        return replace(planned, seconds=left if asked.seconds is None else min(left, asked.seconds))

    def finish(
        self, views: Views, seconds: dict[str, float], dense: Dense | None
    ) -> dict[str, Any]:
        """Remember what the stages of a map have taken, and say what was planned, done and left
        out: plain data for JSON. dense: how depth was refined, None where nothing could refine it.
        """
        expected = self.plan.seconds(self.costs, self.wish)
        done = self.plan if dense is None else replace(self.plan, dense=dense)
        priced = done.seconds(self.costs, self.wish)
        steps = [trial.steps for trial in self.trials] or [self.plan.steps]
        counts = len(views.fitted), len(views.queried)
        priced["network"] = done.network_seconds(self.costs, self.wish, *counts, steps)
        self._known.keep(self.costs.learnt(priced, seconds, dense or "off"))
        return {
            "given": asdict(self.budget),
            "planned": self.plan.report(),
            "expected_s": {stage: round(each, 3) for stage, each in expected.items()},
            "taken_s": {stage: round(each, 3) for stage, each in seconds.items()},
            "steps_tried": [asdict(trial) for trial in self.trials],
            "steps": self.steps,
            "left_out": done.left_out(self.wish),
        }

    def _planned(self, wish: Wish) -> Plan:
        def fit(plan: Plan) -> MapFit:
            counts = plan.fitted, plan.frames - plan.fitted
            return self._settings_of(plan).fit(self._network, plan.size_hw, *counts)

        smallest = (wish.sizes_hw or (wish.size_hw,))[-1]
        least = Plan(2, 2, 1, "off", smallest, min(FEWEST_ANCHORS, wish.anchors))
        fit(least)  # which says what is missing if not even that is possible

        def fits(plan: Plan) -> bool:
            try:
                fit(plan)
            except InputError:
                return False
            return True

        plan = make_plan(self.costs, wish, self.budget.seconds, fits)
        return plan if self._network.config.has_fast_weights else replace(plan, trials=0)

    def _settings_of(self, plan: Plan) -> NetworkSettings:
        anchors = plan.anchors or self._settings.anchors
        return replace(self._settings, steps=plan.steps, anchors=anchors)

    def _is_time_for(self, seconds: float) -> bool:
        """Whether there is for so much more, and for the stages that come after the network's."""
        if self.budget.seconds is None:
            return False
        planned = self.plan.seconds(self.costs, self.wish)
        later = sum(planned.values()) - planned["prepare"] - planned["network"]
        return seconds + later < self._left(self.budget.seconds)

    def _left(self, seconds: float) -> float:
        return seconds - (time.perf_counter() - self._begin)
