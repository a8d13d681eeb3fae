"""The localizer as a process of its own: what it publishes, what it withholds, and how it survives what robots do."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from vggt3_ros.geometry.se3 import se3, se3_inverse
from vggt3_ros.model.checkpoint import load_network
from vggt3_ros.msg import LocalizationStatus as Status
from vggt3_ros.msg import SceneInfo
from vggt3_ros.nodes.conversions import pose_message, scene_info
from vggt3_ros.nodes.lifecycle import FAILURE, SUCCESS
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.qos import LATCHED
from vggt3_ros.nodes.transforms import TransformBuffer, TransformListener
from vggt3_ros.pipeline.frame import Frame
from vggt3_ros.pipeline.reconstruct import reconstruct
from vggt3_ros.scene.storage import save_scene
from vggt3_ros.srv import LoadScene
from vggt3_ros.worlds.sequence import RoomSequence, room_sequence

from .processes import NodeProcess, wait_for
from .robot import CAMERA, Heard, Robot

MAPPED, QUERIES = range(16), range(16, 24)
LIMIT_M, LIMIT_DEG = 0.05, 2.0


@pytest.fixture(scope="module")
def visit() -> RoomSequence:
    return room_sequence(900_004, 16, 8)


@pytest.fixture(scope="module")
def other_room() -> RoomSequence:
    return room_sequence(900_012, 4, 4)


@pytest.fixture(scope="module")
def scene_folder(visit: RoomSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of the visit's mapped images, in the true frame."""
    frames = [
        Frame(visit.images[i], 1 + i, visit.intrinsics, None, visit.world_from_cam[i], name=f"{i}") for i in MAPPED
    ]
    scene = reconstruct(frames, load_network("tiny")).scene
    assert scene.is_verified and scene.is_metric
    return save_scene(scene, tmp_path_factory.mktemp("scenes") / "room")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A localizer without a scene, and a node that talks to it."""
    context = Context()
    rclpy.init(args=[], context=context)
    executor = SingleThreadedExecutor(context=context)
    node = Node("tester", namespace="/vggt3", context=context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    log = tmp_path_factory.mktemp("log") / "localizer.log"
    process = NodeProcess(log, "localizer_node", parameters={"autostart": True, "lost_after": 0.8})
    yield SimpleNamespace(node=node, process=process, heard=Heard(node))
    process.kill()
    print(process.log)
    executor.shutdown()
    spinning.join()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def robot(graph: SimpleNamespace, visit: RoomSequence, scene_folder: Path) -> Iterator[Robot]:
    """The robot of the visit, before a localizer that has just loaded the scene."""
    robot = Robot(graph.node, visit)
    robot.wait_until_connected()
    assert load(graph, scene_folder).code == LoadScene.Response.SUCCESS
    yield robot
    robot.destroy()


def load(graph: SimpleNamespace, folder: Path) -> LoadScene.Response:
    return call(graph.node, LoadScene, "localizer/load_scene", LoadScene.Request(path=str(folder)))


def call(node: Node, kind: type, name: str, request: object) -> object:
    client = node.create_client(kind, name)
    assert client.wait_for_service(20)
    future = client.call_async(request)
    response = wait_for(lambda: future.result() if future.done() else None, 30, f"the answer of {name}")
    node.destroy_client(client)
    return response


def attempts(graph: SimpleNamespace, robot: Robot, indices: range | list[int], **options: object) -> list[Status]:
    """Show images, each after the attempt at the one before; returns what was said of them."""
    return [graph.heard.status_of(robot.show(index, **options)) for index in indices]


def stamp_of(status: Status) -> int:
    return status.header.stamp.sec * 10**9 + status.header.stamp.nanosec


def assert_right(graph: SimpleNamespace, robot: Robot, statuses: list[Status], indices: range | list[int]) -> None:
    """Every pose that was published of these images is right."""
    for status, index in zip(statuses, indices, strict=True):
        if status.pose_published:
            stamp = stamp_of(status)
            wait_for(lambda stamp=stamp: stamp in graph.heard.poses, 10, "a pose that was announced")
            metres, degrees = graph.heard.error(stamp, robot.true_pose(index))
            assert metres < LIMIT_M and degrees < LIMIT_DEG, f"image {index}: {metres:.3f} m, {degrees:.2f} deg"


def test_before_any_scene_it_says_so_and_goes_on(graph: SimpleNamespace, visit: RoomSequence) -> None:
    robot = Robot(graph.node, visit)
    robot.wait_until_connected()
    status = graph.heard.status_of(robot.show(0))
    robot.destroy()
    assert status.state == Status.UNINITIALIZED and not status.pose_published
    assert "there is no scene yet" in status.reason


def test_poses_are_published_once_two_agree(graph: SimpleNamespace, robot: Robot) -> None:
    statuses = attempts(graph, robot, QUERIES)
    assert [status.pose_published for status in statuses[:2]] == [False, True]
    assert "1 of 2 poses that must agree" in statuses[0].reason
    assert sum(status.pose_published for status in statuses) >= 6
    assert all(status.metric and status.child_frame_id == "base_link" for status in statuses)
    assert all(status.inliers > 20 for status in statuses if status.pose_published)
    assert_right(graph, robot, statuses, QUERIES)
    pose = graph.heard.poses[stamp_of(statuses[1])]
    covariance = np.array(pose.pose.covariance).reshape(6, 6)
    assert pose.header.frame_id == "map"
    assert (np.linalg.eigvalsh(covariance) > 0).all() and covariance.trace() < 0.1


def test_transform_from_map_to_odometry_follows_its_drift(graph: SimpleNamespace, robot: Robot) -> None:
    buffer = TransformBuffer(max_gap_s=60.0)  # attempts may be slow
    listener = TransformListener(graph.node, buffer)
    robot.odom_from_map = se3(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.1], dtype=torch.float64))
    wait_for(lambda: graph.node.count_publishers("/tf") >= 2, 20, "the localizer's transforms")
    statuses = attempts(graph, robot, QUERIES[:4])
    assert statuses[-1].tf == "map -> odom"
    # Dated into the future: known for a moment that has not come when the image was taken.
    stamp = stamp_of(statuses[-1]) + 400_000_000
    wait_for(lambda: buffer.parent_of("odom") == "map", 10, "map -> odom")
    wait_for(lambda: _known(buffer, stamp), 10, "map -> odom, dated ahead")
    map_from_odom = buffer.lookup("map", "odom", stamp)
    listener.destroy()
    assert torch.allclose(map_from_odom @ robot.odom_from_map, torch.eye(4, dtype=torch.float64), atol=LIMIT_M)


def test_transform_holds_when_no_image_comes(graph: SimpleNamespace, robot: Robot) -> None:
    buffer = TransformBuffer(max_gap_s=60.0)
    listener = TransformListener(graph.node, buffer)
    wait_for(lambda: graph.node.count_publishers("/tf") >= 2, 20, "the localizer's transforms")
    stamp = stamp_of(attempts(graph, robot, QUERIES[:3])[-1])
    late = stamp + 3_000_000_000  # far beyond transform_tolerance
    wait_for(lambda: _known(buffer, late), 20, "map -> odom, three seconds after the last image")
    listener.destroy()
    moved = buffer.lookup("map", "odom", late) @ se3_inverse(buffer.lookup("map", "odom", stamp + 600_000_000))
    assert torch.allclose(moved, torch.eye(4, dtype=torch.float64), atol=1e-6)


def _known(buffer: TransformBuffer, stamp: int) -> bool:
    try:
        buffer.lookup("map", "odom", stamp)
    except Exception:
        return False
    return True


def test_covered_lens_leads_to_uncertain_then_lost_and_back(graph: SimpleNamespace, robot: Robot) -> None:
    attempts(graph, robot, QUERIES[:3])
    black = np.zeros_like(robot.visit.images[0])
    first = attempts(graph, robot, [QUERIES[3]], image=black)[0]
    assert first.state == Status.UNCERTAIN and "black" in first.reason
    assert "frozen" in first.tf
    time.sleep(1.0)
    last = attempts(graph, robot, [QUERIES[3]], image=black)[0]
    assert last.state == Status.LOST and not last.pose_published
    back = attempts(graph, robot, QUERIES[3:6])
    assert back[-1].state == Status.LOCALIZED
    assert_right(graph, robot, back, QUERIES[3:6])


def test_another_room_is_never_taken_for_this_one(
    graph: SimpleNamespace, robot: Robot, other_room: RoomSequence
) -> None:
    attempts(graph, robot, QUERIES[:3])
    statuses = [attempts(graph, robot, [QUERIES[3]], image=image)[0] for image in other_room.images]
    assert not any(status.pose_published for status in statuses)
    assert all(status.state in (Status.UNCERTAIN, Status.LOST) for status in statuses)


def test_kidnapped_camera_is_found_again(graph: SimpleNamespace, robot: Robot) -> None:
    """Odometry does not notice that somebody carried the robot to another place."""
    attempts(graph, robot, QUERIES[:3])
    visit = robot.visit
    far = max(QUERIES, key=lambda i: float((visit.world_from_cam[i] - visit.world_from_cam[QUERIES[2]]).norm()))
    here = robot.true_pose(QUERIES[2])
    robot.odom_from_map = here @ torch.linalg.inv(robot.true_pose(far))
    statuses = attempts(graph, robot, [far] * 4)
    assert not statuses[0].pose_published
    assert statuses[-1].pose_published
    assert_right(graph, robot, statuses, [far] * 4)


def test_jump_of_the_odometry_is_survived(graph: SimpleNamespace, robot: Robot) -> None:
    attempts(graph, robot, QUERIES[:3])
    robot.odom_from_map = se3(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    statuses = attempts(graph, robot, QUERIES[3:7])
    assert statuses[-1].state == Status.LOCALIZED and statuses[-1].tf == "map -> odom"
    assert_right(graph, robot, statuses, QUERIES[3:7])


def test_without_odometry_there_are_poses_but_no_transform(graph: SimpleNamespace, robot: Robot) -> None:
    index = QUERIES[1]
    statuses = attempts(graph, robot, [index] * 4, odometry=False)
    assert statuses[-1].pose_published and statuses[-1].tf.startswith("nothing")
    assert_right(graph, robot, statuses, [index] * 4)


def test_stamps_that_run_backwards_are_left_out(graph: SimpleNamespace, robot: Robot) -> None:
    good = attempts(graph, robot, QUERIES[:3])
    dropped = good[-1].frames_dropped
    late = graph.heard.status_of(robot.show(QUERIES[3], stamp=stamp_of(good[-1]) - 100_000_000))
    assert "before that of the image before" in late.reason and late.frames_dropped == dropped + 1
    again = attempts(graph, robot, QUERIES[3:5])
    assert again[-1].state == Status.LOCALIZED


def test_clock_that_is_set_back_starts_over(graph: SimpleNamespace, robot: Robot) -> None:
    """As when a bag is played again: minutes back."""
    begin = stamp_of(attempts(graph, robot, QUERIES[:3])[-1]) - 120 * 10**9
    statuses = [
        graph.heard.status_of(robot.show(index, stamp=begin + number * 300_000_000))
        for number, index in enumerate(QUERIES[:4])
    ]
    assert not statuses[0].pose_published and statuses[-1].pose_published
    assert_right(graph, robot, statuses, QUERIES[:4])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda image: setattr(image, "encoding", "rgb42"), "rgb42"),
        (lambda image: setattr(image, "data", image.data[:1000]), "1000"),
        (lambda image: setattr(image.header, "frame_id", ""), "frame_id"),
        (lambda image: setattr(image, "step", 10), "step"),
    ],
)
def test_garbage_is_survived(graph: SimpleNamespace, robot: Robot, damage: object, reason: str) -> None:
    attempts(graph, robot, QUERIES[:2])
    bad = attempts(graph, robot, [QUERIES[2]], change=damage)[0]
    assert not bad.pose_published and reason in bad.reason + bad.last_drop_reason
    good = attempts(graph, robot, QUERIES[2:4])
    assert good[-1].pose_published


def test_pause_and_resume(graph: SimpleNamespace, robot: Robot) -> None:
    attempts(graph, robot, QUERIES[:2])
    assert call(graph.node, Trigger, "localizer/pause", Trigger.Request()).success
    robot.show(QUERIES[2])
    wait_for(lambda: graph.heard.localizer[-1].last_drop_reason == "paused", 10, "an image left out")
    assert call(graph.node, Trigger, "localizer/resume", Trigger.Request()).success
    assert attempts(graph, robot, QUERIES[2:5])[-1].pose_published


def test_scene_that_cannot_be_used_leaves_the_one_before(
    graph: SimpleNamespace, robot: Robot, scene_folder: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(scene_folder, damaged)
    (damaged / "memory.safetensors").write_bytes(b"short")
    Answer = LoadScene.Response
    assert load(graph, tmp_path / "nowhere").code == Answer.NOT_FOUND
    answer = load(graph, damaged)
    assert answer.code == Answer.INVALID and "memory.safetensors" in answer.message
    assert attempts(graph, robot, QUERIES[:2])[-1].pose_published


def test_scene_of_the_mapper_is_followed_and_a_read_only_one_will_do(
    graph: SimpleNamespace, robot: Robot, scene_folder: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from vggt3_ros.scene.storage import load_scene

    newer = replace(load_scene(scene_folder), scene_id="f" * 32)
    folder = save_scene(newer, tmp_path / "newer")
    for path in (*folder.iterdir(), folder):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    publisher = graph.node.create_publisher(SceneInfo, "scene", LATCHED)
    publisher.publish(scene_info(newer, folder, robot.now()))
    wait_for(lambda: graph.heard.localizer[-1].scene_id == "f" * 32, 20, "the localizer to follow")
    assert attempts(graph, robot, QUERIES[:2])[-1].pose_published
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    graph.node.destroy_publisher(publisher)
    os.chmod(folder, 0o700)


def test_initial_pose_is_checked(graph: SimpleNamespace, robot: Robot) -> None:
    publisher = graph.node.create_publisher(PoseWithCovarianceStamped, "initialpose", 10)
    wait_for(lambda: publisher.get_subscription_count(), 20, "somebody who listens to initialpose")
    message = PoseWithCovarianceStamped()
    message.header.frame_id = "odom"
    message.pose.pose = pose_message(robot.true_pose(QUERIES[0]))
    publisher.publish(message)
    wait_for(lambda: "expected 'map'" in graph.process.log, 10, "the refusal of a frame")
    message.header.frame_id = "map"
    message.pose.pose.position.x = 1000.0
    publisher.publish(message)
    wait_for(lambda: "click inside the map" in graph.process.log, 10, "the refusal of a place")
    message.pose.pose = pose_message(robot.true_pose(QUERIES[0]))
    publisher.publish(message)
    wait_for(lambda: "looked at first" in graph.process.log, 10, "the pose to be taken")
    statuses = attempts(graph, robot, QUERIES[:2])
    assert statuses[-1].pose_published
    graph.node.destroy_publisher(publisher)


def test_diagnostics_tell_the_state(graph: SimpleNamespace, robot: Robot) -> None:
    heard: list[DiagnosticArray] = []
    subscription = graph.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    attempts(graph, robot, QUERIES[:2])
    wait_for(
        lambda: any(s.message.startswith("localized") and s.level == b"\0" for a in heard for s in a.status), 10,
        "diagnostics that say localized",
    )  # fmt: skip
    graph.node.destroy_subscription(subscription)


def test_camera_frame_without_extrinsics_gives_no_pose_and_says_what_to_do(
    graph: SimpleNamespace, robot: Robot
) -> None:
    status = attempts(graph, robot, [QUERIES[0]], change=lambda image: setattr(image.header, "frame_id", "new_camera"))
    assert not status[0].pose_published
    assert "base_from_camera" in status[0].reason and "new_camera" in status[0].reason
    assert CAMERA not in status[0].child_frame_id


def test_lifecycle_round_trip_frees_the_network(executor: Any, scene_folder: Path) -> None:
    arguments = ["--ros-args", "-r", "__ns:=/other", "-p", f"scene_dir:={scene_folder}"]
    node = LocalizerNode(cli_args=arguments, use_global_arguments=False)
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        network = weakref.ref(node._localizing.network)
        assert node._localizing.scene_id
        assert node.trigger_deactivate() == SUCCESS
        gc.collect()
        assert network() is None
        assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()


def test_scene_that_must_be_there_is_missed_when_configuring(executor: Any, tmp_path: Path) -> None:
    arguments = ["--ros-args", "-p", f"scene_dir:={tmp_path / 'nowhere'}", "-p", "follow_mapper:=false"]
    node = LocalizerNode(cli_args=arguments, use_global_arguments=False)
    assert node.trigger_configure() == FAILURE
    node.destroy_node()


def test_it_ends_with_zero(graph: SimpleNamespace) -> None:
    assert graph.process.is_running
    assert graph.process.stop() == 0
