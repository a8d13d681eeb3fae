"""What one evaluation leaves: figures for JSON and tables, and the poses, points and depths its
pictures show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.attempt import Attempt, verified_errors
from vggt3_ros.evaluation.blocks import combined, definitions, to_json
from vggt3_ros.evaluation.challenge_figures import ChallengeFigures, challenge_figures
from vggt3_ros.evaluation.clouds import CloudFigures
from vggt3_ros.evaluation.compared_clouds import ComparedClouds
from vggt3_ros.evaluation.depth import DepthExample
from vggt3_ros.evaluation.figures import (
    AggregateFigures,
    CollapsedSequences,
    EvaluationFigures,
    QueryCounts,
    VerifiedFigures,
)
from vggt3_ros.geometry.pointcloud import PointCloud


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`; all poses are world_from_cam in metres of the true world.

    map_indices name the map frames in use and map_poses (M, 4, 4) their estimates, adjusted where
    there are landmarks. Per split.query, query_poses has the network's (4, 4) or None for LOST,
    verified_poses the accepted one or None, and attempts what it is worth; challenges has the
    attempts of each kind, None when no challenges were posed. points are the scene's, clouds tell
    how they compare with the truth. figures hold the numbers.
    """

    sequence: Sequence
    split: Split
    map_indices: tuple[int, ...]
    map_poses: Tensor
    query_poses: tuple[Tensor | None, ...]
    verified_poses: tuple[Tensor | None, ...]
    attempts: tuple[Attempt, ...]
    challenges: dict[str, tuple[Attempt, ...]] | None
    points: PointCloud
    clouds: ComparedClouds
    depth_examples: tuple[DepthExample, ...]
    figures: EvaluationFigures

    def to_json(self) -> dict[str, Any]:
        """The figures with their definitions, ready for json.dump in strict JSON."""
        return {**to_json(self.figures), "definitions": definitions(EvaluationFigures)}


def aggregate(evaluations: Items[Evaluation]) -> AggregateFigures:
    """Medians over sequences of every figure of the map, the network's localization, baselines and
    clouds.

    A figure that is not defined for a sequence (NaN, such as depth without truth) is left out of
    its median; an infinite one counts. Counts of queries are sums, and `verified` is of the queries
    of all sequences together. Raises InputError for an empty list.
    """
    if not evaluations:
        raise InputError("there are no evaluations to aggregate; evaluate at least one sequence")
    figures = [evaluation.figures for evaluation in evaluations]
    queries = [each.queries for each in figures]
    return AggregateFigures(
        sequence=f"median of {len(figures)} sequences",
        sequences=tuple(each.sequence for each in figures),
        propose=figures[0].propose,
        trajectory_extent_m=float(np.median([each.trajectory_extent_m for each in figures])),
        map=combined([each.map for each in figures], np.median),
        localization=combined([each.localization for each in figures], np.median),
        baselines=combined([each.baselines for each in figures], np.median),
        cloud=_median_cloud([each.cloud for each in figures]),
        cloud_network=_median_cloud([each.cloud_network for each in figures]),
        live_depth=combined([each.live_depth for each in figures], np.median),
        queries=QueryCounts(
            total=sum(each.total for each in queries),
            answered=sum(each.answered for each in queries),
            lost=sum(each.lost for each in queries),
        ),
        verified=_verified(evaluations),
        alignment=CollapsedSequences(
            collapsed=sum(each.alignment.collapsed for each in figures),
            reason=_where([(each.sequence, each.alignment.reason) for each in figures]),
            network_reason=_where(
                [(each.sequence, each.alignment.network_reason) for each in figures]
            ),
        ),
    )


def _median_cloud(clouds: Items[CloudFigures | None]) -> CloudFigures | None:
    compared = [cloud for cloud in clouds if cloud is not None]
    return combined(compared, np.median) if compared else None


def _verified(evaluations: Items[Evaluation]) -> VerifiedFigures:
    attempts = list(chain.from_iterable(evaluation.attempts for evaluation in evaluations))
    figures = [evaluation.figures for evaluation in evaluations]
    maps = [each.verified.map for each in figures]
    return VerifiedFigures(
        errors=verified_errors(attempts),
        chi_square_reason=_where(
            [(each.sequence, each.verified.chi_square_reason) for each in figures]
        ),
        map=replace(combined(maps, np.median), verified=sum(each.verified for each in maps)),
        challenges=_challenges(evaluations, attempts),
    )


def _challenges(
    evaluations: Items[Evaluation], attempts: Items[Attempt]
) -> ChallengeFigures | None:
    """Of all sequences together, whose attempts at plain queries are given; None where no
    challenges were posed.
    """
    posed = [each.challenges for each in evaluations if each.challenges is not None]
    if not posed:
        return None
    pooled: defaultdict[str, list[Attempt]] = defaultdict(list)
    for challenges in posed:
        for kind, some in challenges.items():
            pooled[kind].extend(some)
    return challenge_figures(attempts, pooled)


def _where(reasons: Items[tuple[str, str | None]]) -> str | None:
    """In which of the sequences something is the matter, None if in none."""
    names = [name for name, reason in reasons if reason is not None]
    return f"{len(names)} of {len(reasons)} sequences: {', '.join(names)}" if names else None
