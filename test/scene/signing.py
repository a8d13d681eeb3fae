"""Scenes edited by somebody who puts the checksums right afterwards, as docs/scene_format.md says
they are made.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

ZEROS = "0" * 64


def signed(entries: dict[str, Any]) -> bytes:
    """scene.json with the given entries and the checksum that belongs to them."""
    return signed_text(json.dumps({**entries, "checksum": ZEROS}, indent=1))


def signed_text(text: str) -> bytes:
    """A scene.json whose checksum was written as zeros, with the checksum that belongs to it."""
    return text.replace(ZEROS, hashlib.sha256(text.encode()).hexdigest()).encode()


def resign(folder: Path) -> None:
    """Bring size and checksum of every file, and the checksum of scene.json, up to date."""
    description = folder / "scene.json"
    entries = json.loads(description.read_text())
    for name in entries["files"]:
        data = (folder / name).read_bytes()
        entries["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    description.write_bytes(signed(entries))
