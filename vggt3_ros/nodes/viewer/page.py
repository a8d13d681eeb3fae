"""A page in the browser that shows a map; it needs viser and no ROS."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry.se3 import quaternion_from_rotation, transform_points

_MAX_POINTS = 300_000  # in the browser
_JUMP = 1.0  # metres between poses that the trail does not join
_FRUSTUM = 0.08  # metres deep
_LANDMARK_COLOR = (255, 220, 0)
_Array = NDArray[Any]


class Viewer:
    """A viser server; everything is drawn in the map frame, Z up. Whoever opens the page later sees
    all of it.
    """

    def __init__(self, port: int = 8080, host: str = "127.0.0.1") -> None:
        """Serve at `port`, or at the next free one. Raises InputError when viser is not
        installed.
        """
        try:
            import viser
        except ImportError as error:
            raise InputError(
                "the viewer needs the package viser, which is not installed: pip install"
                " 'vggt3_ros[view]'"
            ) from error
        self._server: Any = viser.ViserServer(host=host, port=port, label="vggt3", verbose=False)
        self._scene: Any = self._server.scene
        self._scene.set_up_direction("+z")
        self._server.gui.configure_theme(dark_mode=True)
        self._text: Any = self._server.gui.add_markdown("")
        self._eye = np.array([-3.0, -3.0, 3.0])
        self._target = np.zeros(3)
        self._robot: Any = None
        self._label = ""
        self._server.on_client_connect(self._look)
        shown = "localhost" if host in ("0.0.0.0", "127.0.0.1") else host
        self.url = f"http://{shown}:{self._server.get_port()}"

    def close(self) -> None:
        """Stop serving the page; browsers lose their connection."""
        self._server.stop()

    def show_points(self, points: _Array, colors: _Array) -> None:
        """Show the map: points (N, 3) in metres, colors (N, 3) uint8; a part of them where there
        are too many.
        """
        keep = np.isfinite(points).all(1)
        points = points[keep]
        colors = colors[keep]
        if len(points) > _MAX_POINTS:
            chosen = np.random.default_rng(0).choice(len(points), _MAX_POINTS, replace=False)
            points = points[chosen]
            colors = colors[chosen]
        self._scene.add_point_cloud("/points", points, colors, point_size=0.012)

    def show_keyframes(self, map_from_cam: Tensor) -> None:
        """Show keyframes (S, 4, 4), at least one, as small pyramids, from violet (first) to red
        (last).

        The view moves behind and above them: what they saw is seen from where nothing of it is in
        the way.
        """
        places = map_from_cam[:, :3, 3].double().mean(0).numpy()
        ahead = map_from_cam[:, :3, 2].double().mean(0).numpy()
        flat = np.array([*ahead[:2], 0.0]) / max(1e-6, float(np.hypot(*ahead[:2])))
        self._target = places + 1.0 * flat + np.array([0.0, 0.0, 0.1])
        self._eye = places - 2.5 * flat + np.array([0.0, 0.0, 0.9])
        for client in self._server.get_clients().values():
            self._look(client)
        lines = frustum_lines(map_from_cam.double())  # (S, 8, 2, 3)
        colors = np.repeat(_rainbow(len(lines)).reshape(-1, 1, 1, 3), 8, axis=1)
        self._draw(
            "/keyframes",
            lines.reshape(-1, 2, 3).numpy(),
            np.repeat(colors, 2, axis=2).reshape(-1, 2, 3),
        )

    def show_landmarks(self, positions: _Array) -> None:
        """Show landmarks (N, 3), and offer to hide them."""
        cloud = self._scene.add_point_cloud(
            "/landmarks", positions, _LANDMARK_COLOR, point_size=0.02
        )
        box = self._server.gui.add_checkbox("landmarks", True)

        def show(_: Any) -> None:
            cloud.visible = box.value

        box.on_update(show)

    def show_depth(
        self, map_from_cam: Tensor, names: Sequence[str], picture: Callable[[int], _Array]
    ) -> None:
        """Offer a picture (h, w, 3) uint8 of each keyframe (S, 4, 4), chosen by its number or by a
        click on it.
        """
        gui: Any = self._server.gui
        with gui.add_folder("Depth"):
            number = gui.add_slider(
                "keyframe", min=0, max=max(1, len(names) - 1), step=1, initial_value=0
            )
            legend = gui.add_markdown("")
            shown = gui.add_image(picture(0), format="png")

        def show(_: Any) -> None:
            index = min(int(number.value), len(names) - 1)
            shown.image = picture(index)
            legend.content = (
                f"**{names[index]}**: near is red, far is blue; dim is less sure, black is not"
                " known"
            )

        def chosen(index: int) -> Callable[[Any], None]:
            def choose(_: Any) -> None:
                number.value = index

            return choose

        number.on_update(show)
        show(None)
        self._scene.remove_by_name("/keyframes")  # pyramids that can be clicked take their place
        colors = _rainbow(len(names)).tolist()
        quaternions = quaternion_from_rotation(map_from_cam[:, :3, :3].double()).tolist()
        for index, (x, y, z, w) in enumerate(quaternions):
            handle = self._scene.add_camera_frustum(
                f"/cameras/{index}", fov=1.2, aspect=4 / 3, scale=_FRUSTUM, wxyz=(w, x, y, z),
                position=tuple(map_from_cam[index, :3, 3].tolist()), color=tuple(colors[index]),
            )  # fmt: skip
            handle.on_click(chosen(index))

    def show_pose(self, map_from_base: Tensor, label: str) -> None:
        """Show the robot (4, 4) with a label."""
        if self._robot is None:
            self._robot = self._scene.add_frame("/robot", axes_length=0.25, axes_radius=0.012)
        x, y, z, w = quaternion_from_rotation(map_from_base[:3, :3].double()).tolist()
        self._robot.wxyz = (w, x, y, z)
        self._robot.position = tuple(map_from_base[:3, 3].tolist())
        if label != self._label:  # a new one takes the browser a moment
            self._label = label
            self._scene.add_label("/robot/label", label, position=(0.0, 0.0, 0.12))

    def show_trail(self, name: str, positions: _Array, color: tuple[int, int, int]) -> None:
        """Show a path of positions (N, 3) in metres; it breaks where it jumps by more than 1 m."""
        pairs = np.stack([positions[:-1], positions[1:]], axis=1)
        pairs = pairs[np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1) < _JUMP]
        self._draw(
            f"/trails/{name}", pairs, np.broadcast_to(np.array(color, np.uint8), pairs.shape)
        )

    def show_text(self, markdown: str) -> None:
        """Show what there is to say, beside the picture."""
        self._text.content = markdown

    def _draw(self, name: str, lines: _Array, colors: _Array) -> None:
        if len(lines):
            self._scene.add_line_segments(
                name, lines.astype(np.float32), np.ascontiguousarray(colors)
            )

    def _look(self, client: Any) -> None:
        """Let somebody's view begin here."""
        client.camera.position = tuple(self._eye)
        client.camera.look_at = tuple(self._target)


def _rainbow(count: int) -> _Array:
    """Colours (count, 3) uint8 from violet to red."""
    hues = [colorsys.hsv_to_rgb(0.8 * (1 - i / max(1, count - 1)), 1.0, 1.0) for i in range(count)]
    return (255 * np.array(hues).reshape(-1, 3)).astype(np.uint8)


def frustum_lines(map_from_cam: Tensor) -> Tensor:
    """The edges (S, 8, 2, 3) of small pyramids that show where cameras (S, 4, 4) are and look."""
    corners = torch.tensor(
        [[-1, -0.75, 1], [1, -0.75, 1], [1, 0.75, 1], [-1, 0.75, 1], [0, 0, 0]]
    ).double()
    points = transform_points(map_from_cam, (_FRUSTUM * corners).expand(len(map_from_cam), 5, 3))
    first = [4, 4, 4, 4, 0, 1, 2, 3]
    second = [0, 1, 2, 3, 1, 2, 3, 0]
    return torch.stack([points[:, first], points[:, second]], dim=2)
