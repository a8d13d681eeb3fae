"""Where a run is: its phase, and how much of that and of the whole is done, in steps or in the
minutes that it has.
"""

from __future__ import annotations

from typing import Any

from vggt3_ros.training.config import TrainConfig

_NAMES = ("step", "phase", "seconds", "first", "began")


class Timetable:
    """Counts steps and seconds, and finds from them how far the run is.

    Phases last as many steps as configured or, with `minutes` for the whole run, their fractions of
    that time. What a phase or a session does before its first step is over (rendering, compiling)
    is on no phase's account: the time that is left is shared among this one and those after it.
    `reserve`: seconds that are kept for after the last step.
    """

    def __init__(self, config: TrainConfig, minutes: float | None) -> None:
        self.minutes = minutes
        self.lengths: dict[str, float] = (
            {**config.phases} if minutes is None else config.time_fractions
        )
        self.phase = next(iter(self.lengths))
        self.step = 0
        self.seconds = 0.0
        self.reserve = 0.0
        self.first = 0  # number of the run's first step
        self.began = (0, 0.0)  # step and seconds of the run at which the phase began
        self.resumed = False  # and no step has been made since

    def enter(self, phase: str) -> None:
        """Begin a phase, at the step and the time at which the run is."""
        self.phase = phase
        self.began = (self.step, self.seconds)

    def stepped(self, seconds: float) -> None:
        """A step was made, and the run has taken so many seconds so far."""
        if self.minutes is not None:
            if self.step == self.began[0]:
                self.began = (self.step, seconds)
            elif self.resumed:
                self.began = (self.began[0], self.began[1] + seconds - self.seconds)
        self.resumed = False
        self.step = self.step + 1
        self.seconds = seconds

    @property
    def phase_done(self) -> float:
        """Fraction of the current phase that is done, 0 to 1."""
        length = self.lengths[self.phase]
        first, since = self.began
        if self.minutes is None:
            return 1.0 if length == 0 else min(1.0, (self.step - first) / length)
        left = 60 * self.minutes - self.reserve - since
        budget = left * length / max(1e-9, length + self.later)
        if self.step == first:
            return float(budget <= 0)
        return 1.0 if budget <= 0 else min(1.0, (self.seconds - since) / budget)

    @property
    def done(self) -> float:
        """Fraction of all phases that is done, 0 to 1, phases that the run left out included."""
        phases = list(self.lengths)
        before = sum(self.lengths[phase] for phase in phases[: phases.index(self.phase)])
        whole = sum(self.lengths.values())
        return (before + self.phase_done * self.lengths[self.phase]) / whole if whole > 0 else 1.0

    @property
    def later(self) -> float:
        """How long all phases after the current one are together."""
        phases = list(self.lengths)
        return sum(self.lengths[phase] for phase in phases[phases.index(self.phase) + 1 :])

    @property
    def over(self) -> bool:
        """Whether the run is at its end."""
        return self.phase_done >= 1 and self.later == 0

    @property
    def elapsed(self) -> float:
        """Fraction of the run as its user sees it, 0 to 1: of its minutes, or of its steps."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60 * self.minutes))
        return self.step / max(1, self.total)

    @property
    def total(self) -> int:
        """Steps of the run, by its pace so far where it has minutes."""
        if self.minutes is None:
            return self.began[0] + int(self.lengths[self.phase] + self.later)
        return self.first + round((self.step - self.first) / max(1e-9, self.elapsed))

    def state(self) -> dict[str, Any]:
        """What has to be kept for the run to go on."""
        return {name: getattr(self, name) for name in _NAMES}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where the run was whose `state` this is."""
        for name in _NAMES:
            setattr(self, name, state[name])
        self.began = (int(state["began"][0]), float(state["began"][1]))
        self.resumed = True
