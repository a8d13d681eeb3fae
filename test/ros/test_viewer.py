"""The page in the browser is served, and it is told what the mapper and the localizer publish."""

from __future__ import annotations

import math
import socket
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.frustum import frustum_lines
from vggt3_ros.geometry.pointcloud import PointCloud
from vggt3_ros.msg import LocalizationStatus
from vggt3_ros.nodes import viewer_node
from vggt3_ros.nodes.messages.clouds import cloud_message
from vggt3_ros.nodes.messages.conversions import header, path_message, pose_message
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS
from vggt3_ros.nodes.viewer.page import Viewer
from vggt3_ros.nodes.viewer_node import ViewerNode

from ..patience import PATIENCE_S
from .processes import wait_for

pytest.importorskip("viser")
CLOUD = PointCloud(
    torch.rand(50, 3), torch.randint(0, 256, (50, 3), dtype=torch.uint8), torch.ones(50)
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def poses(count: int) -> torch.Tensor:
    result = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    result[:, 0, 3] = 0.1 * torch.arange(count)
    return result


def message() -> PointCloud2:
    return cloud_message(CLOUD, "map", 5)


def test_pyramids_stand_where_the_cameras_are_and_open_ahead() -> None:
    lines = frustum_lines(poses(3))
    assert lines.shape == (3, 8, 2, 3)
    torch.testing.assert_close(lines[:, :4, 0], poses(3)[:, None, :3, 3].expand(3, 4, 3))
    assert (lines[:, 4:, :, 2] > 0).all()


def test_the_page_is_served_and_takes_everything() -> None:
    page = Viewer(free_port())
    try:
        with urllib.request.urlopen(page.url, timeout=PATIENCE_S) as answer:
            assert answer.status == 200 and b"<html" in answer.read().lower()
        page.show_points(
            np.array([[0.0, 0, 0], [math.nan, 0, 0], [1, 1, 1]]), np.zeros((3, 3), np.uint8)
        )
        page.show_points(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
        page.show_keyframes(poses(1))
        page.show_keyframes(poses(5))
        page.show_pose(poses(2)[1], "localized")
        page.show_trail("pose", np.array([[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0]]), (1, 2, 3))
        page.show_trail("truth", np.zeros((1, 3)), (1, 2, 3))
        page.show_text("# here")
        other = Viewer(int(page.url.rsplit(":", 1)[1]))
        assert other.url != page.url, "a port that is taken is not taken away"
        other.close()
    finally:
        page.close()


def test_without_viser_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=r"pip install 'vggt3_ros\[view\]'"):
        Viewer()


class Recorder:
    """Takes the place of the page, and keeps the last of everything that it was told."""

    url = "nowhere"

    def __init__(self, port: int, host: str) -> None:
        self.shown: dict[str, Any] = {}

    def close(self) -> None: ...

    def show_points(self, points: Any, colors: Any) -> None:
        self.shown["points"] = points

    def show_keyframes(self, map_from_cam: Any) -> None:
        self.shown["keyframes"] = map_from_cam

    def show_pose(self, map_from_base: Any, label: str) -> None:
        self.shown["robot"] = label

    def show_trail(self, name: str, positions: Any, color: Any) -> None:
        self.shown[name] = positions

    def show_text(self, markdown: str) -> None:
        self.shown["text"] = markdown


@pytest.fixture
def shown(
    executor: MultiThreadedExecutor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    monkeypatch.setattr(viewer_node, "Viewer", Recorder)
    node = ViewerNode(namespace="/vggt3")
    executor.add_node(node)
    yield node.viewer.shown  # type: ignore[attr-defined]
    executor.remove_node(node)
    node.destroy_node()


def test_what_is_published_is_shown_also_what_was_published_before(
    node: Node, shown: dict[str, Any]
) -> None:
    node.create_publisher(PointCloud2, "points", LATCHED).publish(message())
    node.create_publisher(Path, "keyframes", LATCHED).publish(
        path_message(poses(3), [1, 2, 3], "map")
    )
    wait_for(lambda: "points" in shown and "keyframes" in shown, "the map")
    assert len(shown["points"]) == 50
    torch.testing.assert_close(shown["keyframes"], poses(3))

    robot = node.create_publisher(PoseWithCovarianceStamped, "pose", STATUS)
    truth = node.create_publisher(PoseStamped, "sim_camera/true_pose", STATUS)
    status = node.create_publisher(LocalizationStatus, "localizer/status", STATUS)
    for publisher in (robot, truth, status):
        wait_for(publisher.get_subscription_count, f"a subscriber of {publisher.topic_name}")
    for each in poses(4):
        stamped = PoseWithCovarianceStamped(header=header("map", 1))
        stamped.pose.pose = pose_message(each)
        robot.publish(stamped)
        truth.publish(PoseStamped(header=header("map", 1), pose=pose_message(each)))
        truth.publish(PoseStamped(header=header("map", 2), pose=pose_message(each)))
    status.publish(
        LocalizationStatus(state=LocalizationStatus.LOCALIZED, reason="40 landmarks agree")
    )
    wait_for(lambda: len(shown.get("pose", ())) == len(shown.get("truth", ())) == 4, "the trails")
    wait_for(lambda: "40 landmarks agree" in shown.get("text", ""), "the status")
    assert (
        shown["robot"] == "localized" and "localized" in shown["text"] and "blue" in shown["text"]
    )
    assert len(shown["truth"]) == 4, "a robot that stands leaves no trail"
