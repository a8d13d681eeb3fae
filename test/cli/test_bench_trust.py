"""`vggt3 bench colmap`, `loops`, `maps` and `soak`: tables, files, what is done before Ctrl-C, and
runs that are continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vggt3_ros.evaluation.drives
import vggt3_ros.evaluation.side_by_side
import vggt3_ros.evaluation.soak
import vggt3_ros.evaluation.trials
from vggt3_ros.evaluation.drive_figures import DriveFigures
from vggt3_ros.evaluation.drives import DriveRow
from vggt3_ros.evaluation.side_by_side import Row
from vggt3_ros.evaluation.trials import Outcome

Run = Callable[..., Any]
MARKS = "<!-- begin vggt3 bench colmap -->\nold\n<!-- end vggt3 bench colmap -->\n"


def outcome(name: str, **changes: Any) -> Outcome:
    return Outcome(
        **{"name": name, "keyframes": 8, "verified": True, "reason": "fine", "asked": 24, **changes}
    )


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that were examined, each with one wrong pose; nothing is computed."""
    names: list[str] = []

    def examine(trial: Any, network: Any, in_parts: bool = False) -> Outcome:
        names.append(trial.name)
        return outcome(trial.name, accepted=3, right=2, wrong=1, failures=("7: 2.0 m, 3.0 deg",))

    monkeypatch.setattr(vggt3_ros.evaluation.trials, "examine", examine)
    return names


def test_maps_takes_the_cases_asked_for_and_counts_what_is_wrong(
    vggt3: Run, examined: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    options = ("--model", checkpoint, "--json", tmp_path / "maps.json")
    done = vggt3("bench", "maps", "--rooms", 910_200, "--only", "turning", "--limit", 2, *options)
    assert (
        done.code == 0 and len(examined) == 2 and all("910200/turning" in name for name in examined)
    )
    assert "wrong accepted: 2 of 48 asked" in done.out
    data = json.loads((tmp_path / "maps.json").read_text())
    assert data["of"] == 2 and data["totals"]["wrong"] == 2
    assert [case["name"] for case in data["cases"]] == examined
    assert vggt3("bench", "maps", "--only", "nothing").failed_with(
        "--only nothing", "every-2/given"
    )


def test_maps_shows_and_writes_what_was_done_before_ctrl_c(
    vggt3: Run, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    calls = iter([outcome("first")])

    def examine(trial: Any, network: Any, in_parts: bool = False) -> Outcome:
        try:
            return next(calls)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(vggt3_ros.evaluation.trials, "examine", examine)
    options = ("--model", checkpoint, "--json", tmp_path / "maps.json")
    done = vggt3("bench", "maps", "--rooms", 910_200, "--only", "turning", *options)
    assert done.code == 130 and "0 of 24 asked" in done.out
    data = json.loads((tmp_path / "maps.json").read_text())
    assert len(data["cases"]) == 1 and data["of"] == 9


def test_loops_shows_and_writes_a_row_for_each_drive(
    vggt3: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def close_drive(sequence: Any, drift: Any, seed: int, progress: Any) -> DriveRow:
        progress(0.5)
        figures = DriveFigures(24.0, 0.5, 0.05, 0.6, 0.2, 12 + seed, 0)
        return DriveRow(sequence.name, str(drift), 24, figures, {"not supported": 3})

    monkeypatch.setattr(vggt3_ros.evaluation.drives, "close_drive", close_drive)
    options = ("--drift", "1%,0.2deg", "--seed", 5, "--json", tmp_path / "loops.json")
    done = vggt3("bench", "loops", "ring:1:20:24", "floors:2:20:24", *options)
    assert done.code == 0, done
    assert "| ring:1:20:24 | 24 | 24 | 50.0 | 5.0 | 60.0, 20.0 | 17 | 0 |" in done.out
    rows = json.loads((tmp_path / "loops.json").read_text())["rows"]
    assert [row["drive"] for row in rows] == ["ring:1:20:24", "floors:2:20:24"]
    assert rows[0]["priors"] == "1%,0.2deg" and rows[0]["odometry_ate_m"] == 0.5


def test_a_soak_is_continued_and_lists_tracebacks_of_before(
    vggt3: Run, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    numbers: list[int] = []

    def soak(number: int, network: Any) -> Outcome:
        numbers.append(number)
        return outcome(f"{number}/room", traceback="Traceback: provoked" if number == 1 else None)

    monkeypatch.setattr(vggt3_ros.evaluation.soak, "soak", soak)
    file = tmp_path / "soak.jsonl"
    first = vggt3("bench", "soak", file, "--places", 2, "--model", checkpoint)
    assert first.code == 1 and "1/room\nTraceback: provoked" in first.out
    with file.open("a") as stream:
        stream.write('{"place": 2, "na')  # killed while it wrote
    again = vggt3(
        "bench",
        "soak",
        file,
        "--places",
        4,
        "--model",
        checkpoint,
        "--json",
        tmp_path / "totals.json",
    )
    assert numbers == [0, 1, 2, 3], again
    assert again.code == 1 and "Traceback: provoked" in again.out
    assert [json.loads(line)["place"] for line in file.read_text().splitlines()] == [0, 1, 2, 3]
    assert json.loads((tmp_path / "totals.json").read_text())["asked"] == 96
    other = tmp_path / "other.jsonl"
    other.write_text('{"place": 0}\n')
    assert vggt3("bench", "soak", other, "--model", checkpoint).failed_with("line 1", "not a place")


def test_the_colmap_table_replaces_the_one_in_the_document(
    vggt3: Run, monkeypatch: pytest.MonkeyPatch, own_images: Path, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pycolmap")
    sequence = tmp_path / "walk"
    sequence.mkdir()
    own_images.rename(sequence / "images")
    (sequence / "poses.txt").write_text(
        "\n".join(f"{i} 1 0 0 {i} 0 1 0 0 0 0 1 0 0 0 0 1" for i in range(5))
    )
    (sequence / "intrinsics.json").write_text(
        json.dumps({"fx": 100, "fy": 100, "cx": 64, "cy": 48})
    )
    compared: list[str] = []

    def compare(sequence: Any, network: Any, progress: Any, settings: Any) -> tuple[Row, Row]:
        compared.append(sequence.name)
        row = Row(sequence.name, "COLMAP", 4, 4, 4, 0, 1.0, 0.5, 0.2, 3.0, 1.0)
        return row, row

    monkeypatch.setattr(vggt3_ros.evaluation.side_by_side, "compare", compare)
    document = tmp_path / "accuracy.md"
    document.write_text(f"before\n{MARKS}after\n")
    options = ("--model", checkpoint, "--document", document, "--json", tmp_path / "rows.json")
    assert vggt3("bench", "colmap", sequence, *options).code == 0
    text = document.read_text()
    assert (
        text.startswith("before\n<!-- begin")
        and text.endswith("-->\nafter\n")
        and "old" not in text
    )
    assert text.count("| walk | COLMAP | 4 | 4 of 4 |") == 2
    assert vggt3("bench", "colmap", sequence, *options).code == 0
    assert document.read_text() == text, "run again, it is replaced"
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 2
    document.write_text("no marks")
    missing = vggt3("bench", "colmap", sequence, *options)
    assert missing.failed_with("<!-- begin vggt3 bench colmap -->") and len(compared) == 2
