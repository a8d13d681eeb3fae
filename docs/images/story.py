"""Draws how a map grows, for docs/maps.md: python3 docs/images/story.py FILE.jpg

A simulated drive through a room is mapped in two halves that share a few frames: the first one
on Monday; the second one on Tuesday, by odometry that begins anew. Seen from above: Monday's map,
Tuesday's by itself, in its own frame, and Monday's extended by Tuesday's images.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence as Items
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from vggt3_ros.datasets.load import load_sequence
from vggt3_ros.datasets.sequence import Sequence
from vggt3_ros.evaluation.draw_top_view import (
    directions_in_view,
    draw_headings,
    limits_of,
    new_figure,
    paint_points,
    positions_in_view,
    set_limits,
)
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3, se3_inverse
from vggt3_ros.maps.extend import extend
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.pipeline.dense import FAST
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import ReconstructionSettings, reconstruct
from vggt3_ros.scene.coloring import PALETTE, colorings, origin_labels
from vggt3_ros.scene.scene import Scene

PLACE = "room:900101:36"
ODOMETRY = "noisy:3cm,1deg"
SHARED = 3  # frames of the middle that both days show
HEADROOM = 0.4  # metres above all cameras, beyond which a ceiling would hide the rest
MONDAY, TUESDAY = PALETTE[0], PALETTE[1]


def frames_of(sequence: Sequence, indices: Items[int], noise: int) -> list[Frame]:
    """Images with their odometry."""
    poses = Priors.parse(ODOMETRY).poses(sequence.world_from_cam[list(indices)], noise)
    return [
        replace(sequence.frame(index), prior_world_from_cam=pose)
        for index, pose in zip(indices, poses, strict=True)
    ]


def begun_anew(frames: Items[Frame]) -> list[Frame]:
    """The same with odometry that is zero at the first image; up stays up."""
    first = frames[0].prior_world_from_cam
    assert first is not None
    ahead = first[:2, 2]
    turn = rotation_from_axis_angle(
        torch.tensor([0.0, 0.0, float(torch.atan2(ahead[1], ahead[0]))], dtype=torch.float64)
    )
    level = first[:3, 3] * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    odom_from_world = se3_inverse(se3(turn, level))
    return [
        replace(frame, prior_world_from_cam=odom_from_world @ frame.prior_world_from_cam)
        for frame in frames
    ]


def draw(axes: Axes, scene: Scene, colors: Tensor, title: str) -> None:
    """A scene from above, keyframes in colors (S, 3) uint8."""
    upright = torch.eye(3, dtype=torch.float64)
    poses = scene.map_from_keyframes
    positions = positions_in_view(upright, poses)
    points = scene.points.points.double().numpy()
    limits = limits_of(positions, points)
    ceiling = float(positions[:, 2].max()) + HEADROOM
    paint_points(axes, points, scene.points.colors.numpy() / 255, limits, ceiling, 3.0)
    length = 0.06 * float((limits[:, 1] - limits[:, 0]).max())
    for color in torch.unique(colors, dim=0):
        own = (colors == color).all(dim=1).numpy()
        shade = "#" + "".join(f"{value:02x}" for value in color.tolist())
        directions = directions_in_view(upright, poses)[own]
        draw_headings(axes, positions[own], directions, length, shade)
        axes.scatter(*positions[own, :2].T, s=26, color=shade, edgecolors="black", linewidths=0.5)
        axes.collections[-1].set_zorder(5)
    set_limits(axes, limits)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("metres")


def main() -> None:
    """Map, extend, draw, and say what was made."""
    network = load_network("tiny")
    sequence = load_sequence(PLACE)
    mapped = sequence.split().map
    middle = len(mapped) // 2
    how = ReconstructionSettings(dense=FAST)
    monday_frames = frames_of(sequence, mapped[: middle + SHARED], 0)
    tuesday_frames = begun_anew(frames_of(sequence, mapped[middle - SHARED :], 1))
    monday = reconstruct(monday_frames, network, how).scene
    tuesday = reconstruct(tuesday_frames, network, how).scene
    extended = extend(monday, "monday", tuesday_frames, network)
    scenes = (monday, tuesday, extended.scene)
    for scene in scenes:
        print(
            f"{len(scene.keyframes)} keyframes, {len(scene.points)} points:", scene.verdict.reason
        )
    print(
        f"{extended.located} of {len(tuesday_frames)} images of Tuesday were found in Monday's map"
    )
    print("keyframes of the extended map:", sorted(set(origin_labels(extended.scene))))
    alone = [
        torch.tensor(day, dtype=torch.uint8).expand(len(scene.keyframes), 3)
        for day, scene in zip((MONDAY, TUESDAY), scenes, strict=False)
    ]
    of_both = torch.from_numpy(np.ascontiguousarray(colorings(extended.scene)[0].colors))
    titles = ("Monday", "Tuesday by itself, in a frame of its own", "Monday, extended by Tuesday")
    figure = new_figure(12.0, 4.6)
    for axes, scene, colors, title in zip(
        figure.subplots(1, 3), scenes, (*alone, of_both), titles, strict=True
    ):
        draw(axes, scene, colors, title)
    figure.savefig(Path(sys.argv[1]), dpi=90, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
