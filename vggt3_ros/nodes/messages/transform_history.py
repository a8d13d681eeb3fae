"""How one frame moved in its parent: samples over time, and what lies between them."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

# below this, two stamps may be of one moment: drivers and files round them, to ms at most
_ROUNDING_NS = 1_000_000
# x y z, quaternion x y z w: a matrix for each of thousands per second takes too long
Numbers = tuple[float, ...]


@dataclass
class TransformHistory:
    """parent_from_child over time, stamps (ns) ascending; a static one has a single entry, good for
    every stamp.
    """

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    values: list[Numbers] = field(default_factory=list)

    def add(self, stamp: int, value: Numbers, kept_ns: int) -> None:
        """Insert, and forget what is older than `kept_ns`; so long a jump backwards is a clock that
        was reset.
        """
        if self.static or (self.stamps and stamp < self.stamps[-1] - kept_ns):
            self.stamps.clear()
            self.values.clear()
        index = bisect_left(self.stamps, stamp)
        if index < len(self.stamps) and self.stamps[index] == stamp:
            self.values[index] = value
            return
        self.stamps.insert(index, stamp)
        self.values.insert(index, value)
        old = bisect_left(self.stamps, self.stamps[-1] - kept_ns)
        del self.stamps[:old], self.values[:old]

    def problem(self, stamp: int, max_gap_ns: int) -> tuple[str, bool] | None:
        """Why `at` cannot answer for a stamp, and whether further data cannot change that; None if
        it can answer.

        Nothing is extrapolated, nor interpolated across more than max_gap_ns. A stamp within a
        millisecond of a sample is that sample's: a robot moves less meanwhile than odometry can
        tell (1 mm at 1 m/s).
        """
        if self.static:
            return None
        oldest = self.stamps[0]
        newest = self.stamps[-1]
        have = f"is known from {in_seconds(oldest)} to {in_seconds(newest)}"
        if stamp - newest >= _ROUNDING_NS:
            late = f"{(stamp - newest) / 1e9:.3f} s short"
            return (
                f"{have}, {late}; it comes later or not at all: check its publisher and clock",
                False,
            )
        if oldest - stamp >= _ROUNDING_NS:
            early = f"which begins {(oldest - stamp) / 1e9:.3f} s too late"
            return f"{have}, {early}; what is asked for is too old: check its clock", True
        after = bisect_left(self.stamps, stamp)
        around = self.stamps[max(after - 1, 0) : after + 1]
        near = min(abs(stamp - each) for each in around) < _ROUNDING_NS
        if near or around[-1] - around[0] <= max_gap_ns:
            return None
        return (
            (
                f"{have}, but not between {in_seconds(around[0])} and {in_seconds(around[-1])},"
                f" which is too long to interpolate (at most {max_gap_ns / 1e9:g} s); what is"
                " published less often than that is no odometry: raise its rate, or publish it on"
                " /tf_static if it never moves"
            ),
            True,
        )

    def at(self, stamp: int) -> Numbers:
        """Interpolated, beyond both ends the sample there; there must be no `problem`."""
        if self.static:
            return self.values[0]
        stamp = min(max(stamp, self.stamps[0]), self.stamps[-1])
        index = bisect_left(self.stamps, stamp)
        if self.stamps[index] == stamp:
            return self.values[index]
        before = self.stamps[index - 1]
        after = self.stamps[index]
        return _interpolated(
            self.values[index - 1], self.values[index], (stamp - before) / (after - before)
        )


def in_seconds(stamp: int) -> str:
    """A stamp (ns) for people."""
    return f"{stamp / 1e9:.3f} s"


def _interpolated(a: Numbers, b: Numbers, fraction: float) -> Numbers:
    """Between a (fraction 0) and b (fraction 1): a straight line, and slerp."""
    position = tuple(p + fraction * (q - p) for p, q in zip(a[:3], b[:3], strict=True))
    cosine = sum(p * q for p, q in zip(a[3:], b[3:], strict=True))
    sign = math.copysign(1.0, cosine)  # q and -q are the same rotation: take the shorter path
    angle = math.acos(min(abs(cosine), 1.0))
    if angle < 1e-4:  # a chord is as good, and the sine below would be zero
        first = 1 - fraction
        second = fraction
    else:
        first, second = (
            math.sin(part * angle) / math.sin(angle) for part in (1 - fraction, fraction)
        )
    return (*position, *(first * p + sign * second * q for p, q in zip(a[3:], b[3:], strict=True)))
