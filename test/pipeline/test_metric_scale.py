from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.camera import unproject
from vggt3_ros.geometry.se3 import se3, transform_points
from vggt3_ros.geometry.sim3 import Sim3
from vggt3_ros.pipeline.metric_scale import (
    ScaleEstimate,
    first_found,
    scale_from_depth,
    scale_from_height,
)
from vggt3_ros.pipeline.prior_alignment import priors_problem
from vggt3_ros.pipeline.upright import Plane, floor_plane
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

SHRUNK = Sim3(0.4, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@cache
def room() -> RoomSequence:
    return room_sequence(1, map_frames=12, query_frames=0, height=48, width=64)


@cache
def depth() -> Tensor:
    """Exact depth (12, 48, 64) of a room in metres."""
    return torch.from_numpy(room().depth)


def predicted(seed: int, frame_spread: float) -> Tensor:
    """The depth as a network may see it: 0.4 of it, each frame and pixel off by chance."""
    dice = torch.Generator().manual_seed(seed)
    frames = (frame_spread * torch.randn(len(depth()), 1, 1, generator=dice)).exp()
    return 0.4 * depth() * frames * (0.05 * torch.randn(depth().shape, generator=dice)).exp()


def test_depth_with_holes_and_outliers_gives_the_scale() -> None:
    measured = depth().clone()
    dice = torch.Generator().manual_seed(0)
    measured[torch.rand(measured.shape, generator=dice) < 0.5] = 0
    measured[torch.rand(measured.shape, generator=dice) < 0.1] = torch.nan
    measured[4] *= 3  # one frame's depth belongs to another
    measured[7] = 0  # and one has none
    found = scale_from_depth(predicted(1, 0.03), measured)
    assert found.scale is not None and abs(found.scale * 0.4 - 1) < 0.03
    assert found.source == "depth" and found.residual is not None and 0.01 < found.residual < 0.06
    assert found.reason.startswith("measured depth of 11 frames")


def test_the_least_confident_pixels_have_no_say() -> None:
    wrong = torch.arange(64) < 15
    prediction = predicted(2, 0.0) * torch.where(wrong, 8.0, 1.0)
    # the median moves with what is left out
    prediction[:, :, ~wrong] *= torch.linspace(0.8, 1.2, 49)
    confidence = torch.where(wrong, 1.0, 3.0).expand(depth().shape)
    found = scale_from_depth(prediction, depth(), confidence)
    clean = scale_from_depth(prediction[:, :, ~wrong], depth()[:, :, ~wrong])
    assert found.scale is not None and clean.scale is not None
    assert abs(found.scale / clean.scale - 1) < 1e-3


def test_depth_that_is_too_little_or_contradicts_itself_is_refused_with_figures() -> None:
    few = torch.zeros_like(depth())
    few[:, 0, :40] = depth()[:, 0, :40]
    found = scale_from_depth(predicted(3, 0.0), few)
    assert found.scale is None and found.reason.endswith(
        "at most 40 pixels of a frame can be compared, 100 are needed"
    )
    found = scale_from_depth(predicted(3, 1.2), depth())
    assert (
        found.scale is None
        and "contradict each other" in found.reason
        and "over 12 frames" in found.reason
    )
    assert found.residual is not None and found.residual > 0.5
    found = scale_from_depth(torch.stack([depth()[0], 3 * depth()[1]]), depth()[:2])
    assert found.scale is None, "two frames that contradict each other"
    with pytest.raises(InputError, match="must have one shape"):
        scale_from_depth(depth(), depth()[:3])


def test_a_robot_with_its_camera_at_a_known_height_finds_the_scale() -> None:
    points = transform_points(
        room().world_from_cam, unproject(depth().double(), room().intrinsics).flatten(1, 2)
    ).reshape(-1, 3)
    cameras = room().world_from_cam.clone()
    cameras[:, 2, 3] = 1.2  # a robot's, unlike the room's own
    floor = floor_plane(SHRUNK.points(points), UP)
    found = scale_from_height(SHRUNK.poses(cameras), floor, 1.2)
    assert found.scale is not None and abs(found.scale * 0.4 - 1) < 0.03
    assert found.source == "camera_height" and found.residual is not None and found.residual < 0.02


def test_a_height_that_says_nothing_is_refused_with_figures() -> None:
    ground = Plane(UP, 0.0, 0.2)
    heights = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    carried = se3(torch.eye(3, dtype=torch.float64).expand(5, 3, 3), heights[:, None] * UP)
    found = scale_from_height(carried, ground, 1.0)
    assert found.scale is None and found.reason.endswith(
        "differ too much: spread 49%, 25% is allowed"
    )
    assert "no floor" in scale_from_height(carried, None, 1.0).reason
    assert "below the floor" in scale_from_height(carried, Plane(UP, 3.0, 0.2), 1.0).reason
    with pytest.raises(InputError, match="height above the floor is -1"):
        scale_from_height(carried, ground, -1.0)


def test_the_first_source_that_knows_decides_and_otherwise_all_say_why() -> None:
    nothing, other = (
        ScaleEstimate(None, "none", "no depth"),
        ScaleEstimate(None, "none", "no floor"),
    )
    known = ScaleEstimate(2.0, "camera_height", "1 m", 0.01)
    assert first_found(nothing, known) is known
    assert first_found(nothing, other) == ScaleEstimate(None, "none", "no depth; no floor")


def test_priors_are_judged_by_themselves() -> None:
    poses = dict(enumerate(room().world_from_cam))
    assert priors_problem(poses) is None
    assert priors_problem({}) == "no frame has a prior pose"
    assert priors_problem({0: poses[0], 5: poses[5]}) == "2 frames have a prior pose, 3 are needed"
    turning = {i: se3(pose[:3, :3], poses[0][:3, 3]) for i, pose in poses.items()}
    assert priors_problem(turning) == "the prior poses spread over 0 m, 0.05 m are needed"
    assert priors_problem(poses, min_extent_m=50) is not None
    damaged = {**poses, 3: torch.full((4, 4), torch.nan, dtype=torch.float64)}
    problem = priors_problem(damaged)
    assert problem is not None and "frame 3" in problem
