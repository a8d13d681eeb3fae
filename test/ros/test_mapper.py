"""The mapper between processes: images and odometry go in, maps come out; what it does by itself,
and when asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from vggt3_ros.action import Reconstruct
from vggt3_ros.geometry.se3 import quaternion_from_rotation, se3, se3_inverse
from vggt3_ros.msg import MapperStatus, SceneInfo
from vggt3_ros.nodes.mapper.keyframe_cloud import keyframe_cloud
from vggt3_ros.nodes.messages.conversions import header, pose_from_message, pose_message, stamp_ns
from vggt3_ros.nodes.messages.images import byte_array
from vggt3_ros.nodes.messages.qos import image_qos
from vggt3_ros.nodes.messages.transforms import TransformBroadcaster
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.srv import LoadScene, SaveScene

from .mapper_client import FRAMES, QUICK, MapperClient, running_mapper, visit
from .processes import wait_for
from .robot import BASE_FROM_CAM, CAMERA, latched

Result = Reconstruct.Result


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MapperClient]:
    with running_mapper(tmp_path_factory.mktemp("mapper") / "log") as client:
        yield client


@pytest.fixture
def mapper(process: MapperClient) -> Iterator[MapperClient]:
    yield process
    process.is_sound()


def distances(scene: Scene, map_from_cam: torch.Tensor) -> torch.Tensor:
    """Metres between the keyframes and the robot's camera when it took them."""
    return torch.linalg.vector_norm(
        scene.map_from_keyframes[:, :3, 3] - map_from_cam[:, :3, 3], dim=1
    )


def test_a_drive_becomes_a_metric_map(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path)
    stamps = mapper.robot.drive(range(FRAMES), rate=30)
    kept = mapper.keeps(FRAMES)
    assert (kept.state, kept.frames_received, kept.frames_without_prior) == (
        MapperStatus.COLLECTING,
        FRAMES,
        0,
    )
    goal = mapper.reconstruct()
    during = mapper.says(
        lambda status: status.state == MapperStatus.RECONSTRUCTING, "the state RECONSTRUCTING"
    )
    result = goal.result()
    assert (result.code, result.frames) == (Result.SUCCESS, FRAMES) and result.seconds > 0

    told = [(each.stage, each.progress) for each in goal.feedback]
    assert len({stage for stage, _ in told}) >= 2 and all(
        each.frames == FRAMES for each in goal.feedback
    )
    assert [share for _, share in told] == sorted(share for _, share in told) and 0 <= told[0][
        1
    ] < told[-1][1] <= 1
    assert during.stage and 0 <= during.progress <= 1

    scene = load_scene(result.path)
    assert Path(result.path).parent == tmp_path and scene.scene_id == result.scene_id
    assert scene.is_metric and scene.metric_source == "pose_priors" and scene.is_verified
    assert list(scene.keyframes.stamps_ns) == stamps
    assert distances(scene, visit().world_from_cam[:FRAMES]).max() < 0.03

    after = mapper.says(
        lambda status: status.state == MapperStatus.COLLECTING, "the state COLLECTING"
    )
    assert (after.scene_id, after.frames_kept, after.stage) == (scene.scene_id, 0, "")
    assert "metric (pose_priors)" in after.message

    node = mapper.node  # who comes late gets everything
    points, path, pyramids, told_scene = (
        wait_for(lambda messages=messages: messages, "a latched message")[0]  # type: ignore[misc]
        for messages in (
            latched(node, PointCloud2, "points"),
            latched(node, PathMessage, "keyframes"),
            latched(node, PointCloud2, "keyframes_cloud"),
            latched(node, SceneInfo, "scene"),
        )
    )
    assert [field.name for field in points.fields] == ["x", "y", "z", "rgb", "confidence"]
    assert points.width == len(scene.points) > 1000 and points.header.frame_id == "map"
    cloud = np.frombuffer(points.data, dtype=np.float32).reshape(points.width, 5)[:, :3]
    np.testing.assert_array_equal(cloud, scene.points.points.numpy())
    assert (
        path.header.frame_id == "map"
        and [stamp_ns(pose.header.stamp) for pose in path.poses] == stamps
    )
    assert pyramids.width == len(keyframe_cloud(scene)) and pyramids.header.frame_id == "map"
    poses = torch.stack([pose_from_message(pose.pose) for pose in path.poses])
    torch.testing.assert_close(poses, scene.map_from_keyframes, atol=1e-6, rtol=0.0)
    assert (told_scene.scene_id, told_scene.path, told_scene.keyframes) == (
        scene.scene_id,
        result.path,
        FRAMES,
    )
    assert told_scene.metric and told_scene.verified and told_scene.landmarks > 100
    assert told_scene.model_id == "tiny" and told_scene.header.frame_id == "map"


