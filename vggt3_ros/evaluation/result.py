"""What one evaluation leaves: figures for JSON and tables, and the poses, points and depths its pictures show."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.evaluation.blocks import combined, to_json
from vggt3_ros.evaluation.challenges import challenge_figures
from vggt3_ros.evaluation.compared_clouds import NETWORK, SCENE, ComparedClouds
from vggt3_ros.evaluation.depth import DepthExample
from vggt3_ros.evaluation.sequence import Sequence, Split
from vggt3_ros.evaluation.verified import Attempt, verified_summary
from vggt3_ros.geometry.pointcloud import PointCloud

DEFINITIONS = {
    "trajectory_extent_m": "diagonal of the axis-parallel bounding box of the true positions of map and query frames",
    "ate": "rms position error of the network's map frames after the best Sim(3) of positions; percent of "
    "trajectory_extent_m; null where that Sim(3) draws the positions together",
    "pair_rotation_deg": "median over all pairs of map frames",
    "pair_direction_deg": "median over the pairs of map frames at least 1 % of trajectory_extent_m apart",
    "depth_abs_rel": "mean of |scale * predicted - true| / true over all map frames, one scale (median) per sequence",
    "depth_abs_rel_anchored": "the same of the depths as scaled to the landmarks of each keyframe, in the map's own "
    "metres or those of its alignment; null without landmarks",
    "depth_delta_1_25": "share of these pixels whose depth, so scaled, is less than 1.25 times too far or too near; "
    "depth_delta_1_25_anchored: of the anchored depths",
    "depth_refined": "the same two of depth refined by the views of each other, for all pixels and by_provenance: "
    "none (not known), agreed (several frames see the surface), plane (carried on by a plane), near and far (filled "
    "by the network's shape, near to what is known or not); share: of the pixels whose true depth is known, "
    "size_wh: of the refined images; by_expected_error: means of what was expected (for a point 0.01 m / confidence) "
    "and of what was measured; only where depth was refined and there is truth",
    "cloud": "points of the scene against the true surface, which is the fused true depth of the map frames and of "
    "up to 100 others; in metres of the map or of its alignment. Positions are averaged in cubes, the cloud's of "
    "side voxel_m (2 cm; 0.8 cm where the median true depth is below 0.5 m; more where the true surface would take "
    "over four million), the truth's half as large (true_voxel_m). Of more than 150,000 points so many, drawn with "
    "a fixed seed, are asked for their nearest one. accuracy_cm: from points to the nearest true ones; "
    "completeness_cm: from the true ones that two map frames or more see (seen_share of all) to the nearest points; "
    "chamfer_cm: mean of both means; normal_consistency: mean |cos| between the normals of such neighbours, both "
    "ways, each told from the nearest 20 points in cubes of voxel_m; within: shares of points (precision) and of "
    "seen true points (recall) no farther than that, and their harmonic mean (f_score). No such block without true "
    "depth, or where the map does not follow the truth",
    "cloud_network": "the same of the points that the network's own depth gives, where those of the scene are of "
    "refined depth",
    "keyframes_with_landmarks": "map frames that landmarks tie to each other; position_rms_m, position_max_m and "
    "rotation_median_deg below verified.map are of these alone",
    "priors": "none; given: the true poses of the map frames, errors are absolute, in the map's own metres and axes; "
    "noisy: true poses with isotropic Gaussian noise, a displacement and a turn about the camera of these rms lengths; "
    "with noisy priors or none, errors are measured after the Sim(3) from the (adjusted) poses of the keyframes with "
    "landmarks to the true ones (of all keyframes where fewer than three carry some; alignment.source tells)",
    "collapsed": "the estimated positions do not follow the truth, so that the Sim(3) draws them together and errors "
    "would be those of the mean pose: every error is infinite (null), no pose is a success, accepted ones are wrong; "
    "alignment.reason tells why, alignment.network_reason where that holds for the network alone",
    "localization": "the network alone; success and medians count every query, a LOST one as a failure of infinite "
    "error; means are of answered queries; null = infinite or not defined",
    "verified": "poses refined and accepted by the landmarks; medians and means are of accepted poses, success_* are "
    "shares of all queries; wrong: beyond 0.5 m or 15 degrees; several sequences: all their queries together",
    "live_depth": "the same two of the depth of verified queries, in the map's own metres or those of its alignment: "
    "the network's, or, with --refine-depth, what keyframes know there; ms: mean of refining it",
    "answerable": "queries of whose view (grid of pixels of known true depth) at least 30 % is a surface that two map "
    "frames or more see within 45 degrees of the query's direction; without true depth every query",
    "chi_square": "squared error of position (3) and rotation (3) over its covariance, six degrees of freedom: median "
    "5.348 expected (chi_square_ratio 1); inside_95: share below 12.592, expected 0.95; null where the map "
    "has no metres, chi_square_reason tells",
    "ms_per_frame": "mean over queries of all time but the network's and that of preparing its input; stages_ms are "
    "means over the queries that went through the stage; cpu_*: time of the processor, all threads of the process",
    "challenges": "frames of the other folders evaluated together with this one, of other rooms (corridors, yards), "
    "of such of other layout painted like this one, answerable queries whose other half shows another room (a place "
    "that holds a copy of the first), and mirrored ones (every accepted pose is wrong); views of parts that no map "
    "frame shows, and answerable queries made black, dark, blurred or half covered; in_all: with the plain queries; "
    "trade_off, trade_off_support, trade_off_agreement: counts over the inliers, the support (where agreement is not "
    "strong) or the agreement that is asked for; failures: every wrong pose that was accepted",
    "mean_pose": "every query is given the mean true pose of the map frames",
    "nearest_image": "every query is given the true pose of the map frame with the most similar 32x24 grey thumbnail",
    "peak_rss_bytes": "of the whole process since its start",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of `evaluate`; all poses are world_from_cam in metres of the true world.

    map_indices name the map frames in use and map_poses (M, 4, 4) their estimates, adjusted where there are landmarks.
    Per split.query, query_poses has the network's (4, 4) or None for LOST, verified_poses the accepted one or None, and
    attempts what it is worth; challenges has the attempts of each kind, None when no challenges were posed. points are
    the scene's, clouds tell how they compare with the truth. figures hold the numbers; they may be infinite or NaN,
    which to_json turns to null.
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
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The figures with their definitions, ready for json.dump in strict JSON."""
        figures: dict[str, Any] = to_json({**self.figures, "definitions": DEFINITIONS})
        return figures


