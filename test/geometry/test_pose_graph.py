"""Pose graphs: loops spread the error of a chain, false loops are outvoted."""

import numpy as np
import pytest

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.pose_graph import RelativePoses, solve_pose_graph

SIDE = 10  # steps of one metre


def yaw_pose(x: float, y: float, yaw: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:2, 3] = x, y
    return pose


def square() -> np.ndarray:
    """Once around a square, back at the start and one side further (K, 4, 4)."""
    poses = [np.eye(4)]
    for step in range(5 * SIDE):
        turned = np.pi / 2 if step % SIDE == SIDE - 1 else 0.0
        poses.append(poses[-1] @ yaw_pose(1.0, 0.0, turned))
    return np.stack(poses)


def edges(first, second, relative, sigma_m, sigma_rad, doubtful) -> RelativePoses:
    sigmas = np.repeat([sigma_m, sigma_rad], 3)
    count = len(first)
    covariance = np.tile(np.diag(sigmas**2), (count, 1, 1))
    return RelativePoses(
        np.asarray(first), np.asarray(second), relative, covariance, np.full(count, doubtful)
    )


def drifted(true: np.ndarray) -> tuple[np.ndarray, RelativePoses]:
    """Odometry that goes 2 % too far and turns half a degree per metre, and its steps."""
    steps = np.linalg.inv(true[:-1]) @ true[1:]
    steps[:, :3, 3] *= 1.02
    steps = steps @ yaw_pose(0, 0, np.radians(0.5))
    poses = [true[0]]
    for step in steps:
        poses.append(poses[-1] @ step)
    number = np.arange(len(steps))
    return np.stack(poses), edges(number, number + 1, steps, 0.1, np.radians(3), False)


def loops(true: np.ndarray, pairs: list[tuple[int, int]]) -> RelativePoses:
    first, second = np.array(pairs).T
    relative = np.linalg.inv(true[first]) @ true[second]
    return edges(first, second, relative, 0.03, np.radians(0.3), True)


def error(poses: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(((poses - true)[:, :3, 3] ** 2).sum(1).mean()))


def test_loops_spread_the_drift_of_a_square():
    true = square()
    odometry, chain = drifted(true)
    closing = loops(true, [(0, 4 * SIDE), (2, 4 * SIDE + 2), (5, 4 * SIDE + 5)])
    solved = solve_pose_graph(odometry, chain.joined(closing))
    assert error(odometry, true) > 1.0
    # half of the rest is the scale, which no loop of this shape tells
    assert error(solved.world_from_cam, true) < error(odometry, true) / 5
    assert solved.believed.all()
    np.testing.assert_array_equal(solved.world_from_cam[0], true[0])


def test_a_false_loop_is_outvoted():
    true = square()
    odometry, chain = drifted(true)
    closing = loops(true, [(0, 4 * SIDE), (2, 4 * SIDE + 2), (5, 4 * SIDE + 5)])
    false = loops(true, [(0, 4 * SIDE)])
    false = edges([3], [2 * SIDE], false.first_from_second, 0.03, np.radians(0.3), True)
    right = solve_pose_graph(odometry, chain.joined(closing)).world_from_cam
    solved = solve_pose_graph(odometry, chain.joined(closing).joined(false))
    assert solved.believed.tolist() == [True] * (len(solved.believed) - 1) + [False]
    assert error(solved.world_from_cam, right) < 0.02


def test_of_loops_that_contradict_each_other_the_many_are_believed():
    true = square()
    odometry, chain = drifted(true)
    closing = loops(true, [(i, 4 * SIDE + i) for i in range(8)])
    shifted = loops(true, [(i, 4 * SIDE + i + 1) for i in range(4)])
    copies = edges(
        shifted.first, shifted.second - 1, shifted.first_from_second, 0.03, np.radians(0.3), True
    )
    solved = solve_pose_graph(odometry, chain.joined(closing).joined(copies))
    assert solved.believed[-12:].tolist() == [True] * 8 + [False] * 4


def test_without_loops_a_chain_stays_as_it_is():
    odometry, chain = drifted(square())
    solved = solve_pose_graph(odometry, chain).world_from_cam
    np.testing.assert_allclose(solved, odometry, atol=1e-9)


def test_the_chain_is_restored_from_anywhere():
    true = square()
    generator = np.random.default_rng(0)
    odometry, chain = drifted(true)
    start = odometry.copy()
    start[1:, :3, 3] += generator.normal(size=(len(start) - 1, 3))
    solved = solve_pose_graph(start, chain)
    np.testing.assert_allclose(solved.world_from_cam, odometry, atol=1e-4)


def test_a_node_that_nothing_measures_keeps_its_pose():
    odometry, chain = drifted(square())
    alone = np.concatenate([odometry, yaw_pose(3, 4, 1)[None]])
    np.testing.assert_allclose(solve_pose_graph(alone, chain).world_from_cam[-1], alone[-1])


@pytest.mark.parametrize("damage", ["node", "covariance", "nan"])
def test_bad_measurements_are_refused(damage):
    odometry, chain = drifted(square())
    with pytest.raises(InputError):
        if damage == "node":
            solve_pose_graph(odometry[:-1], chain)
        elif damage == "covariance":
            edges([0], [1], np.eye(4)[None], 0.0, 1.0, False)
        else:
            edges([0], [1], np.full((1, 4, 4), np.nan), 1.0, 1.0, False)
