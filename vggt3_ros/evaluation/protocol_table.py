"""Text table of what `evaluate_scene` measures."""

from __future__ import annotations

from collections.abc import Sequence as Items
from itertools import chain

from vggt3_ros.evaluation.number_text import shown
from vggt3_ros.evaluation.pointmaps import PointmapErrors
from vggt3_ros.evaluation.protocol_figures import LIMITS, PoseErrors, SceneFigures, mean_of_scenes


def table(scenes: Items[SceneFigures]) -> str:
    """A row for each scene, and of several scenes their mean; what is infinite or not defined is a
    dash.
    """
    rows = [
        _row(each.scene, _cells(each.pointmaps.errors, each.localization.errors)) for each in scenes
    ]
    if len(scenes) > 1:
        mean = mean_of_scenes(scenes)
        rows.append(_row(mean.scene, _cells(mean.pointmaps.errors, mean.localization)))
    lines = [*_header(), *rows]
    for each in scenes:
        for reason in (each.pointmaps.reason, each.localization.reason):
            if reason:
                lines.append(f"  {each.scene}: {reason}")
    notes = dict.fromkeys(chain.from_iterable(each.notes for each in scenes))
    return "\n".join([*lines, *[f"  note: {note}" for note in notes]])


def _header() -> list[str]:
    limits = [f"{limit}cm/deg" for limit in LIMITS]
    return [
        _row(
            "",
            [
                "accuracy m",
                "completion m",
                "normals",
                *["within"] * len(LIMITS),
                "position",
                "rotation",
            ],
        ),
        _row("", [*["mean median"] * 3, *limits, *["median, mean"] * 2]),
    ]


def _cells(points: PointmapErrors, poses: PoseErrors) -> list[str]:
    metres = (poses.median_position_m, poses.mean_position_m)
    degrees = (poses.median_rotation_deg, poses.mean_rotation_deg)
    measured = (points.accuracy_m, points.completion_m, points.normal_consistency)
    return [
        *[f"{shown(middle.mean, 3)} {shown(middle.median, 3)}" for middle in measured],
        *[f"{100 * success:.1f} %" for success in poses.successes],
        f"{', '.join(shown(100 * each, 1) for each in metres)} cm",
        f"{', '.join(shown(each, 1) for each in degrees)} deg",
    ]


def _row(name: str, cells: list[str]) -> str:
    widths = (13, 14, 13, *[10] * len(LIMITS), 16, 16)
    return f"{name:<16}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )
