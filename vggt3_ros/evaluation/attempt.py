"""Poses that landmarks have verified: how many were given, how right they are, and whether they
knew it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vggt3_ros.evaluation.averages import mean_of_defined
from vggt3_ros.evaluation.blocks import figure
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.geometry.uncertainty import pose_error_vector, squared_error
from vggt3_ros.landmarks.acceptance import Evidence, LocateSettings, objection

WRONG_POSITION_M = 0.5
WRONG_ROTATION_DEG = 15.0
# of the distribution with six degrees of freedom
CHI_SQUARE_MEDIAN = 5.348
CHI_SQUARE_95 = 12.592
_OF_THE_NETWORK = ("prepare", "network", "local")  # stages of a localization


@dataclass(frozen=True, eq=False)
class Attempt:
    """One query (name is that of its frame), whether a verified pose was given, and how far that is
    from the truth.

    Errors and evidence are those of the best pose found, accepted or not; errors are infinite when
    none was found, and when the query shows another place. gate: what poses were asked to show.
    chi_square is the normalised squared error, NaN without a covariance in metres. seconds per
    stage; cpu_seconds of the processor, in total and those of the network.
    """

    name: str
    accepted: bool
    answerable: bool
    position_m: float = math.inf
    rotation_deg: float = math.inf
    chi_square: float = math.nan
    evidence: Evidence = field(default=Evidence(), metadata=figure(inline=True))
    gate: LocateSettings = field(default=LocateSettings(), metadata=figure(hidden=True))
    source: str = ""
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict, metadata=figure(hidden=True))
    cpu_seconds: dict[str, float] = field(default_factory=dict, metadata=figure(hidden=True))

    @property
    def is_right(self) -> bool:
        """Whether the pose found, accepted or not, is within 0.5 m and 15 degrees of the truth."""
        return self.position_m <= WRONG_POSITION_M and self.rotation_deg <= WRONG_ROTATION_DEG

    def passes(self, **asked: float) -> bool:
        """Whether it would be accepted if other limits of LocateSettings were asked for than those
        of its gate.

        Of what its gate refused nothing is known but its evidence; where that suffices, it counts
        as accepted.
        """
        gate: Any = replace(self.gate, **asked)  # type: ignore[arg-type]
        if objection(self.evidence, gate) is not None:
            return False
        return self.accepted or objection(self.evidence, self.gate) is not None

    @property
    def landmark_seconds(self) -> float:
        """Time beside the network and the preparation of its input; NaN where it was not
        measured.
        """
        return _beside_the_network(self.seconds)

    @property
    def landmark_cpu_seconds(self) -> float:
        """The same of the processor's time."""
        return _beside_the_network(self.cpu_seconds)


def _beside_the_network(seconds: Mapping[str, float]) -> float:
    if "total" not in seconds:
        return math.nan
    return seconds["total"] - sum(seconds.get(stage, 0.0) for stage in _OF_THE_NETWORK)


def transformed_covariance(covariance: Tensor, true_from_map: Sim3) -> Tensor:
    """Covariance (6, 6) of (position in the map, rotation vector in the camera) after a similarity
    of the map.
    """
    jacobian = torch.eye(6, dtype=torch.float64)
    jacobian[:3, :3] = true_from_map.scale * true_from_map.rotation
    return jacobian @ covariance.double() @ jacobian.T


def chi_square(estimated: Tensor, covariance: Tensor, true: Tensor) -> float:
    """Normalised squared error e^T C^-1 e of a pose (4, 4) with covariance (6, 6); infinite where C
    is not positive.

    Of an honest covariance and Gaussian errors it has six degrees of freedom: median 5.35, 95 %
    below 12.6.
    """
    return squared_error(pose_error_vector(estimated.double(), true.double()), covariance.double())


