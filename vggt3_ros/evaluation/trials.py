"""One map and the queries that are asked of it: what it takes to count right, wrong and refused
poses.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.errors import Vggt3Error
from vggt3_ros.evaluation.attempt import Attempt
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.judge import Judge
from vggt3_ros.evaluation.map_alignment import align_scene
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.maps.apart import parts_of_drive
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.localize import Localizer
from vggt3_ros.pipeline.localizer_settings import LocalizerSettings
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.scene.scene import Scene


@dataclass(frozen=True, eq=False)
class Trial:
    """A map to be made of split.map, and queries: split.query, and `foreign` ones that show another
    place.

    priors: of each map frame, a pose (4, 4) or None. judged: how the map's poses are
    compared with the truth, as `given` (by its own metres and axes) or after a similarity.
    """

    name: str
    sequence: Sequence
    split: Split
    priors: tuple[Tensor | None, ...]
    judged: Priors
    foreign: tuple[Frame, ...] = ()

    @property
    def queries(self) -> int:
        """How many are asked."""
        return len(self.split.query) + len(self.foreign)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    verified: whether the map can verify poses, reason: why or why not; a map that is none refuses
    all that is asked. keyframes: of the largest part; parts, and in_parts: keyframes that landmarks
    tie in any of them. Every query is asked in all; by_largest: accepted in the largest one. right
    and wrong divide the accepted poses; wrong: beyond 0.5 m or 15 degrees, or of another place.
    failures name the wrong ones. chi_square_median of the accepted ones, None without any.
    traceback: of an error that nobody foresaw, None as it should be.
    """

    name: str
    keyframes: int = field(metadata=figure("count"))
    verified: bool
    reason: str
    asked: int = field(metadata=figure("count"))
    accepted: int = field(default=0, metadata=figure("count"))
    right: int = field(default=0, metadata=figure("count"))
    wrong: int = field(default=0, metadata=figure("count"))
    parts: int = field(default=1, metadata=figure("count"))
    in_parts: int = field(default=0, metadata=figure("count"))
    by_largest: int = field(default=0, metadata=figure("count"))
    chi_square_median: float | None = None
    seconds: float = field(default=0.0, metadata=figure("s"))
    failures: tuple[str, ...] = ()
    traceback: str | None = None


