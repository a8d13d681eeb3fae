"""Which keyframes look like an image: one compact vector per image (VLAD, Jegou et al. 2010)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggt3_ros.geometry.arrays import Indices
from vggt3_ros.landmarks.features import unit_vectors

Bytes = NDArray[np.int8]

# a map of 240 keyframes of ten rooms: 156 of 156 queries found, by 16 words 154, by 8 the same
WORDS = 32
_SAMPLES = 20_000  # descriptors a vocabulary is made from; more change nothing


def train_vocabulary(
    descriptors: Sequence[NDArray[np.uint8]], words: int = WORDS, seed: int = 0
) -> NDArray[np.float32]:
    """Vocabulary (W, D) of a scene: k-means of the local descriptors (n, D) of its keyframes, the
    same for a seed.

    A scene with fewer descriptors than `words` gets as many words as it has descriptors, one with
    none gets no words.
    """
    import cv2

    everything = np.concatenate([np.asarray(one) for one in descriptors])
    some = unit_vectors(everything[:: max(1, -(-len(everything) // _SAMPLES))])
    words = min(words, len(some))
    if words == 0:
        return np.zeros((0, everything.shape[-1]), np.float32)
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 25, 1e-4)
    centres = cv2.kmeans(some, words, None, criteria, 1, cv2.KMEANS_PP_CENTERS)[2]  # type: ignore[call-overload]
    return np.asarray(centres, dtype=np.float32)


def describe(descriptors: NDArray[np.uint8], vocabulary: NDArray[np.float32]) -> Bytes:
    """One vector (W * D,) int8 for an image with local descriptors (n, D): sums of differences from
    their words.

    Words count alike however many descriptors they have (intra-normalization, Arandjelovic and
    Zisserman 2013). Only the direction of the vector means anything; its largest element is 127.
    """
    words = len(vocabulary)
    vectors = unit_vectors(descriptors)
    word = (
        (vectors @ vocabulary.T - 0.5 * (vocabulary**2).sum(1)).argmax(1)
        if words
        else np.zeros(0, np.int64)
    )
    belongs = (word == np.arange(words)[:, None]).astype(np.float32)  # (W, n)
    sums = belongs @ vectors - belongs.sum(1, keepdims=True) * vocabulary if words else vocabulary
    sums = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    described: Bytes = np.rint(
        sums.ravel() * (127 / max(float(np.abs(sums).max(initial=0)), 1e-6))
    ).astype(np.int8)
    return described


def most_similar(query: Bytes, keyframes: NDArray[np.float32], count: int) -> Indices:
    """The `count` most similar keyframes, best first: indices into the unit vectors (K, W * D) of
    `directions`.
    """
    alike = keyframes @ query.astype(np.float32)
    return np.argsort(-alike, kind="stable")[:count]


def directions(described: Bytes) -> NDArray[np.float32]:
    """Vectors (..., W * D) of `describe` as float32 of unit length."""
    vectors = described.astype(np.float32)
    unit: NDArray[np.float32] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6
    )
    return unit
