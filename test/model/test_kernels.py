"""The operations left to kernels: in torch they are what the layers compute, and in Triton what
they are in torch; kernels are chosen where they run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vggt3_ros.model import fast_weights, kernels
from vggt3_ros.model.attention import SoftmaxAttention
from vggt3_ros.model.config import ModelConfig, TttConfig
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.kernels import TorchOperations, update
from vggt3_ros.model.kernels.agreement import agree
from vggt3_ros.model.rope import rope_table
from vggt3_ros.model.ttt_attention import TttAttention

GRID = (4, 6)
TORCH = TorchOperations()


def tokens(dim: int, seed: int = 0) -> Tensor:
    """Layer-normed tokens of 3 frames, (1, 3, 29, dim)."""
    return torch.randn(1, 3, 5 + 24, dim, generator=torch.Generator().manual_seed(seed))


def layer(dim: int, rope_heads: int, heads: int, ratio: int = 4) -> TttAttention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TttConfig(num_heads=heads, mlp_ratio=ratio)
        return TttAttention(dim, rope_heads, config).requires_grad_(False)


LAYERS = [(32, 2, 2, 4), (64, 4, 2, 2), (48, 3, 1, 1), (32, 4, 4, 3)]


@pytest.mark.parametrize(("dim", "rope_heads", "heads", "ratio"), LAYERS)
def test_twins_compute_what_a_layer_does(dim, rope_heads, heads, ratio) -> None:
    attention = layer(dim, rope_heads, heads, ratio)
    rope = rope_table(GRID, 5, dim // rope_heads, 100.0, "cpu")
    x = tokens(dim)
    q, k, v = attention.qkv(x[0]).chunk(3, dim=-1)
    kernel = attention.short_conv_qkv[2].conv.weight

    keys = TORCH.unit(k, rope, rope_heads, heads).flatten(0, 1)
    values = TORCH.convolve(v, kernel, GRID).flatten(0, 1)
    expected_keys, expected_values, rates = attention.training_signals(x, rope, GRID)
    by_head = (heads, -1)
    torch.testing.assert_close(keys.unflatten(-1, by_head).transpose(0, 1), expected_keys[0])
    torch.testing.assert_close(values.unflatten(-1, by_head).transpose(0, 1), expected_values[0])

    norms = fast_weights.column_norms(attention.initial)
    rates_by_token = rates[:, 0, :, :, 0].permute(2, 0, 1)  # (N, 3, h)
    fitted = attention.initial
    for _ in range(2):
        gradient = TORCH.gradient(fitted, keys, values, rates_by_token)
        fitted = update(TORCH, fitted, gradient, norms, 5)
    for part, expected in zip(fitted, attention.fit(x, rope, GRID, 2), strict=True):
        torch.testing.assert_close(part, expected[0], rtol=1e-4, atol=1e-5)

    queries = TORCH.unit(q, rope, rope_heads, heads).flatten(0, 1)
    answers = attention.proj(TORCH.apply(fitted, queries).unflatten(0, (3, -1)))
    batch = FastWeights(*(part[None] for part in fitted))
    expected = attention.retrieve(x, batch, rope, GRID)[0]
    torch.testing.assert_close(answers, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dim", "heads"), [(32, 2), (48, 3)])
def test_twin_normalises_and_rotates_as_a_layer_does(dim, heads) -> None:
    attention = SoftmaxAttention(dim, heads, qk_norm=True).requires_grad_(False)
    for norm in (attention.q_norm, attention.k_norm):
        norm.weight.normal_()
        norm.bias.normal_()
    rope = rope_table(GRID, 5, dim // heads, 100.0, "cpu")
    x = tokens(dim)
    q, k, _ = attention.qkv(x).unflatten(-1, (3, heads, -1)).unbind(-3)
    for part, norm, expected in zip(
        (q, k), (attention.q_norm, attention.k_norm), attention.project(x, rope), strict=False
    ):
        actual = TORCH.norm_rope(part, norm.weight, norm.bias, rope)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_twin_of_unrounded_gradients_leaves_them() -> None:
    attention = layer(32, 2, 2)
    norms = fast_weights.column_norms(attention.initial)
    gradient = FastWeights(*(torch.randn_like(part) for part in attention.initial))
    expected = fast_weights.update(attention.initial, gradient, norms, -1)
    updated = update(TORCH, attention.initial, gradient, norms, -1)
    for part, truth in zip(updated, expected, strict=True):
        assert torch.equal(part, truth)


def test_triton_computes_what_torch_does() -> None:
    pytest.importorskip("triton")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    tests = Path(__file__).with_name("kernels_against_twins.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests],
        env={**os.environ, **interpreted},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def config(**changes) -> ModelConfig:
    return replace(ModelConfig.full("ttt"), **changes)


@pytest.mark.parametrize(
    ("changed", "fitting"),
    [
        (config(), True),
        (ModelConfig.full("softmax"), True),
        (config(ttt=TttConfig(num_heads=8)), True),
        (config(ttt=TttConfig(num_heads=4)), False),
        (config(ttt=TttConfig(num_heads=32)), False),
        (config(ttt=TttConfig(mlp_ratio=3)), False),
        (config(ttt=TttConfig(short_conv_size_qkv=(0, 0, 0))), False),
        (config(ttt=TttConfig(short_conv_size_qkv=(0, 0, 5))), False),
        (config(ttt=TttConfig(short_conv_size_qkv=(3, 3, 3))), False),
        (config(embed_dim=768), False),
        (config(num_heads=128), False),
    ],
)
def test_sizes_that_fit(changed, fitting) -> None:
    assert kernels.fits(changed) == fitting


def choose_on_gpu(monkeypatch, attempt: Callable[..., None]) -> object:
    """What is chosen for a GPU, with `attempt` in place of what tries the kernels."""
    properties = SimpleNamespace(major=9, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(kernels, "agree", attempt)
    return kernels.choose(torch.device("cuda"), config(), bf16=True)


def test_kernels_are_chosen_on_a_gpu(monkeypatch) -> None:
    pytest.importorskip("triton")
    chosen = choose_on_gpu(monkeypatch, lambda *others: None)
    assert type(chosen).__name__ == "TritonOperations"
    assert chosen.multiprocessors == 132


def test_kernels_are_not_chosen_where_they_do_not_compile(monkeypatch) -> None:
    def fail(*others: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    pytest.importorskip("triton")
    with pytest.warns(UserWarning, match="Failed to find C compiler.*apt install gcc"):
        assert choose_on_gpu(monkeypatch, fail) is None


@pytest.mark.parametrize(("capability", "run"), [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_devices_that_kernels_are_for(monkeypatch, capability, run) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert kernels.run_on(torch.device("cuda"), config()) == run
    assert not kernels.run_on(torch.device("cuda"), config(num_heads=128))
    assert not kernels.run_on(torch.device("cpu"), config())


SMALL = config(embed_dim=64, num_heads=2, ttt=TttConfig(mlp_ratio=2))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("wrong", ["unit", "convolve", "apply", "norm_rope", "newton_schulz"])
def test_an_operation_that_answers_otherwise_is_named(wrong, bf16) -> None:
    agree(TorchOperations(), torch.device("cpu"), SMALL, bf16)
    operations = TorchOperations()
    right = getattr(operations, wrong)
    setattr(operations, wrong, lambda *given: 1.2 * right(*given))
    with pytest.raises(RuntimeError, match=f"{wrong} is off by"):
        agree(operations, torch.device("cpu"), SMALL, bf16)


def test_a_wrong_gradient_is_named() -> None:
    operations = TorchOperations()
    operations.gradient = lambda weights, *others: weights
    with pytest.raises(RuntimeError, match="w0 is off by"):
        agree(operations, torch.device("cpu"), SMALL, False)
