"""The folder that `vggt3 demo` writes: which files are in it, and that nobody else's are harmed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from vggt3_ros.errors import InputError
from vggt3_ros.files import check_writable, write_json

_MARK = "vggt3 demo"


class DemoFolder:
    """Its entries. Once claimed, it belongs to this run alone, until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        root = path.resolve()
        self.report, self.picture, self.points = (
            root / name for name in ("report.json", "top_view.png", "points.ply")
        )
        self.scene = root / "scene"
        self.logs = root / "logs"
        self.work = root / ".work"  # what nobody needs afterwards
        self._lock: int | None = None

    @property
    def files(self) -> list[Path]:
        """The files that are written, those of the scene aside."""
        return [self.report, self.picture, self.points]

    def check(self) -> None:
        """Raise `InputError` or `SceneError` unless it can be written and no file of somebody
        else's is in the way.
        """
        from vggt3_ros.scene.storage import check_target

        root = self.report.parent
        check_target(self.scene)
        in_the_way = [
            entry
            for entry in (*self.files, self.scene, self.logs, self.work)
            if os.path.lexists(entry)
        ]
        if in_the_way and not self._is_ours():
            raise InputError(
                f"--out {self.path} holds {in_the_way[0].name}, which no demo has written; give"
                " another folder"
            )
        for entry in in_the_way:
            kind = entry.is_file() if entry in self.files else entry.is_dir()
            if entry.is_symlink() or not kind:
                raise InputError(
                    f"{entry} is not what a demo has written; remove it, or give another folder"
                )
        if root.is_dir():
            check_writable(self.report, "--out")

    def claim(self) -> None:
        """Make the folder and mark it. Raises what `check` does, and `InputError` while another
        demo uses it.
        """
        self.check()
        self.logs.mkdir(parents=True, exist_ok=True)
        # not the folder around: who saves a scene in it locks that
        self._lock = os.open(self.logs, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise InputError(
                f"another demo is writing to {self.path}; wait for it, or give another folder"
            ) from error
        self.write_report({"finished": False})
        for file in (self.picture, self.points):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        for log in self.logs.glob("*.log"):
            log.unlink()

    def release(self) -> None:
        """Others may use it now."""
        if self._lock is not None:
            shutil.rmtree(self.work, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def write_report(self, data: dict[str, Any]) -> dict[str, Any]:
        """Write report.json, and return what it says."""
        marked = {"made_by": _MARK, **data}
        write_json(self.report, marked)
        return marked

    def _is_ours(self) -> bool:
        try:
            return bool(json.loads(self.report.read_bytes()).get("made_by") == _MARK)
        except (OSError, ValueError, AttributeError):
            return False
