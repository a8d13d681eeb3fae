"""Triton's interpreter, taught what it does otherwise than a GPU: round to bf16 (it cuts off) and
multiply bf16 (it multiplies the bits); and to copy no memory to and fro, all of it the CPU's.
To be imported where TRITON_INTERPRET is 1.
"""

from __future__ import annotations

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

_convert = interpreter._convert_float
_dot = interpreter.InterpreterBuilder.create_dot


def _rounded(data, source, target, mode):
    if (source, target) != (tl.float32, tl.bfloat16):
        return _convert(data, source, target, mode)
    rounded = torch.from_numpy(np.array(data)).bfloat16()
    return rounded.view(torch.int16).numpy().view(np.uint16)


def _multiplied(builder, a, b, *others):
    if a.dtype == tl.bfloat16:
        a, b = (builder.cast_impl(factor, tl.float32) for factor in (a, b))
    return _dot(builder, a, b, *others)


interpreter._convert_float = _rounded
interpreter.GridExecutor._restore_args_dev = lambda *arguments: None
interpreter.InterpreterBuilder.create_dot = _multiplied
