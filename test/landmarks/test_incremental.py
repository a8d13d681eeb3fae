"""Keyframes placed by the images alone."""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.build import build_landmarks
from vggt3_ros.landmarks.incremental import placed_by_images
from vggt3_ros.landmarks.tracks import build_tracks

from .conftest import Visit
from .test_build import ALL, position_errors, shaken


def test_keyframes_are_placed_without_looking_at_the_given_poses(visit: Visit) -> None:
    tracks = build_tracks([len(one) for one in visit.features], visit.matches)
    given = shaken(visit.world_from_cam, 0.3, 20)
    found = placed_by_images(tracks, visit.features, visit.intrinsics, given)
    assert found is not None and found[1].all()
    assert position_errors(found[0], visit.world_from_cam, align=True).max() < 0.05
    assert position_errors(given, visit.world_from_cam, align=True).max() > 0.2


def test_given_poses_that_move_the_wrong_way_do_not_matter(visit: Visit) -> None:
    tracks = build_tracks([len(one) for one in visit.features], visit.matches)
    given = visit.world_from_cam.copy()
    given[:, :3, 3] = given[:, :3, 3].mean(0) - 0.1 * (given[:, :3, 3] - given[:, :3, 3].mean(0))
    found = placed_by_images(tracks, visit.features, visit.intrinsics, given)
    assert found is not None and found[1].all()
    assert position_errors(found[0], visit.world_from_cam, align=True).max() < 0.05
    assert np.allclose(
        found[0][:, :3, 3].std(0, ddof=1),
        0.1 * visit.world_from_cam[:, :3, 3].std(0, ddof=1),
        rtol=0.1,
    )


def test_nothing_begins_without_common_points(visit: Visit) -> None:
    tracks = build_tracks([len(one) for one in visit.features], {})
    assert placed_by_images(tracks, visit.features, visit.intrinsics, visit.world_from_cam) is None


def test_poses_too_rough_to_adjust_from_are_mended(visit: Visit) -> None:
    start = shaken(visit.world_from_cam, 0.4, 15, seed=3)
    found = build_landmarks(visit.features, visit.matches, start, visit.intrinsics, ALL)
    assert position_errors(found.world_from_cam, visit.world_from_cam, align=True).max() < 0.02
