from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_angle
from vggt3_ros.geometry.sim3 import fit_poses
from vggt3_ros.landmarks.features import Features, FeatureSettings, extract
from vggt3_ros.landmarks.pairs import verified_matches
from vggt3_ros.landmarks.sfm import SfmResult, incremental_poses
from vggt3_ros.worlds.sequence import room_sequence

pytest.importorskip("pycolmap")
FRAMES = 10
Matches = dict[tuple[int, int], np.ndarray]


@pytest.fixture(scope="module")
def room() -> tuple[list[Features], Matches, np.ndarray, torch.Tensor]:
    """Features, verified matches, intrinsics and true poses of a drive through a room."""
    sequence = room_sequence(1, FRAMES, 0, 240, 320, length=3.0)
    features = [extract(image, settings=FeatureSettings(scale=1.0)) for image in sequence.images]
    intrinsics = np.stack([sequence.intrinsics.numpy()] * FRAMES)
    pairs = list(itertools.combinations(range(FRAMES), 2))
    return (
        features,
        verified_matches(features, intrinsics, pairs),
        intrinsics,
        sequence.world_from_cam,
    )


def errors(result: SfmResult, truth: torch.Tensor) -> tuple[float, float]:
    """Largest position (m) and rotation (degrees) error of the largest part after a similarity."""
    images = list(result.world_from_cam)
    poses = torch.from_numpy(np.stack(list(result.world_from_cam.values())))
    aligned = fit_poses(poses, truth[images]).poses(poses)
    angles = rotation_angle(aligned[:, :3, :3].mT @ truth[images, :3, :3])
    return float((aligned[:, :3, 3] - truth[images, :3, 3]).norm(dim=1).max()), float(
        angles.max().rad2deg()
    )


def test_images_of_a_drive_are_placed_without_priors(
    room: tuple, capfd: pytest.CaptureFixture[str]
) -> None:
    features, matches, intrinsics, truth = room
    result = incremental_poses(features, matches, intrinsics)
    position, rotation = errors(result, truth)
    assert sorted(result.world_from_cam) == list(range(FRAMES)) and not result.unplaced
    assert position < 0.03 and rotation < 1.0
    assert result.doubts == () and result.report()["placed"] == FRAMES
    assert 0 < result.report()["reprojection_px"] < 1.5 and result.report()["track_length"] > 2
    assert capfd.readouterr() == ("", "")


def test_the_same_input_gives_the_same_poses(room: tuple) -> None:
    features, matches, intrinsics, _ = room
    first, second = (
        incremental_poses(features, matches, intrinsics).world_from_cam for _ in range(2)
    )
    assert first.keys() == second.keys()
    assert all((first[image] == second[image]).all() for image in first)


def test_a_map_that_comes_apart_tells_its_parts(room: tuple) -> None:
    features, matches, intrinsics, truth = room
    torn = {(i, j): pairs for (i, j), pairs in matches.items() if (i < 6) == (j < 6)}
    result = incremental_poses(features, torn, intrinsics)
    assert result.report()["parts"] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert any("6 of 10 images hang together (parts of 6, 4)" in doubt for doubt in result.doubts)
    assert errors(result, truth)[0] < 0.03


def test_an_image_that_shares_nothing_is_unplaced(room: tuple) -> None:
    features, matches, intrinsics, _ = room
    alone = {(i, j): pairs for (i, j), pairs in matches.items() if 4 not in (i, j)}
    result = incremental_poses(features, alone, intrinsics)
    assert result.unplaced == (4,) and result.doubts


def test_an_image_that_hangs_by_few_points_is_doubted(room: tuple) -> None:
    features, matches, intrinsics, _ = room
    thin = {(i, j): pairs[:25] if 9 in (i, j) else pairs for (i, j), pairs in matches.items()}
    thin = {(i, j): pairs for (i, j), pairs in thin.items() if 9 not in (i, j) or i == 8}
    result = incremental_poses(features, thin, intrinsics)
    assert len(result.world_from_cam) == FRAMES and result.parts[0].links[9] < 30
    assert result.doubts == ("1 images share fewer than 30 points with two others",)


def test_images_without_matches_give_no_pose(room: tuple) -> None:
    features, _, intrinsics, _ = room
    result = incremental_poses(features, {}, intrinsics)
    assert result.world_from_cam == {} and len(result.unplaced) == FRAMES
    assert result.doubts == ("no two images share enough features to begin with",)
    assert result.report()["reprojection_px"] is None


def test_progress_counts_images_and_may_cancel(room: tuple) -> None:
    features, matches, intrinsics, _ = room
    calls: list[tuple[int, int]] = []

    def progress(placed: int, count: int) -> None:
        calls.append((placed, count))
        if placed == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        incremental_poses(features, matches, intrinsics, progress=progress)
    assert calls == [(placed, FRAMES) for placed in range(2, 6)]


def test_intrinsics_must_be_as_many_as_images(room: tuple) -> None:
    features, matches, intrinsics, _ = room
    with pytest.raises(InputError, match="10 images need as many intrinsics, got 9"):
        incremental_poses(features, matches, intrinsics[:9])
