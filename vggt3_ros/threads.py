"""How threads of the maths libraries wait for each other, which decides what our programs take of a
busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def spare_the_cores() -> None:
    """Before NumPy and torch are loaded: threads sleep instead of spinning while they wait for each
    other, and NumPy's linear algebra, in small matrices here, has one thread. Whoever has set
    OMP_WAIT_POLICY or OPENBLAS_NUM_THREADS keeps it.

    Spinning threads take the cores from other programs and from each other. NumPy's alone, measured
    on two cores with `tiny`: a query of hololens_office takes 58 to 70 ms instead of 80 to 98, and
    half of the processor's time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch work without further threads meanwhile: what takes it less than they need to wake,
    such as one image in a small network or one pass over the pixels of a few, is done sooner
    without them.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
