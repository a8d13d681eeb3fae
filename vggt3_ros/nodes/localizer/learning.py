"""What the localizer learns of changes: the log of the scene in use, and successors of that scene
without what has gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vggt3_ros.errors import InputError, Vggt3Error
from vggt3_ros.maps.refresh import CannotRefreshError, refresh
from vggt3_ros.maps.scene_log import SceneLog
from vggt3_ros.nodes.runtime.guard import GuardedNode
from vggt3_ros.pipeline.localization import Localization
from vggt3_ros.scene.library import folder_name, prune
from vggt3_ros.scene.scene import Scene
from vggt3_ros.scene.storage import load_scene, save_scene

_EVERY = 24  # new views after which the log is saved, and asked what has gone
_LEAST = 20  # landmarks that have to have gone to be worth a scene ...
_LEAST_SHARE = 0.01  # ... and of all landmarks
_KEPT = 3  # successors that a localizer made, beyond which its oldest go


class ChangeLearner:
    """Notes published poses of one scene, and makes its successor in a thread of its own.

    take_over(folder): called in that thread when a successor of the scene in use is on the disk.
    The other methods belong to the localizer's worker.
    """

    def __init__(self, node: GuardedNode, take_over: Callable[[Path], None]) -> None:
        self._node = node
        self._take_over = take_over
        self._folder = Path()
        self._log: SceneLog | None = None
        self._new_views = 0
        self._superseded: set[str] = set()
        self._thread: threading.Thread | None = None

    def begin(self, scene: Scene, folder: Path) -> None:
        """The scene in `folder` is in use from now on: go on with its log, if there is one."""
        self.save()
        self._folder = folder
        self._log = SceneLog.of(scene) if scene.is_verified else None
        self._new_views = 0
        if self._log is None or not self._file.exists():
            return
        try:
            earlier = SceneLog.load(self._file)
            earlier.check_is_of(scene, str(self._file))
            self._log = earlier
            self._new_views = len(earlier.views)
        except InputError as error:
            self._node.get_logger().warning(f"a new log of changes is begun: {error}")

    def note(self, answer: Localization) -> None:
        """A pose was published."""
        if self._log is None or answer.sighting is None:
            return
        self._new_views += self._log.add(answer.sighting)
        if self._new_views >= _EVERY:
            self._new_views = 0
            self.save()
            self._look()

    def is_superseded(self, scene_id: str) -> bool:
        """Whether a successor of that scene was made here."""
        return scene_id in self._superseded

    def save(self) -> None:
        """Write the log beside the folder of its scene, unless its successor has been made."""
        if self._log is None or not self._log.views or self.is_superseded(self._log.scene_id):
            return
        try:
            self._log.save(self._file)
        except InputError as error:
            self._node.get_logger().warning(f"{error}; it is kept in memory", once=True)

    def close(self) -> None:
        """Save the log, and wait for a successor in the making."""
        self.save()
        if self._thread is not None:
            self._thread.join()

    @property
    def _file(self) -> Path:
        assert self._log is not None
        return self._folder.parent / f"{self._log.scene_id}.log"

    def _look(self) -> None:
        """Ask the log what has gone, unless that is being done."""
        if self._log is None or (self._thread is not None and self._thread.is_alive()):
            return
        arguments = (self._log.copy(), self._folder, self._file)
        self._thread = threading.Thread(
            target=self._refresh, args=arguments, name="refresh", daemon=True
        )
        self._thread.start()

    def _refresh(self, log: SceneLog, folder: Path, file: Path) -> None:
        logger = self._node.get_logger()
        try:
            least = max(_LEAST, round(_LEAST_SHARE * log.landmarks))
            made = refresh(load_scene(folder), folder.name, [log], least)
            scene = replace(made.scene, made_by=self._node.made_by)
            successor = save_scene(scene, folder.parent / folder_name(scene))
        except CannotRefreshError as error:
            logger.info(f"no changes are learnt: {error}")
        except (Vggt3Error, OSError, MemoryError) as error:
            logger.warning(f"the scene cannot be refreshed: {error}")
        else:
            logger.info(
                f"{int(made.gone.sum())} of {made.before} landmarks have gone from scene"
                f" {log.scene_id[:8]}, by {made.believed} views; its successor is in {successor}"
            )
            self._superseded.add(log.scene_id)
            file.unlink(missing_ok=True)
            prune(folder.parent, _KEPT, self._node.made_by, successor)
            self._take_over(successor)
