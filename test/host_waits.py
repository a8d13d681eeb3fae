"""What makes the host wait until a GPU is done: told by the operators that it asks for, and where
it did so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vggt3_ros

_CPU = torch.device("cpu")
_PACKAGE = str(Path(vggt3_ros.__file__).parent) + "/"
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_TELLING = {
    "_local_scalar_dense": "value", "equal": "value", "_linalg_check_errors": "value",
    "_linalg_svd": "value",
    "_linalg_eigh": "value", "nonzero": "size", "nonzero_numpy": "size", "masked_select": "size",
    "bincount": "size",
    "_unique": "size", "_unique2": "size", "unique_dim": "size", "unique_consecutive": "size",
}  # fmt: skip
"""Operators that tell the host a value, or how large their result is."""


@dataclass(frozen=True)
class Wait:
    """An event at which the host waits: of which kind, and where in the package it was asked
    for.
    """

    kind: str  # "to device", "to host", "value", "size", "indices"
    file: str  # relative to the package
    function: str
    line: int

    @property
    def place(self) -> str:
        """Where, without the line, which changes too often to be listed."""
        return f"{self.file}:{self.function}"


def places(waits: Iterable[Wait]) -> set[str]:
    """Where in the package these waits are."""
    return {wait.place for wait in waits}


def here() -> tuple[str, str, int]:
    """File, function and line of the innermost call within the package; comprehensions belong to
    their function.
    """
    frame: Any = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE) and not code.co_name.startswith("<"):
            return code.co_filename[len(_PACKAGE) :], code.co_name, frame.f_lineno
        frame = frame.f_back
    return "outside the package", "", 0


def kind_of_wait(name: str, args: Any, kwargs: dict[str, Any]) -> str | None:
    """What the host waits for in an aten operator with arguments on a device, None for one that is
    only queued.

    A tensor of the CPU counts as pinned that has the attribute `pretended_pinned`.
    """
    if name == "_to_copy":
        return _copying(
            args[0],
            torch.device(kwargs.get("device") or args[0].device),
            kwargs.get("non_blocking"),
        )
    if name == "copy_":
        at_once = args[2] if len(args) > 2 else kwargs.get("non_blocking")
        return _copying(args[1], args[0].device, at_once)
    if name == "repeat_interleave":
        told = kwargs.get("output_size") is not None or not isinstance(args[-1], Tensor)
        return None if told else "size"
    if name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        # that is masked_fill
        if masked and not (name != "index" and len(indices) == 1 and args[2].numel() == 1):
            return "size"
        return "indices" if any(index.device == _CPU for index in indices) else None
    return _TELLING.get(name)


def _copying(source: Tensor, there: torch.device, at_once: bool | None) -> str | None:
    if source.device == there:
        return None
    if there == _CPU:
        return "to host"
    return None if at_once and getattr(source, "pretended_pinned", False) else "to device"
