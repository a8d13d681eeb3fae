"""Requests to find the robot anew, and what became of them."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future

from torch import Tensor


class Relocalization:
    """A request: `answer` says whether the robot was found before somebody gave up, and how, in a
    sentence. It is cancelled when the localizer stops.
    """

    def __init__(self) -> None:
        self.answer: Future[tuple[bool, str]] = Future()
        self._asked = time.monotonic()
        self._images = 0
        self._reason = "no image has come"

    def failed(self, reason: str) -> None:
        """One more image has led to no pose."""
        self._images += 1
        self._reason = reason

    def found(self, place: str, reason: str) -> None:
        """A verified pose was published; reason: what speaks for it."""
        self._images += 1
        self.end(True, f"{place}; found in {self._taken()}: {reason}")

    def give_up(self) -> None:
        """Nobody waits any longer."""
        self.end(False, f"not found in {self._taken()}, still searching: {self._reason}")

    def end(self, found: bool, message: str) -> None:
        """Answer, unless that was done."""
        if not self.answer.done():
            self.answer.set_result((found, message))

    def _taken(self) -> str:
        images = "1 image" if self._images == 1 else f"{self._images} images"
        return f"{images} and {time.monotonic() - self._asked:.1f} s"


class Relocalizations:
    """The requests that wait for the next pose. All calls come from the worker's thread, or when it
    has ended.
    """

    def __init__(self) -> None:
        self._waiting: list[Relocalization] = []

    def add(self, request: Relocalization) -> None:
        """One more waits."""
        self._waiting.append(request)

    def failed(self, reason: str) -> None:
        """An image has led to no pose."""
        self._waiting = [request for request in self._waiting if not request.answer.done()]
        for request in self._waiting:
            request.failed(reason)

    def found(self, map_from_child: Tensor, child: str, map_frame: str, reason: str) -> None:
        """A verified pose (4, 4) of the frame `child` was published."""
        x, y, z = map_from_child[:3, 3].tolist()
        yaw = math.degrees(math.atan2(float(map_from_child[1, 0]), float(map_from_child[0, 0])))
        place = f"{child} is at ({x:.2f}, {y:.2f}, {z:.2f}), yaw {yaw:.0f} degrees, in {map_frame}"
        for request in self._waiting:
            request.found(place, reason)
        self._waiting = []

    def cancel(self) -> None:
        """The localizer stops."""
        for request in self._waiting:
            request.answer.cancel()
        self._waiting = []
