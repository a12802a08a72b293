"""What a team of workers computes, whoever the workers are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.frames import FrameSource
from gmmcore.core.kernels import make_kernel
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update
from gmmcore.core.settings import MStep
from gmmcore.core.summation import SumTree

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
        See `gmmcore.core.estep.accumulate`.
    held_out : callable, optional
        Function that returns the held-out frames for iterations of a level.
    device : {'cpu', 'cuda'}
        What computes.
    """

    frames: Callable[[int], FrameSource]
    precision: str
    pruning: float
    held_out: Callable[[int], FrameSource] | None = None
    device: str = "cpu"

    def expectation(
        self, mixture: GaussianMixture, level: int, choice: tuple[bool, bool] | None = None
    ) -> Expectation:
        """Prepare the E-step over the subset of a level."""
        kernel = make_kernel(mixture, self.precision, self.pruning)
        return Expectation(kernel, self.frames(level), choice, device=self.device)

    def likelihood(self, mixture: GaussianMixture, level: int) -> Expectation:
        """Prepare the log-likelihood of the held-out frames."""
        assert self.held_out is not None
        kernel = make_kernel(mixture, self.precision, 0.0)
        source = self.held_out(level)
        return Expectation(kernel, source, has_statistics=False, device=self.device)

    def attach(self, expectation: Expectation, level: int) -> None:
        """Set the frames of one that comes from another process."""
        source = self.frames if expectation.has_statistics else self.held_out
        assert source is not None
        expectation.source = source(level)


class Team(ABC):
    """Workers that make the iterations of a stage. Who they are does not change a bit.

    Attributes
    ----------
    work : Work
    arithmetic : list of str
        What other machines than this one compute with, in the words of
        `gmmcore.core.processor.in_use`.
    devices : list of str or None
        The same of devices, in the words of `gmmcore.core.gpu.device.words_of`.
    report : callable, optional
        Function that is told how many frames of how many an E-step has read, at first none, by the
        process that leads the team, and of the frames that it knows of.
    """

    report: Callable[[int, int], None] | None = None

    def __init__(self, work: Work) -> None:
        self.work = work
        self.arithmetic: list[str] = []
        self.devices: list[str | None] = []

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

    def held_out(self, mixture: GaussianMixture, level: int) -> tuple[float, int]:
        """Sum the log-likelihoods of the held-out frames, and count them."""
        expectation = self.work.likelihood(mixture, level)
        total = self.sums(expectation, level).total
        return expectation.log_likelihood(total), expectation.source.frames

    def counter(
        self, expectation: Expectation, bounds: tuple[int, int] | None
    ) -> Callable[[int], None]:
        """Return the function to call with each piece that is done, of all or those in bounds."""
        report, done = self.report, 0
        if report is None:
            return lambda _: None
        lengths = [last - first for first, last in expectation.pieces]
        frames = sum(lengths[slice(*(bounds or (None,)))])

        def count(piece: int) -> None:
            nonlocal done
            done += lengths[piece]
            report(done, frames)

        report(0, frames)
        return count

    @abstractmethod
    def sums(
        self, expectation: Expectation, level: int, bounds: tuple[int, int] | None = None
    ) -> SumTree:
        """Compute the sums of all pieces of an E-step, or of those within bounds."""

    @abstractmethod
    def maximise(self, mixture: GaussianMixture, statistics: Statistics, settings: MStep) -> Update:
        """Compute the next mixture from the statistics; see `gmmcore.core.mstep.maximise`."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers go."""
