"""How many images of a camera are missing between those that came, as their stamps tell."""

from __future__ import annotations

from collections import deque
from statistics import median

_PERIODS = 15  # images whose spacing tells the camera's period
_ENOUGH = 4  # of them, before anything is said
_ROUND_UP = 0.3  # of a period: a gap of 1.7 periods is one of two, since stamps vary
# of a period, by which the usual one differs from it: beyond it the camera has no rate
_SPREAD = 0.15
_STEADY = 8  # equal gaps in a row, after which the camera is taken to have changed its rate
_EQUAL = 0.2  # of a gap, by which gaps of a steady camera differ at most
_PAUSE_NS = 3_000_000_000  # a camera that is silent for so long, and for ...
# ... so many periods, was switched off or cut off: nobody knows what it would have sent
_PAUSE_PERIODS = 5


class StampGaps:
    """Compares the gaps between stamps (ns) with the camera's usual period, the median of the last
    ones.

    A gap of three periods says that two images are missing. Taken back is what was only late (it
    follows in a burst), and what is missing from gaps that turn out to be the new period of a
    camera that has become slower. Not counted are pauses of more than 3 s, stamps that repeat or
    run backwards, cameras without a steady rate, and what is missing regularly from the very first
    image on.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last: int | None = None
        self._late = 0  # images that were counted at the last wide gap and may follow yet
        self._periods: deque[float] = deque(maxlen=_PERIODS)
        # of the latest images in a row: gap, missing
        self._wide: deque[tuple[int, int]] = deque(maxlen=_STEADY + 1)

    def add(self, stamp_ns: int) -> None:
        """One more image came."""
        gap = 0 if self._last is None else stamp_ns - self._last
        if -_PAUSE_NS < gap <= 0 and self._last is not None:
            return  # the same again, or one that others have overtaken
        self._last = stamp_ns
        if gap > 0:
            self._take(gap)
        else:
            self._wide.clear()

    def _take(self, gap: int) -> None:
        if len(self._periods) < _ENOUGH:
            self._periods.append(gap)
            return
        period = median(self._periods)
        if gap > max(_PAUSE_NS, _PAUSE_PERIODS * period):
            self._wide.clear()
            return
        if gap < period / 2 and self._late:
            self._late -= 1
            self.lost -= 1
            return
        missing = max(0, int(gap / period + _ROUND_UP) - 1)
        if median(abs(each - period) for each in self._periods) > _SPREAD * period:
            missing = 0
        self._late = missing
        self.lost += missing
        self._periods.append(gap / (missing + 1))
        if missing:
            self._wide.append((gap, missing))
            self._judge_wide_gaps()
        else:
            self._wide.clear()

    def _judge_wide_gaps(self) -> None:
        """Images that are lost leave gaps of all sizes; equal ones, after any first one, are a
        camera's new rate.
        """
        gaps = [gap for gap, _ in self._wide][-_STEADY:]
        if len(gaps) == _STEADY and max(gaps) - min(gaps) <= _EQUAL * min(gaps):
            self.lost -= sum(missing for _, missing in self._wide)
            self._periods = deque(gaps, maxlen=_PERIODS)
            self._wide.clear()
