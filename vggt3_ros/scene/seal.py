"""The checksum of scene.json over itself, so that no digit of it changes unnoticed.

`checksum` is the SHA-256 (hex) of the bytes of the file with the 64 digits of `checksum` itself
replaced by zeros.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vggt3_ros.errors import SceneError
from vggt3_ros.scene.entries import Entries

CHECKSUM = "checksum"
SHA256 = r"[0-9a-f]{64}"
_ZEROS = "0" * 64


def sealed(entries: dict[str, Any]) -> bytes:
    """A JSON object with the given entries and, as the last one, its checksum."""
    data = dumped({**entries, CHECKSUM: _ZEROS})
    return _with_checksum(data, _ZEROS, hashlib.sha256(data).hexdigest())


def check_seal(data: bytes, entries: Entries) -> None:
    """Raise SceneError unless the checksum among the entries is that of the bytes they were read
    from.
    """
    given = entries.text(CHECKSUM, SHA256, "the 64 digits of a SHA-256")
    found = hashlib.sha256(_with_checksum(data, given, _ZEROS)).hexdigest()
    if found != given:
        raise SceneError(
            f"{entries.where} was edited by hand or damaged after it was saved: its checksum is"
            f" {given[:8]}..., its content has {found[:8]}...; undo the change, restore the scene"
            " from a copy or map again"
        )


def dumped(value: Any) -> bytes:
    """JSON as it lies in a scene: one entry a line, ending with a new line."""
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _with_checksum(data: bytes, old: str, new: str) -> bytes:
    """The bytes with the last occurrence of a checksum replaced."""
    before, _, after = data.rpartition(old.encode())
    return before + new.encode() + after
