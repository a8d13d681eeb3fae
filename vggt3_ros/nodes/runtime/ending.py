"""How a program of nodes ends on SIGINT and SIGTERM as long as it only starts. Imports nothing that
takes time.
"""

from __future__ import annotations

import os
import signal
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once() -> None:
    """From now on, until other handlers are installed, a signal ends the process with exit code 0
    and without a word.

    Importing torch takes seconds, in which there is nothing to be put in order. An exception would
    not do: it may come up in the middle of foreign code that takes it for an error of its own.
    """
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(number: int, frame: Any) -> None:
    os._exit(0)
