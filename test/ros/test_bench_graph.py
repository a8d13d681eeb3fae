"""`vggt3 bench graph`, really run, with a small and slow camera."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ..patience import PATIENCE_S
from .processes import REPOSITORY, wait_for


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vggt3_ros", "bench", "graph", *map(str, arguments)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it reports; it leaves nothing else."""
    folder = tmp_path_factory.mktemp("bench")
    environment = {**os.environ, "TMPDIR": str(folder)}
    options = ["--size", "160x120", "--rate", 5, "--seconds", 3, "--json", folder / "bench.json"]
    result = subprocess.run(
        command(*options),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in folder.iterdir()] == ["bench.json"]
    for words in ("image to pose", "localization, localizer", "sim_camera", "other programs"):
        assert words in result.stdout
    return json.loads((folder / "bench.json").read_text())


def test_every_image_is_accounted_for(data: dict[str, Any]) -> None:
    for phase in ("mapping", "reconstruction", "localization"):
        rows = data[phase]["messages"]
        assert set(rows) == {"mapper", "localizer"}
        for row in rows.values():
            assert row["sent"] == row["received"] + row["lost"]
            assert row["sent"] > 0 and row["lost"] >= 0
            assert row["left_out"] == sum(row["reasons"].values())
    localizer = data["localization"]["messages"]["localizer"]
    attempts = data["localization"]["attempts_per_s"] * data["localization"]["seconds"]
    assert round(attempts) == localizer["received"] - localizer["left_out"]


def test_poses_come_and_their_delay_is_told(data: dict[str, Any]) -> None:
    found = data["localization"]
    assert data["reconstruction"]["keyframes"] >= 8 and data["reconstruction"]["seconds"] > 0
    assert 0 < found["poses_per_s"] <= found["attempts_per_s"] <= found["images_per_s"]
    for delay in (found["image_to_pose_ms"], found["attempt_ms"]):
        assert 0 < delay["median"] <= delay["p90"] <= delay["max"]
    assert data["image_size"] == [120, 160]


def test_every_process_is_weighed(data: dict[str, Any]) -> None:
    assert set(data["processes"]) == {"bench", "sim_camera", "mapper", "localizer"}
    for row in data["processes"].values():
        assert row["cores"] > 0 and row["rss_mb_begin"] > 50 and row["rss_mb_end"] > 50
    assert 0 <= data["other_programs_cores"] < data["cores"]


def test_rate_that_the_camera_does_not_take_is_refused() -> None:
    result = subprocess.run(
        command("--rate", 1000), cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert result.returncode == 1 and "rate is 1000" in result.stderr and "to 120" in result.stderr


def test_interrupted_bench_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    import psutil

    with tempfile.TemporaryFile() as output:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        running = subprocess.Popen(
            command(),
            cwd=REPOSITORY,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            children = wait_for(
                lambda: psutil.Process(running.pid).children(), "the nodes to be started"
            )
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE_S) == 130
            assert not any(child.is_running() for child in children)
            assert list(tmp_path.iterdir()) == []
        finally:
            running.kill()
            running.wait()
