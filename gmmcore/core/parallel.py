"""Maps: whoever calls a function for each of some items. Who it is does not change the results."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import numpy as np

from gmmcore.errors import GmmcoreError

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """Anything with the signature of `map` that yields results in the order of the items."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]: ...


@contextlib.contextmanager
def single_blas() -> Iterator[None]:
    """Limit BLAS to one thread within the block: more would change the order of addition."""
    # Libraries read the environment only when they are loaded.
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


def arithmetic() -> str:
    """Say what computes: numpy and BLAS choose code by the CPU, and sums have other last bits."""
    try:
        from numpy.lib.introspect import opt_func_info

        code = opt_func_info(func_name="^exp$")["exp"]["dd"]["current"]
    except ImportError:  # numpy before 2.1
        code = ""
    # Where scipy is loaded, its own BLAS is there too, and the order of the two may be any.
    found = sorted(blas().info(), key=lambda one: "numpy.libs" not in one["filepath"])
    words = [f"{b['internal_api']} {b['version']} {b.get('architecture', '')}" for b in found[:1]]
    return ", ".join([f"numpy {np.__version__} {code}".strip(), *words])


def threads_map(threads: int) -> Map:
    """Make a map of threads; the function should spend its time without the interpreter lock."""
    if threads <= 1:
        return map

    def mapped(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        with ThreadPoolExecutor(threads) as pool:
            yield from _in_order(pool, function, items, threads)

    return mapped


def processes_map(workers: int) -> Map:
    """Make a map of processes, which are forked at each call, so that they have all frames.

    Results of the function are pickled, the function and the items are not.
    """
    # The libraries of macOS do not survive a fork.
    if workers <= 1 or sys.platform != "linux":
        return threads_map(workers)

    def mapped(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        chosen = list(items)
        context = multiprocessing.get_context("fork")
        setting = (os.getpid(), lambda index: function(chosen[index]))
        try:
            with ProcessPoolExecutor(
                workers, context, initializer=_begin_worker, initargs=setting
            ) as pool:
                with warnings.catch_warnings():
                    # The threads of a progress bar or of BLAS are not missed in the forks.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    _fork_all(pool, workers)
                yield from _in_order(pool, _work_in_worker, range(len(chosen)), workers)
        except BrokenProcessPool:
            raise GmmcoreError(
                "a worker process was killed; it may have met a limit of memory; give the same "
                "command again, which goes on after the last iteration"
            ) from None

    return mapped


def _fork_all(pool: ProcessPoolExecutor, workers: int) -> None:
    """Fork the workers of a pool, which the first call does; all or none stay."""
    before = multiprocessing.active_children()
    try:
        pool.submit(int)
    except OSError as error:
        for worker in multiprocessing.active_children():
            if worker not in before:
                worker.kill()
        raise GmmcoreError(
            f"{workers} worker processes cannot be started: {error.strerror}; use fewer threads"
        ) from error


_function_of_worker: Callable[[int], Any]


def _begin_worker(parent: int, function: Callable[[int], Any]) -> None:
    """Leave Ctrl-C to the parent, and end with the parent however that ends."""
    global _function_of_worker
    _function_of_worker = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        set_death_signal = 1  # PR_SET_PDEATHSIG, see prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _work_in_worker(index: int) -> Any:
    return _function_of_worker(index)


def _in_order(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], workers: int
) -> Iterator[R]:
    """Yield results in the order of the items; to save memory, few wait for an earlier one."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
