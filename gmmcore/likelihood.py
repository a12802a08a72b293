"""The log-likelihood of many frames under a mixture, without statistics."""

from __future__ import annotations

import copy
import math

import numpy.typing as npt

from gmmcore.density import InvalidFramesError
from gmmcore.frames import FrameSource, as_source
from gmmcore.kernels import make_kernel
from gmmcore.model import GaussianMixture
from gmmcore.threads import ordered_map, single_blas

__all__ = ["LogLikelihood"]


class LogLikelihood:
    """Function that sums the log-likelihoods of frames under a mixture.

    The sum over all components is what `gmmcore.statistics.accumulate` finds, but for rounding and
    pruning, in less time.

    Parameters
    ----------
    mixture : GaussianMixture
    precision : {'double', 'single'}
        Precision of the matrix products.
    threads : int
        Number of threads. The result does not depend on it.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.likelihood import LogLikelihood
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> round(LogLikelihood(mixture)([[0.0], [1.0]]), 3)
    -2.904
    """

    def __init__(
        self, mixture: GaussianMixture, precision: str = "double", threads: int = 1
    ) -> None:
        with single_blas():
            self._kernel = make_kernel(mixture, precision, pruning=0.0)
        self._dimension, self._threads = mixture.dimension, threads

    def __call__(self, source: FrameSource | npt.ArrayLike) -> float:
        """Sum the natural logarithms of the density at all frames (F, D); 0 without frames.

        Raises
        ------
        InvalidFramesError
            If the frames have another dimension than the mixture, are masked, or are not real.
        FloatingPointError
            If a frame is not finite, or so far from every component that its log-likelihood is not.
        """
        frames = as_source(source)
        if frames.dimension != self._dimension:
            raise InvalidFramesError(
                f"frames have dimension {frames.dimension}, the mixture has {self._dimension}"
            )
        # What is prepared for these frames does not stay for the next ones.
        kernel = copy.copy(self._kernel)

        def work(start: int) -> float:
            return kernel.log_likelihood(frames, start, min(start + kernel.piece, frames.frames))

        with single_blas():
            kernel.prepare(frames)
            starts = range(0, frames.frames, kernel.piece)
            # The pieces are added in the order of the frames, whichever is ready first.
            total = sum(ordered_map(work, starts, self._threads), 0.0)
        if not math.isfinite(total):
            raise FloatingPointError(
                "the log-likelihood of the frames is not finite: a frame is not finite, "
                "or far outside the range of the mixture"
            )
        return total
