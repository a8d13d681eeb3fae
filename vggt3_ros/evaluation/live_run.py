"""What a localizer beside a moving camera is worth: figures from what it published, by the stamps
of the images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.attempt import WRONG_POSITION_M, WRONG_ROTATION_DEG
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.evaluation.metrics import pose_errors, trajectory_extent

MAPPED_FRACTION = 0.5  # of an image's view that some map frame shows, for it to count as answerable


@dataclass(frozen=True)
class Spread:
    """Of values; None without any."""

    median: float | None
    p90: float | None


@dataclass(frozen=True)
class LiveFigures:
    """The part of the report that is about localization; what nobody can know is None. wrong:
    beyond 0.5 m or 15 degrees; refusal_reasons: the most frequent ones, and how often each was
    given.
    """

    query_frames: int = field(metadata=figure("count"))
    localized: int = field(metadata=figure("count"))
    refused: int = field(metadata=figure("count"))
    answerable: int | None = field(
        metadata=figure(
            "count", "images of whose view at least half is a surface that some map frame shows"
        )
    )
    localized_answerable: int | None = field(metadata=figure("count"))
    wrong: int | None = field(metadata=figure("count"))
    position_error_m: Spread = field(metadata=figure("m"))
    rotation_error_deg: Spread = field(metadata=figure("deg"))
    trajectory_extent_m: float | None = field(metadata=figure("m"))
    image_to_pose_ms: Spread = field(metadata=figure("ms"))
    refusal_reasons: dict[str, int] = field(metadata=figure("count"))


@dataclass(frozen=True, eq=False)
class LiveRun:
    """A drive through a finished map. Everything is keyed by the stamp (ns) of an image.

    refusals: the images that were tried in vain, and why. poses: what was published, map_from_base
    (4, 4); delays_ms: how long after the image. true_poses: the truth, in the same frames; empty
    where nobody knows it. mapped_fractions: how much of each image's view was mapped, None where
    nobody knows. map_poses (S, 4, 4), map_from_cam: where the map was made from; cam_from_base (4,
    4): what leads from there to the poses. is_metric: all that in metres.
    """

    refusals: Mapping[int, str]
    poses: Mapping[int, Tensor]
    delays_ms: Mapping[int, float]
    map_poses: Tensor
    true_poses: Mapping[int, Tensor] = field(default_factory=dict)
    mapped_fractions: Mapping[int, float] | None = None
    is_metric: bool = True
    cam_from_base: Tensor = field(default_factory=lambda: torch.eye(4, dtype=torch.float64))

    @property
    def attempts(self) -> list[int]:
        """The images that were tried."""
        return sorted({*self.refusals, *self.poses})

    @property
    def truth(self) -> Mapping[int, Tensor]:
        """The true poses, if those of the map can be compared with them."""
        return self.true_poses if self.is_metric else {}

    def figures(self) -> LiveFigures:
        """Of the poses and refusals."""
        position, rotation = self.errors()
        wrong = (position > WRONG_POSITION_M) | (rotation > WRONG_ROTATION_DEG)
        answerable = self.answerable()
        around = torch.stack([*self.map_poses, *(self.true_path() or self.poses.values())])
        return LiveFigures(
            query_frames=len(self.attempts),
            localized=len(self.poses),
            refused=len(self.refusals),
            answerable=None if answerable is None else len(answerable),
            localized_answerable=None if answerable is None else len(answerable & {*self.poses}),
            wrong=int(wrong.sum()) if self.truth else None,
            position_error_m=_spread(position),
            rotation_error_deg=_spread(rotation),
            trajectory_extent_m=trajectory_extent(around) if self.is_metric else None,
            image_to_pose_ms=_spread(self.delays_ms.values()),
            refusal_reasons=_reasons(self.refusals),
        )

    def failure(self) -> str | None:
        """Why it is no success, in a sentence; None if something was localized and nothing is known
        to be wrong.
        """
        tried = len(self.attempts)
        found = len(self.poses)
        wrong = self.figures().wrong
        if not tried:
            return "the localizer tried no image"
        if not found:
            return (
                f"none of {tried} images was localized, mostly because:"
                f" {next(iter(_reasons(self.refusals)))}"
            )
        if self.true_poses and not self.is_metric:
            return "the map has no scale, and so its poses cannot be compared with the truth"
        if wrong:
            far = f"more than {WRONG_POSITION_M:g} m or {WRONG_ROTATION_DEG:g} degrees off"
            return f"{wrong} of {found} published poses are wrong ({far})"
        return None

    def answerable(self) -> set[int] | None:
        """The images tried whose view was mapped to a good part; None where nobody knows."""
        if self.mapped_fractions is None:
            return None
        return {
            stamp
            for stamp in self.attempts
            if self.mapped_fractions.get(stamp, 0.0) >= MAPPED_FRACTION
        }

    def true_path(self) -> list[Tensor]:
        """The true poses from the first attempt to the last, also of images that were not tried."""
        attempts = self.attempts
        return [
            self.truth[s]
            for s in sorted(self.truth)
            if attempts and attempts[0] <= s <= attempts[-1]
        ]

    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Metres and degrees, (P,) each, of the poses whose truth is known, in the order of their
        stamps.
        """
        known = [stamp for stamp in sorted(self.poses) if stamp in self.truth]
        if not known:
            return np.empty(0), np.empty(0)
        return pose_errors(
            [self.poses[s] for s in known], torch.stack([self.truth[s] for s in known])
        )


def _reasons(refusals: Mapping[int, str]) -> dict[str, int]:
    """How often each of the most frequent reasons was given, one for all that differ in their
    numbers alone.
    """
    kinds = {stamp: re.sub(r"[0-9.]+", "0", reason) for stamp, reason in refusals.items()}
    # the earliest stays
    examples = {kinds[stamp]: refusals[stamp] for stamp in sorted(refusals, reverse=True)}
    return {examples[kind]: count for kind, count in Counter(kinds.values()).most_common(5)}


def _spread(values: Iterable[float]) -> Spread:
    numbers = np.array([*values], dtype=np.float64)
    if len(numbers) == 0:
        return Spread(None, None)
    return Spread(float(np.median(numbers)), float(np.quantile(numbers, 0.9)))
