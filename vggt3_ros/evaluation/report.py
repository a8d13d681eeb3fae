"""Tables and pictures of evaluations."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

from vggt3_ros.evaluation.clouds import DISTANCES_CM, CloudFigures
from vggt3_ros.evaluation.compared_clouds import NETWORK, SCENE
from vggt3_ros.evaluation.depth import LiveDepthFigures
from vggt3_ros.evaluation.draw_depth import draw_depth
from vggt3_ros.evaluation.draw_slice import draw_slice
from vggt3_ros.evaluation.draw_trajectory import draw_trajectory
from vggt3_ros.evaluation.provenance import RefinedDepth
from vggt3_ros.evaluation.result import Evaluation
from vggt3_ros.evaluation.verified import CHI_SQUARE_MEDIAN

_HEADER = f"  {'':<15}{'median':>8}{'':>10}{'':>10}   {'mean':>9}{'':>10}   {'10cm/10deg':>10}  {'20cm/20deg':>10}"


def table(figures: Items[dict[str, Any]]) -> str:
    """Text table of the figures of evaluations (Evaluation.figures) or of aggregates, one block of lines for each."""
    return "\n\n".join("\n".join(_block(each)) for each in figures)


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write SEQUENCE_trajectory.png, SEQUENCE_depth.png and, of clouds that were compared with the truth,
    SEQUENCE_slice.png into `folder`, made if missing; returns their paths.

    Each picture appears, or replaces an older one, when it is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = evaluation.sequence.name.replace(":", "_").replace("/", "_")
    pictures = {"trajectory": draw_trajectory, "depth": draw_depth}
    if evaluation.clouds.truth is not None:
        pictures["slice"] = draw_slice
    paths = {name: folder / f"{stem}_{name}.png" for name in pictures}
    for name, draw in pictures.items():
        _draw(draw, evaluation, paths[name])
    return list(paths.values())


def _draw(draw: Callable[[Evaluation, Path], None], evaluation: Evaluation, path: Path) -> None:
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the suffix tells the format
    try:
        draw(evaluation, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _block(figures: dict[str, Any]) -> list[str]:
    queries, summary = figures["queries"], figures["map"]
    split = f", split {figures['split']}" if "split" in figures else ""
    return [
        f"{figures['sequence']}{split}: {summary['frames']:g} map frames, {queries['total']} queries, "
        f"extent {figures['trajectory_extent_m']:.2f} m",
        f"  map: ATE {_number(100 * summary['ate_m'], 1)} cm = {_number(summary['ate_percent'], 1)} %, "
        f"pair rotation {_number(summary['pair_rotation_deg'], 1)} deg, "
        f"direction {_number(summary['pair_direction_deg'], 1)} deg, "
        f"depth AbsRel {_number(summary['depth_abs_rel'], 3)}"
        f" (anchored {_number(summary['depth_abs_rel_anchored'], 3)}), "
        f"{summary['seconds']:.1f} s ({summary['cpu_seconds']:.1f} s of CPU)",
        *_refined(summary.get("depth_refined")),
        *_cloud("cloud", figures.get(SCENE)),
        *_cloud("cloud of the network", figures.get(NETWORK)),
        *_alignment(figures["alignment"]),
        _HEADER,
        _row("verified", figures["verified"]) + "   errors of the accepted",
        _row("network alone", figures["localization"]) + (f"   {queries['lost']} LOST" if queries["lost"] else ""),
        _row("mean pose", figures["baselines"]["mean_pose"]),
        _row("nearest image", figures["baselines"]["nearest_image"]),
        *_verification(figures["verified"], summary),
        *_live_depth(figures["live_depth"]),
        *[f"  note: {note}" for note in figures.get("notes", ())],
    ]


def _refined(depth: RefinedDepth | None) -> list[str]:
    """Errors of refined depth, and the ways in which it is known."""
    if depth is None:
        return []
    kinds = [
        f"{name} {_number(100 * kind.share, 0)} % {_number(kind.abs_rel, 3)}"
        for name, kind in depth.by_provenance.items()
        if kind.share > 0
    ]
    within = f"{_number(100 * depth.every.delta_1_25, 0)} % within 1.25"
    return [f"  refined depth: AbsRel {_number(depth.every.abs_rel, 3)}, {within} ({', '.join(kinds)})"]


def _live_depth(block: LiveDepthFigures) -> list[str]:
    """Errors of the depth of queries."""
    if not block.frames:
        return []
    refined = f", refined in {_number(block.ms, 0)} ms" if math.isfinite(block.ms) else ""
    errors = f"AbsRel {_number(block.abs_rel, 3)}, {_number(100 * block.delta_1_25, 0)} % within 1.25"
    return [f"  depth of verified queries: {errors}{refined}"]


def _cloud(name: str, cloud: CloudFigures | None) -> list[str]:
    """How near the points come to the true surface."""
    if cloud is None:
        return []
    within = [
        f"{limit} cm {_number(shares.precision, 2)} / {_number(shares.recall, 2)} / {_number(shares.f_score, 2)}"
        for limit, shares in ((limit, cloud.within_cm(limit)) for limit in DISTANCES_CM)
    ]
    return [
        f"  {name}: median {_number(cloud.accuracy_cm.median, 1)} cm off, Chamfer "
        f"{_number(cloud.chamfer_cm, 1)} cm, normals {_number(cloud.normal_consistency, 2)}; "
        f"precision / recall / F at {', '.join(within)} (voxels of {100 * cloud.voxel_m:.1f} cm)"
    ]


def _alignment(block: dict[str, Any]) -> list[str]:
    """Where no errors can be told, and why."""
    if block["reason"]:
        return [f"  no error can be told and no pose counts as right: {block['reason']}"]
    if block["network_reason"]:
        return [f"  no pose of the network alone counts as right: {block['network_reason']}"]
    return []


def _verification(block: dict[str, Any], mapped: dict[str, Any]) -> list[str]:
    """What there is to tell of verified poses beside their errors."""
    summary = block["map"]
    off = f"{_number(100 * summary['position_rms_m'], 1)} cm rms, {_number(100 * summary['position_max_m'], 1)} at most"
    lines = [
        f"  landmarks: {summary['landmarks']:g} in {summary['bytes'] / 1e6:.1f} MB, carried by "
        f"{mapped['keyframes_with_landmarks']:g} of {mapped['frames']:g} keyframes (errors {off})"
        + (f"; {summary['reason']}" if summary.get("reason") else ""),
        f"  accepted: {block['accepted']} of {block['queries']} queries, "
        f"{_number(100 * block['answerable_accepted'], 0)} % of {block['answerable']} answerable, "
        f"{block['wrong_accepted']} wrong",
        f"  covariance: chi-square median {_number(block['chi_square_median'], 1)} (expected {CHI_SQUARE_MEDIAN:.1f}), "
        f"{_number(100 * block['inside_95'], 0)} % inside the 95 % bound"
        + (f"; none: {block['chi_square_reason']}" if block["chi_square_reason"] else ""),
        f"  time per query: {_number(block['ms_per_frame'], 0)} ms beside the network, "
        f"{_number(block['cpu_ms_per_frame'], 0)} ms of CPU ("
        + ", ".join(f"{stage} {_number(ms, 0)}" for stage, ms in block["stages_ms"].items() if stage != "total")
        + ")",
    ]
    if "challenges" in block:
        lines += ["  challenges, wrongly accepted / accepted / posed:"] + [
            f"    {kind:<16}{counts['wrong_accepted']:>4} /{counts['accepted']:>4} /{counts['queries']:>4}"
            for kind, counts in [*block["challenges"].items(), ("with the queries", block["in_all"])]
        ]
    return lines


def _row(name: str, block: dict[str, float]) -> str:
    return (
        f"  {name:<15}{_number(block.get('median_position_percent', math.nan), 1):>6} %"
        f"{_number(100 * block['median_position_m'], 1):>7} cm{_number(block['median_rotation_deg'], 1):>6} deg   "
        f"{_number(100 * block['mean_position_m'], 1):>6} cm{_number(block['mean_rotation_deg'], 1):>6} deg   "
        f"{100 * block['success_10cm_10deg']:>8.0f} %  {100 * block['success_20cm_20deg']:>8.0f} %"
    )


def _number(value: float, digits: int) -> str:
    """The number, or a dash where it is infinite or not defined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
