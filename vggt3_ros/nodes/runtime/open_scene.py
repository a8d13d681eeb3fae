"""Loading a scene for a node: which folder is meant, and the result code of the service when it
cannot be used.
"""

from __future__ import annotations

from pathlib import Path

from rclpy.node import Node

from vggt3_ros.errors import SceneError
from vggt3_ros.model.network import Vggt3
from vggt3_ros.scene.library import default_library, find_scene, meant_folder
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene
from vggt3_ros.srv import LoadScene


class SceneProblem(SceneError):  # a reason with a code, raised like its base
    """A scene that cannot be used, with the code that LoadScene has for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def library_of(node: Node, scene_dir: str) -> Path:
    """The folder that a node's scenes are in: scene_dir or, where that is empty, the one of the
    node's namespace.

    Raises SceneError for a place that cannot be.
    """
    return meant_folder(scene_dir) if scene_dir else default_library(node.get_namespace())


def open_scene(
    path: str | Path,
    network: Vggt3,
    library: Path | None = None,
    with_depth: bool = True,
    with_images: bool = True,
) -> tuple[Scene, Path]:
    """The scene that a path means (itself, or the newest inside), and its folder. Raises
    SceneProblem.

    library: where relative paths lie (default: here). with_depth, with_images: as of `load_scene`.
    """
    try:
        folder = find_scene(path, library)
    except SceneError as error:
        raise SceneProblem(LoadScene.Response.NOT_FOUND, str(error)) from error
    try:
        scene = load_scene(folder, with_depth=with_depth, with_images=with_images)
    except SceneError as error:
        raise SceneProblem(LoadScene.Response.INVALID, str(error)) from error
    try:
        scene.require_network(network.fingerprint())
    except SceneError as error:
        raise SceneProblem(LoadScene.Response.WRONG_MODEL, str(error)) from error
    return scene, folder
