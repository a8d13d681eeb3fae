"""What a map may take."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vggt3_ros.errors import InputError

_PART = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>s|min|MB|GB)")
_SECONDS = {"s": 1, "min": 60}
_BYTES = {"MB": 10**6, "GB": 10**9}
_EXPECTED = "expected such as 20s, 8GB or 20s,8GB (units s, min, MB, GB)"


@dataclass(frozen=True)
class Budget:
    """seconds of the clock, from frames to scene; bytes of the network's device, on top of its
    weights. None: any.
    """

    seconds: float | None = None
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} of a budget is {value}; give more than 0")

    @staticmethod
    def parse(text: str) -> Budget:
        """From seconds, gigabytes or both, as 20s,8GB. Raises InputError."""
        seconds = None
        memory_bytes = None
        for part in text.split(","):
            found = _PART.fullmatch(part.strip())
            if found is None:
                raise InputError(f"a budget of {text!r} is not understood; {_EXPECTED}")
            number, unit = float(found["number"]), found["unit"]
            if unit in _SECONDS and seconds is None:
                seconds = number * _SECONDS[unit]
            elif unit in _BYTES and memory_bytes is None:
                memory_bytes = round(number * _BYTES[unit])
            else:
                raise InputError(f"a budget of {text!r} gives one thing twice; {_EXPECTED}")
        return Budget(seconds, memory_bytes)

    def __str__(self) -> str:
        parts = []
        if self.seconds is not None:
            parts.append(f"{self.seconds:.4g} s")
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes / 1e9:.4g} GB")
        return " and ".join(parts) or "any"
