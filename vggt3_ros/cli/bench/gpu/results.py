"""What `vggt3 bench gpu` leaves: a JSON file a step, written anew with every row, and a table of
all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vggt3_ros.files import atomic_path, clear_unfinished

Row = dict[str, Any]  # name, text for people, and figures of its own
TABLE = "results.txt"


@dataclass(frozen=True)
class StepRecord:
    """A step as it is: state 'running', 'done', 'out of time', 'failed', 'interrupted' or 'left
    out'; the seconds that it took so far.
    """

    step: str
    state: str
    seconds: float
    rows: Sequence[Row] = ()
    error: str | None = None


class Results:
    """The files of one folder. Each is replaced whole, so that they can be read whenever the
    command is killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, record: StepRecord) -> None:
        """Keep a step as it is now."""
        data = asdict(replace(record, seconds=round(record.seconds, 2)))
        self._replace(f"{record.step}.json", json.dumps(data, indent=1) + "\n")

    def read(self, step: str) -> StepRecord | None:
        """A step of this run or an earlier one; None where it has not been measured."""
        path = self.folder / f"{step}.json"
        return StepRecord(**json.loads(path.read_text())) if path.exists() else None

    def ceilings(self) -> dict[str, float]:
        """Measured rates by name, of what the folder holds."""
        card = self.read("card")
        if card is None:
            return {}
        return {row["name"]: row["rate"] for row in card.rows if "rate" in row}

    def write_table(self, steps: list[str]) -> str:
        """Write the table of all steps that were measured, and return it."""
        records = [record for record in map(self.read, steps) if record is not None]
        text = "\n".join(map(_section, records))
        self._replace(TABLE, text)
        return text

    def _replace(self, name: str, text: str) -> None:
        clear_unfinished(self.folder / name)
        with atomic_path(self.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _section(record: StepRecord) -> str:
    lines = [f"{record.step}: {record.state}, {record.seconds:.0f} s"]
    width = max((len(row["name"]) for row in record.rows), default=0)
    lines += [f"  {row['name']:<{width}}  {row['text']}" for row in record.rows]
    if record.error:
        lines.append("  error: " + record.error.strip().splitlines()[-1])
    return "\n".join(lines) + "\n"
