from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import rotation_from_axis_angle, se3
from vggt3_ros.pipeline.collection import CollectionSettings, FrameCollection, Reason
from vggt3_ros.pipeline.frame import Frame, Image

MakeImage = Callable[..., Image]


def pose(x: float, yaw: float = 0.0) -> Tensor:
    rotation = rotation_from_axis_angle(torch.tensor([0.0, yaw, 0.0], dtype=torch.float64))
    return se3(rotation, torch.tensor([x, 0.0, 0.0], dtype=torch.float64))


def reasons(collection: FrameCollection, frames: list[Frame]) -> list[Reason]:
    return [collection.add(frame).reason for frame in frames]


def test_with_priors_frames_are_kept_by_motion_or_rotation(make_image: MakeImage) -> None:
    places = [pose(0), pose(0.05), pose(0.12), pose(0.12, 0.05), pose(0.12, 0.2), pose(0.01)]
    frames = [Frame(make_image(i), prior_world_from_cam=place) for i, place in enumerate(places)]
    kept, little = Reason.KEPT, Reason.LITTLE_MOTION
    collection = FrameCollection(CollectionSettings(min_translation_m=0.1, min_rotation_rad=0.1))
    assert reasons(collection, frames) == [kept, little, kept, little, kept, little]
    assert collection.counts == {kept: 3, little: 3}
    assert collection.frames == (frames[0], frames[2], frames[4])


def test_without_priors_frames_are_kept_by_change_of_the_image(make_image: MakeImage) -> None:
    image = make_image(1)
    slightly = np.roll(image, 1, axis=1)
    collection = FrameCollection(CollectionSettings(min_image_change=0.1))
    images = [image, image, slightly, make_image(2)]
    found = reasons(collection, [Frame(each) for each in images])
    assert found == [Reason.KEPT, Reason.DUPLICATE, Reason.LITTLE_CHANGE, Reason.KEPT]


def test_a_frozen_camera_on_a_moving_robot_gives_duplicates(make_image: MakeImage) -> None:
    frames = [Frame(make_image(1), prior_world_from_cam=pose(float(i))) for i in range(3)]
    assert reasons(FrameCollection(), frames) == [Reason.KEPT, Reason.DUPLICATE, Reason.DUPLICATE]


def test_unusable_frames_are_dropped_with_their_reason(make_image: MakeImage) -> None:
    nan = pose(0)
    nan[1, 1] = float("nan")
    frames = [
        Frame(make_image(0), stamp_ns=10),
        Frame(np.zeros_like(make_image(0)), stamp_ns=20),
        Frame(make_image(1), stamp_ns=30, prior_world_from_cam=nan),
        Frame(make_image(1, height=64, width=48), stamp_ns=40),
        Frame(make_image(1), stamp_ns=35),
        Frame(make_image(1), stamp_ns=40),
    ]
    expected = [
        Reason.KEPT,
        Reason.BLACK,
        Reason.BAD_POSE,
        Reason.SIZE_CHANGED,
        Reason.STAMP_BACKWARDS,
        Reason.KEPT,
    ]
    collection = FrameCollection()
    assert reasons(collection, frames) == expected
    assert collection.counts.total() == len(frames)


def test_a_full_collection_drops_what_lies_closest_and_keeps_the_first(
    make_image: MakeImage,
) -> None:
    xs = [0.0, 0.2, 1.0, 2.0, 3.0]
    frames = [Frame(make_image(i), prior_world_from_cam=pose(x)) for i, x in enumerate(xs)]
    collection = FrameCollection(CollectionSettings(max_frames=4))
    results = [collection.add(frame) for frame in frames]
    assert [result.reason for result in results] == [Reason.KEPT] * 5
    assert collection.frames == (frames[0], *frames[2:]), "0.2 lay closest, and 0 is the origin"
    assert collection.counts[Reason.THINNED] == 1 == sum(result.gone for result in results)
    near = Frame(make_image(9), prior_world_from_cam=pose(3.15))
    assert collection.add(near).reason is Reason.FULL, "it lies closer than what was dropped"
    assert collection.frames == (frames[0], *frames[2:])


def test_a_long_drive_stays_bounded_and_evenly_covered(make_image: MakeImage) -> None:
    collection = FrameCollection(CollectionSettings(max_frames=10))
    for i in range(200):
        collection.add(
            Frame(make_image(i, 24, 32), stamp_ns=i, prior_world_from_cam=pose(0.11 * i))
        )
        assert len(collection) <= 10
    priors = [frame.prior_world_from_cam for frame in collection.frames]
    xs = [float(prior[0, 3]) for prior in priors if prior is not None]
    assert xs[0] == 0 and len(xs) >= 7
    gaps = np.diff([*xs, 21.9])
    assert gaps.min() > 0 and gaps.max() < 5, "metres, of 21.9"
    assert collection.counts[Reason.KEPT] - collection.counts[Reason.THINNED] == len(xs)


def test_frames_with_and_without_priors_mix(make_image: MakeImage) -> None:
    frames = [Frame(make_image(0), prior_world_from_cam=pose(0)), Frame(make_image(1))]
    frames += [Frame(make_image(2), prior_world_from_cam=pose(0.01))]
    assert reasons(FrameCollection(), frames) == [Reason.KEPT, Reason.KEPT, Reason.LITTLE_MOTION]


def test_a_cleared_collection_is_as_new(make_image: MakeImage) -> None:
    collection = FrameCollection()
    collection.add(Frame(make_image(0), stamp_ns=10))
    collection.clear()
    assert len(collection) == 0 and not collection.counts
    assert collection.add(Frame(make_image(0), stamp_ns=5)).kept


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"max_frames": 1}, "max_frames is 1; a reconstruction needs at least 2"),
        ({"min_translation_m": 0.0}, "min_translation_m is 0.0; it must be positive"),
        ({"min_image_change": 0.001}, "min_image_change is 0.001; images that differ by less"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        CollectionSettings(**setting)  # type: ignore[arg-type]
