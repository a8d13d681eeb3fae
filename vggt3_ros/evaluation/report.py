"""Tables and pictures of evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from pathlib import Path

from vggt3_ros.evaluation.attempt import CHI_SQUARE_MEDIAN, VerifiedErrors
from vggt3_ros.evaluation.challenge_figures import ChallengeFigures
from vggt3_ros.evaluation.clouds import DISTANCES_CM, CloudFigures
from vggt3_ros.evaluation.depth import LiveDepthFigures
from vggt3_ros.evaluation.draw_depth import draw_depth
from vggt3_ros.evaluation.draw_slice import draw_slice
from vggt3_ros.evaluation.draw_trajectory import draw_trajectory
from vggt3_ros.evaluation.drive_figures import drive_text
from vggt3_ros.evaluation.figures import (
    AggregateFigures,
    AlignmentFigures,
    CollapsedSequences,
    EvaluationFigures,
    MapErrors,
    VerifiedFigures,
)
from vggt3_ros.evaluation.metrics import LocalizationErrors
from vggt3_ros.evaluation.number_text import shown
from vggt3_ros.evaluation.provenance import RefinedDepth
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.files import atomic_path

_HEADER = (
    f"  {'':<15}{'median':>8}{'':>10}{'':>10}   {'mean':>9}{'':>10}   {'10cm/10deg':>10} "
    f" {'20cm/20deg':>10}"
)

# rows of the network's own poses, by what they are made of
_NETWORK = {"memory": "network alone", "local": "network, local", "both": "network, both"}


def table(figures: Items[EvaluationFigures | AggregateFigures]) -> str:
    """Text table of the figures of sequences, or of several together, one block of lines for
    each.
    """
    return "\n\n".join("\n".join(_block(each)) for each in figures)


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write SEQUENCE_trajectory.png, SEQUENCE_depth.png and, of clouds that were compared with the
    truth, SEQUENCE_slice.png into `folder`, made if missing; returns their paths.

    Each picture appears, or replaces an older one, when it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = evaluation.sequence.name.replace(":", "_").replace("/", "_")
    pictures = {"trajectory": draw_trajectory, "depth": draw_depth}
    if evaluation.clouds.truth is not None:
        pictures["slice"] = draw_slice
    paths = {name: folder / f"{stem}_{name}.png" for name in pictures}
    for name, draw in pictures.items():
        with atomic_path(paths[name]) as temporary:
            draw(evaluation, temporary)
    return list(paths.values())


def _block(figures: EvaluationFigures | AggregateFigures) -> list[str]:
    queries = figures.queries
    errors = figures.map.errors
    depth = figures.map.depth
    split = f", split {figures.split}" if isinstance(figures, EvaluationFigures) else ""
    notes = figures.notes if isinstance(figures, EvaluationFigures) else ()
    localization = figures.localization
    baselines = figures.baselines
    return [
        (
            f"{figures.sequence}{split}: {errors.frames:g} map frames, {queries.total} queries, "
            f"extent {figures.trajectory_extent_m:.2f} m"
        ),
        (
            f"  map: ATE {shown(100 * errors.ate_m, 1)} cm = {shown(errors.ate_percent, 1)} %, "
            f"pair rotation {shown(errors.pair_rotation_deg, 1)} deg, "
            f"direction {shown(errors.pair_direction_deg, 1)} deg, "
            f"depth AbsRel {shown(depth.depth_abs_rel, 3)}"
            f" (anchored {shown(depth.depth_abs_rel_anchored, 3)}), "
            f"{figures.map.seconds:.1f} s ({figures.map.cpu_seconds:.1f} s of CPU)"
        ),
        *_drive(figures),
        *_refined(depth.depth_refined),
        *_cloud("cloud", figures.cloud),
        *_cloud("cloud of the network", figures.cloud_network),
        *_alignment(figures.alignment, figures.propose),
        _HEADER,
        _row("verified", figures.verified.errors) + "   errors of the accepted",
        _row(_NETWORK[figures.propose], localization)
        + (f"   {queries.lost} LOST" if queries.lost else ""),
        _row("mean pose", baselines.mean_pose),
        _row("nearest image", baselines.nearest_image),
        *_verification(figures.verified, errors),
        *_live_depth(figures.live_depth),
        *[f"  note: {note}" for note in notes],
    ]


def _drive(figures: EvaluationFigures | AggregateFigures) -> list[str]:
    """How far odometry that drifts is off, and the map made of it."""
    if isinstance(figures, AggregateFigures) or figures.drive is None:
        return []
    return [drive_text(figures.drive)]


def _refined(depth: RefinedDepth | None) -> list[str]:
    """Errors of refined depth, and how it is known."""
    if depth is None:
        return []
    kinds = [
        f"{name} {shown(100 * kind.share, 0)} % {shown(kind.abs_rel, 3)}"
        for name, kind in depth.by_provenance.items()
        if kind.share > 0
    ]
    within = f"{shown(100 * depth.every.delta_1_25, 0)} % within 1.25"
    return [
        f"  refined depth: AbsRel {shown(depth.every.abs_rel, 3)}, {within} ({', '.join(kinds)})"
    ]


def _live_depth(block: LiveDepthFigures) -> list[str]:
    """Errors of the depth of queries."""
    if not block.frames:
        return []
    refined = f", refined in {shown(block.ms, 0)} ms" if math.isfinite(block.ms) else ""
    errors = f"AbsRel {shown(block.abs_rel, 3)}, {shown(100 * block.delta_1_25, 0)} % within 1.25"
    return [f"  depth of verified queries: {errors}{refined}"]


def _cloud(name: str, cloud: CloudFigures | None) -> list[str]:
    """How near the points come to the true surface."""
    if cloud is None:
        return []
    within = []
    for limit in DISTANCES_CM:
        near = cloud.within_cm(limit)
        within.append(
            f"{limit} cm {shown(near.precision, 2)} / {shown(near.recall, 2)} /"
            f" {shown(near.f_score, 2)}"
        )
    return [
        f"  {name}: median {shown(cloud.accuracy_cm.median, 1)} cm off, Chamfer "
        f"{shown(cloud.chamfer_cm, 1)} cm, normals {shown(cloud.normal_consistency, 2)}; "
        f"precision / recall / F at {', '.join(within)} (voxels of {100 * cloud.voxel_m:.1f} cm)"
    ]


def _alignment(block: AlignmentFigures | CollapsedSequences, propose: str) -> list[str]:
    """Why there are no errors, where there are none."""
    if block.reason:
        return [f"  no error can be told and no pose counts as right: {block.reason}"]
    if block.network_reason and propose != "local":
        return [f"  no pose of the network alone counts as right: {block.network_reason}"]
    return []


def _verification(block: VerifiedFigures, mapped: MapErrors) -> list[str]:
    """Lines on verified poses beside their errors: landmarks, counts, covariances and times."""
    errors = block.errors
    landmarks = block.map
    off = (
        f"{shown(100 * landmarks.position_rms_m, 1)} cm rms,"
        f" {shown(100 * landmarks.position_max_m, 1)} at most"
    )
    stages = [
        f"{stage} {shown(ms, 0)}" for stage, ms in errors.stages_ms.items() if stage != "total"
    ]
    return [
        f"  landmarks: {landmarks.landmarks:g} in {landmarks.bytes / 1e6:.1f} MB, carried by "
        f"{mapped.keyframes_with_landmarks:g} of {mapped.frames:g} keyframes (errors {off})"
        + (f"; {landmarks.reason}" if landmarks.reason else ""),
        (
            f"  accepted: {errors.accepted} of {errors.queries} queries, "
            f"{shown(100 * errors.answerable_accepted, 0)} % of {errors.answerable} answerable, "
            f"{errors.wrong_accepted} wrong"
        ),
        f"  covariance: chi-square median {shown(errors.chi_square_median, 1)} (expected"
        f" {CHI_SQUARE_MEDIAN:.1f}), {shown(100 * errors.inside_95, 0)} % inside the 95 % bound"
        + (f"; none: {block.chi_square_reason}" if block.chi_square_reason else ""),
        (
            f"  time per query: {shown(errors.ms_per_frame, 0)} ms beside the network, "
            f"{shown(errors.cpu_ms_per_frame, 0)} ms of CPU ({', '.join(stages)})"
        ),
        *_challenges(block.challenges),
    ]


def _challenges(block: ChallengeFigures | None) -> list[str]:
    """How many of each kind were accepted."""
    if block is None:
        return []
    return [
        "  challenges, wrongly accepted / accepted / posed:",
        *[
            f"    {kind:<16}{counts.wrong_accepted:>4} /{counts.accepted:>4} /{counts.queries:>4}"
            for kind, counts in [*block.challenges.items(), ("with the queries", block.in_all)]
        ],
    ]


def _row(name: str, errors: LocalizationErrors | VerifiedErrors) -> str:
    percent = errors.median_position_percent if isinstance(errors, LocalizationErrors) else math.nan
    return (
        f"  {name:<15}{shown(percent, 1):>6} %{shown(100 * errors.median_position_m, 1):>7}"
        f" cm{shown(errors.median_rotation_deg, 1):>6} deg  "
        f" {shown(100 * errors.mean_position_m, 1):>6}"
        f" cm{shown(errors.mean_rotation_deg, 1):>6} deg  "
        f" {100 * errors.success_10cm_10deg:>8.0f} %  {100 * errors.success_20cm_20deg:>8.0f} %"
    )
