"""Text table of what `evaluate_scene` measures."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from typing import Any

from vggt3_ros.evaluation.protocol import LIMITS, mean_of_scenes

_POINTS = ("accuracy_m", "completion_m", "normal_consistency")
_KINDS = ("mean", "median")


def table(scenes: Items[dict[str, Any]]) -> str:
    """A row for each scene, and of several scenes their mean; what is infinite or not defined is a dash."""
    rows = [_row(each["scene"], _cells(each)) for each in scenes]
    if len(scenes) > 1:
        mean = mean_of_scenes(scenes)
        rows.append(_row(mean["scene"], _cells(mean)))
    blocks = [(each["scene"], each[block]) for each in scenes for block in ("pointmaps", "localization")]
    reasons = [f"  {scene}: {block['reason']}" for scene, block in blocks if block["reason"]]
    notes = dict.fromkeys(note for each in scenes for note in each["notes"])
    return "\n".join([*_header(), *rows, *reasons, *[f"  note: {note}" for note in notes]])


def _header() -> list[str]:
    limits = [f"{limit}cm/deg" for limit in LIMITS]
    return [
        _row("", ["accuracy m", "completion m", "normals", *["within"] * len(LIMITS), "position", "rotation"]),
        _row("", [*["mean median"] * len(_POINTS), *limits, *["median, mean"] * 2]),
    ]


def _cells(figures: dict[str, Any]) -> list[str]:
    points, poses = figures["pointmaps"], figures["localization"]
    centimetres = [_number(100 * poses[f"{kind}_position_m"], 1) for kind in ("median", "mean")]
    degrees = [_number(poses[f"{kind}_rotation_deg"], 1) for kind in ("median", "mean")]
    return [
        *[" ".join(_number(points[key][kind], 3) for kind in _KINDS) for key in _POINTS],
        *[f"{100 * poses[f'success_{limit}cm_{limit}deg']:.1f} %" for limit in LIMITS],
        f"{', '.join(centimetres)} cm",
        f"{', '.join(degrees)} deg",
    ]


def _row(name: str, cells: list[str]) -> str:
    widths = (13, 14, 13, *[10] * len(LIMITS), 16, 16)
    return f"{name:<16}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
