"""How long work reports how far it is; what a listener raises cancels the work."""

from __future__ import annotations

from collections.abc import Callable

# called with the fraction that is done, 0 to 1
Progress = Callable[[float], None]
# called with the name of the stage, and the fraction of the whole that is done
StageProgress = Callable[[str, float], None]


def scaled(progress: StageProgress | None, begin: float, end: float) -> StageProgress:
    """A listener to one part of the work, whose 0 to 1 is `begin` to `end` of the whole; to nothing
    where nobody listens to that.
    """

    def listen(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(stage, begin + (end - begin) * fraction)

    return listen
