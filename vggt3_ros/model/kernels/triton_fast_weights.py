"""Triton kernels of the fast weights: gradient, answer and Newton-Schulz, none of which writes
anything of hidden width to memory.

Products take operands of the tokens' type (bf16 on tensor cores, fp32 in full precision) and add up
in fp32; everything between them is fp32. Counts are not specialised: another number of tokens
compiles nothing anew.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens", "tiles"])
def gradient_kernel(
    k, v, rates, w0, w1, w2, out, tokens, tiles, k_stride, v_stride,
    WIDTH: tl.constexpr, HIDDEN: tl.constexpr, TILE: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Sums over `tiles` tiles of tokens, for one tile of hidden width of one head.

    k, v (N, heads * WIDTH) with row strides, rates (3, heads, N), weights (heads, WIDTH, HIDDEN)
    and w1 (heads, HIDDEN, WIDTH); out (splits, 3, heads * WIDTH * HIDDEN). What has hidden width
    is held as (TILE, TOKENS): so it can go from one product into the next in registers.
    """
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    split = tl.program_id(2)
    hidden = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channel = tl.arange(0, WIDTH)
    first = head * WIDTH * HIDDEN
    across = first + channel[None, :] * HIDDEN + hidden[:, None]  # of w0 and w2
    along = first + hidden[:, None] * WIDTH + channel[None, :]  # of w1
    w0_t = tl.load(w0 + across)
    w2_t = tl.load(w2 + across)
    w1_t = tl.load(w1 + along)

    within = tl.arange(0, TOKENS)
    k_place = head * WIDTH + within[:, None] * k_stride + channel[None, :]
    v_place = head * WIDTH + within[:, None] * v_stride + channel[None, :]
    group = heads.to(tl.int64) * tokens
    rates += head.to(tl.int64) * tokens
    g0_t = tl.zeros((TILE, WIDTH), tl.float32)
    g1 = tl.zeros((TILE, WIDTH), tl.float32)
    g2_t = tl.zeros((TILE, WIDTH), tl.float32)
    tl.assume(tiles > 0)  # a loop that may be left out makes Hopper's products wait for each other
    for tile in range(tiles):
        start = (split * tiles + tile).to(tl.int64) * TOKENS
        inside = start + within < tokens
        key = tl.load(k + start * k_stride + k_place, mask=inside[:, None], other=0.0)
        value = tl.load(v + start * v_stride + v_place, mask=inside[:, None], other=0.0)
        rate0 = tl.load(rates + start + within, mask=inside, other=0.0)[None, :]
        rate1 = tl.load(rates + group + start + within, mask=inside, other=0.0)[None, :]
        rate2 = tl.load(rates + 2 * group + start + within, mask=inside, other=0.0)[None, :]
        a = tl.dot(w0_t, tl.trans(key), input_precision="ieee")
        u = tl.dot(w2_t, tl.trans(key), input_precision="ieee")
        r = tl.dot(w1_t, tl.trans(value), input_precision="ieee")
        s = tl.sigmoid(a)
        gated = a * s
        by_gate = rate0 * r * u * (s + gated * (1 - s))
        by_linear = rate2 * r * gated
        by_output = rate1 * u * gated
        g0_t = tl.dot(by_gate.to(key.dtype), key, g0_t, input_precision="ieee")
        g2_t = tl.dot(by_linear.to(key.dtype), key, g2_t, input_precision="ieee")
        g1 = tl.dot(by_output.to(key.dtype), value, g1, input_precision="ieee")

    part = heads.to(tl.int64) * WIDTH * HIDDEN
    out += split * 3 * part
    tl.store(out + across, g0_t)
    tl.store(out + part + along, g1)
    tl.store(out + 2 * part + across, g2_t)


@triton.jit(do_not_specialize=["tokens", "heads"])
def apply_kernel(
    q, w0, w1, w2, out, tokens, heads, q_stride, out_stride,
    WIDTH: tl.constexpr, HIDDEN: tl.constexpr, TILE: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """What one head answers to a tile of the queries q (N, heads * WIDTH)."""
    head = tl.program_id(0) % heads
    start = (tl.program_id(0) // heads).to(tl.int64) * TOKENS
    within = tl.arange(0, TOKENS)
    channel = tl.arange(0, WIDTH)
    inside = (start + within < tokens)[:, None]
    place = head * WIDTH + channel[None, :]
    query = tl.load(
        q + start * q_stride + within[:, None] * q_stride + place, mask=inside, other=0.0
    )
    answer = tl.zeros((TOKENS, WIDTH), tl.float32)
    first = head * WIDTH * HIDDEN
    for tile in range(0, HIDDEN, TILE):
        hidden = tile + tl.arange(0, TILE)
        across = first + channel[:, None] * HIDDEN + hidden[None, :]
        along = first + hidden[:, None] * WIDTH + channel[None, :]
        a = tl.dot(query, tl.load(w0 + across), input_precision="ieee")
        u = tl.dot(query, tl.load(w2 + across), input_precision="ieee")
        y = a * tl.sigmoid(a) * u
        answer = tl.dot(y.to(query.dtype), tl.load(w1 + along), answer, input_precision="ieee")
    place += start * out_stride + within[:, None] * out_stride
    tl.store(out + place, answer.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["steps"])
def newton_schulz_kernel(matrices, out, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """All iterations on one of the fp32 matrices (n, ROWS, COLUMNS), with bf16 products.

    x x^T is symmetric, but half of one tile's product is no less work for tensor cores.
    """
    place = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    place += tl.program_id(0).to(tl.int64) * (ROWS * COLUMNS)
    x = tl.load(matrices + place)
    x = x / (tl.sqrt(tl.sum(tl.sum(x * x, axis=1), axis=0)) + 1e-7)
    for _ in range(steps):
        rounded = x.to(tl.bfloat16)
        a = tl.dot(rounded, tl.trans(rounded))
        squared = tl.dot(a.to(tl.bfloat16), a.to(tl.bfloat16))
        mixing = (2.0315 * squared - 4.7750 * a).to(tl.bfloat16)
        x = 3.4445 * x + tl.dot(mixing, rounded)
    tl.store(out + place, x)
