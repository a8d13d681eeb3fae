"""Which keyframes of a scene look like an image, told from their stored images alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.geometry.arrays import Indices
from vggt3_ros.landmarks import retrieval
from vggt3_ros.landmarks.features import Features, FeatureSettings, extract

# 2 to 5 ms an image. Their images as small as `tiny` sees them find keyframes nearer to the truth
# than grey thumbnails do, and no farther than the features that landmarks are made of.
_FEATURES = FeatureSettings(scale=0.01, least_side=128)


class SimilarKeyframes:
    """S images (S, 3, h, w) uint8 RGB, described by their local features (VLAD)."""

    def __init__(self, images: Tensor) -> None:
        features = [_features(image.permute(1, 2, 0).numpy()) for image in images]
        self._vocabulary = retrieval.train_vocabulary([each.descriptors for each in features])
        described = [retrieval.describe(each.descriptors, self._vocabulary) for each in features]
        self._looks = retrieval.directions(np.stack(described))

    def most_similar(self, image: NDArray[np.uint8], count: int) -> Indices:
        """Indices of at most `count` keyframes, the most similar to an image (h, w, 3) first; none
        where it shows nothing that could be compared.
        """
        query = retrieval.describe(_features(image).descriptors, self._vocabulary)
        if not query.any():
            return np.zeros(0, np.int64)
        return retrieval.most_similar(query, self._looks, count)


def _features(image: NDArray[np.uint8]) -> Features:
    return extract(np.ascontiguousarray(image), settings=_FEATURES)
