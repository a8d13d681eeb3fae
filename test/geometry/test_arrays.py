from __future__ import annotations

import numpy as np
import torch

from vggt3_ros.geometry import arrays, se3


def test_cross_matrices_are_those_of_the_cross_product() -> None:
    dice = np.random.default_rng(1)
    vectors, others = dice.normal(size=(2, 4, 3))
    expected = np.cross(vectors, others)
    found = (arrays.cross_matrix(vectors) @ others[..., None])[..., 0]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(arrays.cross_matrix(vectors[0]) @ others[0], expected[0])
    as_tensors = se3.cross_matrix(torch.from_numpy(vectors)).numpy()
    np.testing.assert_array_equal(as_tensors, arrays.cross_matrix(vectors))
