"""Exit codes, error lines and shared outputs of the command line."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

from vggt3_ros.cli import main as main_module
from vggt3_ros.cli.common import resolve_device, seed_int
from vggt3_ros.cli.progress import ProgressBar
from vggt3_ros.errors import InputError, SceneError
from vggt3_ros.files import atomic_path, check_writable, write_json

from ..patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def code_of(error: BaseException | None) -> int:
    """Exit code of a command that raises `error`."""
    command = ModuleType("command")

    def run(args: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    command.run = run  # type: ignore[attr-defined]
    command.add_parser = lambda subparsers: subparsers.add_parser("map")  # type: ignore[attr-defined]
    with mock.patch.object(main_module, "_command_modules", return_value={"map": command}):
        return main_module.main(["map"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 0, ""),
        (SceneError("scene is gone"), 1, "vggt3: error: scene is gone\n"),
        (InputError("two\n  lines"), 1, "vggt3: error: two lines\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "out of memory"),
        (MemoryError(), 1, "out of memory"),
        (argparse.ArgumentTypeError("--frames is odd"), 2, "vggt3: error: --frames is odd\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ModuleNotFoundError("No module", name="yaml"),
            1,
            "yaml is needed for this command: pip install pyyaml\n",
        ),
        (
            ModuleNotFoundError("No module", name="PIL.Image"),
            1,
            "PIL is needed for this command: pip install pillow\n",
        ),
        (
            ImportError("libGL.so.1 is missing", name="cv2"),
            1,
            "cv2 is needed for this command and cannot be imported",
        ),
    ],
)
def test_error_becomes_one_line_and_exit_code(
    error: BaseException | None, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(error) == code
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == (0 if error is None else 1)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        ModuleNotFoundError("a bug", name="vggt3_ros.gone"),
        ImportError("a bug", name="json"),
    ],
)
def test_unforeseen_error_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        code_of(error)


def test_seed_is_what_generators_take() -> None:
    assert seed_int(str(2**64 - 1)) == 2**64 - 1
    torch.manual_seed(seed_int(str(2**64 - 1)))
    for text in (str(2**64), "-1", "1.5", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number from 0"):
            seed_int(text)


@pytest.mark.parametrize("name", ["meta", "meta:0"])
def test_device_without_data_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="give cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["map"], ["map", "--out", "x"], ["info", "a", "b"], ["--nonsense"]]
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_module.main(arguments) == 2
    assert "usage: vggt3" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {command}" in text for command in main_module.COMMANDS)


def test_output_closed_by_its_reader_is_no_traceback() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; time.sleep(0.3); from vggt3_ros.cli.main import main; main(['--help'])",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.wait()


def test_json_replaces_the_old_file_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_json_goes_through_a_pipe_without_replacing_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_json(pipe, {"a": 1})
    assert reader.communicate(timeout=PATIENCE_S)[0] == b'{\n "a": 1\n}\n'
    assert not pipe.is_file()


def test_unwritable_output_is_refused_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "fine.json", "--json")
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path, "--json")
    with pytest.raises(InputError, match="there is no folder"):
        check_writable(tmp_path / "missing" / "x.json", "--json")


def test_progress_without_a_terminal_is_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("vggt3_ros.cli.progress.time.monotonic", lambda: now[0])
    with ProgressBar("mapping") as progress:
        for second in range(9):
            now[0] = float(second)
            progress("layers", second / 8)
    assert capsys.readouterr().err.splitlines() == [
        "mapping: 25 % (layers)",
        "mapping: 88 % (layers)",
    ]
