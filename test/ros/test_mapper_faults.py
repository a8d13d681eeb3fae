"""Whatever a camera, its calibration and its odometry may send: the mapper says what is wrong, and
goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sensor_msgs.msg import CameraInfo, Image

from vggt3_ros.nodes.messages.conversions import header
from vggt3_ros.nodes.messages.images import image_message
from vggt3_ros.nodes.messages.qos import image_qos

from .mapper_client import QUICK, MapperClient, running_mapper, visit
from .processes import wait_for
from .robot import CAMERA, Robot

SECOND = 10**9


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapperClient]:
    with running_mapper(tmp_path_factory.mktemp("mapper") / "log") as client:
        yield client


@pytest.fixture(scope="module")
def mapping(process: MapperClient, tmp_path_factory: pytest.TempPathFactory) -> MapperClient:
    """Active, for all the faults one after the other."""
    process.start(tmp_path_factory.mktemp("maps"), **QUICK)
    return process


@pytest.fixture
def robot(mapping: MapperClient) -> Iterator[Robot]:
    """Its first image was kept. After the test everything must go on as usual."""
    mapping.trigger("reset")
    mapping.robot.show(0)
    mapping.keeps(1)
    yield mapping.robot
    mapping.trigger("reset")
    mapping.keeps(0)
    assert mapping.collect(3).frames_without_prior == 0
    mapping.is_sound()


def left_out(mapper: MapperClient, show: Callable[[], object]) -> str:
    """Why the image that `show` publishes was left out, as one that cannot be used."""
    before = mapper.statuses[-1]
    show()
    after = mapper.says(
        lambda status: status.frames_received == before.frames_received + 1, "the image"
    )
    after = mapper.says(
        lambda status: status.frames_dropped == before.frames_dropped + 1,
        "the image to be left out",
    )
    assert (after.frames_kept, after.frames_skipped) == (before.frames_kept, before.frames_skipped)
    return after.last_drop_reason


def unknown_encoding(image: Image) -> None:
    image.encoding = "rgb9"


def too_little_data(image: Image) -> None:
    image.data = image.data[:-1]


def short_rows(image: Image) -> None:
    image.step = 10


def too_large(image: Image) -> None:
    image.height, image.width, image.step = 2**31, 2**31, 2**32 - 1


def odd_width(image: Image) -> None:
    image.encoding, image.width, image.step, image.data = (
        "yuv422",
        159,
        318,
        image.data[: 318 * 120],
    )


def empty(image: Image) -> None:
    image.height, image.width, image.step, image.data = 0, 0, 0, image.data[:0]


def nameless(image: Image) -> None:
    image.header.frame_id = ""


def unstamped(image: Image) -> None:
    image.header.stamp.sec, image.header.stamp.nanosec = 0, 0


def before_1970(image: Image) -> None:
    image.header.stamp.sec = -5


@pytest.mark.parametrize(
    "fault, words",
    [
        (unknown_encoding, "'rgb9' is not supported; expected one of rgb8, "),
        (too_little_data, "has 57599 bytes"),
        (short_rows, "rows (step) of 10; expected"),
        (too_large, "2147483648x2147483648"),
        (odd_width, "expected an even width"),
        (empty, "is empty"),
        (nameless, "no frame_id; set one in the camera driver"),
        (unstamped, "no stamp"),
        (before_1970, "no stamp"),
    ],
)
def test_a_damaged_image_is_left_out_with_its_reason(
    mapping: MapperClient, robot: Robot, fault: Callable[[Image], None], words: str
) -> None:
    assert words in left_out(mapping, lambda: robot.show(1, change=fault))


def test_black_images_are_dropped_and_frozen_ones_skipped(
    mapping: MapperClient, robot: Robot
) -> None:
    black = np.full((120, 160, 3), 5, np.uint8)
    assert "black" in left_out(mapping, lambda: robot.show(1, image=black))
    before = mapping.statuses[-1]
    robot.show(1, image=visit().images[0])
    after = mapping.says(
        lambda status: status.frames_skipped == before.frames_skipped + 1, "the image to be skipped"
    )
    assert (after.frames_dropped, after.last_drop_reason) == (
        before.frames_dropped,
        before.last_drop_reason,
    )


def test_another_resolution_in_between_is_used_as_well(mapping: MapperClient, robot: Robot) -> None:
    before = mapping.statuses[-1]
    robot.show(1, image=np.repeat(np.repeat(visit().images[1], 2, axis=0), 2, axis=1))
    used = before.frames_kept + before.frames_skipped + 1
    after = mapping.says(
        lambda status: status.frames_kept + status.frames_skipped == used, "the image to be used"
    )
    assert after.frames_dropped == before.frames_dropped


def test_stamps_that_run_backwards_are_left_out(mapping: MapperClient, robot: Robot) -> None:
    before = robot.now() - SECOND
    assert "before that of the image before" in left_out(
        mapping, lambda: robot.show(1, stamp=before)
    )


def test_a_clock_that_was_set_back_begins_anew(mapping: MapperClient, robot: Robot) -> None:
    before = robot.now()
    robot.show(2, stamp=before - 100 * SECOND)
    mapping.keeps(2)
    robot.show(3, stamp=before - 99 * SECOND)
    mapping.keeps(3)
    robot.show(4)  # and forward again
    # transforms may have come before the image that told the jump
    assert mapping.keeps(4).frames_without_prior <= 1


def test_odometry_that_is_no_number_is_ignored(mapping: MapperClient, robot: Robot) -> None:
    robot.odom_from_map = torch.full((4, 4), math.nan, dtype=torch.float64)
    robot.show(2)
    robot.odom_from_map = torch.eye(4, dtype=torch.float64)
    assert mapping.keeps(2).frames_without_prior == 1
    wait_for(
        lambda: "ignored: transform from 'base_link' to 'odom'" in mapping.process.log,
        "a warning",
    )


def test_a_calibration_that_does_not_fit_is_named(mapping: MapperClient, robot: Robot) -> None:
    infos = mapping.node.create_publisher(CameraInfo, "camera_info", image_qos("reliable"))
    images = mapping.node.create_publisher(Image, "image", image_qos("reliable"))
    for publisher in (infos, images):
        wait_for(publisher.get_subscription_count, "the mapper to listen")

    def show_with(info: CameraInfo) -> Callable[[], None]:
        def show() -> None:
            infos.publish(info)
            time.sleep(0.5)  # another topic: nothing keeps the order
            images.publish(image_message(visit().images[1], CAMERA, robot.now()))

        return show

    fitting = robot.info(120, 160, robot.now())
    other_size = robot.info(480, 640, robot.now())
    uncalibrated = CameraInfo(header=header(CAMERA, robot.now()), height=120, width=160)
    broken = robot.info(120, 160, robot.now())
    broken.k = [math.nan] * 9
    assert all(size in left_out(mapping, show_with(other_size)) for size in ("640x480", "160x120"))
    assert "uncalibrated" in left_out(mapping, show_with(uncalibrated))
    assert "camera_info" in left_out(mapping, show_with(broken))
    show_with(fitting)()
    mapping.keeps(2)
    for publisher in (infos, images):
        mapping.node.destroy_publisher(publisher)


def test_after_all_that_it_makes_a_map(mapping: MapperClient) -> None:
    mapping.trigger("reset")
    mapping.keeps(0)
    mapping.collect(5)
    assert mapping.reconstruct().result().code == 0
    log = mapping.process.log
    lines = log.count("image left out: ")  # whose reasons these are, the throttle decides
    assert 0 < lines < mapping.statuses[-1].frames_dropped, (
        "warned, but not one line for each image"
    )


def test_a_camera_may_start_late_stop_and_start_again(
    process: MapperClient, tmp_path: Path
) -> None:
    process.start(tmp_path, odometry_source="none", watch=False)
    process.says(lambda status: status.frames_received == 0, "a status before any image")
    process.robot.destroy()
    for index in range(3):
        process.robot = Robot(process.node, visit())
        process.robot.wait_until_connected()
        process.robot.show(index)
        process.keeps(index + 1)
        if index < 2:
            process.robot.destroy()
    process.is_sound()


def test_without_calibration_images_are_left_out_unless_that_is_allowed(
    process: MapperClient, tmp_path: Path
) -> None:
    images = process.node.create_publisher(Image, "image", image_qos("reliable"))
    for required in (True, False):
        process.start(tmp_path, odometry_source="none", require_calibration=required)
        wait_for(images.get_subscription_count, "the mapper to listen")

        def show() -> None:
            images.publish(image_message(visit().images[0], CAMERA, process.robot.now()))

        process.says(lambda status: True, "a status")
        if required:
            assert "camera_info has not come yet" in left_out(process, show)
        else:
            show()
            process.keeps(1)
    process.node.destroy_publisher(images)
