"""The team of the threads of this process, one or more."""

from __future__ import annotations

from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.settings import MStep
from gmmcore.core.summation import SumTree
from gmmcore.core.teams.base import Team, Work

__all__ = ["Threads"]


class Threads(Team):
    """Threads share everything, also the interpreter, which only one of them uses at a time.

    Parameters
    ----------
    work : Work
    threads : int
    """

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__(work)
        self._threads = threads

    def sums(
        self, expectation: Expectation, level: int, bounds: tuple[int, int] | None = None
    ) -> SumTree:
        """Compute the sums of all pieces of an E-step, or of those within bounds."""
        return expectation.tree(self._threads, bounds, self.counter(expectation, bounds))

    def maximise(self, mixture: GaussianMixture, statistics: Statistics, settings: MStep) -> Update:
        """Compute the next mixture from the statistics."""
        return maximise(mixture, statistics, settings, threads=self._threads)

    def close(self) -> None:
        """Do nothing: the threads of an E-step end with it."""
