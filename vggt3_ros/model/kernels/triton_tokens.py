"""Triton kernels that read every token once and write it once: activation, short convolution,
normalisation and rotary embedding. Computed in fp32, rounded once.

A channel turns with its partner, a quarter of the rope head's width away, so tokens are read in
quarters. Both turn by one angle, as in every table of `rope.rope_table`.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _silu(x):
    return x * tl.sigmoid(x)


@triton.jit(do_not_specialize=["rows", "tokens", "blocks"])
def unit_kernel(
    y, out, cos, sin, rows, tokens, y_stride, out_stride, blocks,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, QUARTER: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """SiLU, rotation and unit length of ROWS tokens in HEADS of the heads of `y` (rows, C).

    A head holds GROUPS rope heads of width 4 * QUARTER; cos and sin are (tokens, 4 * QUARTER).
    """
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    quarter = tl.arange(0, QUARTER)[None, None, :]
    inside = (row < rows)[:, None, None]
    turn = (row % tokens)[:, None, None] * (4 * QUARTER) + quarter
    cos_y = tl.load(cos + turn, mask=inside, other=0.0).to(tl.float32)
    sin_y = tl.load(sin + turn, mask=inside, other=0.0).to(tl.float32)
    cos_x = tl.load(cos + 2 * QUARTER + turn, mask=inside, other=0.0).to(tl.float32)
    sin_x = tl.load(sin + 2 * QUARTER + turn, mask=inside, other=0.0).to(tl.float32)
    channel = tl.arange(0, GROUPS)[None, :, None] * (4 * QUARTER) + quarter
    channel += block * (HEADS * GROUPS * 4 * QUARTER)
    row = row.to(tl.int64)[:, None, None]
    for _ in range(HEADS):
        place = y + row * y_stride + channel
        a = _silu(tl.load(place, mask=inside, other=0.0).to(tl.float32))
        b = _silu(tl.load(place + QUARTER, mask=inside, other=0.0).to(tl.float32))
        c = _silu(tl.load(place + 2 * QUARTER, mask=inside, other=0.0).to(tl.float32))
        d = _silu(tl.load(place + 3 * QUARTER, mask=inside, other=0.0).to(tl.float32))
        square = tl.sum(tl.sum(a * a + b * b + c * c + d * d, axis=2), axis=1)
        scale = (1 / (tl.sqrt(square) + 1e-5))[:, None, None]  # a rotation changes no length
        place = out + row * out_stride + channel
        kind = out.dtype.element_ty
        tl.store(place, ((a * cos_y - b * sin_y) * scale).to(kind), mask=inside)
        tl.store(place + QUARTER, ((b * cos_y + a * sin_y) * scale).to(kind), mask=inside)
        tl.store(place + 2 * QUARTER, ((c * cos_x - d * sin_x) * scale).to(kind), mask=inside)
        tl.store(place + 3 * QUARTER, ((d * cos_x + c * sin_x) * scale).to(kind), mask=inside)
        channel += GROUPS * 4 * QUARTER


@triton.jit(do_not_specialize=["rows", "tokens", "heads", "blocks"])
def norm_rope_kernel(
    x, out, weight, bias, cos, sin, rows, tokens, heads, row_stride, head_stride, blocks,
    HEADS: tl.constexpr, QUARTER: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """LayerNorm and rotation of ROWS tokens in HEADS of the heads of x (rows, heads, 4 * QUARTER),
    written as (frames, heads, tokens, 4 * QUARTER).
    """
    block = tl.program_id(0) % blocks
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    quarter = tl.arange(0, QUARTER)
    inside = (row < rows)[:, None]
    frame = (row // tokens).to(tl.int64)[:, None]
    token = (row % tokens)[:, None]
    turn = token * (4 * QUARTER) + quarter[None, :]
    cos_y = tl.load(cos + turn, mask=inside, other=0.0).to(tl.float32)
    sin_y = tl.load(sin + turn, mask=inside, other=0.0).to(tl.float32)
    cos_x = tl.load(cos + 2 * QUARTER + turn, mask=inside, other=0.0).to(tl.float32)
    sin_x = tl.load(sin + 2 * QUARTER + turn, mask=inside, other=0.0).to(tl.float32)
    weight_a = tl.load(weight + quarter).to(tl.float32)[None, :]
    weight_b = tl.load(weight + QUARTER + quarter).to(tl.float32)[None, :]
    weight_c = tl.load(weight + 2 * QUARTER + quarter).to(tl.float32)[None, :]
    weight_d = tl.load(weight + 3 * QUARTER + quarter).to(tl.float32)[None, :]
    bias_a = tl.load(bias + quarter).to(tl.float32)[None, :]
    bias_b = tl.load(bias + QUARTER + quarter).to(tl.float32)[None, :]
    bias_c = tl.load(bias + 2 * QUARTER + quarter).to(tl.float32)[None, :]
    bias_d = tl.load(bias + 3 * QUARTER + quarter).to(tl.float32)[None, :]
    for head in range(block * HEADS, (block + 1) * HEADS):
        place = x + row.to(tl.int64)[:, None] * row_stride + head * head_stride + quarter[None, :]
        a = tl.load(place, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(place + QUARTER, mask=inside, other=0.0).to(tl.float32)
        c = tl.load(place + 2 * QUARTER, mask=inside, other=0.0).to(tl.float32)
        d = tl.load(place + 3 * QUARTER, mask=inside, other=0.0).to(tl.float32)
        mean = tl.sum(a + b + c + d, axis=1)[:, None] / (4 * QUARTER)
        a -= mean
        b -= mean
        c -= mean
        d -= mean
        square = tl.sum(a * a + b * b + c * c + d * d, axis=1)[:, None]
        scale = 1 / tl.sqrt(square / (4 * QUARTER) + 1e-5)
        a = a * scale * weight_a + bias_a
        b = b * scale * weight_b + bias_b
        c = c * scale * weight_c + bias_c
        d = d * scale * weight_d + bias_d
        place = out + ((frame * heads + head) * tokens + token) * (4 * QUARTER) + quarter[None, :]
        kind = out.dtype.element_ty
        tl.store(place, (a * cos_y - b * sin_y).to(kind), mask=inside)
        tl.store(place + QUARTER, (b * cos_y + a * sin_y).to(kind), mask=inside)
        tl.store(place + 2 * QUARTER, (c * cos_x - d * sin_x).to(kind), mask=inside)
        tl.store(place + 3 * QUARTER, (d * cos_x + c * sin_x).to(kind), mask=inside)


@triton.jit(do_not_specialize=["special", "height", "width"])
def convolve_kernel(
    y, weight, out, special, height, width, y_stride, out_stride,
    COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Depthwise 3x3 (weights (9, C)) and SiLU of a frame's patches in COLUMNS columns and CHANNELS
    channels of y (frames * tokens, C).

    Goes down the rows with the sums of two rows begun, so that each is read once. A frame's last
    program does the tokens before the patches, which are not convolved.
    """
    channels = tl.num_programs(0) * CHANNELS
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    first = tl.program_id(2).to(tl.int64) * (special + height * width)
    kind = out.dtype.element_ty
    if tl.program_id(1) == tl.num_programs(1) - 1:
        for start in range(0, special, COLUMNS):
            token = start + tl.arange(0, COLUMNS)[:, None]
            read = y + (first + token) * y_stride + channel
            value = tl.load(read, mask=token < special, other=0.0).to(tl.float32)
            written = out + (first + token) * out_stride + channel
            tl.store(written, _silu(value).to(kind), mask=token < special)
    else:
        kernel = weight + channel
        w00 = tl.load(kernel).to(tl.float32)
        w01 = tl.load(kernel + channels).to(tl.float32)
        w02 = tl.load(kernel + 2 * channels).to(tl.float32)
        w10 = tl.load(kernel + 3 * channels).to(tl.float32)
        w11 = tl.load(kernel + 4 * channels).to(tl.float32)
        w12 = tl.load(kernel + 5 * channels).to(tl.float32)
        w20 = tl.load(kernel + 6 * channels).to(tl.float32)
        w21 = tl.load(kernel + 7 * channels).to(tl.float32)
        w22 = tl.load(kernel + 8 * channels).to(tl.float32)
        inside = column < width
        has_left = inside & (column > 0)
        has_right = column + 1 < width
        read = y + (first + special + column) * y_stride + channel
        written = out + (first + special + column) * out_stride + channel
        above = tl.zeros((COLUMNS, CHANNELS), tl.float32)
        here = tl.zeros((COLUMNS, CHANNELS), tl.float32)
        for row in range(height):
            left = tl.load(read - y_stride, mask=has_left, other=0.0).to(tl.float32)
            middle = tl.load(read, mask=inside, other=0.0).to(tl.float32)
            right = tl.load(read + y_stride, mask=has_right, other=0.0).to(tl.float32)
            above += w20 * left + w21 * middle + w22 * right
            if row > 0:
                tl.store(written, _silu(above).to(kind), mask=inside)
                written += width * out_stride
            above = here + w10 * left + w11 * middle + w12 * right
            here = w00 * left + w01 * middle + w02 * right
            read += width * y_stride
        tl.store(written, _silu(above).to(kind), mask=inside)
