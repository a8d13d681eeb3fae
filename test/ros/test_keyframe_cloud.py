"""Keyframes as RViz shows them in colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vggt3_ros.nodes.mapper.keyframe_cloud import keyframe_cloud
from vggt3_ros.nodes.messages.clouds import cloud_message, points_and_colors
from vggt3_ros.scene.coloring import LOOP_COLOR, PALETTE, UNTIED_COLOR
from vggt3_ros.scene.descent import Loop, Origin

from ..pipeline.dotted import dotted_scene

ORIGINS = (Origin("1" * 32, "monday", 3), Origin("2" * 32, "tuesday", 2))


def test_pyramids_have_the_colour_of_their_scene_and_loops_are_dotted_lines() -> None:
    """The last keyframe observes nothing."""
    scene = replace(dotted_scene(), origins=ORIGINS, loops=(Loop(0, 3),))
    points, colors = points_and_colors(cloud_message(keyframe_cloud(scene), "map", 5))
    places = scene.map_from_keyframes[:, :3, 3].float().numpy()
    of_loop = (colors == LOOP_COLOR).all(axis=1)
    for place, color in zip(places, [*PALETTE[:1] * 3, PALETTE[1], UNTIED_COLOR], strict=True):
        there = (np.abs(points - place) < 1e-6).all(axis=1) & ~of_loop
        assert there.sum() == 4 and (colors[there] == color).all()
    line = points[of_loop]
    np.testing.assert_allclose(line[[0, -1]], places[[0, 3]], atol=1e-6)
    steps = np.diff(line, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-5)


def test_a_scene_of_its_own_is_coloured_by_the_order_of_its_keyframes() -> None:
    cloud = keyframe_cloud(dotted_scene())
    assert len(torch.unique(cloud.colors, dim=0)) == 5
    assert not (cloud.colors == torch.tensor(LOOP_COLOR)).all(dim=1).any()
