"""Threads whose number does not change the results."""

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
    """Limit BLAS to one thread within the block: more would change the order of addition."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1" == os.environ.get("MKL_NUM_THREADS"):
        yield  # The limit was set before numpy was imported, as the command line does.
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _libraries() -> Any:
    """Look up the loaded libraries, once, because that takes as long as a small E-step."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def ordered_map(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield the results of `work` in the order of `items`, computed by `threads` threads.

    Parameters
    ----------
    work
        Function of one item, which should release the interpreter lock for most of its time.
    items
        Arguments of `work`.
    threads
        Number of threads; 1 works in the calling thread.
    """
    if threads <= 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                # Only a few results may wait for an earlier one, to save memory.
                if len(waiting) >= threads + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
