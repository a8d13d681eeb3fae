"""What identifies a network is computed once, and again for other weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vggt3_ros.model import fingerprint
from vggt3_ros.model.checkpoint import load_network, save_weights
from vggt3_ros.model.fingerprint import checksum

from ..conftest import make_network


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """A fingerprint for every time that weights are hashed."""
    made: list[str] = []
    digest = fingerprint.digest

    def counting(*given) -> str:
        made.append(digest(*given))
        return made[-1]

    monkeypatch.setattr("vggt3_ros.model.network.digest", counting)
    return made


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A file of a network that is worth remembering; the user's cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint, "_WORTH_BYTES", 1)
    save_weights(make_network(seed=1), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_checksum_changes_with_every_element(dtype, count) -> None:
    whole = torch.arange(count + 3).to(dtype)
    part = whole[3:]  # does not begin at a whole word
    original = checksum({"weight": part})
    assert checksum({"weight": part.clone()}) == original
    assert checksum({"other": part}) != original
    for element in range(count):
        changed = whole.clone()
        changed[3 + element] += 1
        assert checksum({"weight": changed[3:]}) != original


def test_weights_are_hashed_once_and_when_they_have_changed(hashed) -> None:
    network = make_network(seed=2)
    first = network.fingerprint()
    assert network.fingerprint() == first and len(hashed) == 1
    network.depth_head.state_dict()["norm.weight"].view(-1)[0] += 1e-6
    assert network.fingerprint() != first and len(hashed) == 2


def test_a_file_is_hashed_once(weights, hashed) -> None:
    first = load_network(weights).fingerprint()
    assert load_network(weights).fingerprint() == first
    assert load_network(weights.parent / "net.safetensors").fingerprint() == first
    assert len(hashed) == 1


def test_other_weights_are_hashed_again(weights, hashed) -> None:
    first = load_network(weights).fingerprint()
    save_weights(make_network(seed=3), weights)
    second = load_network(weights)
    assert second.fingerprint() != first and len(hashed) == 2
    second.camera_head.embed_pose.bias.data += 1.0  # in memory alone
    assert second.fingerprint() not in hashed[:2]
    status = weights.stat()
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    load_network(weights).fingerprint()
    assert len(hashed) == 4


@pytest.mark.parametrize("damaged", ["", "[]", "{", "null", '{"files": 1}', "\xff"])
def test_a_damaged_entry_is_replaced(weights, hashed, damaged) -> None:
    first = load_network(weights).fingerprint()
    (entry,) = weights.parent.glob("cache/vggt3_ros/fingerprints/*.json")
    entry.write_text(damaged, encoding="latin-1")
    assert load_network(weights).fingerprint() == first
    assert json.loads(entry.read_text())["fingerprint"] == first


def test_an_entry_without_its_fingerprint_is_not_believed(weights, hashed) -> None:
    first = load_network(weights).fingerprint()
    (entry,) = weights.parent.glob("cache/vggt3_ros/fingerprints/*.json")
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "fingerprint": 5}))
    assert load_network(weights).fingerprint() == first and len(hashed) == 2


def test_without_a_cache_that_can_be_written_it_is_hashed_every_time(
    weights, hashed, monkeypatch
) -> None:
    (weights.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(weights.parent / "file"))
    assert load_network(weights).fingerprint() == load_network(weights).fingerprint()
    assert len(hashed) == 2


def test_small_files_leave_nothing_in_the_cache(weights, monkeypatch) -> None:
    monkeypatch.setattr(fingerprint, "_WORTH_BYTES", 2**28)
    load_network(weights).fingerprint()
    assert not (weights.parent / "cache").exists()


def test_loading_a_network_loads_no_compiler(weights) -> None:
    """Which takes torch a second, in every program."""
    program = (
        "import sys; from vggt3_ros.model.checkpoint import load_network;"
        " load_network(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(weights)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_loading_makes_no_weights_but_those_of_the_file(weights) -> None:
    before = torch.get_rng_state()
    network = load_network(weights)
    assert torch.equal(torch.get_rng_state(), before)  # none were drawn to be replaced
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}
    assert not any(tensor.requires_grad for tensor in tensors.values())
