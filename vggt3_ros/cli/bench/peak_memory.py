"""Peak memory of a calculation: bytes allocated on a GPU, growth of the resident set of this
process on a CPU.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Counts from its making (network and inputs in place, everything warm) to `peak_bytes()`.

    GPU: the most that torch had allocated at once, weights and inputs included; `resting_bytes` of
    it before the work. CPU: the highest resident set less the resting one, so weights and inputs
    are not included. It is the process that is measured: use a fresh one per figure, in which
    nothing else runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.resting_bytes = torch.cuda.memory_allocated(device)
        else:
            _return_free_memory()
            _reset_high_water_mark()
            self.resting_bytes = _status_bytes("VmRSS")

    def peak_bytes(self) -> int:
        """The peak until now, in bytes as defined above."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(0, _status_bytes("VmHWM") - self.resting_bytes)


def _return_free_memory() -> None:
    """Hand what malloc keeps for later back to the system, so that it does not hide in the resting
    set.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def _reset_high_water_mark() -> None:
    """Let VmHWM start again from here; where the kernel forbids it, building the network may count
    as the peak.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        pass


def _status_bytes(field: str) -> int:
    """A memory figure of this process as Linux reports it in /proc."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{_STATUS} has no line {field}")
