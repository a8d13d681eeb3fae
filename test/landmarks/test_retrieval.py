from __future__ import annotations

import numpy as np

from vggt3_ros.landmarks.retrieval import describe, directions, most_similar, train_vocabulary


def test_a_query_finds_keyframes_that_share_its_landmarks(mapped_room):
    landmarks = mapped_room.landmarks
    looks = directions(landmarks.keyframe_descriptors)
    shared, chance = [], []
    for query in mapped_room.room.query_indices:
        found = most_similar(
            describe(mapped_room.features[query].descriptors, landmarks.vocabulary), looks, 3
        )
        distance = np.linalg.norm(
            landmarks.world_from_cam[:, :3, 3] - mapped_room.poses[query, :3, 3], axis=1
        )
        toward = landmarks.world_from_cam[:, :3, 2] @ mapped_room.poses[query, :3, 2]
        shared.append((distance[found].min(), toward[found].max()))
        chance.append((np.median(distance), np.median(toward)))
    assert np.median(shared, 0)[0] < np.median(chance, 0)[0]
    assert np.median(shared, 0)[1] > 0.8  # a keyframe that looks the same way


def test_a_keyframe_finds_itself(mapped_room):
    landmarks = mapped_room.landmarks
    looks = directions(landmarks.keyframe_descriptors)
    for number, index in enumerate(mapped_room.room.map_indices):
        described = describe(mapped_room.features[index].descriptors, landmarks.vocabulary)
        assert most_similar(described, looks, 1)[0] == number


def test_a_vocabulary_is_the_same_for_the_same_seed(mapped_room):
    descriptors = [one.descriptors for one in mapped_room.features[:3]]
    first, second = train_vocabulary(descriptors), train_vocabulary(descriptors)
    assert first.shape == (32, 128)
    np.testing.assert_array_equal(first, second)


def test_few_descriptors_or_none_are_described_too():
    few = np.random.default_rng(0).integers(0, 90, (5, 128)).astype(np.uint8)
    none = np.zeros((0, 128), np.uint8)
    vocabulary = train_vocabulary([few, none])
    assert vocabulary.shape == (5, 128)
    assert describe(none, vocabulary).shape == (5 * 128,)
    assert not describe(none, vocabulary).any()
    assert train_vocabulary([none]).shape == (0, 128)
    assert describe(few, train_vocabulary([none])).shape == (0,)
