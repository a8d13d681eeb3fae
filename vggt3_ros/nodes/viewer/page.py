"""A page in the browser that shows a map; it needs viser and no ROS."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vggt3_ros.errors import InputError
from vggt3_ros.geometry import frustum
from vggt3_ros.geometry.se3 import quaternion_from_rotation
from vggt3_ros.scene.coloring import (
    LANDMARK_COLOR,
    SEAM_COLOR,
    Color,
    Coloring,
    by_order,
)

_MAX_POINTS = 300_000  # in the browser
_JUMP = 1.0  # metres between poses that the trail does not join
_OWN = "their own"
_AWAY = 0.4  # that the view begins farther away, per metre between keyframes and their middle
_GAMMA = 2.2
_THIN = 0.01  # metres
_THICK = 0.02
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
        self._legend: Any = self._server.gui.add_html("")
        self._marks: list[tuple[Color, str]] = []
        self._edges = np.zeros((0, 2, 3))  # of pyramids
        self._pyramids: list[Any] = []  # that can be clicked
        self._coloring = by_order(0)
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

    def show_points(
        self, points: _Array, colors: _Array, others: Mapping[str, _Array] | None = None
    ) -> None:
        """Show the map: points (N, 3) in metres, colors (N, 3) uint8; a part of them where there
        are too many. others: colours (N, 3) to choose instead, by what they are called.
        """
        chosen = np.flatnonzero(np.isfinite(points).all(1))
        if len(chosen) > _MAX_POINTS:
            chosen = np.random.default_rng(0).choice(chosen, _MAX_POINTS, replace=False)
        cloud = self._scene.add_point_cloud(
            "/points", points[chosen], colors[chosen], point_size=0.012
        )
        ways = {_OWN: colors, **(others or {})}

        def color(way: str) -> None:
            cloud.colors = ways[way][chosen]

        self._offer("colour points by", list(ways), color)

    def show_keyframes(self, map_from_cam: Tensor, ways: Sequence[Coloring] = ()) -> None:
        """Show keyframes (S, 4, 4), at least one, as small pyramids, in the colours of the first of
        the ways, and offer the others; without any from violet (first) to red (last).

        The view moves behind and above them: what they saw is seen from where nothing of it is in
        the way.
        """
        places = map_from_cam[:, :3, 3].double().mean(0).numpy()
        ahead = map_from_cam[:, :3, 2].double().mean(0).numpy()
        flat = np.array([*ahead[:2], 0.0]) / max(1e-6, float(np.hypot(*ahead[:2])))
        self._target = places + 1.0 * flat + np.array([0.0, 0.0, 0.1])
        spread = map_from_cam[:, :3, 3].double().numpy() - places
        away = max(1.0, _AWAY * float(np.linalg.norm(spread, axis=1).max()))
        self._eye = places + away * (np.array([0.0, 0.0, 0.9]) - 2.5 * flat)
        for client in self._server.get_clients().values():
            self._look(client)
        self._edges = frustum.frustum_lines(map_from_cam.double()).reshape(-1, 2, 3).numpy()
        named = {way.title: way for way in ways or [by_order(len(map_from_cam))]}
        self._color_keyframes(next(iter(named.values())))
        self._offer(
            "colour keyframes by", list(named), lambda title: self._color_keyframes(named[title])
        )

    def show_landmarks(self, positions: _Array, common: NDArray[np.bool_] | None = None) -> None:
        """Show landmarks (N, 3), and offer to hide them. common (N,): those that several scenes
        have, which are told apart.
        """
        if common is None:
            common = np.zeros(len(positions), dtype=bool)
        colors = np.where(common[:, None], SEAM_COLOR, LANDMARK_COLOR).astype(np.uint8)
        cloud = self._scene.add_point_cloud("/landmarks", positions, colors, point_size=0.02)
        self._offer_to_hide("landmarks", cloud)
        if common.any():
            self._mark(SEAM_COLOR, f"landmarks of several scenes: {common.sum()}")
            self._mark(LANDMARK_COLOR, f"landmarks of one: {(~common).sum()}")

    def show_lines(self, what: str, lines: _Array, color: Color) -> None:
        """Show lines (N, 2, 3) in one colour, and offer to hide them; nothing without any."""
        if len(lines):
            colors = np.broadcast_to(np.array(color, np.uint8), lines.shape)
            self._offer_to_hide(what, self._draw(f"/lines/{what}", lines, colors, _THICK))
            self._mark(color, f"{what}: {len(lines)}")

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
        colors = self._coloring.colors.tolist()
        quaternions = quaternion_from_rotation(map_from_cam[:, :3, :3].double()).tolist()
        for index, (x, y, z, w) in enumerate(quaternions):
            handle = self._scene.add_camera_frustum(
                f"/cameras/{index}", fov=1.2, aspect=4 / 3, scale=frustum.DEPTH, wxyz=(w, x, y, z),
                position=tuple(map_from_cam[index, :3, 3].tolist()), color=tuple(colors[index]),
            )  # fmt: skip
            handle.on_click(chosen(index))
            self._pyramids.append(handle)

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

    def _color_keyframes(self, coloring: Coloring) -> None:
        """Colour the pyramids, and say what the colours mean."""
        self._coloring = coloring
        for pyramid, color in zip(self._pyramids, coloring.colors.tolist(), strict=False):
            pyramid.color = tuple(color)
        if not self._pyramids:
            edges = len(self._edges) // len(coloring.colors)
            ends = np.repeat(coloring.colors, 2 * edges, axis=0).reshape(-1, 2, 3)
            self._draw("/keyframes", self._edges, ends)
        self._tell()

    def _mark(self, color: Color, text: str) -> None:
        """Add to what the colours mean."""
        self._marks.append((color, text))
        self._tell()

    def _tell(self) -> None:
        rows = [
            f'<div style="padding:0 1em"><span style="color:rgb{color}">&#9632;</span>'
            f" {html.escape(text)}</div>"
            for color, text in (*self._coloring.legend, *self._marks)
        ]
        self._legend.content = "".join(rows)

    def _offer(self, label: str, ways: Sequence[str], choose: Callable[[str], None]) -> None:
        """Offer to choose one of the ways, if there are several."""
        if len(ways) > 1:
            box: Any = self._server.gui.add_dropdown(label, tuple(ways))
            box.on_update(lambda _: choose(box.value))

    def _offer_to_hide(self, label: str, handle: Any) -> None:
        box: Any = self._server.gui.add_checkbox(label, True)

        def show(_: Any) -> None:
            handle.visible = box.value

        box.on_update(show)

    def _draw(self, name: str, lines: _Array, colors: _Array, thickness: float = _THIN) -> Any:
        """Draw lines (N, 2, 3) with the colours of their ends; None without any."""
        if not len(lines):
            return None
        return self._scene.add_line_segments(
            name, lines.astype(np.float32), _linear(colors), thickness=thickness
        )

    def _look(self, client: Any) -> None:
        """Let somebody's view begin here."""
        client.camera.position = tuple(self._eye)
        client.camera.look_at = tuple(self._target)


def _linear(colors: _Array) -> _Array:
    """Colours of the ends of lines, which viser takes to be linear, without the gamma of screens
    that it expects of all other colours.
    """
    return (255 * (colors / 255.0) ** _GAMMA).round().astype(np.uint8)
