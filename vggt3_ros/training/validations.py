"""The validations of a run: when the next one is due, and what they have found so far."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import torch

from vggt3_ros.model.network import Vggt3
from vggt3_ros.training.config import TrainConfig
from vggt3_ros.training.logs import Logs
from vggt3_ros.training.parallel import TrainingRanks
from vggt3_ros.training.timetable import Timetable
from vggt3_ros.training.validate import ValidationRoom, validate, validation_rooms

_FRACTION = 0.1  # of a run's minutes


class Validations:
    """`config.validations` of them, evenly over the run, the last one at its end; the first process
    makes them.

    Where the run has minutes, they take at most a tenth of those, and the table keeps the time for
    the last one.
    """

    def __init__(self, config: TrainConfig, device: torch.device, ranks: TrainingRanks) -> None:
        self.config = config
        self.device = device
        self.ranks = ranks
        self.entries = list[dict[str, Any]]()

    def load(self, entries: list[dict[str, Any]], table: Timetable) -> None:
        """Go on after those of earlier sessions."""
        self.entries = entries
        table.reserve = max((float(entry.get("took_s", 0.0)) for entry in entries), default=0.0)

    def due(self, table: Timetable, before: float, wanted: bool) -> bool:
        """After a step, when a fraction `before` of the run was done before it; `wanted`: if there
        is time for one.
        """
        if table.over:
            return True
        count = self.config.validations
        if not wanted and int(before * count) == int(table.done * count):
            return False
        taken = sum(float(entry.get("took_s", 0.0)) for entry in self.entries)
        # one for the end
        fits = table.minutes is None or taken + 2 * table.reserve <= 60 * _FRACTION * table.minutes
        return not self.ranks.any(not fits)

    def make(
        self, network: Vggt3, table: Timetable, logs: Logs, after_s: float
    ) -> dict[str, float] | None:
        """The figures of a network; None in all processes but the first. `after_s`: what saving
        takes at the end.
        """
        took = 0.0
        result = None
        if self.ranks.first:
            began = time.monotonic()
            rooms = self._rooms
            ready = time.monotonic()
            result = validate(network, rooms)
            took = time.monotonic() - ready
            spent = {"seconds": round(table.seconds, 1), "took_s": round(ready - began + took, 1)}
            self.entries.append({"step": table.step, "phase": table.phase, **spent, **result})
            logs.validations(self.entries)
        table.reserve = self.ranks.greatest(took + after_s)
        return result

    @cached_property
    def _rooms(self) -> list[ValidationRoom]:
        """Rendered when the first validation is due, and by the process that validates: they take a
        while.
        """
        return validation_rooms(self.config, self.device)
