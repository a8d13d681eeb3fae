"""Several scenes on one page, as they would be merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggt3_ros.cli.progress import ProgressBar

if TYPE_CHECKING:
    from vggt3_ros.geometry.arrays import Floats
    from vggt3_ros.maps.placing import Placed
    from vggt3_ros.nodes.viewer.page import Viewer
    from vggt3_ros.scene.scene import Scene


def show_several(page: Viewer, scenes: Sequence[Scene], names: Sequence[str]) -> str:
    """Show scenes in the frame of the first, tell why each lies where it does, and say in short
    what is shown.
    """
    from vggt3_ros.maps.placing import place

    with ProgressBar("comparing") as progress:
        placed = place(scenes, names, lambda fraction: progress("overlap", fraction))
    for each in placed:
        print(f"{each.name} {each.evidence}")
    _draw(page, placed)
    lines = [f"**{each.name}** {each.evidence}" for each in placed]
    title = " + ".join(each.name for each in placed)
    page.show_text("\n\n".join([f"### {title}", *lines, "not merged: keyframes are as they were"]))
    joined = sum(each.joined_to is not None for each in placed)
    beside = len(placed) - 1 - joined
    return f"{len(placed)} scenes: {joined} lie in another one, {beside} stand beside"


def _draw(page: Viewer, placed: Sequence[Placed]) -> None:
    import numpy as np
    import torch

    from vggt3_ros.scene.coloring import TIE_COLOR, by_label

    counts = [len(each.scene.keyframes) for each in placed]
    labels = [each.name for each, count in zip(placed, counts, strict=True) for _ in range(count)]
    by_scene = by_label("scene", labels)
    own_colors = np.array([color for color, _ in by_scene.legend], np.uint8)
    page.show_points(
        torch.cat([each.scene.points.points for each in placed]).numpy(),
        torch.cat([each.scene.points.colors for each in placed]).numpy(),
        {"scene": np.repeat(own_colors, [len(each.scene.points) for each in placed], axis=0)},
    )
    page.show_keyframes(torch.cat([each.scene.map_from_keyframes for each in placed]), [by_scene])
    with_landmarks = [each for each in placed if each.scene.landmarks]
    if with_landmarks:
        page.show_landmarks(
            np.concatenate([each.scene.landmarks["positions"].numpy() for each in with_landmarks]),
            np.concatenate([each.common for each in with_landmarks]),
        )
    page.show_lines("pairs of keyframes that agree", _ties(placed), TIE_COLOR)


def _ties(placed: Sequence[Placed]) -> Floats:
    """Lines (M, 2, 3) between the keyframes that see the same of two scenes."""
    import numpy as np

    positions = [each.scene.map_from_keyframes[:, :3, 3].numpy() for each in placed]
    lines = [np.zeros((0, 2, 3))]
    for own, each in zip(positions, placed, strict=True):
        if each.joined_to is not None:
            other = positions[each.joined_to]
            lines.append(np.stack([other[each.ties[:, 0]], own[each.ties[:, 1]]], axis=1))
    return np.concatenate(lines)
