"""The Triton kernels answer as their twins in torch: in fp32 to its rounding, in bf16 no farther
from fp32 than the twins under autocast are.

Run by test_kernels.py in a process of its own, on a GPU or, without one, in Triton's interpreter.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt3_ros.model import fast_weights
from vggt3_ros.model.fast_weights import FastWeights
from vggt3_ros.model.kernels import TorchOperations, update
from vggt3_ros.model.kernels.triton_operations import TritonOperations

from .kernel_scene import DEVICE, scene

if DEVICE.type == "cpu":
    from . import interpreter  # noqa: F401
torch.backends.cudnn.allow_tf32 = False  # by default, convolutions in fp32 are not

TORCH = TorchOperations()
TRITON = TritonOperations(multiprocessors=8)
FP32 = 2e-6  # relative; sums of other order
BF16 = 6e-3  # relative, of what is rounded once before and once after
BF16_STEP = 2e-2  # of fast weights after a step: Newton-Schulz multiplies in bf16, and amplifies


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def bf16():
    return torch.autocast(DEVICE.type, torch.bfloat16)


def relative(actual: Tensor, truth: Tensor) -> float:
    assert actual.shape == truth.shape
    return float((actual.float() - truth).norm() / truth.norm())


def assert_near_the_truth(compute, inputs: tuple[Tensor, ...]) -> None:
    """`compute(operations, *inputs)`, a list, is by the kernels what it is by the twins."""
    truths = compute(TORCH, *inputs)
    rounded = [tensor.bfloat16() for tensor in inputs]
    with bf16():
        by_torch = compute(TORCH, *rounded)
        by_triton = compute(TRITON, *rounded)
    for exact, truth in zip(compute(TRITON, *inputs), truths, strict=True):
        assert relative(exact, truth) < FP32
    for fused, twin, truth in zip(by_triton, by_torch, truths, strict=True):
        assert fused.dtype == twin.dtype
        assert relative(fused, truth) < min(1.02 * relative(twin, truth), BF16)


TOKENS = [(0, 2, 64, 2), (1, 2, 64, 4), (2, 1, 128, 2), (3, 3, 32, 3)]


@pytest.mark.parametrize(("seed", "heads", "width", "rope_heads"), TOKENS)
def test_directions(seed, heads, width, rope_heads) -> None:
    given = scene(seed, heads, width, rope_heads=rope_heads)
    assert_near_the_truth(lambda by, k: [by.unit(k, given.rope, rope_heads, heads)], (given.k,))


@pytest.mark.parametrize(("seed", "heads", "width"), [(0, 2, 64), (1, 1, 64), (2, 3, 32)])
def test_short_convolution(seed, heads, width) -> None:
    given = scene(seed, heads, width, rope_heads=heads)
    assert_near_the_truth(lambda by, v: [by.convolve(v, given.kernels, given.grid)], (given.v,))


@pytest.mark.parametrize(
    ("special", "grid"), [(0, (1, 1)), (1, (1, 11)), (9, (5, 1)), (0, (2, 8)), (8, (3, 9))]
)
def test_short_convolution_of_any_grid(special, grid) -> None:
    y = torch.randn(2, special + grid[0] * grid[1], 32, device=DEVICE)
    kernels = torch.randn(32, 1, 3, 3, device=DEVICE)
    truth = TORCH.convolve(y, kernels, grid)
    assert relative(TRITON.convolve(y, kernels, grid), truth) < FP32


@pytest.mark.parametrize(("seed", "heads", "width"), [(0, 2, 64), (1, 3, 16), (2, 1, 128)])
def test_normalised_and_rotated(seed, heads, width) -> None:
    given = scene(seed, heads, width, rope_heads=heads)
    weight, bias = torch.randn(2, width, device=DEVICE)

    def compute(by, qkv):
        _, keys, _ = qkv.unflatten(-1, (3, heads, width)).unbind(-3)
        return [by.norm_rope(keys, weight, bias, given.rope)]

    qkv = (given.qkv, given.qkv[0], given.qkv[None])[seed]  # with any axes before the tokens
    assert_near_the_truth(compute, (qkv,))


FAST = [(0, 2, 64, 2), (1, 1, 64, 4), (2, 2, 32, 2), (3, 1, 128, 1)]  # last, hidden width of it


@pytest.mark.parametrize(("seed", "heads", "width", "ratio"), FAST)
def test_gradient(seed, heads, width, ratio) -> None:
    given = scene(seed, heads, width, ratio, rope_heads=heads)
    k = TORCH.unit(given.k, given.rope, heads, heads).flatten(0, 1)
    v = TORCH.convolve(given.v, given.kernels, given.grid).flatten(0, 1)
    both = torch.cat([k, v], dim=-1)

    def compute(by, both):
        return by.gradient(given.weights, *both.chunk(2, dim=-1), given.rates)

    assert_near_the_truth(compute, (both,))


@pytest.mark.parametrize(("seed", "heads", "width", "ratio"), FAST)
def test_answers(seed, heads, width, ratio) -> None:
    given = scene(seed, heads, width, ratio, rope_heads=heads)
    q = TORCH.unit(given.k, given.rope, heads, heads).flatten(0, 1)
    both = torch.cat([torch.zeros_like(q), q], dim=-1)
    assert_near_the_truth(
        lambda by, both: [by.apply(given.weights, both.chunk(2, dim=-1)[1])], (both,)
    )


@pytest.mark.parametrize(("seed", "heads", "width", "ratio"), FAST)
def test_a_step(seed, heads, width, ratio) -> None:
    given = scene(seed, heads, width, ratio, rope_heads=heads)
    k = TORCH.unit(given.k, given.rope, heads, heads).flatten(0, 1)
    gradient = TORCH.gradient(given.weights, k, given.v.flatten(0, 1), given.rates)
    norms = fast_weights.column_norms(given.weights)
    truths = fast_weights.update(given.weights, gradient, norms, 5)
    exact = update(TRITON, given.weights, gradient, norms, 5)
    with bf16():
        by_torch = update(TORCH, given.weights, gradient, norms, 5)
        by_triton = update(TRITON, given.weights, gradient, norms, 5)
    for part, fused, twin, truth in zip(exact, by_triton, by_torch, truths, strict=True):
        assert relative(part, truth) < 1e-5  # of products in another order, five times over
        assert relative(fused, truth) < min(1.02 * relative(twin, truth), BF16_STEP)


def test_tokens_of_zero_have_no_direction() -> None:
    given = scene()
    silent = torch.zeros(1, 68, 128, device=DEVICE)
    assert not TRITON.unit(silent, given.rope, 2, 2).any()


def test_equal_channels_are_shifted_alone() -> None:
    given = scene()
    flat = torch.full((68, 2, 64), 3.0, device=DEVICE)
    bias = torch.randn(64, device=DEVICE)
    truth = TORCH.norm_rope(flat, torch.ones_like(bias), bias, given.rope)
    assert relative(TRITON.norm_rope(flat, torch.ones_like(bias), bias, given.rope), truth) < FP32


@pytest.mark.parametrize("count", [0, 1, 33])
def test_any_number_of_tokens(count) -> None:
    given = scene()
    k = given.k.flatten(0, 1)[:count]
    v = given.v.flatten(0, 1)[:count]
    gradient = TRITON.gradient(given.weights, k, v, given.rates[:count])
    truth = TORCH.gradient(given.weights, k, v, given.rates[:count])
    for part, expected in zip(gradient, truth, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-6)
    answers = TRITON.apply(given.weights, k)
    torch.testing.assert_close(answers, TORCH.apply(given.weights, k), rtol=1e-5, atol=1e-5)


def test_rates_of_zero_teach_nothing() -> None:
    given = scene()
    k, v = given.k.flatten(0, 1), given.v.flatten(0, 1)
    gradient = TRITON.gradient(given.weights, k, v, torch.zeros_like(given.rates))
    assert not any(part.any() for part in gradient)
    norms = fast_weights.column_norms(given.weights)
    with bf16():
        updated = update(TRITON, given.weights, gradient, norms, 5)
    for part, before in zip(updated, given.weights, strict=True):
        assert relative(part, before) < 1e-4


@pytest.mark.parametrize("multiprocessors", [1, 1000])
def test_gradients_do_not_depend_on_the_size_of_the_device(multiprocessors) -> None:
    given = scene(heads=1, width=32, rope_heads=1)
    k, v = given.k.flatten(0, 1), given.v.flatten(0, 1)
    gradient = TritonOperations(multiprocessors).gradient(given.weights, k, v, given.rates)
    truth = TORCH.gradient(given.weights, k, v, given.rates)
    for part, expected in zip(gradient, truth, strict=True):
        assert relative(part, expected) < FP32


def test_what_is_trained_gets_its_derivatives() -> None:
    given = scene()
    y = given.k.clone().requires_grad_()
    TRITON.unit(y, given.rope, 2, 2).square().sum().backward()
    kernels = given.kernels.clone().requires_grad_()
    TRITON.convolve(given.v, kernels, given.grid).sum().backward()
    weights = FastWeights(*(part.clone().requires_grad_() for part in given.weights))
    TRITON.apply(weights, given.k.flatten(0, 1)).sum().backward()
    assert all(tensor.grad is not None for tensor in (y, kernels, *weights))


def test_tokens_may_fill_billions_of_values() -> None:
    given = scene()
    near = given.k[[0, 1, 0]].bfloat16()
    rates = given.rates[: near.shape[1]].repeat(3, 1, 1)
    frames, tokens, channels = near.shape
    stride = 2**24
    assert (frames - 1) * tokens * stride > 2**31
    # on a CPU, memory that is not touched is not there
    memory = torch.empty(frames * tokens * stride, dtype=torch.bfloat16, device=DEVICE)
    far = memory.as_strided(near.shape, (tokens * stride, stride, 1))
    far.copy_(near)
    heads = (given.heads, channels // given.heads)
    ones = torch.ones(heads[1], device=DEVICE)

    def results(y: Tensor) -> list[Tensor]:
        rows = y.flatten(0, 1)
        return [
            TRITON.unit(y, given.rope, 2, 2),
            TRITON.convolve(y, given.kernels, given.grid),
            TRITON.norm_rope(y.unflatten(-1, heads), ones, ones, given.rope),
            TRITON.apply(given.weights, rows),
            *TRITON.gradient(given.weights, rows, rows, rates),
        ]

    with bf16():
        for part, expected in zip(results(far), results(near), strict=True):
            assert torch.equal(part, expected)
