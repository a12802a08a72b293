"""What a team of workers computes, whoever the workers are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from gmmcore.em import Update
from gmmcore.frames import FrameSource
from gmmcore.model import GaussianMixture
from gmmcore.statistics import Expectation, Statistics
from gmmcore.steps import MStep
from gmmcore.summation import SumTree

__all__ = ["Team", "Work"]


@dataclass(frozen=True)
class Work:
    """What all E-steps of a stage have in common.

    Attributes
    ----------
    frames : callable
        Function that returns the frames of the subset of a level.
    precision : {'double', 'single'}
    pruning : float
        See `gmmcore.statistics.accumulate`.
    """

    frames: Callable[[int], FrameSource]
    precision: str
    pruning: float

    def expectation(
        self, mixture: GaussianMixture, level: int, choice: tuple[bool, bool] | None = None
    ) -> Expectation:
        """Prepare the E-step over the subset of a level."""
        return Expectation(mixture, self.frames(level), self.precision, self.pruning, choice)


class Team(ABC):
    """Workers that make the iterations of a stage. Who they are does not change a bit.

    Attributes
    ----------
    work : Work
    arithmetic : list of str
        What other machines than this one compute with, in the words of `gmmcore.processor.in_use`.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.arithmetic: list[str] = []

    def statistics(self, mixture: GaussianMixture, level: int) -> Statistics:
        """Compute the statistics of the subset of a level.

        Raises
        ------
        GmmcoreError
            If a worker ended.
        Exception
            What a worker raised.
        """
        expectation = self.work.expectation(mixture, level)
        return expectation.finish(self.sums(expectation, level).total)

    @abstractmethod
    def sums(
        self, expectation: Expectation, level: int, bounds: tuple[int, int] | None = None
    ) -> SumTree:
        """Compute the sums of all pieces of an E-step, or of those within bounds."""

    @abstractmethod
    def maximise(self, mixture: GaussianMixture, statistics: Statistics, settings: MStep) -> Update:
        """Compute the next mixture from the statistics; see `gmmcore.em.maximise`."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers go."""