def test_while_it_reconstructs_it_is_busy_and_collects_on_and_can_be_cancelled(
    mapper: MapperClient, tmp_path: Path
) -> None:
    mapper.start(tmp_path, ttt_steps=10, landmarks=False)
    mapper.collect()
    goal = mapper.reconstruct()
    goal.wait_until_begun()
    assert mapper.reconstruct().result().code == Result.BUSY
    assert mapper.load("anything").code == LoadScene.Response.BUSY
    mapper.robot.drive((8, 9))
    assert mapper.keeps(2).state == MapperStatus.RECONSTRUCTING
    goal.cancel()
    result = goal.result()
    assert (result.code, result.scene_id, result.path) == (
        Result.CANCELED,
        "",
        "",
    ) and "cancelled" in result.message
    after = mapper.keeps(10)
    assert after.state == MapperStatus.COLLECTING and "8 frames are back" in after.message
    assert list(tmp_path.iterdir()) == []

    again = mapper.reconstruct(save_path="named/place").result()
    assert (again.code, again.frames) == (Result.SUCCESS, 10)
    assert (
        again.path == str(tmp_path / "named" / "place")
        and load_scene(again.path).scene_id == again.scene_id
    )
    assert {load_scene(each).scene_id for each in tmp_path.iterdir() if each.name != "named"} == {
        again.scene_id
    }

    mapper.collect(4)
    refused = mapper.reconstruct(save_path="named/place").result()
    assert refused.code == Result.EXISTS and "set overwrite" in refused.message
    newer = mapper.reconstruct(save_path="named/place", overwrite=True).result()
    assert (
        newer.code == Result.SUCCESS
        and load_scene(tmp_path / "named" / "place").scene_id == newer.scene_id
    )


def test_a_result_that_an_unexpected_error_left_empty_is_a_failure() -> None:
    assert Result().code == Result.FAILED


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    mapper: MapperClient, tmp_path: Path
) -> None:
    mapper.start(tmp_path)
    mapper.collect(4)
    for place in ("/dev/null/map", "~nobody-of-that-name/map"):
        result = mapper.reconstruct(place).result()
        assert result.code == Result.FAILED and place.split("/")[-2] in result.message
    assert mapper.statuses[-1].frames_kept == 4


def test_too_few_frames_are_not_reconstructed(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path, min_frames=4)
    mapper.collect(3)
    result = mapper.reconstruct().result()
    assert result.code == Result.TOO_FEW_FRAMES
    assert "3 keyframes" in result.message and "4 (min_frames)" in result.message
    mapper.collect(4)


def test_it_pauses_resumes_and_forgets(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path)
    mapper.collect(2)
    assert mapper.trigger("pause").success
    mapper.robot.drive((2, 3))
    paused = mapper.has_seen(4)
    assert (paused.state, paused.frames_kept) == (MapperStatus.PAUSED, 2)
    assert (paused.frames_skipped, paused.frames_dropped, paused.last_drop_reason) == (2, 0, "")
    assert mapper.trigger("resume").success
    mapper.robot.show(4)
    assert mapper.keeps(3).state == MapperStatus.COLLECTING
    assert mapper.trigger("reset").message.startswith("3 collected frames")
    mapper.keeps(0)
    mapper.collect(3)


