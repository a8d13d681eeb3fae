"""Half a minute of a 640x480 camera at 30 Hz: nothing grows, nothing is lost uncounted, everything
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rclpy.node import Node

from vggt3_ros.geometry.camera import intrinsics_matrix
from vggt3_ros.msg import LocalizationStatus, MapperStatus
from vggt3_ros.nodes.messages.conversions import stamp_ns
from vggt3_ros.scene.storage import save_scene
from vggt3_ros.srv import LoadScene

from ..patience import PATIENCE_S
from .localizer_client import QUERIES, scene, visit
from .processes import NodeProcess, wait_for
from .robot import Heard, Robot

SECONDS, RATE, STAY = 32, 30, 0.5  # STAY: seconds before the robot goes on to the next place
WARM_UP = 12  # seconds until libraries, caches and queues have their size
# half of what a leak of 30 kB per image would add in a second; `vggt3 bench graph` looks closer
GROWTH_MB_S = 0.5
MAY_BE_LOST = 0.02  # of all images, if they are counted
NOISES = 4  # images of each place that differ by their noise
PLACES = QUERIES[:6]  # images of the visit that the robot goes by


@pytest.fixture
def robot(node: Node) -> Iterator[Robot]:
    """One whose camera is twice as large in each direction."""
    small = visit()
    images = np.stack(
        [cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC) for image in small.images]
    )
    fx, fy, cx, cy = (
        float(small.intrinsics[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    larger = intrinsics_matrix(2 * fx, 2 * fy, 2 * cx + 0.5, 2 * cy + 0.5)
    robot = Robot(node, replace(small, images=images, intrinsics=larger))
    yield robot
    robot.destroy()


def noisy(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def drive(robot: Robot, processes: list[NodeProcess]) -> list[list[int]]:
    """To and fro between the places, for SECONDS; returns the memory (bytes) of the processes,
    every second.
    """
    there = [noisy(robot.visit.images[place], seed) for place in PLACES for seed in range(NOISES)]
    route = [*range(len(PLACES)), *range(len(PLACES) - 2, 0, -1)]
    memory: list[list[int]] = []
    begin = due = time.monotonic()
    while due < begin + SECONDS:
        place = route[int((due - begin) / STAY) % len(route)]
        robot.show(PLACES[place], image=there[place * NOISES + robot.shown % NOISES])
        if due - begin >= len(memory):
            memory.append([process.rss_bytes for process in processes])
        # A camera that was held up leaves images out; it does not send them all at once afterwards.
        due = max(due + 1 / RATE, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    return memory


def first_images(robot: Robot, heard: Heard) -> list[int]:
    """Show images until both nodes get them; returns how many each got."""

    def arrived() -> bool:
        robot.show(PLACES[0])
        time.sleep(0.2)
        return heard.mapper[-1].frames_received > 0 and heard.localizer[-1].frames_received > 0

    wait_for(arrived, "the first images")
    return settled(heard)[0]


def left_out(status: MapperStatus | LocalizationStatus) -> int:
    return int(status.frames_skipped + status.frames_dropped)


def lost_count(heard: Heard) -> list[int]:
    """Images that mapper and localizer say have never reached them."""
    return [heard.mapper[-1].frames_lost, heard.localizer[-1].frames_lost]


def settled(heard: Heard) -> tuple[list[int], list[int]]:
    """Images that mapper and localizer have received, and those that they have handled, once
    nothing changes.
    """

    def counts() -> tuple[list[int], list[int]]:
        mapper, localizer = heard.mapper[-1], heard.localizer[-1]
        tried = {
            stamp_ns(status.header.stamp)
            for status in tuple(heard.localizer)
            if status.header.frame_id and "image left out" not in status.reason
        }
        handled = [mapper.frames_kept + left_out(mapper), len(tried) + left_out(localizer)]
        return [mapper.frames_received, localizer.frames_received], handled

    last, since = counts(), time.monotonic()
    deadline = since + 30
    while time.monotonic() < min(since + 3, deadline):
        time.sleep(0.1)
        if counts() != last:
            last, since = counts(), time.monotonic()
    return last


def test_half_a_minute_of_large_images(
    node: Node,
    robot: Robot,
    start_node: Callable[..., NodeProcess],
    tmp_path: Path,
) -> None:
    common = {"autostart": True}
    mapper = start_node(
        "mapper_node",
        parameters={**common, "scene_dir": str(tmp_path), "trigger_idle": 0.0},
        anew=True,
    )
    localizer = start_node("localizer_node", parameters=common, anew=True)
    heard = Heard(node)
    load(node, save_scene(scene(), tmp_path / "room"))
    wait_for(
        lambda: heard.localizer and heard.localizer[-1].scene_id,
        "the localizer to follow the mapper",
    )
    robot.wait_until_connected(2)
    before, shown = first_images(robot, heard), robot.shown
    lost_before = lost_count(heard)

    memory = drive(robot, [mapper, localizer])

    sent = robot.shown - shown
    received, handled = settled(heard)
    lost = [sent - (now - then) for now, then in zip(received, before, strict=True)]
    counted = [now - then for now, then in zip(lost_count(heard), lost_before, strict=True)]
    # A machine that is busy with other tests may hold a node up for longer than its queue lasts.
    assert max(lost) < MAY_BE_LOST * sent, f"of {sent} images {lost} were lost"
    assert all(0 <= a <= b for a, b in zip(lost, counted, strict=True)), (lost, counted)
    assert handled == received  # kept, attempted, or left out and counted
    assert len(heard.poses) > SECONDS / 2
    for statuses in (heard.mapper, heard.localizer):
        count = len(statuses)
        wait_for(lambda statuses=statuses, count=count: len(statuses) > count, "a further status")
    for process, sizes in zip((mapper, localizer), zip(*memory, strict=True), strict=True):
        # The median: a process takes and keeps some 20 MB at once, now and then, for the buffers of
        # another thread.
        growth = np.median(np.diff(sizes[WARM_UP:])) / 1e6
        assert growth < GROWTH_MB_S, f"{process.module} grew by {growth:.1f} MB a second: {sizes}"
        assert (
            process.is_running
            and "bug in this program" not in process.log
            and "Traceback" not in process.log
        )
        assert process.stop() == 0


def load(node: Node, folder: Path) -> None:
    """Have the mapper publish a scene."""
    client: Any = node.create_client(LoadScene, "mapper/load_scene")
    assert client.wait_for_service(PATIENCE_S)
    answer = client.call(LoadScene.Request(path=str(folder)), timeout_sec=PATIENCE_S)
    assert answer is not None and answer.code == LoadScene.Response.SUCCESS, answer
    node.destroy_client(client)
