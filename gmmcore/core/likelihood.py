"""The log-likelihood of many frames under a mixture, without statistics."""

from __future__ import annotations

import copy

import numpy.typing as npt

from gmmcore.core.estep import Expectation
from gmmcore.core.frames import FrameSource, as_source
from gmmcore.core.kernels import make_kernel
from gmmcore.core.mixture import GaussianMixture

__all__ = ["LogLikelihood"]


class LogLikelihood:
    """Function that sums the log-likelihoods of frames under a mixture.

    The sum over all components is what `gmmcore.core.estep.accumulate` finds, but for rounding and
    pruning, in less time.

    Parameters
    ----------
    mixture : GaussianMixture
    precision : {'double', 'single'}
        Precision of the matrix products.
    threads : int
        Number of threads. The result does not depend on it.
    device : {'cpu', 'cuda'}
        What computes.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.likelihood import LogLikelihood
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> round(LogLikelihood(mixture)([[0.0], [1.0]]), 3)
    -2.904
    """

    def __init__(
        self,
        mixture: GaussianMixture,
        precision: str = "double",
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        self._kernel = make_kernel(mixture, precision, pruning=0.0)
        self._threads = threads
        self._device = device

    def __call__(self, source: FrameSource | npt.ArrayLike) -> float:
        """Sum the natural logarithms of the density at all frames (F, D); 0 without frames.

        Raises
        ------
        InvalidFramesError
            If the frames have another dimension than the mixture, are masked, or are not real.
        FloatingPointError
            If a frame is not finite, or so far from every component that its log-likelihood is not.
        """
        # What is prepared for these frames does not stay for the next ones.
        kernel = copy.copy(self._kernel)
        expectation = Expectation(
            kernel, as_source(source), has_statistics=False, device=self._device
        )
        return expectation.log_likelihood(expectation.tree(self._threads).total)
