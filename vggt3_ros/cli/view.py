"""`vggt3 view SCENE`: a stored scene in the browser: points, landmarks, and the depth of its
keyframes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggt3_ros.scene.scene import Scene

_WAIT = 3600.0  # seconds; Ctrl-C ends it


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "view", help="show a stored scene in the browser", description=__doc__
    )
    parser.add_argument(
        "scene", type=Path, metavar="SCENE", help="scene folder written by `vggt3 map`"
    )
    parser.add_argument(
        "--port", type=int, default=8080, metavar="N", help="port of the page, or the next free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help=(
            "address to serve at; 0.0.0.0 lets everybody on the network look on (default:"
            " 127.0.0.1)"
        ),
    )


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C. Raises `SceneError`, and `InputError` where viser is not
    installed.
    """
    from vggt3_ros.cli.depth_picture import DepthPictures
    from vggt3_ros.nodes.viewer.page import Viewer
    from vggt3_ros.scene.storage import load_scene

    if not 0 <= args.port <= 65535:
        raise argparse.ArgumentTypeError(f"--port {args.port}: expected 0 to 65535")
    scene = load_scene(args.scene)
    page = Viewer(args.port, args.host)
    try:
        page.show_points(scene.points.points.numpy(), scene.points.colors.numpy())
        page.show_keyframes(scene.map_from_keyframes)
        if scene.landmarks:
            page.show_landmarks(scene.landmarks["positions"].numpy())
        what = "it has no depth of its keyframes"
        if scene.depth is not None:
            page.show_depth(
                scene.depth.world_from_cam, scene.keyframes.names, DepthPictures(scene.depth)
            )
            images = "" if scene.depth.images is None else " and image"
            what = f"click a keyframe to see its depth{images}"
        page.show_text("\n\n".join([f"### {args.scene.resolve().name}", *_facts(scene), what]))
        print(
            f"open {page.url} in a browser ({len(scene.keyframes)} keyframes, {what}); Ctrl-C"
            " ends it",
            flush=True,
        )
        wait()
    except KeyboardInterrupt:
        pass
    finally:
        page.close()
    return 0


def _facts(scene: Scene) -> list[str]:
    """What the picture does not show: whether poses can be verified, and what scale and up come
    from.
    """
    scale = "metric" if scene.is_metric else "not metric"
    return [
        scene.verdict.reason,
        f"**scale**: {scale} ({scene.metric_source})",
        f"**up**, the blue axis: {scene.up_source}",
    ]


def wait() -> None:
    """Wait until KeyboardInterrupt is raised, as by Ctrl-C."""
    while True:
        time.sleep(_WAIT)
