"""Programs of ours do not take cores that they do not use."""

from __future__ import annotations

import os
import subprocess
import sys
from threading import Barrier, get_ident

import pytest
import torch

from vggt3_ros.threads import each_in_threads, one_torch_thread, spare_the_cores

NAMES = ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")


def test_threads_sleep_and_linear_algebra_has_one(monkeypatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    spare_the_cores()
    assert [os.environ[name] for name in NAMES] == ["PASSIVE", "1"]


def test_what_somebody_has_set_stays(monkeypatch) -> None:
    for name, value in zip(NAMES, ("ACTIVE", "3"), strict=True):
        monkeypatch.setenv(name, value)
    spare_the_cores()
    assert [os.environ[name] for name in NAMES] == ["ACTIVE", "3"]


@pytest.mark.parametrize("package", ["vggt3_ros.nodes", "vggt3_ros.cli.main"])
def test_programs_begin_with_it(package) -> None:
    """NumPy reads it when it is loaded: nothing before may load it."""
    program = (
        f"import sys, os, {package} as package; from vggt3_ros import threads;"
        " assert 'numpy' not in sys.modules;"
        " getattr(package, 'main', lambda argv: 0)(['--version']);"
        f" print(*[os.environ[name] for name in {NAMES}])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == ["PASSIVE", "1"]


def test_torch_has_its_threads_again_after_work_with_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_torch_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_item_is_worked_on_once_without_gradients_and_progress_counts(threads: int) -> None:
    seen: list[tuple[int, int, bool]] = []
    together = Barrier(threads)
    told: list[int] = []

    def work(item: int) -> None:
        together.wait(10)  # until as many as may are at work
        seen.append((item, get_ident(), torch.is_grad_enabled()))

    with torch.enable_grad():
        each_in_threads(work, range(4), threads, told.append)
    assert sorted(item for item, _, _ in seen) == [0, 1, 2, 3]
    assert len({thread for _, thread, _ in seen}) == threads
    assert not any(gradients for _, _, gradients in seen)
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_work_or_progress_raises_ends_it(threads: int) -> None:
    seen: list[int] = []

    def fail(item: int) -> None:
        seen.append(item)
        raise KeyError(item)

    with pytest.raises(KeyError):
        each_in_threads(fail, range(1000), threads, lambda done: None)
    assert len(seen) < 1000

    def cancel(done: int) -> None:
        raise KeyboardInterrupt

    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        each_in_threads(seen.append, range(100_000), threads, cancel)
    assert len(seen) < 100_000
