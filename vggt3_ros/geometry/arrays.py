"""Arrays of NumPy: what their types are called, and their cross products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def cross_matrix(vectors: Floats) -> Floats:
    """Matrices (..., 3, 3) of the cross product with vectors v (..., 3): matrix @ x = v x x. For
    tensors there is se3.cross_matrix.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    entries = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    return entries.reshape(*vectors.shape[:-1], 3, 3)