def examine(trial: Trial, network: Any, in_parts: bool = False) -> Outcome:
    """Make the map with a network (a Vggt3), ask, and compare; never raises but for what ends the
    program.

    in_parts: where the map comes apart, every part is asked. Not for frames of other places among
    those of the map, which may become a part of their own, and answer rightly for another place.
    """
    begin = time.perf_counter()
    refused = Outcome(trial.name, len(trial.split.map), False, "", trial.queries)
    try:
        outcome = _examined(trial, refused, network, in_parts)
    except Vggt3Error as error:
        outcome = replace(refused, reason=str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        outcome = replace(refused, reason=reason, traceback=traceback.format_exc())
    return replace(outcome, seconds=time.perf_counter() - begin)


def _examined(trial: Trial, refused: Outcome, network: Any, in_parts: bool) -> Outcome:
    sequence = trial.sequence
    frames = []
    for index, prior in zip(trial.split.map, trial.priors, strict=True):
        frames.append(replace(sequence.frame(index), prior_world_from_cam=prior))
    how = ReconstructionSettings(dense=None)
    whole = reconstruct(frames, network, how)
    scenes = [whole.scene]
    if in_parts:
        drive = parts_of_drive(whole, network, how)
        scenes = [part.scene for part in (drive.largest, *drive.others)]
    scene = scenes[0]
    answered = replace(refused, keyframes=len(scene.keyframes), reason=scene.verdict.reason)
    if not scene.is_verified:
        return answered
    in_each = [_asked(trial, one, network) for one in scenes]
    attempts = [max(answers, key=_gravity) for answers in zip(*in_each, strict=True)]
    tied = {name for one in scenes for name in one.own_frames}
    counted = replace(
        answered,
        verified=True,
        parts=len(scenes),
        in_parts=len(tied),
        by_largest=sum(each.accepted for each in in_each[0]),
    )
    return _counted(counted, attempts)


def _gravity(attempt: Attempt) -> tuple[bool, bool]:
    """By what of the answers that several parts of a map give to one query counts: a wrong pose
    more than a right one, and that more than none.
    """
    return attempt.accepted and not attempt.is_right, attempt.accepted


def _asked(trial: Trial, scene: Scene, network: Any) -> list[Attempt]:
    """All queries asked in one part."""
    sequence = trial.sequence
    settings = LocalizerSettings()
    mapped = align_scene(sequence, trial.split, scene, trial.judged)
    judge = Judge(mapped.true_from_map, settings.locate)
    localizer = Localizer(scene, network, settings)
    attempts = []
    for index in trial.split.query:
        # in a map without a shape none is right
        true = None if mapped.collapsed else sequence.world_from_cam[index]
        attempts.append(
            judge.attempt(sequence.names[index], localizer.localize(sequence.frame(index)), true)
        )
    attempts += [
        judge.attempt(frame.name, localizer.localize(frame), None) for frame in trial.foreign
    ]
    return attempts


def _counted(outcome: Outcome, attempts: Items[Attempt]) -> Outcome:
    accepted = [each for each in attempts if each.accepted]
    wrong = [each for each in accepted if not each.is_right]
    squares = [each.chi_square for each in accepted if np.isfinite(each.chi_square)]
    return replace(
        outcome,
        accepted=len(accepted),
        right=len(accepted) - len(wrong),
        wrong=len(wrong),
        chi_square_median=float(np.median(squares)) if squares else None,
        failures=tuple(
            f"{each.name}: {each.position_m:.2f} m, {each.rotation_deg:.1f} deg" for each in wrong
        ),
    )


def line(outcome: Outcome) -> str:
    """One line of a table; `heading` is its first."""
    square = "-" if outcome.chi_square_median is None else f"{outcome.chi_square_median:.1f}"
    verdict = outcome.reason
    if outcome.verified:
        of = "1 part" if outcome.parts == 1 else f"{outcome.parts} parts"
        verdict = f"verified, {outcome.in_parts} in {of}"
    elif outcome.traceback:
        verdict = f"CRASHED: {outcome.reason}"
    return (
        f"{outcome.name:<44}{outcome.keyframes:>4}{outcome.asked:>6}{outcome.accepted:>9}"
        f"{outcome.right:>6}{outcome.wrong:>6}{square:>8}{outcome.seconds:>7.1f}  {verdict}"
    )


def heading() -> str:
    """Names of the columns of `line`."""
    return (
        f"{'case':<44}{'kf':>4}{'asked':>6}{'accepted':>9}{'right':>6}{'wrong':>6}{'chi2':>8}{'s':>7}"
        "  verdict"
    )


@dataclass(frozen=True)
class Totals:
    """Sums over trials: maps, verified ones, queries asked (also of verified maps alone), accepted,
    right, wrong; and how many trials ended in an error that nobody foresaw.
    """

    maps: int = field(metadata=figure("count"))
    verified: int = field(metadata=figure("count"))
    asked: int = field(metadata=figure("count"))
    asked_of_verified: int = field(metadata=figure("count"))
    accepted: int = field(metadata=figure("count"))
    right: int = field(metadata=figure("count"))
    wrong: int = field(metadata=figure("count"))
    crashed: int = field(metadata=figure("count"))


def totals(outcomes: Iterable[Outcome]) -> Totals:
    """Count maps, queries and accepted poses of all these trials."""
    every = list(outcomes)
    return Totals(
        maps=len(every),
        verified=sum(each.verified for each in every),
        asked=sum(each.asked for each in every),
        asked_of_verified=sum(each.asked for each in every if each.verified),
        accepted=sum(each.accepted for each in every),
        right=sum(each.right for each in every),
        wrong=sum(each.wrong for each in every),
        crashed=sum(each.traceback is not None for each in every),
    )


def summary(outcomes: Items[Outcome]) -> str:
    """The totals in a sentence."""
    sums = totals(outcomes)
    return (
        f"wrong accepted: {sums.wrong} of {sums.asked} asked; {sums.accepted} accepted,"
        f" {sums.right} right; {sums.verified} of {sums.maps} maps verified"
        f" ({sums.asked_of_verified} asked of these), {sums.crashed} ended in an error that nobody"
        " foresaw"
    )
