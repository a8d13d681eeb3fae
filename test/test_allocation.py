"""What is freed stays with the process, and a C library that knows nothing of it is no obstacle."""

from __future__ import annotations

import ctypes
import resource
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.allocation import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_was_freed_is_not_cleared_again() -> None:
    if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("of glibc")
    keep_freed_memory()
    fill(4)
    before = faults()
    fill(10)
    assert faults() - before < 4096, "40 MB are 10240 pages, each time"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory()


def fill(times: int) -> None:
    for _ in range(times):
        for buffer in [np.empty(2 << 20, np.uint8) for _ in range(20)]:
            buffer.fill(1)


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
