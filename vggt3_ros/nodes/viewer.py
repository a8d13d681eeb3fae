"""A page in the browser that shows the map and where the robot is: for whoever has no RViz."""

from __future__ import annotations

from vggt3_ros.nodes.ending import end_at_once

if __name__ == "__main__":
    end_at_once()  # before what takes seconds to import

import colorsys
from collections import deque
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import quaternion_from_rotation, transform_points
from vggt3_ros.msg import LocalizationStatus, MapperStatus
from vggt3_ros.nodes.clouds import points_and_colors
from vggt3_ros.nodes.conversions import pose_from_message
from vggt3_ros.nodes.guard import GuardedNode
from vggt3_ros.nodes.lifecycle import run
from vggt3_ros.nodes.parameter_values import change, declare, read
from vggt3_ros.nodes.parameters import Parameter
from vggt3_ros.nodes.qos import LATCHED, STATUS

VIEWER = (
    Parameter("port", 8080, "port of the page; the next free one when it is taken", 0, 65535),
    Parameter("host", "127.0.0.1", "address to serve at; 0.0.0.0 lets everybody on the network look on"),
)
_MOST_POINTS = 300_000  # in the browser
_TRAIL = 3000  # poses
_REDRAWN = 5.0  # times a second
_JUMP = 1.0  # metres between poses that the trail does not join
_FRUSTUM = 0.08  # metres deep
_BLUE, _ORANGE = (0, 80, 255), (255, 100, 0)
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


class Viewer:
    """A viser server; everything is drawn in the map frame, Z up. Whoever opens the page later sees all of it."""

    def __init__(self, port: int = 8080, host: str = "127.0.0.1") -> None:
        """Serve at `port`, or at the next free one. Raises InputError when viser is not installed."""
        try:
            import viser
        except ImportError as error:
            raise InputError(
                "the viewer needs the package viser, which is not installed: pip install 'vggt3_ros[view]'"
            ) from error
        self._server: Any = viser.ViserServer(host=host, port=port, label="vggt3", verbose=False)
        self._scene: Any = self._server.scene
        self._scene.set_up_direction("+z")
        self._server.gui.configure_theme(dark_mode=True)
        self._text: Any = self._server.gui.add_markdown("")
        self._eye, self._target = np.array([-3.0, -3.0, 3.0]), np.zeros(3)
        self._robot: Any = None
        self._label = ""
        self._server.on_client_connect(self._look)
        self.url = f"http://{'localhost' if host in ('0.0.0.0', '127.0.0.1') else host}:{self._server.get_port()}"

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def show_points(self, points: _Array, colors: _Array) -> None:
        """Show the map: points (N, 3) in metres, colors (N, 3) uint8; a share of them where there are too many."""
        keep = np.isfinite(points).all(1)
        points, colors = points[keep], colors[keep]
        if len(points) > _MOST_POINTS:
            chosen = np.random.default_rng(0).choice(len(points), _MOST_POINTS, replace=False)
            points, colors = points[chosen], colors[chosen]
        self._scene.add_point_cloud("/points", points, colors, point_size=0.012)

    def show_keyframes(self, map_from_cam: Tensor) -> None:
        """Show keyframes (S, 4, 4), at least one, as small pyramids, from violet (first) to red (last).

        The view moves behind and above them: what they saw is seen from where nothing of it is in the way.
        """
        places, ahead = map_from_cam[:, :3, 3].double().mean(0).numpy(), map_from_cam[:, :3, 2].double().mean(0).numpy()
        flat = np.array([*ahead[:2], 0.0]) / max(1e-6, float(np.hypot(*ahead[:2])))
        self._target = places + 1.0 * flat + np.array([0.0, 0.0, 0.1])
        self._eye = places - 2.5 * flat + np.array([0.0, 0.0, 0.9])
        for client in self._server.get_clients().values():
            self._look(client)
        lines = frustum_lines(map_from_cam.double())  # (S, 8, 2, 3)
        hues = [colorsys.hsv_to_rgb(0.8 * (1 - i / max(1, len(lines) - 1)), 1.0, 1.0) for i in range(len(lines))]
        colors = np.repeat((255 * np.array(hues).reshape(-1, 1, 1, 3)).astype(np.uint8), 8, axis=1)
        self._draw("/keyframes", lines.reshape(-1, 2, 3).numpy(), np.repeat(colors, 2, axis=2).reshape(-1, 2, 3))

    def show_pose(self, map_from_base: Tensor, label: str) -> None:
        """Show the robot (4, 4) with a label."""
        if self._robot is None:
            self._robot = self._scene.add_frame("/robot", axes_length=0.25, axes_radius=0.012)
        x, y, z, w = quaternion_from_rotation(map_from_base[:3, :3].double()).tolist()
        self._robot.wxyz, self._robot.position = (w, x, y, z), tuple(map_from_base[:3, 3].tolist())
        if label != self._label:  # a new one takes the browser a moment
            self._label = label
            self._scene.add_label("/robot/label", label, position=(0.0, 0.0, 0.12))

    def show_trail(self, name: str, positions: _Array, color: tuple[int, int, int]) -> None:
        """Show a way (N, 3); it breaks where it jumps by more than 1 m."""
        pairs = np.stack([positions[:-1], positions[1:]], axis=1)
        pairs = pairs[np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1) < _JUMP]
        self._draw(f"/trails/{name}", pairs, np.broadcast_to(np.array(color, np.uint8), pairs.shape))

    def show_text(self, markdown: str) -> None:
        """Show what there is to say, beside the picture."""
        self._text.content = markdown

    def _draw(self, name: str, lines: _Array, colors: _Array) -> None:
        if len(lines):
            self._scene.add_line_segments(name, lines.astype(np.float32), np.ascontiguousarray(colors))

    def _look(self, client: Any) -> None:
        """Let somebody's view begin here."""
        client.camera.position, client.camera.look_at = tuple(self._eye), tuple(self._target)


class ViewerNode(GuardedNode):
    """Hears the mapper and the localizer, and the simulated camera's truth if there is one, and shows what they say."""

    def __init__(self, **options: Any) -> None:
        super().__init__("viewer", allow_undeclared_parameters=True, **options)
        declare(self, VIEWER)
        settings = read(self, VIEWER)
        self.add_on_set_parameters_callback(lambda changes: change(self, VIEWER, changes, settings))
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
            self.viewer.show_keyframes(torch.stack([pose_from_message(each.pose) for each in message.poses]))

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
        word, mark = _STATES[self._localizer.state] if self._localizer is not None else ("no localizer", "⚪")
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
            lines.append(f"**mapper** {state}, {self._mapper.frames_kept} keyframes. {self._mapper.message}")
        lines.append("orange: the robot's poses" + ("; blue: the truth" if self._trails["truth"] else ""))
        return lines


def frustum_lines(map_from_cam: Tensor) -> Tensor:
    """The edges (S, 8, 2, 3) of small pyramids that show where cameras (S, 4, 4) are and look."""
    corners = torch.tensor([[-1, -0.75, 1], [1, -0.75, 1], [1, 0.75, 1], [-1, 0.75, 1], [0, 0, 0]]).double()
    points = transform_points(map_from_cam, (_FRUSTUM * corners).expand(len(map_from_cam), 5, 3))
    first, second = [4, 4, 4, 4, 0, 1, 2, 3], [0, 1, 2, 3, 1, 2, 3, 0]
    return torch.stack([points[:, first], points[:, second]], dim=2)


def main(args: list[str] | None = None) -> None:
    """Run the viewer until SIGINT or SIGTERM."""
    run([ViewerNode], args)


if __name__ == "__main__":
    main()
