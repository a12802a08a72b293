"""Threads whose number does not change the results."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["blas", "ordered_map", "single_blas"]

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def single_blas() -> Iterator[None]:
    """Limit BLAS to one thread within the block: more would change the order of addition.

    The libraries are asked, because their answer may differ from the environment's: they read it
    when they are loaded, and never again.
    """
    libraries = blas()
    if all(library.num_threads == 1 for library in libraries.lib_controllers):
        yield
        return
    with libraries.limit(limits=1):
        yield


@functools.cache
def blas() -> Any:
    """Return threadpoolctl's controller of the loaded BLAS libraries; they are looked up once."""
    import threadpoolctl

    # It looks at the libraries in a callback of the C library, where an interruption would be lost.
    waiting = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    try:
        return threadpoolctl.ThreadpoolController().select(user_api="blas")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
