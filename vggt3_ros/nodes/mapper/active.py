"""The mapper between activate and deactivate: images become frames of the collection, and their
number is published.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from rclpy.clock import Clock, ClockType

from vggt3_ros.model.network import Vggt3
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.input import CameraInput, UnusableError
from vggt3_ros.nodes.camera.topics import ImageMessage
from vggt3_ros.nodes.mapper.mapper import Mapper
from vggt3_ros.nodes.mapper.output import MapperOutput
from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.nodes.runtime.listening import listens_to
from vggt3_ros.nodes.runtime.worker import Worker
from vggt3_ros.pipeline.collection import NOT_NEEDED, Reason

_THROTTLE = 5.0  # seconds between messages of the same kind in the log


class ActiveMapper:
    """Listens to the camera and fills the mapper's collection until it is closed. settings(): those
    of this moment.

    The executor's thread puts images into a queue, the worker's makes frames of them.
    """

    def __init__(
        self,
        node: GuardedNode,
        settings: Callable[[], MapperParameters],
        mapper: Mapper,
        output: MapperOutput,
        network: Vggt3,
    ) -> None:
        self._node = node
        self._mapper = mapper
        self._output = output
        given = settings()
        self._counts = ImageCounts()
        depth_slop = (lambda: settings().depth_slop) if given.use_depth else None
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a paused simulation needs its status too
        with ExitStack() as undo:
            mapper.begin(network)
            undo.callback(mapper.stop)
            self._camera = CameraInput(
                node,
                settings,
                self._counts,
                self._on_image,
                mapper.collector.restart_clock,
                depth_slop,
            )
            undo.callback(self._camera.destroy)
            timer = node.create_timer(1 / given.status_rate, self._on_timer, clock=steady)
            undo.callback(node.destroy_timer, timer)
            self._worker = Worker(
                "frames", self._take_image, given.queue_size, self._gave_way, self._fail
            )
            undo.callback(self._worker.stop)  # undone first: it uses the camera
            self._undo = undo.pop_all()
        node.get_logger().info(listens_to(node))
        where = f"scenes are saved in {mapper.library}"
        output.say(
            f"collecting frames; model {network.model_id} on {network.device}; {where}", False
        )
        self.publish_status()

    def close(self) -> None:
        """Stop listening, cancel a reconstruction, let the network go; frames and scene stay."""
        self._undo.close()

    def publish_status(self) -> None:
        """Say how it goes."""
        self._output.publish_status(self._mapper, self._counts)

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
            self._node.get_logger().warning(
                f"image left out: {error}", throttle_duration_sec=_THROTTLE
            )
            return
        # The odometry of the drive is the prior of the map: its frame becomes the map frame.
        result = self._mapper.collector.add(
            replace(seen.frame, prior_world_from_cam=seen.odom_from_cam)
        )
        if not result.kept:
            leave_out = self._counts.skip if result.reason in NOT_NEEDED else self._counts.drop
            leave_out(result.reason.value)
        if result.gone:
            self._counts.skip(Reason.THINNED.value, result.gone)
        self._mapper.start_if_due()

    def _gave_way(self, message: ImageMessage) -> None:
        self._counts.drop("the queue was full; raise queue_size or lower the camera's rate")

    def _fail(self, error: BaseException) -> None:
        self._counts.drop(f"unexpected error: {error!r}", "unexpected error")
        self._node.survive(error)

    def _on_timer(self) -> None:
        if self._worker.is_idle:  # otherwise nobody has looked yet whether there is something new
            self._mapper.start_if_due()
        self.publish_status()
        self._output.publish_diagnostics(
            self._camera.problem, self._counts, self._node.errors_survived
        )
