"""Keyframes in colours that tell where they come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vggt3_ros.scene.coloring import (
    PALETTE,
    UNTIED_COLOR,
    by_label,
    by_order,
    colorings,
    origin_labels,
    seen_by_several,
)
from vggt3_ros.scene.descent import Origin

from ..pipeline.dotted import dotted_scene

ORIGINS = (
    Origin("1" * 32, "a/scene", 1),
    Origin("2" * 32, "b/scene", 2),
    Origin("1" * 32, "a/scene", 1),
    Origin("3" * 32, "maps/friday", 1),
)


def test_keyframes_of_one_label_have_one_colour_and_the_legend_says_which() -> None:
    coloring = by_label("part", ["x", "y", "x"])
    assert coloring.title == "part"
    assert coloring.colors.tolist() == [list(PALETTE[0]), list(PALETTE[1]), list(PALETTE[0])]
    assert coloring.legend == ((PALETTE[0], "x: 2 keyframes"), (PALETTE[1], "y: 1 keyframe"))
    assert len({tuple(row) for row in by_order(9).colors.tolist()}) == 9


def test_scenes_are_named_so_that_they_can_be_told_apart() -> None:
    scene = replace(dotted_scene(), origins=ORIGINS)
    first, second = "a/scene (11111111)", "b/scene (22222222)"
    assert origin_labels(scene) == [first, second, second, first, "friday"]


def test_keyframes_that_nothing_ties_are_grey() -> None:
    """The last one observes nothing."""
    scene = dotted_scene()
    (order,) = colorings(scene)
    assert order.colors[4].tolist() == list(UNTIED_COLOR)
    assert (order.colors[:4] == by_order(5).colors[:4]).all()
    assert order.legend == ((UNTIED_COLOR, "1 keyframe that no landmarks tie to the others"),)
    by_scene, _ = colorings(replace(scene, origins=ORIGINS))
    assert by_scene.title == "scene" and by_scene.colors[4].tolist() == list(UNTIED_COLOR)
    unverified = replace(scene, landmarks={}, verdict=replace(scene.verdict, verified=False))
    assert not (colorings(unverified)[0].colors == UNTIED_COLOR).all(axis=1).any()


def test_landmarks_of_a_seam_are_those_that_keyframes_of_several_scenes_see() -> None:
    scene = replace(dotted_scene(), origins=ORIGINS)
    labels = np.array(origin_labels(scene))
    of = scene.landmarks["observed"].numpy()
    seeing = labels[scene.landmarks["observed_from"].numpy()]
    expected = [len(set(seeing[of == number])) > 1 for number in range(of.max() + 1)]
    assert seen_by_several(scene)[: of.max() + 1].tolist() == expected and any(expected)
    assert not seen_by_several(dotted_scene()).any()
