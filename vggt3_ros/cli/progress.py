"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere, nothing for what is
quick.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")

QUIET_SECONDS = 2.0  # what takes less shows nothing
# between two plain lines, where stderr is not a terminal or tqdm is not installed
LINE_SECONDS = 5.0


class ProgressBar:
    """Progress of one task, callable as `progress(stage, fraction)` with a fraction from 0 to 1.

    Use it as a context manager: leaving it closes the bar.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._fraction = 0.0
        self._next_line = time.monotonic() + QUIET_SECONDS
        self._bar = _make_bar(title)

    def __call__(self, stage: str, fraction: float) -> None:
        """Show that `stage` is being worked on and `fraction` of the whole is done."""
        fraction = min(max(fraction, self._fraction), 1.0)
        if self._bar is not None:
            self._bar.set_postfix_str(stage, refresh=False)
            self._bar.update(100.0 * (fraction - self._fraction))
        elif time.monotonic() >= self._next_line:
            print(f"{self._title}: {100.0 * fraction:.0f} % ({stage})", file=sys.stderr, flush=True)
            self._next_line = time.monotonic() + LINE_SECONDS
        self._fraction = fraction

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def track(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """Yield from `items`, of which there are `total`, and show how far it has come."""
    with ProgressBar(title) as progress:
        for index, item in enumerate(items):
            yield item
            progress(f"{index + 1} of {total}", (index + 1) / max(total, 1))


def _make_bar(title: str) -> Any:
    """Return a tqdm bar in per cent, or None where plain lines serve better."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(
        total=100.0,
        desc=title,
        delay=QUIET_SECONDS,
        leave=False,
        file=sys.stderr,
        bar_format="{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining} {postfix}",
    )
