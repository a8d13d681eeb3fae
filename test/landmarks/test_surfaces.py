"""What the surfaces of a map hide."""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.surfaces import Surfaces

BOX = np.array([[-1.0, -1.0, -1.0], [5.0, 1.0, 1.0]])
EYE = np.zeros(3)


def wall(x: float, side: float = 2.0) -> np.ndarray:
    """Points (n, 3) of a wall across the x axis, 2 cm apart."""
    y, z = np.meshgrid(*2 * [np.arange(-side / 2, side / 2, 0.02)])
    return np.stack([np.full(y.size, x), y.ravel(), z.ravel()], axis=1)


def test_what_lies_behind_a_wall_is_hidden_and_what_lies_before_or_on_it_is_not() -> None:
    surfaces = Surfaces(wall(2.0), 0.05, BOX)
    points = np.array(
        [[4.0, 0.1, 0.2], [1.0, 0.1, 0.2], [2.0, 0.1, 0.2], [-0.5, 0.0, 0.0], [4.0, 0.0, -1.0]]
    )
    np.testing.assert_array_equal(surfaces.hide(EYE, points), [True, False, False, False, True])


def test_a_camera_may_look_past_a_wall() -> None:
    surfaces = Surfaces(wall(2.0, side=0.4), 0.05, BOX)
    np.testing.assert_array_equal(
        surfaces.hide(EYE, np.array([[4.0, 0.2, 0.0], [4.0, 0.8, 0.0]])), [True, False]
    )


def test_surfaces_and_cameras_outside_of_the_box_are_left_out() -> None:
    surfaces = Surfaces(np.concatenate([wall(2.0), wall(-3.0), [[1e9, 0.0, 0.0]]]), 0.05, BOX)
    far = np.array([-20.0, 0.0, 0.0])
    np.testing.assert_array_equal(
        surfaces.hide(far, np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])), [False, True]
    )
    assert not surfaces.hide(far, np.array([[-19.0, 0.0, 0.0], far])).any()
    assert surfaces.hide(far, np.zeros((0, 3))).shape == (0,)


def test_a_large_place_has_larger_cubes() -> None:
    large = np.array([[-1.0, -500.0, -500.0], [1000.0, 500.0, 500.0]])
    surfaces = Surfaces(wall(200.0, side=20.0), 0.05, large)
    np.testing.assert_array_equal(
        surfaces.hide(EYE, np.array([[400.0, 0.0, 0.0], [100.0, 0.0, 0.0]])), [True, False]
    )


def test_cameras_and_points_beyond_all_measure_cost_no_memory() -> None:
    """A cube is 5 cm; a ray from a thousand kilometres away would have 20 million of them."""
    surfaces = Surfaces(wall(2.0), 0.05, BOX)
    far = np.array([-1e6, 0.0, 0.0])
    beyond = np.array([[1e6, 0.0, 0.0], [1e6, 1e6, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(surfaces.hide(far, beyond), [True, False, False])
    # in parallel to two sides of the box, which these rays never meet
    beside = np.array([-1e12, 1e12, 0.0])
    assert not surfaces.hide(beside, beside + [[0.0, 0.0, 1e12], [1e12, 0.0, 0.0]]).any()
