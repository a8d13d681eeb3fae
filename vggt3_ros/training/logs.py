"""What a run leaves to look at: a CSV of every phase, validation.json, TensorBoard's files where
that is installed.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from vggt3_ros.files import write_json


class Logs:
    """Logs in a run's folder; `wanted` is false in all but one of the processes that train
    together.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self.folder = folder
        self.wanted = wanted
        self._board: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def losses(self, phase: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Add a row to the phase's CSV, by the names in its first row: weights may have been
        changed since.
        """
        if not self.wanted:
            return
        path = self.folder / f"{phase}.csv"
        row: dict[str, object] = {"step": step, "seconds": f"{seconds:.1f}"}
        row |= {name: f"{value:.5g}" for name, value in values.items()}
        names = list(row)
        if path.exists():
            with path.open(newline="") as file:
                names = next(csv.reader(file), names)
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        self._scalars(phase, step, values)

    def validations(self, entries: list[dict[str, Any]]) -> None:
        """Write all validations so far; the last one is new."""
        if self.wanted:
            write_json(self.folder / "validation.json", entries)
            newest = {
                name: value for name, value in entries[-1].items() if isinstance(value, float)
            }
            self._scalars("validation", entries[-1]["step"], newest)

    def _scalars(self, group: str, step: int, values: dict[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)
            self._board.flush()
