"""The log-likelihood of many frames under a mixture, without statistics."""

from __future__ import annotations

import numpy.typing as npt

from gmmcore.density import InvalidFramesError
from gmmcore.kernels import make_kernel
from gmmcore.model import GaussianMixture
from gmmcore.statistics import ArraySource, FrameSource
from gmmcore.threads import ordered_map, single_blas

__all__ = ["total_log_likelihood"]


def total_log_likelihood(
    mixture: GaussianMixture,
    source: FrameSource | npt.ArrayLike,
    *,
    precision: str = "double",
    threads: int = 1,
) -> float:
    """Sum the log-likelihoods of frames (natural logarithm), over all components.

    It is what `gmmcore.statistics.accumulate` finds, but for rounding, in less time.

    Parameters
    ----------
    mixture : GaussianMixture
    source : FrameSource or array_like, shape (F, D)
    precision : {'double', 'single'}
        Precision of the matrix products.
    threads : int
        Number of threads. The result does not depend on it.

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture, are masked, or are not real numbers.
    FloatingPointError
        If a frame is not finite, or so far from every component that its log-likelihood is not.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.likelihood import total_log_likelihood
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
    >>> round(total_log_likelihood(mixture, [[0.0], [1.0]]), 3)
    -2.904
    """
    frames = source if isinstance(source, FrameSource) else ArraySource(source)
    if frames.dimension != mixture.dimension:
        raise InvalidFramesError(
            f"frames have dimension {frames.dimension}, the mixture has {mixture.dimension}"
        )
    with single_blas():
        kernel = make_kernel(mixture, precision, pruning=0.0)
        kernel.prepare(frames)

        def work(start: int) -> float:
            stop = min(start + kernel.piece, frames.frames)
            return kernel.log_likelihood(frames, start, stop)

        starts = range(0, frames.frames, kernel.piece)
        # The pieces are added in the order of the frames, whichever is ready first.
        total = sum(ordered_map(work, starts, threads), 0.0)
    if not abs(total) < float("inf"):
        raise FloatingPointError(
            "the log-likelihood of the frames is not finite: a frame is not finite, "
            "or far outside the range of the mixture"
        )
    return total
