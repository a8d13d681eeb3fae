"""What a localizer can be asked for: scenes, pauses, where to look first; and its lifecycle."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from geometry_msgs.msg import PoseWithCovarianceStamped

from vggt3_ros.msg import SceneInfo
from vggt3_ros.nodes.localizer import session
from vggt3_ros.nodes.localizer_node import LocalizerNode
from vggt3_ros.nodes.messages.conversions import pose_message, scene_info
from vggt3_ros.nodes.messages.qos import LATCHED
from vggt3_ros.nodes.runtime.lifecycle import FAILURE, SUCCESS
from vggt3_ros.scene.library import default_library
from vggt3_ros.scene.storage import save_scene
from vggt3_ros.srv import LoadScene

from ..patience import PATIENCE_S
from .localizer_client import QUERIES, LocalizerClient, scene
from .processes import wait_for
from .robot import Robot

Answer = LoadScene.Response


def test_pause_and_resume(localizer: LocalizerClient, robot: Robot) -> None:
    before = localizer.attempts(robot, QUERIES[:2])[-1]
    assert localizer.trigger("pause").success
    robot.show(QUERIES[2])
    wait_for(
        lambda: localizer.heard.localizer[-1].frames_skipped == before.frames_skipped + 1,
        "an image skipped",
    )
    assert localizer.heard.localizer[-1].frames_dropped == before.frames_dropped
    assert localizer.trigger("resume").success
    assert localizer.attempts(robot, QUERIES[2:5])[-1].pose_published


def test_scene_that_cannot_be_used_leaves_the_one_before(
    localizer: LocalizerClient, robot: Robot, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(localizer.folder / scene().scene_id, damaged)
    (damaged / "memory.safetensors").write_bytes(b"short")
    without_memory = save_scene(replace(scene(), memory={}), tmp_path / "softmax")
    foreign = save_scene(replace(scene(), model_fingerprint="0" * 16), tmp_path / "foreign")
    assert localizer.load(tmp_path / "nowhere").code == Answer.NOT_FOUND
    answer = localizer.load(damaged)
    assert answer.code == Answer.INVALID and "memory.safetensors" in answer.message
    answer = localizer.load(without_memory)
    assert answer.code == Answer.INVALID and "holds no memory" in answer.message
    assert localizer.load(foreign).code == Answer.WRONG_MODEL
    assert localizer.attempts(robot, QUERIES[:2])[-1].pose_published


def test_scene_of_the_mapper_is_followed_and_a_read_only_one_will_do(
    localizer: LocalizerClient, robot: Robot, tmp_path: Path
) -> None:
    newer = replace(scene(), scene_id="f" * 32)
    folder = save_scene(newer, tmp_path / "newer")
    for path in (*folder.iterdir(), folder):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    publisher = localizer.node.create_publisher(SceneInfo, "scene", LATCHED)
    publisher.publish(scene_info(newer, folder, robot.now()))
    wait_for(lambda: localizer.heard.localizer[-1].scene_id == "f" * 32, "the localizer to follow")
    assert localizer.attempts(robot, QUERIES[:2])[-1].pose_published
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    localizer.node.destroy_publisher(publisher)
    os.chmod(folder, 0o700)


def test_a_relative_path_lies_in_the_folder_of_the_scenes(
    localizer: LocalizerClient, robot: Robot
) -> None:
    assert localizer.load("nowhere").code == Answer.NOT_FOUND
    refused = localizer.load("nowhere").message
    library = default_library("/vggt3")
    assert f"{library / 'nowhere'} is no folder (relative paths lie in {library})" in refused
    localizer.start(scene_dir=str(localizer.folder / scene().scene_id))
    assert localizer.load(scene().scene_id).code == Answer.SUCCESS, (
        "beside the scene that scene_dir names"
    )
    assert str(localizer.folder / "vggt3_ros") in localizer.load("vggt3_ros").message, (
        "not in the working directory"
    )


def test_what_can_be_changed_while_it_runs_takes_effect(
    localizer: LocalizerClient, robot: Robot
) -> None:
    assert localizer.set({"confirmations": 4, "lost_after": 30}) == ""
    statuses = localizer.attempts(robot, QUERIES[:5])
    assert [status.pose_published for status in statuses][:3] == [False] * 3 and statuses[
        -1
    ].pose_published
    assert "of 4 poses that must agree" in statuses[0].reason
    assert "refine cannot be changed while the node runs" in localizer.set(
        {"max_rate": 1, "refine": "none"}
    )
    assert localizer.attempts(robot, QUERIES[5:6])[0].pose_published
    localizer.start()


def test_initial_pose_is_checked(localizer: LocalizerClient, robot: Robot) -> None:
    publisher = localizer.node.create_publisher(PoseWithCovarianceStamped, "initialpose", 10)
    wait_for(lambda: publisher.get_subscription_count(), "somebody who listens to initialpose")
    message = PoseWithCovarianceStamped()
    message.header.frame_id = "odom"
    message.pose.pose = pose_message(robot.true_pose(QUERIES[0]))
    publisher.publish(message)
    wait_for(lambda: "expected 'map'" in localizer.process.log, "the refusal of a frame")
    message.header.frame_id = "/map"
    message.pose.pose.position.x = 1000.0
    publisher.publish(message)
    wait_for(lambda: "click inside the map" in localizer.process.log, "the refusal of a place")
    message.pose.pose = pose_message(robot.true_pose(QUERIES[0]))
    publisher.publish(message)
    wait_for(lambda: "looked at first" in localizer.process.log, "the pose to be taken")
    statuses = localizer.attempts(robot, QUERIES[:2])
    assert statuses[-1].pose_published
    localizer.node.destroy_publisher(publisher)


def test_unexpected_error_while_loading_is_answered_and_survived(
    executor: Any, node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(session, "open_scene", fail)
    localizer = LocalizerNode(
        cli_args=["--ros-args", "-r", "__ns:=/other"], use_global_arguments=False
    )
    assert localizer.trigger_configure() == SUCCESS and localizer.trigger_activate() == SUCCESS
    executor.add_node(localizer)
    client = node.create_client(LoadScene, "/other/localizer/load_scene")
    assert client.wait_for_service(PATIENCE_S)
    for _ in range(2):
        answer = client.call(LoadScene.Request(path=str(tmp_path)), timeout_sec=PATIENCE_S)
        assert answer.code == Answer.FAILED and "no memory left" in answer.message
    executor.remove_node(localizer)
    assert localizer.trigger_deactivate() == SUCCESS
    localizer.destroy_node()


def test_lifecycle_round_trip_frees_the_network(executor: Any, tmp_path: Path) -> None:
    folder = save_scene(scene(), tmp_path / "scene")
    arguments = ["--ros-args", "-r", "__ns:=/other", "-p", f"scene_dir:={folder}"]
    node = LocalizerNode(cli_args=arguments, use_global_arguments=False)
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
        assert node.active is not None and node.active.session.scene_id
        network = weakref.ref(node.active.session.network)
        assert node.trigger_deactivate() == SUCCESS
        gc.collect()
        assert network() is None
        assert node.trigger_cleanup() == SUCCESS
    node.destroy_node()


def test_scene_that_must_be_there_is_missed_when_configuring(executor: Any, tmp_path: Path) -> None:
    arguments = [
        "--ros-args",
        "-p",
        f"scene_dir:={tmp_path / 'nowhere'}",
        "-p",
        "follow_mapper:=false",
    ]
    node = LocalizerNode(cli_args=arguments, use_global_arguments=False)
    assert node.trigger_configure() == FAILURE
    node.destroy_node()
