"""The team of processes on this machine, each with an interpreter of its own.

They are forks of this process, so that they have its frames without a copy. Coefficients of the
mixture and sums lie in memory that all of them share; their messages are a few numbers.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.settings import MStep
from gmmcore.core.summation import SumTree
from gmmcore.core.teams.base import Team, Work
from gmmcore.core.threads import single_blas
from gmmcore.errors import GmmcoreError

__all__ = ["Processes", "can_fork"]

Bytes = npt.NDArray[np.uint8]
# Where sums are small, a worker computes a piece while those of the last one wait to be added.
_LARGEST_SUMS = 1 << 20
_ALIGNED = 64


def can_fork() -> bool:
    """Whether forks of this process can compute; the libraries of macOS do not survive a fork."""
    return os.name == "posix" and os.uname().sysname != "Darwin"


class Processes(Team):
    """Workers that live as long as the team, and take the pieces of the frames one by one.

    This process adds their sums. It makes the M-step with threads, which spend their time in
    functions that do not need the interpreter.

    Parameters
    ----------
    work : Work
    workers : int
        Number of workers.
    mixture : GaussianMixture
        The first mixture. The following ones have as many components or fewer.

    Raises
    ------
    GmmcoreError
        If a worker cannot be started.
    """

    def __init__(self, work: Work, workers: int, mixture: GaussianMixture) -> None:
        super().__init__(work)
        first = work.expectation(mixture, 0, (False, False))
        turns = 2 if first.size < _LARGEST_SUMS else 1
        # Single precision may become double, which takes twice as many bytes.
        _, buffers = _packed(first)
        self._shared = _shared(2 * sum(_aligned(len(part)) for part in buffers))
        self._slots = [
            _shared(8 * turns * first.size).view(np.float64).reshape(turns, -1)
            for _ in range(workers)
        ]
        self._ends: list[Connection] = []
        self._workers: list[BaseProcess] = []
        context = multiprocessing.get_context("fork")
        try:
            for slots in self._slots:
                here, there = context.Pipe()
                self._ends.append(here)
                worker = context.Process(
                    target=_serve, args=(there, list(self._ends), work, self._shared, slots)
                )
                with warnings.catch_warnings():
                    # The waiting threads of BLAS are not missed in the fork.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    worker.start()
                there.close()
                self._workers.append(worker)
        except OSError as error:
            self.close()
            raise GmmcoreError(
                f"worker process {len(self._workers) + 1} of {workers} cannot be started: "
                f"{error.strerror}; use fewer cores"
            ) from error

    def sums(
        self, expectation: Expectation, level: int, bounds: tuple[int, int] | None = None
    ) -> SumTree:
        """Compute the sums of all pieces of an E-step, or of those within bounds."""
        message, buffers = _packed(expectation)
        places = _write(self._shared, buffers)
        tree = SumTree(len(expectation.pieces))
        chosen = range(*(bounds or (0, len(expectation.pieces))))
        left, waiting = len(chosen), iter(chosen)
        count = self.counter(expectation, bounds)
        for end in self._ends:
            self._send(end, (level, message, places))
        for _ in self._slots[0]:
            for end in self._ends:
                self._send_next(end, waiting)
        turns = dict.fromkeys(self._ends, 0)
        while left:
            for end in cast("list[Connection]", wait(self._ends)):
                slots = self._slots[self._ends.index(end)]
                piece, turn = self._receive(end), turns[end] % len(slots)
                tree.add((0, piece), slots[turn, : expectation.size], keep=True)
                turns[end] += 1
                left -= 1
                count(piece)
                self._send_next(end, waiting)
        return tree

    def maximise(self, mixture: GaussianMixture, statistics: Statistics, settings: MStep) -> Update:
        """Compute the next mixture from the statistics."""
        return maximise(mixture, statistics, settings, threads=len(self._ends))

    def close(self) -> None:
        """End the workers, which have nothing to lose."""
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.join()
        for end in self._ends:
            end.close()

    def _send(self, end: Connection, message: object) -> None:
        try:
            end.send(message)
        except OSError:
            raise self._ended(end) from None

    def _send_next(self, end: Connection, waiting: Iterator[int]) -> None:
        if (piece := next(waiting, None)) is not None:
            self._send(end, piece)

    def _receive(self, end: Connection) -> int:
        try:
            answer = end.recv()
        except (EOFError, OSError):
            raise self._ended(end) from None
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    def _ended(self, end: Connection) -> GmmcoreError:
        worker = self._workers[self._ends.index(end)]
        worker.join()
        code = worker.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        memory = "; it may have met a limit of memory" if code == -signal.SIGKILL else ""
        return GmmcoreError(
            f"worker process {worker.pid} {how}{memory}; give the same command again, which goes "
            "on after the last iteration"
        )


def _shared(size: int) -> Bytes:
    """Return memory that forks of this process share; what is not written to takes no place."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=np.uint8)


def _packed(expectation: Expectation) -> tuple[bytes, list[Bytes]]:
    """Pickle what is not an array, and return the arrays beside it."""
    buffers: list[pickle.PickleBuffer] = []
    message = pickle.dumps(expectation, protocol=5, buffer_callback=buffers.append)
    return message, [np.frombuffer(part.raw(), dtype=np.uint8) for part in buffers]


def _aligned(size: int) -> int:
    return size + -size % _ALIGNED


def _write(shared: Bytes, buffers: Sequence[Bytes]) -> list[tuple[int, int]]:
    """Copy arrays into shared memory, and return where each begins and ends."""
    places, start = [], 0
    for part in buffers:
        places.append((start, start + len(part)))
        shared[start : start + len(part)] = part
        start += _aligned(len(part))
    return places


def _serve(
    end: Connection, others: Sequence[Connection], work: Work, shared: Bytes, slots: Any
) -> None:
    """Compute pieces, until the other end of the pipe is closed or its process ends."""
    for other in others:
        other.close()  # With an open copy of the other end, the end of its process is not seen.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is for the process that leads the team.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    turn = 0
    with single_blas():
        while True:
            try:
                message = end.recv()
            except (EOFError, OSError):
                return
            answer: object = message
            try:
                if isinstance(message, tuple):
                    level, packed, places = message
                    parts = [shared[first:last] for first, last in places]
                    expectation: Expectation = pickle.loads(packed, buffers=parts)  # noqa: S301
                    work.attach(expectation, level)
                    turn = 0
                    continue
                expectation.sums(message, slots[turn % len(slots), : expectation.size])
                turn += 1
            except Exception as error:
                answer = error
            with contextlib.suppress(OSError):
                end.send(answer)
