"""How many images came to a node, and what became of them."""

from __future__ import annotations

import threading
from collections import Counter

from vggt3_ros.nodes.camera.lost_messages import LostMessages
from vggt3_ros.nodes.camera.stamp_gaps import StampGaps

_MAX_REASONS = 5  # in diagnostics


class ImageCounts:
    """Images since a node was activated; for any thread.

    skipped: usable, but not needed. dropped: unusable, or there was no time for them; last_reason
    says why the last one was. lost: never came, as gaps between the stamps or the middleware tell.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gaps = StampGaps()
        self.lost_in_transit = LostMessages()
        self.received = 0
        self.skipped = 0
        self.dropped = 0
        self.last_reason = ""
        self._reasons: Counter[str] = Counter()

    @property
    def lost(self) -> int:
        """By stamps or by the middleware, whichever says more: both know of some images of which
        the other does not.
        """
        with self._lock:
            return max(self._gaps.lost, self.lost_in_transit.total)

    def receive(self, stamp_ns: int) -> None:
        """Count an image that came; stamp_ns: its stamp, whose gaps tell what was lost."""
        with self._lock:
            self.received += 1
            self._gaps.add(stamp_ns)

    def skip(self, reason: str, count: int = 1) -> None:
        """Some were not needed."""
        with self._lock:
            self.skipped += count
            self._reasons[f"skipped: {reason}"] += count

    def drop(self, reason: str, kind: str | None = None) -> None:
        """One could not be used. Reasons that hold numbers are counted by their `kind`, of which
        there are few.
        """
        with self._lock:
            self.dropped += 1
            self.last_reason = reason
            self._reasons[f"dropped: {kind or reason}"] += 1

    def as_values(self) -> dict[str, int]:
        """All counts, and the most frequent reasons, for diagnostics."""
        lost = self.lost
        with self._lock:
            totals = {
                "received": self.received,
                "skipped": self.skipped,
                "dropped": self.dropped,
                "lost": lost,
            }
            return {**totals, **dict(self._reasons.most_common(_MAX_REASONS))}
