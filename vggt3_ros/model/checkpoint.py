"""Weights from files: our own, the published ones, and the hub; every key is accounted for or the
file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vggt3_ros.errors import CheckpointError
from vggt3_ros.files import atomic_path, clear_unfinished
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.fingerprint import FingerprintCache
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import PrecisionChoice, chosen_precision
from vggt3_ros.model.weight_files import (
    ALIAS,
    local_path,
    read_tensors,
    read_weights,
    weight_files,
)

_LISTED = 8


def load_network(
    name_or_path: str | Path = "tiny",
    device: torch.device | str = "cpu",
    precision: PrecisionChoice = "fp32",
    execution: str = "plain",
) -> Vggt3:
    """Build a network and load its weights, ready for use (eval mode, no gradients).

    `tiny` is the embedded model; an existing file or folder is read; any other name of the form
    owner/model is fetched through huggingface_hub. precision: as for chosen_precision. execution:
    as for Execution.parse. Raises CheckpointError saying what does not fit, and InputError where
    the device does not allow the execution.

    On a CPU, large fp32 weights stay in their file and are read when they are used: replace a file
    in use, do not write into it.
    """
    device = torch.device(device)
    stored = read_weights(name_or_path)
    with torch.device("meta"):  # neither memory nor random numbers for what the file holds
        network = Vggt3(stored.config)
    weights = sum(tensor.numel() for tensor in stored.tensors.values())
    network.precision = chosen_precision(precision, weights, device)
    way = Execution.parse(execution, device, network.config, network.precision)
    _assign(network, stored.tensors, stored.given, take_over=True)
    network.aggregator.fill_constants()
    network.model_id = stored.model_id
    network.fingerprint_cache = FingerprintCache(stored.files)
    network.eval().requires_grad_(False)
    if network.precision == "bf16" and device.type == "cuda":
        network.round_weights()
    network.to(device)
    network.execute(way)
    return network


def require_checkpoint(name_or_path: str | Path) -> None:
    """Raise CheckpointError unless there are weights of that name here, or it may be one of the
    hub; reads nothing.
    """
    path = local_path(name_or_path)
    if path is not None:
        weight_files(path)


def load_weights(network: Vggt3, path: str | Path) -> None:
    """Load a .safetensors file, a .pt file or a folder of either into a network of the same
    configuration.

    Raises CheckpointError that names missing, unexpected and misshapen keys; the network is then
    unchanged.
    """
    _assign(network, read_tensors(weight_files(Path(path))), path)


def save_weights(network: Vggt3, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights and configuration as one safetensors file, replacing it atomically."""
    state = {name: t.detach().to("cpu", dtype) for name, t in stored_state(network).items()}
    write_tensors(state, network.config, path)


def write_tensors(state: Mapping[str, Tensor], config: ModelConfig, path: Path) -> None:
    """As save_weights, of a stored_state on the CPU. Raises CheckpointError where there is no room
    for it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    clear_unfinished(path)
    kept = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(kept, temporary, metadata={"config": json.dumps(config.to_dict())})
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); check that the disk has room"
        ) from error


def stored_state(network: Vggt3) -> dict[str, Tensor]:
    """The network's tensors as files hold them: without the second name of the short convolutions'
    kernels.
    """
    return {
        name: tensor for name, tensor in network.state_dict().items() if not name.endswith(ALIAS)
    }


def load_stored_state(network: Vggt3, state: dict[str, Tensor], take_over: bool = False) -> None:
    """Inverse of stored_state; every other name must be there. take_over: the tensors become the
    network's instead of being copied.
    """
    missing, unexpected = network.load_state_dict(state, strict=False, assign=take_over)
    absent = [name for name in missing if not name.endswith(ALIAS)]
    if absent or unexpected:
        raise CheckpointError(
            f"the weights lack {absent[:_LISTED]} and have unknown {unexpected[:_LISTED]}"
        )


def check_fits(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path
) -> None:
    """Raise CheckpointError that names missing, unexpected and misshapen tensors of a file unless
    it has those of a network's stored_state.
    """
    misshapen = []
    for name in sorted(set(state) & set(tensors)):
        given = tuple(tensors[name].shape)
        expected = tuple(state[name].shape)
        if given != expected:
            misshapen.append(f"{name} {given} instead of {expected}")
    problems = {
        "missing": sorted(set(state) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(state)),
        "misshapen": misshapen,
    }
    texts = [listed(kind, names) for kind, names in problems.items() if names]
    if texts:
        raise CheckpointError(
            f"{path} does not fit the network. {'; '.join(texts)}. Is it the right model?"
        )


def listed(kind: str, names: list[str]) -> str:
    """How many names of a kind there are, and the first of them."""
    more = " ..." if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"


def _assign(
    network: Vggt3, tensors: dict[str, Tensor], path: str | Path, take_over: bool = False
) -> None:
    check_fits(stored_state(network), tensors, path)
    load_stored_state(network, {n: t.float() for n, t in tensors.items()}, take_over)
