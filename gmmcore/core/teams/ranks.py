"""The team of the ranks of an MPI program, on one machine or many.

Each rank has a share of the pieces, whose frames it may keep in memory from one iteration to the
next. Rank 0 leads: it decides what is computed, and has the results.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.settings import MStep
from gmmcore.core.summation import SumTree, shares
from gmmcore.core.teams.base import Team, Work
from gmmcore.core.threads import ordered_map
from gmmcore.errors import GmmcoreError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["Ranks", "world"]

Start = Callable[[Any], tuple[Work, tuple[str, str | None]]]

# Largest number of bytes of a message; the standard counts them in 32 bits.
_LARGEST_MESSAGE = 1 << 30


def world(ranks: int) -> Comm:
    """Return the communicator of all ranks.

    Raises
    ------
    GmmcoreError
        If mpi4py, or the MPI under it, is not there, or there are not as many ranks.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise GmmcoreError(
            f"ranks: {ranks} were asked for, and mpi4py cannot be used ({error}); install it with "
            "the MPI of this machine, or 'gmmcore[mpi]', which brings one"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.size != ranks:
        raise GmmcoreError(
            f"ranks: {ranks} were asked for, and MPI started {comm.size}; start as many with "
            "mpiexec -n or srun -n; with srun, choose the kind of MPI, such as srun --mpi=pmi2 "
            "--kill-on-bad-exit"
        )
    return comm


class Ranks(Team):
    """All ranks of a communicator; `begin` must be called before the team computes.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    start : callable
        Function that each rank calls with the argument of `begin`. It returns the `Work`, and what
        the rank computes with, in the words of `gmmcore.core.processor.in_use` and of
        `gmmcore.core.gpu.device.words_of`.
    threads : int
        Number of threads of each rank.
    """

    def __init__(self, comm: Comm, start: Start, threads: int = 1) -> None:
        self._comm = comm
        self._start = start
        self._threads = threads
        self._is_busy = False

    @property
    def leads(self) -> bool:
        """Whether this rank is the one whose results count."""
        return self._comm.rank == 0

    @property
    def here(self) -> tuple[int, float]:
        """This rank's number on its machine, and the share of all frames that the machine has."""
        from mpi4py.MPI import COMM_TYPE_SHARED

        machine = self._comm.Split_type(COMM_TYPE_SHARED)
        return machine.rank, machine.size / self._comm.size

    def begin(self, value: Any) -> Team:
        """Prepare all ranks with a value that rank 0 has."""
        self._order("begin", value)
        return self

    def _begin(self, value: Any) -> None:
        with self._agreeing():
            work, computed_by = self._start(value)
        super().__init__(work)
        for arithmetic, device in self._comm.gather(computed_by) or []:
            self.arithmetic.append(arithmetic)
            self.devices.append(device)

    def serve(self) -> None:
        """Do what rank 0 asks for, until it closes the team."""
        try:
            while (order := self._broadcast(None)) is not None:
                name, *arguments = order
                # Rank 0 raises what any rank does.
                with suppress(_ToldByRank0, GmmcoreError):
                    getattr(self, f"_{name}")(*arguments)
        except BaseException as error:
            print(f"rank {self._comm.rank}: {error!r}", file=sys.stderr, flush=True)
            self._comm.Abort(1)  # The others would wait for ever.

    def sums(
        self, expectation: Expectation, level: int, bounds: tuple[int, int] | None = None
    ) -> SumTree:
        """Compute the sums of all pieces of an E-step, on rank 0."""
        assert bounds is None, "the ranks share all pieces"
        tree: SumTree = self._order("sums", level, expectation)
        return tree

    def maximise(self, mixture: GaussianMixture, statistics: Statistics, settings: MStep) -> Update:
        """Compute the next mixture from the statistics, on rank 0."""
        if not mixture.is_full:
            return maximise(mixture, statistics, settings)
        update: Update = self._order("maximise", mixture, statistics, settings)
        return update

    def close(self) -> None:
        """Let the other ranks go."""
        if self._is_busy:
            self._comm.Abort(1)  # An interruption, which the others do not know of.
        if self.leads:
            self._broadcast(None)

    def _order(self, name: str, *arguments: Any) -> Any:
        """Have all ranks call a method."""
        self._is_busy = True
        self._broadcast((name, *arguments))
        try:
            result = getattr(self, f"_{name}")(*arguments)
        except Exception:
            self._is_busy = False
            raise
        self._is_busy = False
        return result

    def _broadcast(self, value: Any) -> Any:
        """Send what rank 0 has to all ranks, arrays as they lie in memory."""
        buffers: list[pickle.PickleBuffer] = []
        message, sizes = b"", []
        if self.leads:
            message = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            sizes = [part.raw().nbytes for part in buffers]
        message, sizes = self._comm.bcast((message, sizes))
        parts: list[Any] = [part.raw() for part in buffers]
        if not self.leads:
            parts = [np.empty(size, dtype=np.uint8) for size in sizes]
        for part in parts:
            for start in range(0, len(part), _LARGEST_MESSAGE):
                self._comm.Bcast(part[start : start + _LARGEST_MESSAGE])
        return value if self.leads else pickle.loads(message, buffers=parts)  # noqa: S301

    def _sums(self, level: int, expectation: Expectation) -> SumTree:
        """Compute the sums of this rank's pieces, and add them to those of the others."""
        lengths = [last - first for first, last in expectation.pieces]
        bounds = shares(lengths, self._comm.size)
        own = bounds[self._comm.rank]
        with self._agreeing():
            self.work.attach(expectation, level)
            tree = expectation.tree(self._threads, own, self.counter(expectation, own))
        # A node that is not complete on one rank is completed on that of its left half.
        owners = {node: rank for rank, bound in enumerate(bounds) for node in tree.largest(*bound)}
        lowest = sorted(owners)
        while len(owners) > 1:
            level, index = node = heappop(lowest)
            if node not in owners:
                continue  # It is the right half of one that was completed.
            sibling = level, index + 1
            left, right = owners.pop(node), owners.pop(sibling, None)
            owners[level + 1, index // 2] = left
            heappush(lowest, (level + 1, index // 2))
            if right is None or right == left:
                continue
            if self._comm.rank == right:
                self._comm.Send(tree.nodes[sibling], left)
            elif self._comm.rank == left:
                sums = np.empty(expectation.size)
                self._comm.Recv(sums, right)
                tree.add(sibling, sums)
        # With few pieces rank 0 may have none, and the sum is complete on another one.
        for node, owner in owners.items():
            if owner and self._comm.rank == owner:
                self._comm.Send(tree.nodes[node], 0)
            elif owner and self.leads:
                sums = np.empty(expectation.size)
                self._comm.Recv(sums, owner)
                tree.add(node, sums)
        return tree

    def _maximise(
        self, mixture: GaussianMixture, statistics: Statistics, settings: MStep
    ) -> Update:
        return maximise(mixture, statistics, settings, mapped=self._mapped)

    def _mapped(self, work: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]:
        """Compute the results of this rank's items; rank 0 gets them all, in their order."""
        with self._agreeing():
            chosen = items[self._comm.rank :: self._comm.size]
            own = [*ordered_map(work, chosen, self._threads)]
        found = self._comm.gather(own)
        if found is None:
            raise _ToldByRank0
        for position in range(len(items)):
            yield found[position % self._comm.size][position // self._comm.size]

    @contextmanager
    def _agreeing(self) -> Iterator[None]:
        """Raise what a rank raises on all of them, so that none waits for another."""
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        if self._comm.allreduce(error is not None):
            first = next(one for one in self._comm.allgather(error) if one is not None)
            raise first if self.leads else _ToldByRank0


class _ToldByRank0(Exception):  # noqa: N818
    """What rank 0 goes on with alone."""
