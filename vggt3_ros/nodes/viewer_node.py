"""A page in the browser that shows the map and where the robot is: for whoever has no RViz."""

from __future__ import annotations

from vggt3_ros.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from torch import Tensor

from vggt3_ros.msg import LocalizationStatus, MapperStatus
from vggt3_ros.nodes.messages.clouds import points_and_colors
from vggt3_ros.nodes.messages.conversions import pose_from_message
from vggt3_ros.nodes.messages.qos import LATCHED, STATUS
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.nodes.runtime.lifecycle import run
from vggt3_ros.nodes.runtime.parameter_values import change, declare, read
from vggt3_ros.nodes.runtime.parameters import NodeParameters, parameter
from vggt3_ros.nodes.viewer.page import Viewer

_TRAIL = 3000  # poses
_REDRAWN = 5.0  # times a second
_BLUE = (0, 80, 255)
_ORANGE = (255, 100, 0)
_STATES = {
    LocalizationStatus.UNINITIALIZED: ("not localized yet", "⚪"),
    LocalizationStatus.LOCALIZED: ("localized", "🟢"),
    LocalizationStatus.UNCERTAIN: ("uncertain", "🟡"),
    LocalizationStatus.LOST: ("lost", "🔴"),
}
_MAPPING = {
    MapperStatus.COLLECTING: "collecting",
    MapperStatus.PAUSED: "paused",
    MapperStatus.RECONSTRUCTING: "reconstructing",
}
_Array = NDArray[Any]


@dataclass(frozen=True)
class ViewerParameters(NodeParameters):
    """Where the page is served."""

    port: int = parameter(8080, "port of the page; the next free one when it is taken", 0, 65535)
    host: str = parameter(
        "127.0.0.1", "address to serve at; 0.0.0.0 lets everybody on the network look on"
    )


class ViewerNode(GuardedNode):
    """Hears the mapper and the localizer, and the simulated camera's truth if there is one, and
    shows what they say.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("viewer", allow_undeclared_parameters=True, **options)
        declare(self, ViewerParameters)
        settings = read(self, ViewerParameters)
        self.add_on_set_parameters_callback(lambda changes: change(self, changes, settings)[0])
        self.viewer = Viewer(settings.port, settings.host)
        self.get_logger().info(f"open {self.viewer.url} in a browser")
        self._trails = {"pose": deque[_Array](maxlen=_TRAIL), "truth": deque[_Array](maxlen=_TRAIL)}
        self._pose: Tensor | None = None
        self._localizer: LocalizationStatus | None = None
        self._mapper: MapperStatus | None = None
        self._changed = True
        self.create_subscription(PointCloud2, "points", self._on_points, LATCHED)
        self.create_subscription(Path, "keyframes", self._on_keyframes, LATCHED)
        self.create_subscription(PoseWithCovarianceStamped, "pose", self._on_pose, STATUS)
        self.create_subscription(PoseStamped, "sim_camera/true_pose", self._on_truth, STATUS)
        self.create_subscription(LocalizationStatus, "localizer/status", self._on_localizer, STATUS)
        self.create_subscription(MapperStatus, "mapper/status", self._on_mapper, STATUS)
        self.create_timer(1 / _REDRAWN, self._redraw)

    def destroy_node(self) -> None:
        """Close the page, then go."""
        if hasattr(self, "viewer"):
            self.viewer.close()
        super().destroy_node()

    def _on_points(self, message: PointCloud2) -> None:
        self.viewer.show_points(*points_and_colors(message))

    def _on_keyframes(self, message: Path) -> None:
        if message.poses:
            self.viewer.show_keyframes(
                torch.stack([pose_from_message(each.pose) for each in message.poses])
            )

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        self._pose = pose_from_message(message.pose.pose)
        self._trails["pose"].append(self._pose[:3, 3].numpy())
        self._changed = True

    def _on_truth(self, message: PoseStamped) -> None:
        place = pose_from_message(message.pose)[:3, 3].numpy()
        trail = self._trails["truth"]
        if not trail or np.linalg.norm(place - trail[-1]) > 0.01:  # it may stand for hours
            trail.append(place)
            self._changed = True

    def _on_localizer(self, message: LocalizationStatus) -> None:
        self._localizer = message
        self._changed = True

    def _on_mapper(self, message: MapperStatus) -> None:
        self._mapper = message
        self._changed = True

    def _redraw(self) -> None:
        """Not at every message: browsers are slower than robots."""
        if not self._changed:
            return
        self._changed = False
        for name, color in (("pose", _ORANGE), ("truth", _BLUE)):
            if len(self._trails[name]) > 1:
                self.viewer.show_trail(name, np.stack(self._trails[name]), color)
        word, mark = (
            _STATES[self._localizer.state]
            if self._localizer is not None
            else ("no localizer", "⚪")
        )
        if self._pose is not None:
            self.viewer.show_pose(self._pose, word)
        self.viewer.show_text("\n\n".join([f"### {mark} {word}", *self._lines()]))

    def _lines(self) -> list[str]:
        lines = []
        if self._localizer is not None:
            lines.append(self._localizer.reason)
            lines.append(f"{self._localizer.latency:.2f} s after the image")
        if self._mapper is not None:
            state = _MAPPING.get(self._mapper.state, "?")
            lines.append(
                f"**mapper** {state}, {self._mapper.frames_kept} keyframes. {self._mapper.message}"
            )
        lines.append(
            "orange: the robot's poses" + ("; blue: the truth" if self._trails["truth"] else "")
        )
        return lines


def main(args: list[str] | None = None) -> None:
    """Run the viewer until SIGINT or SIGTERM."""
    run([ViewerNode], args)


if __name__ == "__main__":
    main()
