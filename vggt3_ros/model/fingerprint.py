"""What identifies a network's configuration and weights, remembered per file: hashing gigabytes
takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.files import atomic_path, cache_folder

_WORTH_BYTES = 2**28  # smaller files are hashed as fast as they are looked up


def digest(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """16 hex digits of the SHA-256 over a configuration and all bits of named tensors."""
    hashed = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(state.items()):
        hashed.update(name.encode())
        bits: Any = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        hashed.update(bits)
    return hashed.hexdigest()[:16]


def checksum(state: Mapping[str, Tensor]) -> str:
    """16 hex digits that change with any weight, ten times as fast as `digest`: the bits of each
    tensor, added up where it is. Weights that change places within a tensor are not noticed.
    """
    added = [_sum_of_bits(tensor) for tensor in state.values()]
    read = torch.stack([total.to(added[0].device) for total in added]).tolist()  # all at once
    sums = dict(zip(state, read, strict=True))
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def _sum_of_bits(tensor: Tensor) -> Tensor:
    data = tensor.detach().contiguous().flatten().view(torch.uint8)
    if data.storage_offset() % 8:
        data = data.clone()  # whole words begin at whole words
    words = len(data) // 8 * 8
    return data[:words].view(torch.int64).sum() + data[words:].sum()


class FingerprintCache:
    """Fingerprints of weight files in the user's cache, found by their paths, sizes and times of
    change, and the checksum of what was loaded from them. Without a cache that can be read and
    written nothing is remembered.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        paths = [str(file.resolve()) for file in files]
        name = hashlib.sha256(json.dumps(paths).encode()).hexdigest()[:16]
        status = [file.stat() for file in files]
        self._entry = cache_folder() / "fingerprints" / f"{name}.json"
        self._files = [
            {"path": path, "size": each.st_size, "changed_ns": each.st_mtime_ns}
            for path, each in zip(paths, status, strict=True)
        ]
        self._is_worth_it = sum(each.st_size for each in status) >= _WORTH_BYTES

    def find(self, checksum: str) -> str | None:
        """The fingerprint remembered for these files as they were and weights of this checksum."""
        if not self._is_worth_it:
            return None
        try:
            entry = json.loads(self._entry.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict) or entry.get("files") != self._files:
            return None
        found = entry.get("fingerprint") if entry.get("checksum") == checksum else None
        return found if isinstance(found, str) else None

    def keep(self, checksum: str, fingerprint: str) -> None:
        """Remember a fingerprint; an earlier one of these files is replaced."""
        if not self._is_worth_it:
            return
        entry = {"files": self._files, "checksum": checksum, "fingerprint": fingerprint}
        try:
            self._entry.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._entry) as temporary:
                temporary.write_text(json.dumps(entry, indent=1))
        except OSError:
            pass  # a home that is full or read-only costs the time of hashing again
