"""The mapper: collects frames of a camera, reconstructs each collection, publishes and saves the scene."""

from __future__ import annotations

from vggt3_ros.nodes.ending import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

from dataclasses import replace
from pathlib import Path
from typing import Any

from nav_msgs.msg import Path as PathMessage
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import PointCloud2

from vggt3_ros.msg import MapperStatus, SceneInfo
from vggt3_ros.nodes.camera_input import CameraInput, UnusableError
from vggt3_ros.nodes.camera_topics import ImageMessage
from vggt3_ros.nodes.clouds import cloud_message
from vggt3_ros.nodes.conversions import path_message, scene_info
from vggt3_ros.nodes.counts import Counts
from vggt3_ros.nodes.diagnostics import Diagnostics, Level
from vggt3_ros.nodes.lifecycle import ManagedNode, run
from vggt3_ros.nodes.listening import listens_to
from vggt3_ros.nodes.mapper import Mapper
from vggt3_ros.nodes.mapper_services import MapperServices
from vggt3_ros.nodes.network import check_network, free_unused_memory, network_of
from vggt3_ros.nodes.node_parameters import MapperParameters
from vggt3_ros.nodes.open_scene import library_of
from vggt3_ros.nodes.qos import LATCHED, STATUS
from vggt3_ros.nodes.worker import Worker
from vggt3_ros.pipeline.collection import NOT_NEEDED, Reason
from vggt3_ros.scene.scene import Scene

_THROTTLE = 5.0  # seconds between messages of the same kind in the log


