"""Frames between the camera and the reconstruction: collected by one thread, taken and given back
by another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from vggt3_ros.nodes.mapper.parameters import MapperParameters
from vggt3_ros.pipeline.collection import AddResult, CollectionSettings, FrameCollection, Reason
from vggt3_ros.pipeline.frame import Frame

# frames in a row of another shape, after which the camera is taken to have changed for good
_RESIZED = 10


class Collector:
    """The collection that is being filled, and when it is due; for any thread.

    A collection that could not be reconstructed is due again only when `min_frames` more have come.
    settings(): those of this moment.
    """

    def __init__(self, settings: Callable[[], MapperParameters]) -> None:
        given = settings()
        self._settings = settings
        self._collection_settings = CollectionSettings(
            max_frames=given.max_frames,
            min_translation_m=given.min_translation,
            min_rotation_rad=given.min_rotation,
            min_image_change=given.min_image_change,
        )
        self._lock = threading.Lock()
        self._wanted_more = 0  # frames to come before a reconstruction is due again
        self._resized = 0  # frames of another shape in a row
        self._start_over(())

    def __len__(self) -> int:
        with self._lock:
            return len(self._collection)

    @property
    def without_prior(self) -> int:
        """How many of the frames have no pose from odometry."""
        with self._lock:
            return sum(frame.prior_world_from_cam is None for frame in self._collection.frames)

    def add(self, frame: Frame) -> AddResult:
        """Keep the frame or say why not. A camera that goes on with another shape of image starts
        it over.
        """
        with self._lock:
            result = self._collection.add(frame)
            self._resized = self._resized + 1 if result.reason is Reason.SIZE_CHANGED else 0
            if self._resized == _RESIZED:
                gone = len(self._collection)
                self._start_over(())
                result = replace(self._collection.add(frame), gone=gone)
            if result.kept:
                self._last_kept = time.monotonic()
                self._wanted_more = max(0, self._wanted_more - 1)
            return result

    def due(self, standing_still: bool) -> str | None:
        """Why the settings ask for a reconstruction now; None when they do not.

        standing_still: whether that nothing new was seen for a while is a reason.
        """
        settings = self._settings()
        with self._lock:
            count = len(self._collection)
            idle = time.monotonic() - self._last_kept
            if count < settings.min_frames or self._wanted_more:
                return None
        if settings.trigger_count and count >= settings.trigger_count:
            return f"{count} keyframes were collected"
        if standing_still and settings.trigger_idle and idle >= settings.trigger_idle:
            return f"nothing new was seen for {idle:.1f} s"
        return None

    def take(self) -> tuple[Frame, ...]:
        """The frames; the collection starts over."""
        with self._lock:
            frames = self._collection.frames
            self._start_over(())
            return frames

    def give_back(self, frames: tuple[Frame, ...]) -> None:
        """Put frames that were taken before those that came meanwhile."""
        with self._lock:
            self._start_over((*frames, *self._collection.frames))
            self._wanted_more = self._settings().min_frames

    def restart_idle_time(self) -> None:
        """Nothing was seen, but only because nobody looked."""
        with self._lock:
            self._last_kept = time.monotonic()

    def restart_clock(self) -> None:
        """Accept stamps that are older than those of the frames so far."""
        with self._lock:
            self._collection.restart_clock()

    def clear(self) -> None:
        """Forget all frames; what comes next is the first of a new collection."""
        with self._lock:
            self._start_over(())

    def _start_over(self, frames: tuple[Frame, ...]) -> None:
        self._collection = FrameCollection(self._collection_settings)
        self._last_kept = time.monotonic()
        self._wanted_more = 0
        self._resized = 0
        for frame in frames:
            self._collection.restart_clock()  # the clock may have been set back between them
            self._collection.add(frame)
