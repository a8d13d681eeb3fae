"""What the poses of a scene are compared by: keyframes that carry landmarks, and no similarity that
shrinks them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vggt3_ros.datasets.sequence import Sequence, Split
from vggt3_ros.evaluation.map_alignment import MappedFrames, align_scene
from vggt3_ros.evaluation.priors import Priors
from vggt3_ros.evaluation.scores import network_errors
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.geometry.se3 import se3_inverse
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.pipeline.localization import Localization, LocalizationStatus
from vggt3_ros.scene.scene import Keyframes, Scene
from vggt3_ros.scene.verification import MapCalibration

from .oracle import arc_sequence

SPLIT = Split((0, 1, 2, 4, 5, 6), (3,))
IN_THE_MAP = Sim3(
    0.3, torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 2, 3], dtype=torch.float64)
)


def scene_of(
    sequence: Sequence, map_poses: Tensor, carriers: tuple[int, ...], network: Tensor | None = None
) -> Scene:
    """A scene of keyframes at map_poses (6, 4, 4), some of which carry landmarks; `network`: where
    the network is.
    """
    seen = se3_inverse(map_poses if network is None else network)[:, :3].contiguous()
    landmarks = {
        "world_from_cam": map_poses,
        "observed_from": torch.tensor(sorted(carriers * 20), dtype=torch.int32),
    }
    names = tuple(sequence.names[i] for i in SPLIT.map)
    return Scene(
        memory={},
        keyframes=Keyframes(
            names, tuple(range(6)), seen, torch.eye(3, dtype=torch.float64).repeat(6, 1, 1)
        ),
        points=PointCloud(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0)),
        bounds=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        model_id="none",
        model_fingerprint="none",
        input_size=(56, 70),
        ttt_steps=0,
        landmarks=landmarks if carriers else {},
        calibration=MapCalibration(((64, 48),) * 6, focal_factor=1.0, depth_scale=1.0),
        map_from_scene=Sim3.identity(),
    )


def mapped(carriers: tuple[int, ...], astray: tuple[int, ...]) -> tuple[MappedFrames, Tensor]:
    """The alignment of a right map of which some keyframes stand metres away, and the true
    poses.
    """
    sequence = arc_sequence()
    true = sequence.world_from_cam[list(SPLIT.map)]
    poses = IN_THE_MAP.inverse().poses(true)
    poses[list(astray), :3, 3] += torch.tensor([20.0, -30, 10], dtype=torch.float64)
    return align_scene(sequence, SPLIT, scene_of(sequence, poses, carriers), Priors("none")), true


def test_keyframes_without_landmarks_do_not_pull_the_ruler() -> None:
    fit, true = mapped(carriers=(0, 2, 3, 5), astray=(1, 4))
    rows = list(fit.with_landmarks)
    assert rows == [0, 2, 3, 5] and not fit.collapsed
    assert torch.allclose(fit.true_from_map.poses(fit.map_poses)[rows], true[rows])
    assert fit.source == "Sim(3) of the true map poses of the 4 of 6 keyframes with landmarks"


@pytest.mark.parametrize("carriers", [(), (1, 4)])
def test_where_fewer_than_three_carry_landmarks_all_are_used(carriers: tuple[int, ...]) -> None:
    fit, true = mapped(carriers, astray=())
    assert torch.allclose(fit.true_from_map.poses(fit.map_poses), true)
    assert fit.source.startswith("Sim(3) of the true map poses") and fit.with_landmarks == carriers
    assert ("of all keyframes: the 2 with landmarks" in fit.source) == bool(carriers)


def test_three_keyframes_at_one_place_are_no_ruler() -> None:
    sequence = arc_sequence()
    close = sequence.world_from_cam.clone()
    close[[1, 2], :3, 3] = close[0, :3, 3] + torch.tensor(
        [[1e-3, 0, 0], [0, 1e-3, 0]], dtype=torch.float64
    )
    true = close[list(SPLIT.map)]
    poses = true.clone()
    poses[:3, :3, 3] = poses[[2, 0, 1], :3, 3]  # a millimetre wrong each
    sequence = Sequence(**{**vars(sequence), "world_from_cam": close})
    fit = align_scene(sequence, SPLIT, scene_of(sequence, poses, (0, 1, 2)), Priors("none"))
    assert fit.true_from_map.scale == pytest.approx(1, abs=0.01)
    assert "of all keyframes: the 3 with landmarks do not tell the scale" in fit.source


def test_a_network_that_sees_all_at_one_place_is_told_from_a_map_that_is_right() -> None:
    sequence = arc_sequence()
    true = sequence.world_from_cam[list(SPLIT.map)]
    spot = true.clone()
    spot[:, :3, 3] = true[:, :3, 3].mean(0) + 0.01 * (true[:, :3, 3] - true[:, :3, 3].mean(0))
    fit = align_scene(
        sequence, SPLIT, scene_of(sequence, true, (0, 1, 2, 3, 4, 5), spot), Priors("none")
    )
    assert fit.problem is None and fit.network_problem is not None
    assert fit.source == "Sim(3) of the true map poses"


def test_a_metric_map_of_a_camera_that_stood_still_is_taken_at_its_word() -> None:
    sequence = arc_sequence()
    still = sequence.world_from_cam.clone()
    still[:, :3, 3] = still[0, :3, 3]
    sequence = Sequence(**{**vars(sequence), "world_from_cam": still})
    true = still[list(SPLIT.map)]
    noisy = true.clone()
    noisy[:, :3, 3] += 0.05 * torch.randn(
        6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    metric = replace(
        scene_of(sequence, noisy, (0, 1, 2, 3, 4, 5)), is_metric=True, metric_source="pose_priors"
    )
    fit = align_scene(sequence, SPLIT, metric, Priors("noisy", 0.1, 3.0))
    assert not fit.collapsed and torch.allclose(fit.true_from_map.poses(noisy), noisy)
    assert align_scene(sequence, SPLIT, metric, Priors("none")).collapsed


def test_poses_tied_to_keyframes_need_a_right_map_and_no_right_network() -> None:
    sequence = arc_sequence()
    right, true = mapped((0, 1, 2, 4, 5), ())
    found = Localization(LocalizationStatus.UNVERIFIED, "", None, True, 1.0, None, None, {})
    found = replace(found, proposed_by="memory")
    tied = replace(found, proposed_by="local")
    poses = [sequence.world_from_cam[3]] * 2
    split = Split(SPLIT.map, (3, 3))

    def errors(mapped: MappedFrames) -> list[float]:
        position, _ = network_errors(sequence, split, mapped, [found, tied], poses)
        return [float(each) for each in position]

    assert errors(right) == [0, 0]
    assert errors(replace(right, network_problem="drawn together")) == [math.inf, 0]
    wrong = replace(right, problem="drawn together", network_problem="drawn together")
    assert errors(wrong) == [math.inf, math.inf]
