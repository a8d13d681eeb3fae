"""How threads of the maths libraries wait for each other, which decides what our programs take of a
busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")


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
def one_torch_thread() -> Iterator[int]:
    """Let torch work without further threads meanwhile: what takes it less than they need to wake,
    such as one image in a small network or one pass over the pixels of a few, is done sooner
    without them. Gives how many it has otherwise.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def each_in_threads(
    work: Callable[[_Item], None],
    items: Sequence[_Item],
    threads: int,
    progress: Callable[[int], None],
) -> None:
    """Do the work on every item, without gradients, so many of them at a time; progress is told how
    many are done, one after the other.

    What `work` or progress raises is raised here, and what has not begun then is left. One thread
    is this one.
    """
    import torch

    work = torch.no_grad()(work)  # each thread has to be told
    if threads == 1:
        for done, item in enumerate(items, start=1):
            work(item)
            progress(done)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done, _ in enumerate(pool.map(work, items), start=1):
                progress(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
