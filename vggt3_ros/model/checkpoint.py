"""Weights from files: our own, the published ones, and the hub; every key is accounted for or the
file is refused.
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import torch
from torch import Tensor

from vggt3_ros.errors import CheckpointError, InputError
from vggt3_ros.files import atomic_path, clear_unfinished
from vggt3_ros.model.config import ModelConfig
from vggt3_ros.model.execution import Execution
from vggt3_ros.model.fingerprint import FingerprintCache
from vggt3_ros.model.network import Vggt3
from vggt3_ros.model.precision import PrecisionChoice, chosen_precision

_TINY = Path(__file__).parent.parent / "weights" / "tiny.safetensors"
_IGNORED_PREFIXES = ("track_head.",)  # VGGT-1B's point tracker, which no part of this package uses
_ALIAS = ".conf.weight"  # second name of a `.conv.weight` in the published checkpoints
_LISTED = 8
HANDOVER = "handover.json"
"""Names the files of a network that a training run left in parts (training/handover.py)."""


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
    path, model_id = _locate(name_or_path)
    files = _weight_files(path)
    tensors = _canonical(_read_all(files))
    with torch.device("meta"):  # neither memory nor random numbers for what the file holds
        network = Vggt3(_config_of(files[0], tensors))
    weights = sum(tensor.numel() for tensor in tensors.values())
    network.precision = chosen_precision(precision, weights, device)
    way = Execution.parse(execution, device, network.config, network.precision)
    _assign(network, tensors, path, take_over=True)
    network.aggregator.fill_constants()
    network.model_id = model_id
    network.fingerprint_cache = FingerprintCache(files)
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
    path = _local(name_or_path)
    if path is not None:
        _weight_files(path)


def load_weights(network: Vggt3, path: str | Path) -> None:
    """Load a .safetensors file, a .pt file or a folder of either into a network of the same
    configuration.

    Raises CheckpointError that names missing, unexpected and misshapen keys; the network is then
    unchanged.
    """
    path = Path(path)
    _assign(network, _canonical(_read_all(_weight_files(path))), path)


def save_weights(network: Vggt3, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write weights and configuration as one safetensors file, replacing it atomically."""
    from safetensors.torch import save_file

    state = {
        name: t.detach().to("cpu", dtype).contiguous() for name, t in stored_state(network).items()
    }
    clear_unfinished(path)
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"config": json.dumps(network.config.to_dict())})


def stored_state(network: Vggt3) -> dict[str, Tensor]:
    """The network's tensors as files hold them: without the second name of the short convolutions'
    kernels.
    """
    return {
        name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_ALIAS)
    }


def load_stored_state(network: Vggt3, state: dict[str, Tensor], take_over: bool = False) -> None:
    """Inverse of stored_state; every other name must be there. take_over: the tensors become the
    network's instead of being copied.
    """
    missing, unexpected = network.load_state_dict(state, strict=False, assign=take_over)
    absent = [name for name in missing if not name.endswith(_ALIAS)]
    if absent or unexpected:
        raise CheckpointError(
            f"the weights lack {absent[:_LISTED]} and have unknown {unexpected[:_LISTED]}"
        )


def _locate(name_or_path: str | Path) -> tuple[Path, str]:
    path = _local(name_or_path)
    name = str(name_or_path)
    if path is None:
        return _download(name), name
    return path, name if name == "tiny" else path.name


def _local(name_or_path: str | Path) -> Path | None:
    """Where the weights lie on this machine, None for a name of the hub. Raises CheckpointError for
    anything else.
    """
    name = str(name_or_path)
    path = Path(os.path.expandvars(os.path.expanduser(name)))
    if name == "tiny":
        return _TINY
    if path.exists():
        return path
    if (
        name.count("/") != 1
        or name.startswith(("~", "$", ".", "/"))
        or path.suffix in (".safetensors", ".pt")
    ):
        raise CheckpointError(
            f"no weights at {name!r}: give 'tiny', an existing file or folder, or a hub name"
            " owner/model"
        )
    return None


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"there is no file or folder {name!r}; as a Hugging Face name it needs pip install"
            " 'vggt3_ros[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.pt"]))
    except Exception as error:  # the hub client raises many kinds; each is the same to the user
        raise CheckpointError(
            f"could not fetch {name!r} from the Hugging Face hub: {error}"
        ) from error


def _weight_files(path: Path) -> list[Path]:
    """The files that make up one checkpoint: a folder's network.safetensors, else all shards, else
    its .pt files.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"no weights at {path}: there is no such file or folder")
    if (path / HANDOVER).exists():  # beside what it names there may be parts of a save that was cut
        names = json.loads((path / HANDOVER).read_text())["files"]
        return [path / name for name in names if "/" not in name]
    # the first: a training run's folder
    for pattern in ("network.safetensors", "*.safetensors", "*.pt"):
        # hidden: half-written
        files = sorted(file for file in path.glob(pattern) if not file.name.startswith("."))
        if files:
            return files
    raise CheckpointError(f"no weights in {path}: expected .safetensors or .pt files")


def _read_all(files: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(_read(file))
    return tensors


def _read(file: Path) -> dict[str, Tensor]:
    """Tensors by name. Pickles are opened with weights_only, so a hostile file cannot run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix == ".pt":
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            if not isinstance(loaded, dict) or not all(
                isinstance(t, Tensor) for t in loaded.values()
            ):
                raise CheckpointError(f"{file} does not hold a plain dictionary of tensors")
            return loaded
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(
            f"{file} cannot be read as weights ({error}); download or copy it again"
        ) from error
    raise CheckpointError(f"{file} is neither .safetensors nor .pt")


def _canonical(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what is known and unused, and give the short conv the name that the network registers
    first.
    """
    kept = {n: t for n, t in tensors.items() if not n.startswith(_IGNORED_PREFIXES)}
    return {n.replace(_ALIAS, ".conv.weight"): t for n, t in kept.items()}


def _config_of(file: Path, tensors: dict[str, Tensor]) -> ModelConfig:
    """The configuration stored in the file; otherwise the published one that its kind of layers
    tells.
    """
    from safetensors import safe_open

    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata() or {}
        if "config" in metadata:
            try:
                return ModelConfig.from_dict(json.loads(metadata["config"]))
            except (ValueError, InputError) as error:
                raise CheckpointError(
                    f"{file}: its stored configuration is not usable ({error})"
                ) from error
    return ModelConfig.full(
        "ttt" if any(n.endswith(".attn.lr_fc.weight") for n in tensors) else "softmax"
    )


def _assign(
    network: Vggt3, tensors: dict[str, Tensor], path: Path, take_over: bool = False
) -> None:
    state = stored_state(network)
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
    texts = [_listed(kind, names) for kind, names in problems.items() if names]
    if texts:
        raise CheckpointError(
            f"{path} does not fit the network. {'; '.join(texts)}. Is it the right model?"
        )
    load_stored_state(network, {n: t.float() for n, t in tensors.items()}, take_over)


def _listed(kind: str, names: list[str]) -> str:
    more = " ..." if len(names) > _LISTED else ""
    return f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"
