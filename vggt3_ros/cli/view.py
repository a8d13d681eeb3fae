"""`vggt3 view SCENE...`: a stored scene in the browser: points, landmarks, and the depth of its
keyframes; or several, as they would be merged.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vggt3_ros.cli.view_several import show_several

if TYPE_CHECKING:
    from vggt3_ros.nodes.viewer.page import Viewer
    from vggt3_ros.scene.scene import Scene

_WAIT = 3600.0  # seconds; Ctrl-C ends it


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "view", help="show stored scenes in the browser", description=__doc__
    )
    parser.add_argument(
        "scenes",
        nargs="+",
        type=Path,
        metavar="SCENE",
        help=(
            "scene folder written by `vggt3 map`; of several, the others are shown in the frame of"
            " the first, where `vggt3 merge` would join them, or beside it"
        ),
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
    from vggt3_ros.nodes.viewer.page import Viewer
    from vggt3_ros.scene.storage import load_scene

    if not 0 <= args.port <= 65535:
        raise argparse.ArgumentTypeError(f"--port {args.port}: expected 0 to 65535")
    scenes = [load_scene(folder) for folder in args.scenes]
    names = [folder.resolve().name for folder in args.scenes]
    page = Viewer(args.port, args.host)
    try:
        if len(scenes) == 1:
            what = _show_one(page, scenes[0], names[0])
        else:
            what = show_several(page, scenes, _told_apart(args.scenes, names))
        print(f"open {page.url} in a browser ({what}); Ctrl-C ends it", flush=True)
        wait()
    except KeyboardInterrupt:
        pass
    finally:
        page.close()
    return 0


def _told_apart(folders: list[Path], names: list[str]) -> list[str]:
    """The names of the folders, or their paths where names alone do not tell them apart."""
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _show_one(page: Viewer, scene: Scene, name: str) -> str:
    """Show a scene, and say in short what is shown."""
    import numpy as np

    from vggt3_ros.cli.depth_picture import DepthPictures
    from vggt3_ros.scene.coloring import LOOP_COLOR, colorings, seen_by_several

    page.show_points(scene.points.points.numpy(), scene.points.colors.numpy())
    page.show_keyframes(scene.map_from_keyframes, colorings(scene))
    if scene.landmarks:
        page.show_landmarks(scene.landmarks["positions"].numpy(), seen_by_several(scene))
    positions = scene.map_from_keyframes[:, :3, 3].numpy()
    ends = [[positions[loop.first], positions[loop.second]] for loop in scene.loops]
    page.show_lines("loops", np.array(ends), LOOP_COLOR)
    what = "it has no depth of its keyframes"
    if scene.depth is not None:
        page.show_depth(
            scene.depth.world_from_cam, scene.keyframes.names, DepthPictures(scene.depth)
        )
        images = "" if scene.depth.images is None else " and image"
        what = f"click a keyframe to see its depth{images}"
    page.show_text("\n\n".join([f"### {name}", *_facts(scene), what]))
    return f"{len(scene.keyframes)} keyframes, {what}"


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
