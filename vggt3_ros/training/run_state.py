"""The state of a run in one safetensors file, replaced atomically: a run survives being cut at any
moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vggt3_ros.errors import CheckpointError
from vggt3_ros.files import atomic_path, clear_unfinished

_FILE = "state.safetensors"


@dataclass(frozen=True, eq=False)
class RunState:
    """Tensors by part ('network', 'aid', 'average', 'optimizers') and what else is needed to go
    on.
    """

    parts: dict[str, dict[str, Tensor]]
    info: dict[str, Any]


def save_state(folder: Path, state: RunState) -> None:
    """Replace the state last saved, whole or not at all."""
    from safetensors.torch import save_file

    flat: dict[str, Tensor] = {}
    for part, tensors in state.parts.items():
        for name, tensor in tensors.items():
            flat[f"{part}/{name}"] = tensor.detach().cpu().contiguous().clone()
    clear_unfinished(folder / _FILE)
    with atomic_path(folder / _FILE) as temporary:
        save_file(flat, temporary, metadata={"info": json.dumps(state.info)})


def load_state(folder: Path) -> RunState | None:
    """The state last saved in a run's folder, or None for a new run."""
    from safetensors import SafetensorError, safe_open

    path = folder / _FILE
    if not path.exists():
        return None
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as handle:
            info = json.loads(handle.metadata()["info"])
            for full in handle.keys():
                part, _, name = full.partition("/")
                parts.setdefault(part, {})[name] = handle.get_tensor(full)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no state of a training run ({error}); start in another folder"
        ) from error
    return RunState(parts, info)