@dataclass(frozen=True)
class VerifiedErrors:
    """Of the queries of one or of several sequences together.

    Medians and means are of the accepted ones, NaN without any; successes are fractions (0 to 1) of
    all queries. sources: how many of the accepted poses came from where.
    """

    queries: int = field(metadata=figure("count"))
    answerable: int = field(
        metadata=figure(
            "count",
            "queries of whose view (grid of pixels of known true depth) at least 30 % is a surface"
            " that two map frames or more see within 45 degrees of the query's direction; without"
            " true depth every query",
        )
    )
    accepted: int = field(metadata=figure("count"))
    wrong_accepted: int = field(metadata=figure("count"))
    median_position_m: float = field(metadata=figure("m"))
    median_rotation_deg: float = field(metadata=figure("deg"))
    success_10cm_10deg: float = field(metadata=figure("share"))
    success_20cm_20deg: float = field(metadata=figure("share"))
    chi_square_median: float = field(
        metadata=figure(
            "",
            "squared error of position (3) and rotation (3) over its covariance, six degrees of"
            " freedom: median 5.348 expected (chi_square_ratio 1); inside_95: share below 12.592,"
            " expected 0.95; null where the map has no metres, chi_square_reason tells",
            named="chi_square",
        )
    )
    ms_per_frame: float = field(
        metadata=figure(
            "ms",
            "mean over queries of all time but the network's and that of preparing its input;"
            " stages_ms are means over the queries that went through the stage; cpu_*: time of the"
            " processor, all threads of the process",
        )
    )
    cpu_ms_per_frame: float = field(metadata=figure("ms"))
    answerable_accepted: float = field(metadata=figure("share"))
    mean_position_m: float = field(metadata=figure("m"))
    mean_rotation_deg: float = field(metadata=figure("deg"))
    chi_square_ratio: float = field(metadata=figure("ratio"))
    inside_95: float = field(metadata=figure("share"))
    stages_ms: dict[str, float] = field(metadata=figure("ms"))
    sources: dict[str, int] = field(metadata=figure("count"))


def verified_errors(attempts: Items[Attempt]) -> VerifiedErrors:
    """Errors of those attempts that were accepted, and fractions of them all; NaN without any."""
    accepted = [each for each in attempts if each.accepted]
    answerable = [each for each in attempts if each.answerable]
    position = np.array([each.position_m for each in accepted])
    rotation = np.array([each.rotation_deg for each in accepted])
    squares = np.array([each.chi_square for each in accepted])
    squares = squares[~np.isnan(squares)]

    def of_all(limit_m: float, limit_deg: float) -> float:
        hits = np.count_nonzero((position <= limit_m) & (rotation <= limit_deg))
        return float(hits / len(attempts)) if attempts else math.nan

    median_square = _median(squares)
    return VerifiedErrors(
        queries=len(attempts),
        answerable=len(answerable),
        accepted=len(accepted),
        wrong_accepted=sum(not each.is_right for each in accepted),
        median_position_m=_median(position),
        median_rotation_deg=_median(rotation),
        success_10cm_10deg=of_all(0.1, 10),
        success_20cm_20deg=of_all(0.2, 20),
        chi_square_median=median_square,
        ms_per_frame=1000 * mean_of_defined([each.landmark_seconds for each in attempts]),
        cpu_ms_per_frame=1000 * mean_of_defined([each.landmark_cpu_seconds for each in attempts]),
        answerable_accepted=mean_of_defined([float(each.accepted) for each in answerable]),
        mean_position_m=mean_of_defined(position),
        mean_rotation_deg=mean_of_defined(rotation),
        chi_square_ratio=median_square / CHI_SQUARE_MEDIAN,
        inside_95=mean_of_defined(squares <= CHI_SQUARE_95),
        stages_ms=_stages_ms(attempts),
        sources=dict(Counter(each.source for each in accepted)),
    )


def _stages_ms(attempts: Items[Attempt]) -> dict[str, float]:
    """Mean milliseconds of every stage over the queries that went through it, in the order of the
    work.
    """
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for each in attempts:
        for stage, taken in each.seconds.items():
            seconds[stage].append(taken)
    return {stage: 1000 * mean_of_defined(taken) for stage, taken in seconds.items()}


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan
