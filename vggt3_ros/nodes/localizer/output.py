"""What the localizer publishes: poses and transforms, depth, the status of every attempt,
diagnostics.
"""

from __future__ import annotations

from collections.abc import Callable

from vggt3_ros.msg import LocalizationStatus
from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.localizer.arrival import NodeTime
from vggt3_ros.nodes.localizer.depth_output import DepthOutput
from vggt3_ros.nodes.localizer.parameters import LocalizerParameters
from vggt3_ros.nodes.localizer.pose_output import PoseOutput
from vggt3_ros.nodes.localizer.session import LocalizationSession
from vggt3_ros.nodes.messages.qos import STATUS
from vggt3_ros.nodes.runtime.diagnostics import Diagnostics, Level
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.pipeline.tracking import TrackingState

_STATES = {
    TrackingState.UNINITIALIZED: LocalizationStatus.UNINITIALIZED,
    TrackingState.LOCALIZED: LocalizationStatus.LOCALIZED,
    TrackingState.UNCERTAIN: LocalizationStatus.UNCERTAIN,
    TrackingState.LOST: LocalizationStatus.LOST,
}
_LEVELS = {TrackingState.LOCALIZED: Level.OK, TrackingState.LOST: Level.ERROR}


class LocalizerOutput:
    """The localizer's publishers, from configure to cleanup; `pose` and `depth` publish on their
    own.
    """

    def __init__(self, node: GuardedNode, settings: Callable[[], LocalizerParameters]) -> None:
        self._node = node
        self._status = node.create_publisher(LocalizationStatus, "localizer/status", STATUS)
        self.pose = PoseOutput(node, settings, NodeTime(node))
        self.depth = DepthOutput(node)
        self._diagnostics = Diagnostics(node)

    def close(self) -> None:
        """Destroy the publishers of status, poses, depth and diagnostics."""
        self._diagnostics.destroy()
        self.pose.destroy()
        self.depth.destroy()
        self._node.destroy_publisher(self._status)

    def publish_status(
        self,
        status: LocalizationStatus,
        reason: str,
        session: LocalizationSession,
        counts: ImageCounts,
    ) -> None:
        """Fill in what every status has, and publish it. reason: of the attempt, or why there is
        none.
        """
        status.state = _STATES[session.tracker.state]
        status.reason = reason
        status.scene_id = session.scene_id
        status.frames_received = counts.received
        status.frames_skipped = counts.skipped
        status.frames_dropped = counts.dropped
        status.frames_lost = counts.lost
        status.last_drop_reason = counts.last_reason
        status.tf = status.tf or self.pose.standing(reason)
        self._status.publish(status)

    def publish_diagnostics(
        self, problem: str, no_scene: str, session: LocalizationSession, counts: ImageCounts
    ) -> None:
        """problem: what does not come, empty if everything does. no_scene: why there is no scene,
        if there is none.
        """
        tracker = session.tracker
        level = _LEVELS.get(tracker.state, Level.WARN)
        if problem and level is Level.OK:
            level = Level.WARN
        reason = tracker.reason if session.scene else no_scene
        message = "; ".join(filter(None, (problem, f"{tracker.state.value}: {reason}")))
        values = {
            **counts.as_values(),
            "scene": session.scene_id,
            "errors survived": self._node.errors_survived,
        }
        self._diagnostics.publish(level, message, values)
