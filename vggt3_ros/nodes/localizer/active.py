"""The localizer between activate and deactivate: images become poses in a scene, and every attempt
has a status.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType

from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.msg import LocalizationStatus, SceneInfo
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.input import CameraInput, UnusableError
from vggt3_ros.nodes.camera.topics import ImageMessage
from vggt3_ros.nodes.localizer.arrival import Arrival, NodeTime
from vggt3_ros.nodes.localizer.learning import ChangeLearner
from vggt3_ros.nodes.localizer.output import LocalizerOutput
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.relocalizing import Relocalization, Relocalizations
from vggt3_ros.nodes.localizer.session import NO_SCENE, LocalizationSession
from vggt3_ros.nodes.messages.conversions import pose_from_message, stamp_ns
from vggt3_ros.nodes.messages.qos import HINTS, LATCHED
from vggt3_ros.nodes.messages.transforms import TransformError
from vggt3_ros.nodes.runtime.frame_names import frame_name
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.nodes.runtime.listening import listens_to
from vggt3_ros.nodes.runtime.subscriptions import AdaptiveSubscription
from vggt3_ros.nodes.runtime.worker import Worker
from vggt3_ros.pipeline.tracking import TrackingState

_REPEAT = 0.05  # seconds between repetitions of map -> odom
_THROTTLE = 5.0  # seconds between messages of the same kind in the log


class ActiveLocalizer:
    """Listens to the camera and to the mapper, and localizes the newest image, until it is closed.

    settings(): those of this moment. paused(): whether images are left out. Two threads: the
    executor's (callbacks, which never block) and the worker's, which owns network, scene and
    tracker. Raises SceneError for a scene that must be there and cannot be used.
    """

    def __init__(
        self,
        node: GuardedNode,
        settings: Callable[[], LocalizerParameters],
        output: LocalizerOutput,
        paused: Callable[[], bool],
        network: Vggt3,
    ) -> None:
        self._node = node
        self._settings = settings
        self._output = output
        self._paused = paused
        self._reason = NO_SCENE  # what became of a scene
        self._logged = TrackingState.UNINITIALIZED  # the last state that was logged
        self._last_taken_ns = 0  # stamp of the last image that was not left out because of max_rate
        self._last_status = -math.inf  # when, by time.monotonic
        self._time = NodeTime(node)
        self._agreed = self._time.moment()  # when the last pose was published
        self._counts = ImageCounts()
        self._relocalizations = Relocalizations()
        given = settings()
        self.session = LocalizationSession(given, network)
        self._learner: ChangeLearner | None = None
        if given.learn_changes:
            self._learner = ChangeLearner(node, self._follow_successor)
        self._use_first_scene(given)
        with ExitStack() as undo:
            self._camera = CameraInput(
                node, settings, self._counts, self._on_image, self._on_clock_reset
            )
            undo.callback(self._camera.destroy)
            output.pose.watch(self._camera.buffer)
            self._listen(given, undo)
            self._worker = Worker("localization", self._attempt, 1, self._gave_way, self._fail)
            if self._learner is not None:
                undo.callback(self._learner.close)
            undo.callback(self._worker.stop)  # undone first: it uses the camera
            self._undo = undo.pop_all()
        node.get_logger().info(f"active; model {network.model_id} on {network.device}")
        node.get_logger().info(listens_to(node))

    def close(self) -> None:
        """Stop listening, let the network go; what is known about the robot's place is
        forgotten.
        """
        self._undo.close()
        self._relocalizations.cancel()
        self._output.pose.forget()
        self.session.stop()
        self._log_state()

    def _listen(self, settings: LocalizerParameters, undo: ExitStack) -> None:
        """Hear hints and the mapper, and do what is due from time to time; undo undoes it."""
        node = self._node
        hints = AdaptiveSubscription(
            node, PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, HINTS
        )
        undo.callback(hints.destroy)
        if settings.follow_mapper:
            scenes = AdaptiveSubscription(node, SceneInfo, "scene", self._on_scene, LATCHED)
            undo.callback(scenes.destroy)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation needs its status too
        for period, due in (
            (1 / settings.status_rate, self._on_timer),
            (_REPEAT, self._output.pose.repeat_transform),
        ):
            undo.callback(node.destroy_timer, node.create_timer(period, due, clock=steady))

    # -- the robot's place

    def forget(self) -> None:
        """Know nothing of the robot's place once the attempt in the making has ended: with the
        images after it, it is searched for everywhere.
        """
        self._worker.post(self._forget)

    def relocalize(self) -> Relocalization:
        """The same, with an answer."""
        request = Relocalization()

        def begin() -> None:
            self._forget()
            if self.session.scene is None:
                request.end(False, self._reason)
            elif self._paused():
                request.end(False, "paused; localizer/resume lets it look at images again")
            else:
                self._relocalizations.add(request)

        def done(begun: Future[None]) -> None:
            if begun.cancelled():
                request.answer.cancel()

        self._worker.call(begin).add_done_callback(done)
        return request

    def give_up(self, request: Relocalization) -> None:
        """Answer it once the attempt in the making has ended, which may still find the robot."""
        self._worker.post(request.give_up)

    def _forget(self) -> None:
        self.session.forget("the robot's place was forgotten by relocalize")
        self._output.pose.forget()
        self._logged = TrackingState.UNINITIALIZED
        self._node.get_logger().info(f"UNINITIALIZED: {self.session.tracker.reason}")

    # -- scenes

    def load(self, path: str, library: Path) -> Future[tuple[str, str]]:
        """Begin to use a scene; the future holds its id, and what to say about it."""

        def use() -> tuple[str, str]:
            self._use(path, library)
            return self.session.scene_id, self._reason

        return self._worker.call(use)

    def _use_first_scene(self, settings: LocalizerParameters) -> None:
        if settings.scene_dir:
            try:
                self._use(settings.scene_dir)
            except SceneError as error:
                if not settings.follow_mapper:
                    raise
                self._reason = f"{error}; waiting for the mapper's scene"
                self._node.get_logger().error(self._reason)
        elif not settings.follow_mapper:
            self._reason = f"{NO_SCENE}: scene_dir is empty, and follow_mapper is false"
            self._node.get_logger().warning(self._reason)

    def _use(self, path: str | Path, library: Path | None = None) -> None:
        before = self.session.scene_id
        self._reason = self.session.use(path, library)
        self._node.get_logger().info(self._reason)
        scene = self.session.scene
        if scene is None or not scene.continues(before):
            self._output.pose.forget()
            self._logged = TrackingState.UNINITIALIZED
        if self._learner is not None and scene is not None:
            self._learner.begin(scene, self.session.folder)

    def _follow_successor(self, folder: Path) -> None:
        """A successor of the scene in use was made, without what has gone."""

        def follow() -> None:
            learner = self._learner
            if learner is not None and learner.is_superseded(self.session.scene_id):
                self._use(folder)

        self._worker.post(follow)

    def _on_scene(self, info: SceneInfo) -> None:
        """The mapper has a new scene."""

        def follow() -> None:
            learner = self._learner
            if info.scene_id == self.session.scene_id:
                return
            if learner is not None and learner.is_superseded(info.scene_id):
                return
            try:
                self._use(Path(info.path))
            except Exception as error:  # out of memory, for instance: the scene before stays
                why = error if isinstance(error, SceneError) else repr(error)
                self._reason = f"the mapper's scene {info.scene_id[:8]} cannot be used: {why}"
                self._node.get_logger().error(self._reason)

        self._worker.post(follow)

    # -- images

    def _on_image(self, message: ImageMessage) -> None:
        arrival = self._time.arrival(message)
        stamp = stamp_ns(message.header.stamp)
        rate = self._settings().max_rate
        if self._paused():
            self._counts.skip("paused")
        elif rate and 0 < stamp - self._last_taken_ns < 1e9 / rate:
            self._counts.skip("more images than max_rate")
        else:
            self._last_taken_ns = stamp
            self._worker.put(arrival)

    def _gave_way(self, arrival: Arrival) -> None:
        self._counts.skip("a newer image came before this one's turn")

    def _fail(self, error: BaseException) -> None:
        self._counts.drop(f"unexpected error: {error!r}", "unexpected error")
        self._node.survive(error)

    def _on_clock_reset(self) -> None:
        self.session.tracker.reset("the clock was set back")
        self._output.pose.forget()
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
            self._node.get_logger().warning(reason, throttle_duration_sec=_THROTTLE)
        except Exception as error:
            reason = f"unexpected error: {error!r}"
            self._fail(error)
        self._wait(reason)
        self._relocalizations.failed(reason)
        status.processing_time = time.perf_counter() - begin
        status.latency = 1e-9 * (arrival.age_ns + self._time.since_ns(arrival.moment))
        self._publish_status(status, reason)

    def _localize(self, arrival: Arrival, status: LocalizationStatus) -> str:
        """Publish what is known of an image, fill in the status, and return its reason. Raises
        UnusableError.
        """
        session = self.session
        output = self._output.pose
        seen = self._camera.frame(arrival.message)
        if session.scene is None:
            return self._reason
        metric = status.metric = session.scene.is_metric
        status.child_frame_id = output.child_frame(seen, metric)
        withheld = ""
        try:
            cam_from_child = output.cam_from_child(self._camera, seen, metric)
        except TransformError as error:
            cam_from_child = None
            withheld = str(error)
        answer, tracked = session.localize(seen, cam_from_child)
        if tracked.publish:
            self._agreed = self._time.moment()
            if self._learner is not None:
                self._learner.note(answer)
        pose, covariance = (
            (tracked.map_from_cam, tracked.covariance) if tracked.publish else (None, None)
        )
        reason = tracked.reason
        if pose is None and self._settings().publish_unverified and not answer.is_verified:
            pose = answer.network_map_from_cam
            if pose is not None and answer.located is not None:
                reason += f"; the pose is unverified, {answer.proposal}"
        if pose is not None and cam_from_child is not None:
            output.publish_pose(seen, pose, covariance, cam_from_child)
            status.pose_published = True
            if tracked.publish:
                self._relocalizations.found(
                    pose @ cam_from_child, status.child_frame_id, self._settings().map_frame, reason
                )
            if metric and tracked.publish:
                self._output.depth.publish(seen, answer)
        status.tf = output.publish_transform(self._camera, arrival, seen, tracked, metric)
        status.confidence = float(answer.confidence)
        status.inliers = answer.located.inliers if answer.located else 0
        return withheld or reason

    def _wait(self, reason: str) -> None:
        """In the worker's thread: time has passed since the last pose; reason: why there is no
        newer one.
        """
        self.session.tracker.wait(self._time.since_ns(self._agreed), reason)
        self._log_state()

    def _log_state(self) -> None:
        """A line for every change between UNINITIALIZED, LOCALIZED and LOST; UNCERTAIN comes and
        goes with images.
        """
        tracker = self.session.tracker
        if tracker.state in (self._logged, TrackingState.UNCERTAIN):
            return
        self._logged = tracker.state
        line = f"{tracker.state.name}: {tracker.reason}"
        if tracker.state is TrackingState.LOST:
            self._node.get_logger().warning(line)
        else:
            self._node.get_logger().info(line)

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        map_frame = self._settings().map_frame
        try:
            if frame_name(message.header.frame_id) != map_frame:
                frames = f"frame {message.header.frame_id!r}, expected {map_frame!r}"
                raise InputError(f"it is given in {frames}; set the fixed frame of RViz")
            self.session.expect(pose_from_message(message.pose.pose))
        except InputError as error:
            self._node.get_logger().warning(f"initialpose is ignored: {error}")
            return
        self._node.get_logger().info("initialpose: looked at first with the next image")

    # -- status

    def _on_timer(self) -> None:
        """Diagnostics; and a status when there was none for long, because nothing could be
        attempted.
        """
        if (
            self._worker.is_idle
            and time.monotonic() - self._last_status > 1 / self._settings().status_rate
        ):
            silence = "paused" if self._paused() else "no image has come"
            self._worker.post(lambda: self._wait(silence))
            status = LocalizationStatus()
            status.header.stamp = self._node.get_clock().now().to_msg()
            self._publish_status(status, silence)
        self._output.publish_diagnostics(
            self._camera.problem, self._reason, self.session, self._counts
        )

    def _publish_status(self, status: LocalizationStatus, reason: str) -> None:
        self._last_status = time.monotonic()
        self._output.publish_status(status, reason, self.session, self._counts)
