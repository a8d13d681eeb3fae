"""Colours that tell a scene's keyframes and landmarks apart, for whoever draws them."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vggt3_ros.scene.descent import Origin
from vggt3_ros.scene.scene import Scene

Color = tuple[int, int, int]
Colors = NDArray[np.uint8]

UNTIED_COLOR = (130, 130, 130)  # of keyframes that no landmarks tie to the others
LANDMARK_COLOR = (255, 220, 0)
SEAM_COLOR = (255, 0, 170)  # of what two scenes both saw
LOOP_COLOR = (0, 230, 255)
TIE_COLOR = LOOP_COLOR  # of keyframes of two scenes that agree on how these lie
# of groups, in their order; none is like one of those above
PALETTE = (
    (255, 140, 0),
    (70, 150, 255),
    (60, 215, 90),
    (180, 110, 255),
    (255, 75, 75),
    (190, 125, 70),
    (0, 160, 140),
    (235, 235, 235),
)


@dataclass(frozen=True, eq=False)
class Coloring:
    """A way to colour keyframes: what it is called, colors (S, 3) uint8, and what the colours
    mean.
    """

    title: str
    colors: Colors
    legend: tuple[tuple[Color, str], ...] = ()


def by_order(count: int) -> Coloring:
    """From violet, the first of so many keyframes, to red, the last."""
    hues = [colorsys.hsv_to_rgb(0.8 * (1 - i / max(1, count - 1)), 1.0, 1.0) for i in range(count)]
    return Coloring("order", (255 * np.array(hues).reshape(-1, 3)).astype(np.uint8))


def by_label(title: str, labels: Sequence[str]) -> Coloring:
    """Keyframes of one label in one colour, by the labels of all."""
    counts = Counter(labels)  # in the order of their first keyframes
    chosen = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(counts)}
    legend = tuple((chosen[name], f"{name}: {_counted(counts[name])}") for name in counts)
    return Coloring(title, _array([chosen[label] for label in labels]), legend)


def without_untied(coloring: Coloring, scene: Scene) -> Coloring:
    """The same, but for keyframes that no landmarks tie to the others: they are grey."""
    untied = np.ones(len(scene.keyframes), dtype=bool)
    untied[list(scene.keyframes_with_landmarks)] = False
    if not scene.landmarks or not untied.any():
        return coloring
    colors = np.where(untied[:, None], np.array(UNTIED_COLOR, np.uint8), coloring.colors)
    what = f"{_counted(int(untied.sum()))} that no landmarks tie to the others"
    return Coloring(coloring.title, colors, (*coloring.legend, (UNTIED_COLOR, what)))


def origin_labels(scene: Scene) -> list[str]:
    """Of each keyframe the scene that it was first in; none where they are the scene's own."""
    names = _distinct_names(scene.origins)
    return [names[origin.scene_id] for origin in scene.origins for _ in range(origin.keyframes)]


def colorings(scene: Scene) -> list[Coloring]:
    """The ways to colour the keyframes of a scene, the one that tells most first."""
    ways = [by_order(len(scene.keyframes))]
    if scene.origins:
        ways.insert(0, by_label("scene", origin_labels(scene)))
    return [without_untied(way, scene) for way in ways]


def seen_by_several(scene: Scene) -> NDArray[np.bool_]:
    """Which landmarks (N,) of a scene keyframes of several origins see."""
    count = len(scene.landmarks["positions"])
    labels = origin_labels(scene)
    if not labels:
        return np.zeros(count, dtype=bool)
    numbers = torch.from_numpy(np.unique(np.array(labels), return_inverse=True)[1])
    seen = torch.zeros(count, int(numbers.max()) + 1, dtype=torch.bool)
    observed_from = scene.landmarks["observed_from"].long()
    seen[scene.landmarks["observed"].long(), numbers[observed_from]] = True
    several: NDArray[np.bool_] = (seen.sum(1) > 1).numpy()
    return several


def _distinct_names(origins: Sequence[Origin]) -> dict[str, str]:
    """Names of scenes by their ids: the last part of where they were, more where that is not
    enough.
    """
    wholes = {origin.scene_id: origin.name for origin in origins}
    shorts = {scene_id: PurePath(name).name or name for scene_id, name in wholes.items()}
    names = {}
    for scene_id, short in shorts.items():
        is_alone = list(shorts.values()).count(short) == 1
        names[scene_id] = short if is_alone else f"{wholes[scene_id]} ({scene_id[:8]})"
    return names


def _counted(count: int) -> str:
    return f"{count} keyframe" if count == 1 else f"{count} keyframes"


def _array(colors: Sequence[Color]) -> Colors:
    values: NDArray[Any] = np.array(colors, dtype=np.uint8).reshape(-1, 3)
    return values
