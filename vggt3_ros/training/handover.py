"""What a run leaves for another machine to go on with: small files of 16 bits, without the
optimizers' state.

A folder holds the averaged network in parts, which `load_network` reads as well, and
`handover.json`, which names them and is written last: whenever the run is cut, the folder holds one
whole network or none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggt3_ros.errors import CheckpointError
from vggt3_ros.files import atomic_path, clear_unfinished
from vggt3_ros.model.checkpoint import stored_state
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.weight_files import HANDOVER

_PARENT = "parent"  # sub-folder: what a network in distillation has not of its parent
_PART_BYTES = 15 * 2**20  # of a file, so that it passes where files of more than 16 MiB do not


@dataclass(frozen=True, eq=False)
class Handover:
    """Weights by name, those of the training aid, those in which the parent differs, and where the
    run was.
    """

    network: dict[str, Tensor]
    aid: dict[str, Tensor]
    parent: dict[str, Tensor]
    info: dict[str, Any]


def leave(
    folder: Path,
    network: Vggt3,
    aid: dict[str, Tensor],
    info: dict[str, Any],
    parent: Vggt3 | None = None,
) -> None:
    """Write the folder anew; what it held before goes when the new files are complete."""
    own = _half(stored_state(network))
    config = json.dumps(network.config.to_dict())
    files = _write(folder, f"step-{info['step']:07d}", own, config)
    if parent is not None:
        theirs = {
            n: t
            for n, t in _half(stored_state(parent)).items()
            if n not in own or not torch.equal(t, own[n])
        }
        files += [
            f"{_PARENT}/{name}" for name in _write(folder / _PARENT, "differs", theirs, config)
        ]
    index = {
        "files": files,
        "aid": {name: tensor.tolist() for name, tensor in aid.items()},
        "info": info,
    }
    clear_unfinished(folder / HANDOVER)
    with atomic_path(folder / HANDOVER) as temporary:
        temporary.write_text(json.dumps(index))
    for old in [*folder.glob("*.safetensors*"), *(folder / _PARENT).glob("*.safetensors*")]:
        if str(old.relative_to(folder)) not in files:  # or half-written by a run that was killed
            old.unlink()


def take(folder: Path) -> Handover:
    """Read what `leave` wrote. Raises CheckpointError that says what is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        index = json.loads((folder / HANDOVER).read_text())
        tensors: dict[bool, dict[str, Tensor]] = {False: {}, True: {}}
        for name in index["files"]:
            tensors[name.startswith(_PARENT)].update(load_file(folder / name))
        aid = {name: torch.tensor(values) for name, values in index["aid"].items()}
        return Handover(_wide(tensors[False]), aid, _wide(tensors[True]), dict(index["info"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder} holds nothing to resume from ({error}); expected what `vggt3 train --leave"
            f" DIR` left: {HANDOVER} and the files that it names"
        ) from error


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in state.items()
    }


def _wide(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in state.items()}


def _write(folder: Path, name: str, tensors: dict[str, Tensor], config: str) -> list[str]:
    """Write tensors in parts of at most _PART_BYTES, but for a tensor that is larger alone; returns
    their names.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = [{}]
    for key, tensor in tensors.items():
        if parts[-1] and sum(t.nbytes for t in parts[-1].values()) + tensor.nbytes > _PART_BYTES:
            parts.append({})
        parts[-1][key] = tensor
    names = [f"{name}-{number + 1}-of-{len(parts)}.safetensors" for number in range(len(parts))]
    for file, part in zip(names, parts, strict=True):
        with atomic_path(folder / file) as temporary:
            save_file(part, temporary, metadata={"config": config})
    return names
