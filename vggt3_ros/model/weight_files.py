"""Where weights lie (in the package, on this machine, on the hub), and their tensors by the names
that networks have for them. Tensors stay in their files until they are used.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vggt3_ros.errors import CheckpointError, InputError
from vggt3_ros.model.config import ModelConfig

_TINY = Path(__file__).parent.parent / "weights" / "tiny.safetensors"
_IGNORED_PREFIXES = ("track_head.",)  # VGGT-1B's point tracker, which no part of this package uses
ALIAS = ".conf.weight"
"""Second name of a `.conv.weight` in the published checkpoints."""
HANDOVER = "handover.json"
"""Names the files of a network that a training run left in parts (training/handover.py)."""


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """What the files of a network hold. Tensors are mapped: what is read of them takes no memory
    but the system's cache.
    """

    given: str  # the name or path
    model_id: str
    files: list[Path]
    config: ModelConfig
    tensors: dict[str, Tensor]


def read_weights(name_or_path: str | Path) -> StoredWeights:
    """`tiny`, an existing file or folder, or any other name of the form owner/model, which is
    fetched through huggingface_hub. Raises CheckpointError.
    """
    path, model_id = _locate(name_or_path)
    files = weight_files(path)
    tensors = read_tensors(files)
    config = _config_of(files[0], tensors)
    return StoredWeights(str(name_or_path), model_id, files, config, tensors)


def _locate(name_or_path: str | Path) -> tuple[Path, str]:
    path = local_path(name_or_path)
    name = str(name_or_path)
    if path is None:
        return _download(name), name
    return path, name if name == "tiny" else path.name


def local_path(name_or_path: str | Path) -> Path | None:
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
        folder = Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json"]))
        if any(folder.glob("*.safetensors")):  # where a .pt file lies beside, it has the same
            return folder
        return Path(snapshot_download(name, allow_patterns=["*.pt", "*.json"]))
    except Exception as error:  # the hub client raises many kinds; each is the same to the user
        raise CheckpointError(
            f"could not fetch {name!r} from the Hugging Face hub: {error}"
        ) from error


def weight_files(path: Path) -> list[Path]:
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


def read_tensors(files: list[Path]) -> dict[str, Tensor]:
    """All tensors by the names that networks have for them, without those that are known and
    unused.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(_read(file))
    kept = {n: t for n, t in tensors.items() if not n.startswith(_IGNORED_PREFIXES)}
    return {n.replace(ALIAS, ".conv.weight"): t for n, t in kept.items()}


def _read(file: Path) -> dict[str, Tensor]:
    """Tensors by name. Pickles are opened with weights_only, so a hostile file cannot run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix == ".pt":
            mapped = zipfile.is_zipfile(file)
            loaded = torch.load(str(file), map_location="cpu", weights_only=True, mmap=mapped)
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
