"""CUDA graphs: hundreds of kernels recorded once and replayed at one call, since starting them one
by one takes longer than a GPU needs for one image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_WARM_UPS = 2  # runs in which libraries choose their kernels and take their memory


class Recorded:
    """A function of a tensor on a CUDA device, for tensors of the example's shape and type.

    All else that it reads is read again at every call, where it was when it was recorded. Raises
    RuntimeError where it cannot be recorded: it must not make the host wait.
    """

    def __init__(self, function: Callable[[Tensor], Any], example: Tensor) -> None:
        if example.device.type != "cuda":
            raise RuntimeError(
                f"CUDA graphs need a CUDA device, and the tensor is on {example.device}"
            )
        self._given = example.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(example.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UPS):
                    function(self._given)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local"):
                self._result = function(self._given)

    def __call__(self, given: Tensor) -> Any:
        """What the function returns, in tensors of their own."""
        self._given.copy_(given)
        self._graph.replay()
        return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self._result)
