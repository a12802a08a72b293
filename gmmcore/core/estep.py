"""The E-step: sufficient statistics and log-likelihoods of frames under a mixture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError
from gmmcore.core.frames import FrameSource, Slice, as_source
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import Map, single_blas, threads_map
from gmmcore.core.pruned import LEAST_COMPONENTS, PrunedSums
from gmmcore.core.schedule import LEAST_SECONDS, useful_workers
from gmmcore.core.settings import PARTS
from gmmcore.core.sums import Statistics, Sums

Array = npt.NDArray[np.float64]
# What the length of a part is a multiple of.
_PART_FRAMES = 2048


def parts(source: FrameSource) -> list[Slice]:
    """Divide frames into parts of equal length, whose number depends on that of the frames only."""
    # One worker sums a part, and the sums are added in the order of the parts, so that no bit of
    # the result depends on the number of workers.
    length = max(1, -(-source.frames // (PARTS * _PART_FRAMES))) * _PART_FRAMES
    starts = range(0, max(source.frames, 1), length)
    return [Slice(source, start, min(start + length, source.frames)) for start in starts]


def sums_under(
    mixture: GaussianMixture, precision: str, pruning: float, device: str = "cpu"
) -> Sums:
    """Choose how the E-step sums under a mixture, by the mixture alone."""
    if not 0.0 <= pruning < 1.0:
        raise ValueError(f"pruning is {pruning!r}, a number from 0 to below 1 was expected")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}, 'cpu' or 'cuda' was expected")
    with single_blas():
        if device == "cuda":
            from gmmcore.core.gpu import GpuSums

            return GpuSums(mixture, precision)
        if pruning and mixture.components >= LEAST_COMPONENTS:
            pruned = PrunedSums(mixture, precision, pruning)
            if pruned.pays(mixture):
                return pruned
        return Sums(mixture, precision)


def statistics_over(sums: Sums, frames: Sequence[Slice], map: Map) -> Statistics:
    """Compute the statistics of all parts of some frames; any `map` may call the workers."""
    _check_dimension(sums, frames)
    with single_blas():
        total = sums.total(frames, map)
        return sums.statistics(total, sum(part.total for part in frames))


def log_likelihood_over(sums: Sums, frames: Sequence[Slice], map: Map) -> float:
    """Compute the log-likelihood of all parts of some frames, without statistics."""
    _check_dimension(sums, frames)
    with single_blas():
        return float(sum(map(sums.log_likelihood, frames)))


def _check_dimension(sums: Sums, frames: Sequence[Slice]) -> None:
    if frames[0].dimension != sums.dimension:
        raise InvalidFramesError(
            f"frames have dimension {frames[0].dimension}, the mixture has {sums.dimension}"
        )


def accumulate(
    mixture: GaussianMixture,
    source: FrameSource | npt.ArrayLike,
    *,
    precision: str = "double",
    pruning: float = 0.0,
    threads: int = 1,
    device: str = "cpu",
) -> Statistics:
    """E-step: compute the sufficient statistics of frames under a mixture.

    Parameters
    ----------
    mixture : GaussianMixture
    source : FrameSource or array_like, shape (F, D)
    precision : {'double', 'single'}
        Precision of the matrix products. Sums over blocks of frames are always float64. How far
        single precision may be from double is `lost_digits`: the error depends on the smallest
        variances relative to the overall ones. Where it is more than 3e-4, or 0.05 for a frame,
        double is used instead.
    pruning : float
        Posteriors below this may be left out of the statistics, so that a component's occupancy
        is too low by less than this per frame; 0 is exact. A frame's log-likelihood is too low
        by at most 50 times this: with 2e-8, by 1e-6. A component loses at most the share pruning x
        frames / occupancy of its weight: typically 1e-5 or less, but 2e-4 for one that has 10,000
        posteriors just below 2e-8 for each frame of its own. Its mean and variance move by no more
        than that share, times the distance of these frames in its deviations, or its square.
    threads : int
        Number of threads. The result does not depend on it.
    device : {'cpu', 'cuda'}
        The device that computes: the CPU, or a GPU, which needs ``pip install 'jax[cuda12]'``
        and leaves nothing out, so that `pruning` has no effect there; see docs/gpu.md.

    Returns
    -------
    Statistics
        The sums over all frames.

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture, are masked, or are not real numbers.
    ValueError
        If `precision`, `pruning` or `device` has no valid value.
    FarFramesError
        If a frame is not finite, or so far from every component that its log-likelihood is not.
    GmmcoreError
        If there is no GPU.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.estep import accumulate
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[10.0], [10.0]])
    >>> statistics = accumulate(mixture, [[-2.0], [-1.0], [1.0], [2.0]])
    >>> statistics.count.round(3)
    array([2., 2.])
    >>> round(statistics.log_likelihood_per_frame, 3)
    -2.961
    """
    sums = sums_under(mixture, precision, pruning, device)
    mapped = threads_map(threads) if device == "cpu" else map  # JAX's settings are of one thread.
    return statistics_over(sums, parts(as_source(source)), mapped)


def log_likelihood(
    mixture: GaussianMixture,
    source: FrameSource | npt.ArrayLike,
    *,
    precision: str = "double",
    threads: int = 1,
    device: str = "cpu",
) -> float:
    """Sum the log-likelihoods of frames under all components, which takes less than `accumulate`.

    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> round(log_likelihood(mixture, [[0.0], [1.0]]), 3)
    -2.904
    """
    sums = sums_under(mixture, precision, 0.0, device)
    return log_likelihood_over(sums, parts(as_source(source)), threads_map(threads))


def lost_digits(mixture: GaussianMixture, precision: str, pruning: float) -> float:
    """Bound the error of the log-likelihood per frame that rounding and pruning cause."""
    sums = sums_under(mixture, precision, pruning)
    # What is passed over of a frame is at most 50 times `pruning`.
    passed_over = 50.0 * pruning if isinstance(sums, PrunedSums) else 0.0
    return float(mixture.weights @ sums.rounding[: mixture.components]) + passed_over


class ESteps:
    """The E-steps of a training, which share their frames and workers."""

    def __init__(
        self,
        frames: Callable[[int], FrameSource],  # Those of the subset of a level.
        *,
        precision: str,
        pruning: float,
        device: str = "cpu",
        workers: int = 1,
        map_of: Callable[[int], Map] = threads_map,
        least: float = LEAST_SECONDS,  # What a worker must have to do; see `useful_workers`.
        held_out: Callable[[int], FrameSource] | None = None,  # Read with the subset of a level.
        report: Callable[[int, int], None] | None = None,  # Parts that are done, and all.
    ) -> None:
        self.precision, self.pruning = precision, pruning
        self.device, self.workers = device, workers
        self.report = report
        self._map_of, self._least = map_of, least
        # Parts of the latest subset stay, because a GPU keeps their frames.
        self.parts = lru_cache(1)(lambda level: parts(frames(level)))
        self._held_out_parts = None
        if held_out is not None:
            self._held_out_parts = lru_cache(1)(lambda level: parts(held_out(level)))

    def statistics(self, mixture: GaussianMixture, level: int) -> Statistics:
        """Compute the statistics of the subset of a level."""
        sums = self.sums(mixture)
        return statistics_over(sums, self.parts(level), self.map(mixture, self.parts(level)))

    def held_out(self, mixture: GaussianMixture, level: int) -> float:
        """Compute the log-likelihood per held-out frame; NaN if no frames are held out."""
        if self._held_out_parts is None:
            return nan
        chosen = self._held_out_parts(level)
        sums = sums_under(mixture, self.precision, 0.0, self.device)
        total = log_likelihood_over(sums, chosen, self.map(mixture, chosen))
        return total / sum(part.total for part in chosen)

    def sums(self, mixture: GaussianMixture) -> Sums:
        """Return how the statistics under a mixture are summed."""
        return sums_under(mixture, self.precision, self.pruning, self.device)

    def map(self, mixture: GaussianMixture, chosen: Sequence[Slice]) -> Map:
        """Make a map of as many workers as some parts are worth."""
        workers = useful_workers(
            sum(part.frames for part in chosen),
            mixture.components,
            mixture.dimension,
            full=mixture.is_full,
            most=min(self.workers, len(chosen)),
            least=self._least,
        )
        mapped = self._map_of(workers) if self.device == "cpu" else map
        if self.report is None:
            return mapped
        report = self.report

        def reporting(function: Any, items: Iterable[Any]) -> Iterator[Any]:
            report(0, len(chosen))
            for done, result in enumerate(mapped(function, items), 1):
                report(done, len(chosen))
                yield result

        return reporting
