"""The localizer: where the newest image was taken in a scene, or why that is unknown."""

from __future__ import annotations

from vggt3_ros.nodes.ending import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.msg import LocalizationStatus, SceneInfo
from vggt3_ros.nodes.arrival import Arrival, NodeTime
from vggt3_ros.nodes.camera_input import CameraInput, UnusableError
from vggt3_ros.nodes.camera_topics import ImageMessage
from vggt3_ros.nodes.conversions import pose_from_message, stamp_ns
from vggt3_ros.nodes.counts import Counts
from vggt3_ros.nodes.depth_output import DepthOutput
from vggt3_ros.nodes.diagnostics import Diagnostics, Level
from vggt3_ros.nodes.frames import frame_name
from vggt3_ros.nodes.lifecycle import ManagedNode, run
from vggt3_ros.nodes.listening import listens_to
from vggt3_ros.nodes.localizer_services import LocalizerServices
from vggt3_ros.nodes.localizing import NO_SCENE, Localizing
from vggt3_ros.nodes.network import check_network, free_unused_memory, network_of
from vggt3_ros.nodes.node_parameters import LocalizerParameters
from vggt3_ros.nodes.pose_output import PoseOutput
from vggt3_ros.nodes.qos import HINTS, LATCHED, STATUS
from vggt3_ros.nodes.subscriptions import AdaptiveSubscription
from vggt3_ros.nodes.transforms import TransformError
from vggt3_ros.nodes.worker import Worker
from vggt3_ros.pipeline.tracking import TrackingState
from vggt3_ros.scene.library import find_scene

_REPEAT = 0.05  # seconds between repetitions of map -> odom
_THROTTLE = 5.0  # seconds between messages of the same kind in the log
_STATES = {
    TrackingState.UNINITIALIZED: LocalizationStatus.UNINITIALIZED,
    TrackingState.LOCALIZED: LocalizationStatus.LOCALIZED,
    TrackingState.UNCERTAIN: LocalizationStatus.UNCERTAIN,
    TrackingState.LOST: LocalizationStatus.LOST,
}
_LEVELS = {TrackingState.LOCALIZED: Level.OK, TrackingState.LOST: Level.ERROR}