def aggregate(evaluations: Items[Evaluation]) -> dict[str, Any]:
    """Medians over sequences of every figure of `map`, `localization`, `baselines` and clouds, in the layout of one.

    A figure that is not defined for a sequence (NaN, such as depth without truth) is left out of its median; an
    infinite one counts. Counts of queries are sums, and `verified` is of the queries of all sequences together. Raises
    InputError for an empty list.
    """
    if not evaluations:
        raise InputError("there are no evaluations to aggregate; evaluate at least one sequence")
    figures = [evaluation.figures for evaluation in evaluations]
    clouds = {block: [each[block] for each in figures if block in each] for block in (SCENE, NETWORK)}
    return {
        "sequence": f"median of {len(figures)} sequences",
        "sequences": [each["sequence"] for each in figures],
        "trajectory_extent_m": float(np.median([each["trajectory_extent_m"] for each in figures])),
        "map": _medians([each["map"] for each in figures]),
        "localization": _medians([each["localization"] for each in figures]),
        "baselines": _medians([each["baselines"] for each in figures]),
        **{block: _medians(found) for block, found in clouds.items() if found},
        "live_depth": _medians([each["live_depth"] for each in figures]),
        "queries": {key: sum(each["queries"][key] for each in figures) for key in ("total", "answered", "lost")},
        "verified": _verified(evaluations),
        "alignment": {
            "collapsed": sum(each["alignment"]["collapsed"] for each in figures),
            "reason": _where([(each["sequence"], each["alignment"]["reason"]) for each in figures]),
            "network_reason": _where([(each["sequence"], each["alignment"]["network_reason"]) for each in figures]),
        },
    }


def _verified(evaluations: Items[Evaluation]) -> dict[str, Any]:
    attempts = [attempt for evaluation in evaluations for attempt in evaluation.attempts]
    maps = [evaluation.figures["verified"]["map"] for evaluation in evaluations]
    verified_maps = sum(each["verified"] for each in maps)
    reasons = [(each.figures["sequence"], each.figures["verified"]["chi_square_reason"]) for each in evaluations]
    block = {
        **verified_summary(attempts),
        "chi_square_reason": _where(reasons),
        "map": {**_medians(maps), "verified": verified_maps},
    }
    posed = [evaluation.challenges for evaluation in evaluations if evaluation.challenges is not None]
    if posed:
        kinds = dict.fromkeys(kind for each in posed for kind in each)
        pooled = {kind: [attempt for each in posed for attempt in each.get(kind, ())] for kind in kinds}
        block |= challenge_figures(attempts, pooled)
    return block


def _where(reasons: Items[tuple[str, str | None]]) -> str | None:
    """In which of the sequences something is the matter, None if in none."""
    names = [name for name, reason in reasons if reason is not None]
    return f"{len(names)} of {len(reasons)} sequences: {', '.join(names)}" if names else None


def _medians(blocks: list[Any]) -> Any:
    return combined(blocks, np.median)