def test_so_many_frames_trigger_it_and_only_the_newest_maps_stay(
    mapper: MapperClient, tmp_path: Path
) -> None:
    (tmp_path / "20200101-000000-0123abcd").mkdir()  # the name of a map, but it is none
    mapper.start(tmp_path, trigger_count=4, keep_scenes=1, **QUICK)
    mapper.robot.drive(range(4))
    first = mapper.makes_another_map_than("")
    assert mapper.save("mine").code == SaveScene.Response.SUCCESS
    mapper.robot.drive(range(4, 8))
    second = mapper.makes_another_map_than(first.scene_id)
    names = {entry.name.split("-")[-1] for entry in tmp_path.iterdir()}
    assert names == {"mine", "0123abcd", second.scene_id[:8]}
    assert load_scene(tmp_path / "mine").scene_id == first.scene_id


def test_nothing_new_for_a_while_triggers_it(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path, trigger_idle=0.3, **QUICK)
    mapper.robot.drive(range(4))
    wait_for(
        lambda: any("nothing new was seen" in status.message for status in mapper.statuses),
        "the trigger",
    )
    mapper.makes_another_map_than("")


def test_odometry_may_come_as_a_topic_and_the_mount_as_a_parameter(
    mapper: MapperClient, tmp_path: Path
) -> None:
    # TF says otherwise, and does not count
    mount = se3(BASE_FROM_CAM[:3, :3], BASE_FROM_CAM[:3, 3] + 1.0)
    numbers = [*mount[:3, 3].tolist(), *quaternion_from_rotation(mount[:3, :3]).tolist()]
    mapper.start(tmp_path, odometry_source="topic", base_from_camera=numbers, dense="off")
    odometry = mapper.node.create_publisher(Odometry, "odom", 10)
    wait_for(odometry.get_subscription_count, "the mapper to listen to odometry")
    for index in range(FRAMES):
        stamp = mapper.robot.now()
        message = Odometry(header=header("odom", stamp), child_frame_id="base_link")
        message.pose.pose = pose_message(visit().world_from_cam[index] @ se3_inverse(mount))
        odometry.publish(message)
        mapper.robot.drive((index,), rate=30, stamp=stamp, odometry=False)
    assert mapper.keeps(FRAMES).frames_without_prior == 0
    scene = load_scene(mapper.reconstruct().result().path)
    assert scene.is_metric and distances(scene, visit().world_from_cam[:FRAMES]).max() < 0.03
    mapper.node.destroy_publisher(odometry)


def test_without_odometry_the_map_has_no_scale(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path, transform_timeout=0.05, landmarks=False)
    status = mapper.collect(odometry=False)
    assert (
        status.frames_without_prior == FRAMES and "no odometry for an image" in mapper.process.log
    )
    result = mapper.reconstruct().result()
    assert result.code == Result.SUCCESS and not load_scene(result.path).is_metric
    mapper.says(lambda status: "not metric" in status.message, "what the map lacks")


def test_odometry_that_begins_late_and_always_comes_after_its_image_is_used(
    mapper: MapperClient, tmp_path: Path
) -> None:
    mapper.start(tmp_path, transform_timeout=0.5)
    robot, late = mapper.robot, TransformBroadcaster(mapper.node)
    robot.drive(range(8), rate=30, odometry=False)  # in vain: nobody publishes odometry yet
    mapper.has_seen(8)
    mapper.trigger("reset")
    mapper.keeps(0)

    shown = 8

    def used() -> bool:
        """Whether the odometry of an image is, that came after the image while the mapper waited,
        or later still.
        """
        nonlocal shown
        stamp, shown = robot.show(0, odometry=False), shown + 1
        mapper.says(lambda status: status.frames_received == shown, "an image")
        late.send("odom", "base_link", stamp, robot.true_pose(0))
        without_prior = mapper.keeps(1).frames_without_prior
        mapper.trigger("reset")
        mapper.keeps(0)
        return without_prior == 0

    wait_for(used, "odometry to be used")
    assert mapper.set({"transform_timeout": 5.0}) == ""  # as a busy machine may need
    assert used(), "from then on it is waited for"
    late.destroy()


