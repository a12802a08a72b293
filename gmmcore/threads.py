"""Threads whose number does not change a result."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["ordered_map", "single_blas"]

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def single_blas() -> Iterator[None]:
    """One thread a BLAS call within the block: more would change the order of addition."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1" == os.environ.get("MKL_NUM_THREADS"):
        yield  # said before numpy was imported (the command line does), nothing to look up
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries() -> Any:
    """What is loaded, looked up once: that takes as long as a small E-step."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def ordered_map(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Results of `work` in the order of `items`, at most `threads` of them in the making.

    Parameters
    ----------
    work
        Called with one item; releases the interpreter lock for most of its time.
    items
        What to work on.
    threads
        1 works in the calling thread.
    """
    if threads <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                # A few results may wait for an earlier one; more would cost memory.
                if len(waiting) >= threads + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
