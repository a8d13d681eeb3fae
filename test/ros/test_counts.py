"""Images that never came are counted from what the others' stamps tell, and nothing else is taken
for a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.nodes.camera.counts import ImageCounts
from vggt3_ros.nodes.camera.lost_messages import LostMessages
from vggt3_ros.nodes.camera.stamp_gaps import StampGaps

MS = 1_000_000
START = 1_700_000_000_000 * MS


def lost(stamps_ms: Sequence[float]) -> int:
    gaps = StampGaps()
    for stamp in stamps_ms:
        gaps.add(START + round(stamp * MS))
    return gaps.lost


def camera(rate: float, count: int, begin: float = 0.0) -> list[float]:
    """Stamps in milliseconds."""
    return [begin + 1000.0 * number / rate for number in range(count)]


def test_what_is_missing_between_stamps_is_counted() -> None:
    stamps = camera(30, 100)
    assert lost(stamps) == 0
    assert (
        lost([stamp for number, stamp in enumerate(stamps) if number not in (20, 40, 41, 42, 77)])
        == 5
    )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_heavy_losses_are_counted_too(share: float) -> None:
    random = np.random.default_rng(3)
    came = [number < 10 or random.random() > share for number in range(400)]
    came[-1] = True
    stamps = [
        stamp + random.normal(0, 1.5)
        for stamp, here in zip(camera(30, 400), came, strict=True)
        if here
    ]
    assert lost(stamps) == pytest.approx(came.count(False), rel=0.03)


@pytest.mark.parametrize(
    "stamps",
    [
        [*camera(30, 50), *camera(30, 50, 60_000)],  # a pause of a minute
        [*camera(30, 50, 1e9), *camera(30, 50)],  # a clock that was set back
        [*camera(30, 50), *camera(30, 50, 1e9)],  # and forward
        [*camera(30, 50), *camera(10, 50, 1700)],  # a camera that becomes slower
        [*camera(10, 50), *camera(30, 50, 5000)],  # and faster
        [*camera(0.2, 20)],
        [0.0] * 50,  # a frozen stamp
        [stamp for stamp in camera(30, 50) for _ in range(2)],  # two publishers of the same images
        [*camera(30, 20), 600.0, *camera(30, 20, 667)],  # one that others have overtaken
        # a burst after a delay
        [*camera(30, 20), *(800.0 + number for number in range(5)), *camera(30, 20, 833)],
    ],
)
def test_other_irregularities_are_no_losses(stamps: list[float]) -> None:
    assert lost(stamps) == 0


def test_camera_without_a_rate_loses_nothing() -> None:
    """As when images are taken at the push of a button."""
    stamps = np.cumsum(np.random.default_rng(5).exponential(500, 300))
    assert lost(stamps.tolist()) <= 15


def test_what_the_middleware_reports_counts_where_stamps_say_less() -> None:
    counts = ImageCounts()
    for number in (0, 1, 2, 3, 4, 5, 7):
        counts.receive(START + 33 * MS * number)
    assert (counts.received, counts.lost) == (7, 1)
    counts.lost_in_transit.on_event(SimpleNamespace(total_count=12))
    assert counts.lost == 12


def test_numbers_in_sequence_are_those_of_each_publisher() -> None:
    lost = LostMessages()
    for publisher, number in (
        (b"a", 7),
        (b"b", 90),
        (b"a", 8),
        (b"a", 12),
        (b"b", 91),
        (b"a", 11),
        (b"a", 13),
    ):
        lost.on_message(
            {"publisher_gid": {"data": publisher}, "publication_sequence_number": number}
        )
    lost.on_message({"source_timestamp": 5})  # a middleware that does not tell
    assert lost.total == 3


def test_numbers_of_nameless_publishers_count_while_there_is_one() -> None:
    lost = LostMessages()
    for number in (7, 8, 12):
        lost.on_message({"publication_sequence_number": number})
    assert lost.total == 3
    lost.on_message({"publication_sequence_number": 1})
    assert lost.total == 0


def test_skipped_and_dropped_are_two_things() -> None:
    counts = ImageCounts()
    counts.skip("paused", 3)
    counts.drop("the image has 17 bytes", "unusable image")
    assert (counts.skipped, counts.dropped, counts.last_reason) == (3, 1, "the image has 17 bytes")
    assert counts.as_values() == {
        "received": 0,
        "skipped": 3,
        "dropped": 1,
        "lost": 0,
        "skipped: paused": 3,
        "dropped: unusable image": 1,
    }