def test_images_may_be_compressed(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path, image_transport="compressed")
    robot = mapper.robot
    publisher = mapper.node.create_publisher(
        CompressedImage, "image/compressed", image_qos("reliable")
    )
    wait_for(publisher.get_subscription_count, "the mapper to listen to compressed images")
    for index, content in enumerate((b"no picture", b"\xff\xd8\xff cut off", None, None)):
        stamp = robot.now()
        if content is None:
            # for calibration and odometry; nobody listens to the image itself
            robot.show(index, stamp)
            content = cv2.imencode(".jpg", visit().images[index][..., ::-1])[1].tobytes()
        message = CompressedImage(header=header(CAMERA, stamp), format="jpeg")
        message.data = byte_array(np.frombuffer(content, np.uint8))
        publisher.publish(message)
    status = mapper.has_seen(4)
    assert (status.frames_kept, status.frames_without_prior) == (2, 0)
    assert "jpeg" in status.last_drop_reason and "cannot be decoded" in status.last_drop_reason
    mapper.node.destroy_publisher(publisher)


def test_what_it_listens_to_and_that_nothing_comes_is_said(
    mapper: MapperClient, tmp_path: Path
) -> None:
    heard: list[DiagnosticStatus] = []
    diagnostics = mapper.node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: heard.extend(message.status), 10
    )

    def diagnosed(level: bytes, words: str) -> DiagnosticStatus | None:
        return next(
            (each for each in heard[-1:] if each.level == level and words in each.message), None
        )

    mapper.start(tmp_path)
    assert (
        "listens to" in mapper.process.log
        and "/vggt3/image (sensor_msgs/msg/Image, reliable)" in mapper.process.log
    )
    wait_for(
        lambda: diagnosed(DiagnosticStatus.WARN, "no image for"),
        "a warning that no image comes",
    )
    assert "/vggt3/tester publishes it, but nothing arrives" in mapper.process.log
    wait_for(
        lambda: "no camera_info for" in mapper.process.log,
        "a warning that no calibration comes",
    )

    mapper.robot.calibrate()
    wait_for(
        lambda: "camera_info comes now on" in mapper.process.log,
        "the calibration to arrive",
    )
    begin = mapper.robot.now()
    for number in (0, 1, 2, 3, 4, 5, 8, 9):
        mapper.robot.show(0, stamp=begin + number * 100_000_000)
    status = mapper.has_seen(8)
    assert (
        status.frames_kept,
        status.frames_skipped,
        status.frames_dropped,
        status.frames_lost,
    ) == (1, 7, 0, 2)

    def counted() -> dict[str, str]:
        said = diagnosed(DiagnosticStatus.OK, "collecting")
        return {} if said is None else {pair.key: pair.value for pair in said.values}

    # an image is received before it is known what becomes of it
    expected = {"received": "8", "skipped": "7", "dropped": "0", "lost": "2"}
    wait_for(lambda: expected.items() <= counted().items(), f"diagnostics of {expected}")
    assert "image comes now on /vggt3/image" in mapper.process.log
    mapper.node.destroy_subscription(diagnostics)


def test_depth_images_give_the_scale(mapper: MapperClient, tmp_path: Path) -> None:
    mapper.start(tmp_path, use_depth=True, odometry_source="none", dense="off")
    publisher = mapper.node.create_publisher(Image, "depth", image_qos("reliable"))
    wait_for(publisher.get_subscription_count, "the mapper to listen to depth")
    for index in range(FRAMES):
        stamp = mapper.robot.now()
        depth = visit().depth[index]
        message = Image(
            header=header(CAMERA, stamp), height=120, width=160, encoding="32FC1", step=640
        )
        message.data = byte_array(depth)
        publisher.publish(message)
        mapper.robot.show(index, stamp)
        mapper.keeps(index + 1)
    scene = load_scene(mapper.reconstruct().result().path)
    assert scene.is_metric and scene.metric_source == "depth"
    positions, truth = scene.map_from_keyframes[:, :3, 3], visit().world_from_cam[:FRAMES, :3, 3]
    assert torch.pdist(positions).sum() == pytest.approx(float(torch.pdist(truth).sum()), rel=0.1)

    message.encoding = "rgb8"  # depth that is none
    message.header.stamp = header("", mapper.robot.now()).stamp
    publisher.publish(message)
    mapper.robot.show(0, stamp_ns(message.header.stamp))
    status = mapper.says(
        lambda status: status.frames_dropped == 1, "an image with false depth left out"
    )
    assert "depth encoding 'rgb8' is not supported" in status.last_drop_reason
    mapper.node.destroy_publisher(publisher)
