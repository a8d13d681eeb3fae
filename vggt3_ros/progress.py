"""How long work reports how far it is; what a listener raises cancels the work."""

from __future__ import annotations

from collections.abc import Callable

# called with the fraction that is done, 0 to 1
Progress = Callable[[float], None]
# called with the name of the stage, and the fraction of the whole that is done
StageProgress = Callable[[str, float], None]
