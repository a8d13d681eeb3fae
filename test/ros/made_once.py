"""What is costly to make, made once for all workers of a test run."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_folder: list[Path] = []  # of this run; one, once `use_folder` was called


def use_folder(folder: Path) -> None:
    """Where the workers of a run find what another one has made."""
    _folder[:] = [folder]


def made_once(make: Callable[[], T]) -> Callable[[], T]:
    """A function that gives what make() does, which one worker calls while the others wait."""

    @lru_cache(maxsize=1)
    @wraps(make)
    def given() -> T:
        (folder,) = _folder
        file = folder / f"{make.__module__}.{make.__name__}.pickle"
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                content = pickle.dumps(make())
                file.write_bytes(content)
        return pickle.loads(file.read_bytes())

    return given
