"""Weights are loaded whole or not at all, and a file that does not fit is refused by the names in
it.
"""

from __future__ import annotations

import pickle
import resource
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from vggt3_ros.errors import CheckpointError
from vggt3_ros.model.checkpoint import load_network, load_weights, require_checkpoint, save_weights
from vggt3_ros.model.config import ModelConfig

from ..conftest import GOLDEN, make_network, small_config

STATE = GOLDEN / "dev_vggttt.state.safetensors"


def test_saved_weights_come_back_with_their_configuration(tmp_path) -> None:
    network = make_network(seed=3)
    save_weights(network, tmp_path / "own.safetensors")
    loaded = load_network(tmp_path / "own.safetensors")
    assert loaded.config == network.config
    assert loaded.fingerprint() == network.fingerprint()
    assert loaded.model_id == "own.safetensors"


def test_a_disk_without_room_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"own\.safetensors cannot be written"):
            save_weights(make_network(seed=3), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_shards_loads_as_one(tmp_path) -> None:
    network = make_network(seed=3)
    save_weights(network, tmp_path / "whole.safetensors")
    tensors = load_file(tmp_path / "whole.safetensors")
    folder = tmp_path / "shards"
    folder.mkdir()
    for part in range(2):
        half = {n: t for i, (n, t) in enumerate(sorted(tensors.items())) if i % 2 == part}
        save_file(half, folder / f"{part}.safetensors")
    (folder / ".0.unfinished.safetensors").write_bytes(b"left by a program that was killed")
    other = make_network(seed=4)
    load_weights(other, folder)
    assert other.fingerprint() == network.fingerprint()


@pytest.mark.parametrize("spelling", ["conf", "conv", "both"])
def test_both_names_of_the_short_conv_load(tmp_path, spelling) -> None:
    tensors = load_file(STATE)
    for name in [n for n in tensors if ".conf." in n]:
        kernel = tensors.pop(name)
        if spelling in ("conf", "both"):
            tensors[name] = kernel.clone()
        if spelling in ("conv", "both"):
            tensors[name.replace(".conf.", ".conv.")] = kernel.clone()
    save_file(tensors, tmp_path / "weights.safetensors")
    network = make_network()
    load_weights(network, tmp_path / "weights.safetensors")
    reference = make_network()
    load_weights(reference, STATE)
    assert network.fingerprint() == reference.fingerprint()


def test_pickled_tensors_load_and_hostile_pickles_do_not(tmp_path) -> None:
    torch.save(load_file(STATE), tmp_path / "weights.pt")
    network = make_network()
    load_weights(network, tmp_path / "weights.pt")

    class Hostile:
        def __reduce__(self):
            return (sys.exit, (7,))

    (tmp_path / "hostile.pt").write_bytes(pickle.dumps({"weight": Hostile()}))
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_weights(network, tmp_path / "hostile.pt")


def test_misfits_are_named_and_leave_the_network_alone(tmp_path) -> None:
    tensors = load_file(STATE)
    del tensors["camera_head.embed_pose.bias"]
    tensors["aggregator.extra"] = torch.zeros(1)
    tensors["depth_head.norm.bias"] = torch.zeros(3)
    save_file(tensors, tmp_path / "weights.safetensors")
    network = make_network()
    before = network.fingerprint()
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, tmp_path / "weights.safetensors")
    assert "1 missing: camera_head.embed_pose.bias" in str(caught.value)
    assert "1 unexpected: aggregator.extra" in str(caught.value)
    assert "depth_head.norm.bias (3,) instead of (64,)" in str(caught.value)
    assert network.fingerprint() == before


def test_the_point_tracker_of_the_published_model_is_ignored(tmp_path) -> None:
    tensors = load_file(GOLDEN / "dev_vggt_softmax.state.safetensors")
    save_file({**tensors, "track_head.anything": torch.zeros(2)}, tmp_path / "weights.safetensors")
    load_weights(make_network("softmax"), tmp_path / "weights.safetensors")


def test_truncated_and_absent_files_are_refused(tmp_path) -> None:
    (tmp_path / "half.safetensors").write_bytes(STATE.read_bytes()[:100_000])
    (tmp_path / "empty").mkdir()
    refusals = {
        "half.safetensors": "cannot be read",
        "none.safetensors": "no weights at",
        "empty": "no weights in",
    }
    for path, words in refusals.items():
        with pytest.raises(CheckpointError, match=words):
            load_network(tmp_path / path)


def test_a_path_is_no_name_of_the_hub(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "half.safetensors").write_bytes(b"")
    for path in ("~/half.safetensors", "$HOME/half.safetensors"):
        require_checkpoint(path)
    for path in ("~/none", "$HOME/none", "./none", "/none"):
        with pytest.raises(CheckpointError, match="no weights at"):
            require_checkpoint(path)


def test_without_the_hub_client_a_hub_name_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"vggt3_ros\[hub\]"):
        load_network("nvidia/vgg-ttt")


@pytest.mark.parametrize("there", [("model.pt", "model.safetensors"), ("model.pt",)])
def test_the_hub_is_asked_for_the_weights_once(tmp_path, monkeypatch, there) -> None:
    network = make_network(seed=3)
    hub = ModuleType("huggingface_hub")
    fetched = tmp_path / "fetched"
    fetched.mkdir()

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        assert name == "nvidia/vgg-ttt"
        for file in there:
            if f"*{Path(file).suffix}" in allow_patterns:
                save_weights(network, fetched / "model.safetensors")
                if file.endswith(".pt"):
                    torch.save(load_file(fetched / "model.safetensors"), fetched / file)
                    (fetched / "model.safetensors").unlink()
        return str(fetched)

    hub.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(ModelConfig, "full", staticmethod(small_config))  # .pt files tell no sizes
    loaded = load_network("nvidia/vgg-ttt")
    assert loaded.fingerprint() == network.fingerprint()
    assert loaded.model_id == "nvidia/vgg-ttt"
    assert [file.name for file in fetched.iterdir()] == [there[-1]]


def test_fingerprint_follows_the_weights() -> None:
    network = make_network(seed=5)
    before = network.fingerprint()
    network.camera_head.embed_pose.bias.data += 1e-3
    assert network.fingerprint() != before
