"""Which frame of which leg is due: a drive of several legs, with halts between them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Motion(Enum):
    """What the camera does; the value is the word that is published."""

    WAITING = "waiting"  # at the start of a leg
    RUNNING = "running"
    DONE = "done"  # at the end of a leg


class Playback:
    """Goes through legs of `lengths` frames, one frame at each `advance`.

    Between legs, and with `wait_to_start` before the first one, it stands until `next_leg` is
    called, unless `wait_between_legs` is false. After the last leg it stands, or with `loop` goes
    to and fro on that leg for ever.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        wait_to_start: bool = False,
        wait_between_legs: bool = True,
        loop: bool = False,
    ) -> None:
        self._lengths = tuple(lengths)
        self._wait_between_legs = wait_between_legs
        self._loop = loop
        self._step = 1
        self.leg = 0
        self.frame = 0
        self.motion = Motion.WAITING if wait_to_start else Motion.RUNNING

    @property
    def label(self) -> str:
        """For people and scripts, such as "leg 0 running"."""
        return f"leg {self.leg} {self.motion.value}"

    def advance(self) -> None:
        """Go on to the frame that is due after the present one."""
        if self.motion is not Motion.RUNNING:
            return
        last = self._lengths[self.leg] - 1
        if 0 <= self.frame + self._step <= last:
            self.frame += self._step
        elif self.leg == len(self._lengths) - 1:
            if self._loop and last > 0:
                self._step = -self._step
                self.frame += self._step
            else:
                self.motion = Motion.DONE
        elif self._wait_between_legs:
            self.motion = Motion.DONE
        else:
            self._start(self.leg + 1)

    def next_leg(self) -> tuple[bool, str]:
        """Start the next leg, or the one that waits; returns whether it does, and a sentence that
        says so.
        """
        if self.motion is Motion.RUNNING:
            return False, f"leg {self.leg} is running; wait until it is done"
        if self.motion is Motion.DONE and self.leg == len(self._lengths) - 1:
            return False, f"leg {self.leg} was the last one"
        self._start(self.leg if self.motion is Motion.WAITING else self.leg + 1)
        return True, self.label

    def _start(self, leg: int) -> None:
        self.leg = leg
        self.frame = 0
        self.motion = Motion.RUNNING
