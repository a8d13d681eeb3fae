"""What the mapper says: its scenes, how it goes, and what happened last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nav_msgs.msg import Path as PathMessage
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from vggt3_ros.msg import MapperStatus, SceneInfo
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.mapper.grid_output import GridOutput
from vggt3_ros.nodes.mapper.keyframe_cloud import keyframe_cloud
from vggt3_ros.nodes.mapper.mapper import Mapper
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.messages.clouds import cloud_message
from vggt3_ros.nodes.messages.conversions import path_message, scene_info
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS
from vggt3_ros.nodes.runtime.diagnostics import Diagnostics, Level
from vggt3_ros.scene.scene import Scene


class MapperOutput:
    """The mapper's publishers, and its log. settings(): those of this moment. For any thread."""

    def __init__(self, node: Node, settings: Callable[[], MapperParameters]) -> None:
        self._node = node
        self._settings = settings
        # what happened last
        self._message = ""
        self._failed = False
        self._points = node.create_publisher(PointCloud2, "points", LATCHED)
        self._keyframes = node.create_publisher(PathMessage, "keyframes", LATCHED)
        self._keyframes_cloud = node.create_publisher(PointCloud2, "keyframes_cloud", LATCHED)
        self._grid = GridOutput(node, settings)
        self._scene = node.create_publisher(SceneInfo, "scene", LATCHED)
        self._status = node.create_publisher(MapperStatus, "mapper/status", STATUS)
        self._diagnostics = Diagnostics(node)

    def close(self) -> None:
        """Destroy the publishers of scenes, status and diagnostics."""
        self._diagnostics.destroy()
        self._grid.close()
        for publisher in (
            self._points,
            self._keyframes,
            self._keyframes_cloud,
            self._scene,
            self._status,
        ):
            self._node.destroy_publisher(publisher)

    def say(self, message: str, failed: bool) -> None:
        """What happened, for the log now, for status and diagnostics from now on."""
        self._message = message
        self._failed = failed
        if failed:
            self._node.get_logger().error(message)
        else:
            self._node.get_logger().info(message)

    def publish_scene(self, scene: Scene, folder: Path) -> None:
        """A new scene, and the folder that it is in."""
        stamp = self._node.get_clock().now().nanoseconds
        frame = self._settings().map_frame
        self._points.publish(cloud_message(scene.points, frame, stamp))
        self._keyframes.publish(
            path_message(scene.map_from_keyframes, scene.keyframes.stamps_ns, frame)
        )
        self._keyframes_cloud.publish(cloud_message(keyframe_cloud(scene), frame, stamp))
        self._scene.publish(scene_info(scene, folder, stamp))
        self._grid.publish(scene)

    def publish_status(self, mapper: Mapper, counts: ImageCounts) -> None:
        """How it goes, and what happened last."""
        job = mapper.job
        status = MapperStatus(
            frames_received=counts.received,
            frames_kept=len(mapper.collector),
            frames_skipped=counts.skipped,
            frames_dropped=counts.dropped,
            frames_lost=counts.lost,
            last_drop_reason=counts.last_reason,
            frames_without_prior=mapper.collector.without_prior,
            scene_id=mapper.scene.scene_id if mapper.scene else "",
            message=self._message,
        )
        status.header.stamp = self._node.get_clock().now().to_msg()
        if job is not None:
            status.state = MapperStatus.RECONSTRUCTING
            status.stage = job.stage
            status.progress = float(job.progress)
        elif mapper.paused:
            status.state = MapperStatus.PAUSED
        self._status.publish(status)

    def publish_diagnostics(self, problem: str, counts: ImageCounts, survived: int) -> None:
        """The same in short. problem: what does not come, empty if everything does. survived:
        unexpected errors.
        """
        level = Level.ERROR if self._failed else Level.WARN if problem else Level.OK
        values = {**counts.as_values(), "errors survived": survived}
        self._diagnostics.publish(level, "; ".join(filter(None, (problem, self._message))), values)
