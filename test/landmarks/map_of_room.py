"""Landmarks of a procedural room from its exact poses and depth: a map that owes nothing to the map
builder.
"""

from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.features import Features, FeatureSettings, extract
from vggt3_ros.landmarks.landmarks import Landmarks, lower_roots
from vggt3_ros.landmarks.matching import match
from vggt3_ros.landmarks.retrieval import describe, train_vocabulary
from vggt3_ros.worlds.sequence import RoomSequence

NOISE_PX = 0.3


def room_features(room: RoomSequence, settings: FeatureSettings | None = None) -> list[Features]:
    """Features of all images of a room."""
    return [extract(image, settings=settings) for image in room.images]


def map_of_room(room: RoomSequence, features: list[Features], sigma_m: float = 1e-4) -> Landmarks:
    """Landmarks from the room's map frames. Keyframe poses are exact, to `sigma_m` (and as many
    rad) by assertion.
    """
    poses, intrinsics = room.world_from_cam.numpy(), room.intrinsics.numpy()
    points = np.zeros((0, 3))
    descriptors = np.zeros((0, 128), np.uint8)
    counts = np.zeros(0)
    spreads = np.zeros(0)
    rows: list[np.ndarray] = []  # per keyframe: landmark, feature
    for index in room.map_indices:
        mine, z, flat = _unprojected(features[index], room.depth[index], intrinsics, poses[index])
        pairs = match(features[index].descriptors, descriptors, 0.85)
        pairs = pairs[flat[pairs[:, 0]]]
        off = np.linalg.norm(mine[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        pairs = pairs[off < 4 * NOISE_PX * z[pairs[:, 0]] / intrinsics[0, 0]]
        points[pairs[:, 1]] += (mine[pairs[:, 0]] - points[pairs[:, 1]]) / (
            counts[pairs[:, 1], None] + 1
        )
        counts[pairs[:, 1]] += 1
        new = np.setdiff1d(np.nonzero(flat)[0], pairs[:, 0])
        first = len(points)
        points, counts = (
            np.concatenate([points, mine[new]]),
            np.concatenate([counts, np.ones(len(new))]),
        )
        descriptors = np.concatenate([descriptors, features[index].descriptors[new]])
        spreads = np.concatenate([spreads, NOISE_PX * z[new] / intrinsics[0, 0]])
        rows.append(
            np.concatenate([pairs[:, ::-1], np.stack([first + np.arange(len(new)), new], axis=1)])
        )
    kept = np.nonzero(counts >= 2)[0]
    number = np.full(len(points), -1)
    number[kept] = np.arange(len(kept))
    rows = [row[number[row[:, 0]] >= 0] for row in rows]
    vocabulary = train_vocabulary([features[i].descriptors for i in room.map_indices])
    keyframes = len(room.map_indices)
    covariances = (spreads**2 / counts)[kept, None, None] * np.eye(3)
    return Landmarks(
        world_from_cam=poses[room.map_indices],
        pose_covariance=np.tile(sigma_m**2 * np.eye(6, dtype=np.float32), (keyframes, 1, 1)),
        intrinsics=np.tile(intrinsics, (keyframes, 1, 1)),
        keyframe_descriptors=np.stack(
            [describe(features[i].descriptors, vocabulary) for i in room.map_indices]
        ),
        positions=points[kept].astype(np.float32),
        covariance_roots=lower_roots(covariances),
        descriptors=descriptors[kept],
        repeated=np.zeros(len(kept), dtype=bool),
        observed_from=np.repeat(np.arange(keyframes), [len(row) for row in rows]).astype(np.int32),
        observed=np.concatenate([number[row[:, 0]] for row in rows]).astype(np.int32),
        pixels=np.concatenate(
            [features[i].pixels[row[:, 1]] for i, row in zip(room.map_indices, rows, strict=True)]
        ),
        vocabulary=vocabulary,
        noise_px=NOISE_PX,
    )


def _unprojected(
    features: Features, depth: np.ndarray, intrinsics: np.ndarray, world_from_cam: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3), depth z (n,) and which of them (n,) lie off the edges, where depth at a
    keypoint means nothing.
    """
    column, row = np.rint(features.pixels).astype(int).T
    near = [
        depth[np.clip(row + y, 0, depth.shape[0] - 1), np.clip(column + x, 0, depth.shape[1] - 1)]
        for x in (-3, 0, 3)
        for y in (-3, 0, 3)
    ]
    z = near[4].astype(np.float64)
    flat = (np.max(near, axis=0) - np.min(near, axis=0)) < 0.05 * z
    rays = (features.pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    points = np.concatenate([rays, np.ones((len(z), 1))], axis=1) * z[:, None]
    return points @ world_from_cam[:3, :3].T + world_from_cam[:3, 3], z, flat