class LocalizerNode(ManagedNode[LocalizerParameters]):
    """Lifecycle node `localizer`; its topics and services are in docs/ros.md.

    Two threads: the executor's (callbacks, which never block) and the worker's, which owns network, scene and tracker.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("localizer", LocalizerParameters, **options)
        self._localizing: Localizing = None  # type: ignore[assignment]  # there is none unless configured
        self._worker: Worker[Arrival] = None  # type: ignore[assignment]  # nor these unless active
        self._camera: CameraInput = None  # type: ignore[assignment]
        self._services_of_localizer = LocalizerServices(self, self._load)
        self._clock_of_timers = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation needs its status too

    # -- lifecycle

    def configure(self) -> None:
        """Check everything that can be checked; publishers from now on."""
        settings = self.settings
        check_network(settings)
        if settings.scene_dir and not settings.follow_mapper:
            find_scene(settings.scene_dir)
        self._localizing = Localizing(settings)
        self._reason = NO_SCENE
        self._services_of_localizer.paused = False
        self._last_taken_ns = 0  # stamp of the last image that was not left out because of max_rate
        self._last_status = time.monotonic()
        self._time = NodeTime(self)
        self._agreed = self._time.moment()  # when the last pose was published
        self._logged = TrackingState.UNINITIALIZED  # the last state that the log told
        self._status = self.create_publisher(LocalizationStatus, "localizer/status", STATUS)
        self._output = PoseOutput(self, lambda: self.settings, self._time)
        self._depth = DepthOutput(self)
        self._diagnostics = Diagnostics(self)

    def activate(self) -> None:
        """Load network and scene, listen to the camera and to the mapper."""
        settings, localizing = self.settings, self._localizing
        localizing.network = network_of(settings)
        if settings.scene_dir:
            try:
                self._use(settings.scene_dir)
            except SceneError as error:
                if not settings.follow_mapper:
                    raise
                self._reason = f"{error}; waiting for the mapper's scene"
                self.get_logger().error(self._reason)
        elif not settings.follow_mapper:
            self._reason = f"{NO_SCENE}: scene_dir is empty, and follow_mapper is false"
            self.get_logger().warning(self._reason)
        self._counts = Counts()
        self._worker = Worker("localization", self._attempt, 1, self._gave_way, self._defect)
        self._camera = CameraInput(self, lambda: self.settings, self._counts, self._on_image, self._on_clock_reset)
        self._output.watch(self._camera.buffer)
        self._heard = [
            AdaptiveSubscription(self, PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, HINTS)
        ]
        if settings.follow_mapper:
            self._heard.append(AdaptiveSubscription(self, SceneInfo, "scene", self._on_scene, LATCHED))
        self._timers = [
            self.create_timer(1 / settings.status_rate, self._on_timer, clock=self._clock_of_timers),
            self.create_timer(_REPEAT, self._output.repeat_transform, clock=self._clock_of_timers),
        ]
        self.get_logger().info(f"active; model {localizing.network.model_id} on {localizing.network.device}")
        self.get_logger().info(listens_to(self))

    def deactivate(self) -> None:
        """Stop listening, free the device; what is known about the robot's place is forgotten."""
        if self._worker is not None:
            self._worker.stop()  # first: it uses the camera
            self._worker = None  # type: ignore[assignment]
        if self._camera is not None:
            for timer in self._timers:
                self.destroy_timer(timer)
            for subscription in self._heard:
                subscription.destroy()
            self._camera.destroy()
            self._camera = None  # type: ignore[assignment]
        self._output.forget()
        self._localizing.stop()
        self._log_state()
        free_unused_memory()
        self._reason = NO_SCENE

    def cleanup(self) -> None:
        """Destroy what configure made."""
        if self._localizing is None:
            return
        self._localizing = None  # type: ignore[assignment]
        self._diagnostics.destroy()
        self._output.destroy()
        self._depth.destroy()
        self.destroy_publisher(self._status)

    def settings_changed(self) -> None:
        """The tracker has settings of its own."""
        self._localizing.take_over(self.settings)

    # -- scenes

    def _use(self, path: str | Path, library: Path | None = None) -> str:
        self._say(self._localizing.use(path, library))
        self._output.forget()
        self._logged = TrackingState.UNINITIALIZED
        return self._reason

    def _load(self, path: str, library: Path) -> Future[tuple[str, str]]:
        """Begin to use a scene; the future holds its id, and what to say about it."""

        def use() -> tuple[str, str]:
            said = self._use(path, library)
            return self._localizing.scene_id, said

        return self._worker.call(use)

    def _on_scene(self, info: SceneInfo) -> None:
        """The mapper has a new scene."""

        def follow() -> None:
            if info.scene_id == self._localizing.scene_id:
                return
            try:
                self._use(Path(info.path))
            except Exception as error:  # out of memory, for instance: the scene before stays
                why = error if isinstance(error, SceneError) else repr(error)
                self._reason = f"the mapper's scene {info.scene_id[:8]} cannot be used: {why}"
                self.get_logger().error(self._reason)

        self._worker.post(follow)

    # -- images

    def _on_image(self, message: ImageMessage) -> None:
        arrival = self._time.arrival(message)
        stamp, rate = stamp_ns(message.header.stamp), self.settings.max_rate
        if self._services_of_localizer.paused:
            self._counts.skip("paused")
        elif rate and 0 < stamp - self._last_taken_ns < 1e9 / rate:
            self._counts.skip("more images than max_rate")
        else:
            self._last_taken_ns = stamp
            self._worker.put(arrival)

    def _gave_way(self, arrival: Arrival) -> None:
        self._counts.skip("a newer image came before this one's turn")

    def _defect(self, error: BaseException) -> None:
        self._counts.drop(f"defect: {error!r}", "defect")
        self.survive(error)

    def _on_clock_reset(self) -> None:
        self._localizing.tracker.reset("the clock was set back")
        self._output.forget()
        self._log_state()

    def _attempt(self, arrival: Arrival) -> None:
        """In the worker's thread: one image, from which a status follows in any case."""
        begin = time.perf_counter()
        status = LocalizationStatus(header=arrival.message.header)
        try:
            reason = self._localize(arrival, status)
        except UnusableError as error:
            reason = f"image left out: {error}"
            self._counts.drop(str(error), error.kind)
            self.get_logger().warning(reason, throttle_duration_sec=_THROTTLE)
        except Exception as error:
            reason = f"defect: {error!r}"
            self._defect(error)
        self._wait(reason)
        status.processing_time = time.perf_counter() - begin
        status.latency = 1e-9 * (arrival.age_ns + self._time.since_ns(arrival.moment))
        self._publish_status(status, reason)

    def _localize(self, arrival: Arrival, status: LocalizationStatus) -> str:
        """Publish what can be told of an image, fill in the status, and return its reason. Raises UnusableError."""
        localizing, output = self._localizing, self._output
        seen = self._camera.frame(arrival.message)
        if localizing.scene is None:
            return self._reason
        metric = status.metric = localizing.scene.is_metric
        status.child_frame_id = output.child_frame(seen, metric)
        withheld = ""
        try:
            cam_from_child = output.cam_from_child(self._camera, seen, metric)
        except TransformError as error:
            cam_from_child, withheld = None, str(error)
        attempt = localizing.attempt(seen, cam_from_child)
        answer, tracked = attempt.answer, attempt.tracked
        if tracked.publish:
            self._agreed = self._time.moment()
        pose, covariance = (tracked.map_from_cam, tracked.covariance) if tracked.publish else (None, None)
        if pose is None and self.settings.publish_unverified and answer.located is None:
            pose = answer.map_from_cam  # the network's own, which nothing could be asked about
        if pose is not None and cam_from_child is not None:
            output.publish_pose(seen, pose, covariance, cam_from_child)
            status.pose_published = True
            if metric and tracked.publish:
                self._depth.publish(seen, answer)
        status.tf = output.publish_transform(self._camera, arrival, seen, tracked, metric)
        status.confidence = float(answer.confidence)
        status.inliers = answer.located.inliers if answer.located else 0
        return withheld or tracked.reason

    def _wait(self, reason: str) -> None:
        """In the worker's thread: time has passed since the last pose; reason: why there is no newer one."""
        self._localizing.tracker.wait(self._time.since_ns(self._agreed), reason)
        self._log_state()

    def _log_state(self) -> None:
        """A line for every change between UNINITIALIZED, LOCALIZED and LOST; UNCERTAIN comes and goes with images."""
        tracker = self._localizing.tracker
        if tracker.state in (self._logged, TrackingState.UNCERTAIN):
            return
        self._logged = tracker.state
        line = f"{tracker.state.name}: {tracker.reason}"
        if tracker.state is TrackingState.LOST:
            self.get_logger().warning(line)
        else:
            self.get_logger().info(line)

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            if frame_name(message.header.frame_id) != self.settings.map_frame:
                frames = f"frame {message.header.frame_id!r}, expected {self.settings.map_frame!r}"
                raise InputError(f"it is given in {frames}; set the fixed frame of RViz")
            self._localizing.expect(pose_from_message(message.pose.pose))
        except InputError as error:
            self.get_logger().warning(f"initialpose is ignored: {error}")
            return
        self.get_logger().info("initialpose: looked at first with the next image")

    # -- status

    def _on_timer(self) -> None:
        """Diagnostics; and a status when there was none for long, because nothing could be attempted."""
        tracker = self._localizing.tracker
        if self._worker.is_idle and time.monotonic() - self._last_status > 1 / self.settings.status_rate:
            silence = "paused" if self._services_of_localizer.paused else "no image has come"
            self._worker.post(lambda: self._wait(silence))
            status = LocalizationStatus()
            status.header.stamp = self.get_clock().now().to_msg()
            self._publish_status(status, silence)
        problem = self._camera.problem
        level = _LEVELS.get(tracker.state, Level.WARN)
        if problem and level is Level.OK:
            level = Level.WARN
        reason = tracker.reason if self._localizing.scene else self._reason
        message = "; ".join(filter(None, (problem, f"{tracker.state.value}: {reason}")))
        values = {**self._counts.as_values(), "scene": self._localizing.scene_id, "errors survived": self.defects}
        self._diagnostics.publish(level, message, values)

    def _publish_status(self, status: LocalizationStatus, reason: str) -> None:
        self._last_status = time.monotonic()
        status.state, status.reason = _STATES[self._localizing.tracker.state], reason
        status.scene_id = self._localizing.scene_id
        status.frames_received, status.frames_skipped = self._counts.received, self._counts.skipped
        status.frames_dropped, status.frames_lost = self._counts.dropped, self._counts.lost
        status.last_drop_reason = self._counts.last_reason
        status.tf = status.tf or self._output.standing(reason)
        self._status.publish(status)

    def _say(self, message: str) -> None:
        """What became of a scene, for the log, and for the status while there is none."""
        self._reason = message
        self.get_logger().info(message)


def main(args: list[str] | None = None) -> None:
    """Run the node by itself."""
    run([LocalizerNode], args)


if __name__ == "__main__":
    main()