class MapperNode(ManagedNode[MapperParameters]):
    """Lifecycle node `mapper`; its topics, services and action are in docs/ros.md.

    Three threads: the executor's (callbacks, which never block), the worker's (images to frames to the collection),
    and that of a reconstruction while there is one. The worker goes on collecting meanwhile.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("mapper", MapperParameters, **options)
        self._message, self._failed = "", False
        self._mapper: Mapper = None  # type: ignore[assignment]  # there is none unless configured
        self._worker: Worker[ImageMessage] = None  # type: ignore[assignment]  # nor these unless active
        self._camera: CameraInput = None  # type: ignore[assignment]
        self._clock_of_timers = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation needs its status too
        self._services_of_mapper = MapperServices(self, lambda: self._mapper, self._say)

    def configure(self) -> None:
        """Check everything that can be checked; publishers from now on."""
        check_network(self.settings)
        library = library_of(self, self.settings.scene_dir)
        made_by = f"{self.get_fully_qualified_name()} in ROS domain {self.context.get_domain_id()}"
        self._mapper = Mapper(
            lambda: self.settings, library, made_by, self._publish_scene, self._say, self._publish_status
        )
        self._publishers = [
            self.create_publisher(PointCloud2, "points", LATCHED),
            self.create_publisher(PathMessage, "keyframes", LATCHED),
            self.create_publisher(SceneInfo, "scene", LATCHED),
            self.create_publisher(MapperStatus, "mapper/status", STATUS),
        ]
        self._points, self._keyframes, self._scene_info, self._status = self._publishers
        self._diagnostics = Diagnostics(self)

    def activate(self) -> None:
        """Load the network, listen to the camera."""
        mapper, settings, network = self._mapper, self.settings, network_of(self.settings)
        self._counts = Counts()
        mapper.begin(network)
        self._worker = Worker("frames", self._take_image, settings.queue_size, self._gave_way, self._defect)
        self._camera = CameraInput(
            self,
            lambda: self.settings,
            self._counts,
            self._on_image,
            mapper.collector.restart_clock,
            (lambda: self.settings.depth_slop) if settings.use_depth else None,
        )
        self.get_logger().info(listens_to(self))
        self._timer = self.create_timer(1 / settings.status_rate, self._on_timer, clock=self._clock_of_timers)
        where = f"scenes are saved in {mapper.library}"
        self._say(f"collecting frames; model {network.model_id} on {network.device}; {where}", False)

    def deactivate(self) -> None:
        """Stop listening, cancel a reconstruction, free the device; frames and scene stay."""
        if self._worker is not None:
            self._worker.stop()  # first: it uses the camera
            self._worker = None  # type: ignore[assignment]
        if self._camera is not None:
            self.destroy_timer(self._timer)
            self._camera.destroy()
            self._camera = None  # type: ignore[assignment]
        self._mapper.stop()
        free_unused_memory()

    def cleanup(self) -> None:
        """Forget frames and scene."""
        if self._mapper is None:
            return
        self._diagnostics.destroy()
        for publisher in self._publishers:
            self.destroy_publisher(publisher)
        self._mapper = None  # type: ignore[assignment]

    def _on_image(self, message: ImageMessage) -> None:
        if self._mapper.paused:
            self._counts.skip("paused")
        else:
            self._worker.put(message)

    def _take_image(self, message: ImageMessage) -> None:
        """In the worker's thread: make a frame, keep it if it shows something new."""
        try:
            seen = self._camera.frame(message)
        except UnusableError as error:
            self._counts.drop(str(error), error.kind)
            self.get_logger().warning(f"image left out: {error}", throttle_duration_sec=_THROTTLE)
            return
        # The odometry of the drive is the prior of the map: its frame becomes the map frame.
        result = self._mapper.collector.add(replace(seen.frame, prior_world_from_cam=seen.odom_from_cam))
        if not result.kept:
            leave_out = self._counts.skip if result.reason in NOT_NEEDED else self._counts.drop
            leave_out(result.reason.value)
        if result.gone:
            self._counts.skip(Reason.THINNED.value, result.gone)
        self._mapper.start_if_due()

    def _gave_way(self, message: ImageMessage) -> None:
        self._counts.drop("the queue was full; raise queue_size or lower the camera's rate")

    def _defect(self, error: BaseException) -> None:
        self._counts.drop(f"defect: {error!r}", "defect")
        self.survive(error)

    def _publish_scene(self, scene: Scene, folder: Path) -> None:
        stamp, frame = self.get_clock().now().nanoseconds, self.settings.map_frame
        self._points.publish(cloud_message(scene.points, frame, stamp))
        self._keyframes.publish(path_message(scene.map_from_keyframes, scene.keyframes.stamps_ns, frame))
        self._scene_info.publish(scene_info(scene, folder, stamp))

    def _on_timer(self) -> None:
        if self._worker.is_idle:  # otherwise nobody has looked yet whether there is something new
            self._mapper.start_if_due()
        self._publish_status()
        problem = self._camera.problem
        level = Level.ERROR if self._failed else Level.WARN if problem else Level.OK
        values = {**self._counts.as_values(), "errors survived": self.defects}
        self._diagnostics.publish(level, "; ".join(filter(None, (problem, self._message))), values)

    def _publish_status(self) -> None:
        mapper, job = self._mapper, self._mapper.job
        status = MapperStatus(
            frames_received=self._counts.received,
            frames_kept=len(mapper.collector),
            frames_skipped=self._counts.skipped,
            frames_dropped=self._counts.dropped,
            frames_lost=self._counts.lost,
            last_drop_reason=self._counts.last_reason,
            frames_without_prior=mapper.collector.without_prior,
            scene_id=mapper.scene.scene_id if mapper.scene else "",
            message=self._message,
        )
        status.header.stamp = self.get_clock().now().to_msg()
        if job is not None:
            status.state, status.stage = MapperStatus.RECONSTRUCTING, job.stage
            status.progress = float(job.progress)
        elif mapper.paused:
            status.state = MapperStatus.PAUSED
        self._status.publish(status)

    def _say(self, message: str, failed: bool) -> None:
        """What happened, for the log and the status, which is told at once."""
        self._message, self._failed = message, failed
        if failed:
            self.get_logger().error(message)
        else:
            self.get_logger().info(message)
        if self._camera is not None:
            self._publish_status()


def main(args: list[str] | None = None) -> None:
    """Run the node by itself."""
    run([MapperNode], args)


if __name__ == "__main__":
    main()
