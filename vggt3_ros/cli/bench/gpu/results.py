"""What `vggt3 bench gpu` leaves: a JSON file a step, written anew with every row, and a table of
all of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vggt3_ros.files import atomic_path, clear_unfinished

TABLE = "results.txt"


class Results:
    """The files of one folder. Each is replaced whole, so that they can be read whenever the
    command is killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(
        self, step: str, state: str, seconds: float, rows: list[dict[str, Any]], error: str | None
    ) -> None:
        """Keep a step as it is now: state 'running', 'done', 'out of time', 'failed',
        'interrupted', 'left out'.
        """
        data = {
            "step": step,
            "state": state,
            "seconds": round(seconds, 2),
            "rows": rows,
            "error": error,
        }
        self._replace(f"{step}.json", json.dumps(data, indent=1) + "\n")

    def read(self, step: str) -> dict[str, Any] | None:
        """A step's data, of this run or an earlier one; None where it has not been measured."""
        path = self.folder / f"{step}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def ceilings(self) -> dict[str, float]:
        """Measured rates by name, of what the folder holds."""
        card = self.read("card")
        return (
            {}
            if card is None
            else {row["name"]: row["rate"] for row in card["rows"] if "rate" in row}
        )

    def write_table(self, steps: list[str]) -> str:
        """Write the table of all steps that were measured, and return it."""
        text = "\n".join(_section(data) for data in map(self.read, steps) if data is not None)
        self._replace(TABLE, text)
        return text

    def _replace(self, name: str, text: str) -> None:
        clear_unfinished(self.folder / name)
        with atomic_path(self.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _section(data: dict[str, Any]) -> str:
    lines = [f"{data['step']}: {data['state']}, {data['seconds']:.0f} s"]
    width = max((len(row["name"]) for row in data["rows"]), default=0)
    lines += [f"  {row['name']:<{width}}  {row['text']}" for row in data["rows"]]
    if data["error"]:
        lines.append("  error: " + data["error"].strip().splitlines()[-1])
    return "\n".join(lines) + "\n"
