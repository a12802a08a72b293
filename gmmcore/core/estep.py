"""Sufficient statistics of frames under a mixture, and the E-step that computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import InvalidFramesError
from gmmcore.core.frames import FrameSource, as_source
from gmmcore.core.gpu.choice import chosen
from gmmcore.core.kernels import Kernel, make_kernel
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.summation import SumTree, pieces
from gmmcore.core.threads import ordered_map, single_blas

if TYPE_CHECKING:
    from gmmcore.core.gpu.blocks import DeviceSums

__all__ = [
    "Expectation",
    "Statistics",
    "accumulate",
    "pack",
    "unpack",
]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of order zero, one and two about an origin.

    Attributes
    ----------
    count : ndarray, shape (C,), float64
        Occupancies: sums of posteriors, in frames.
    first : ndarray, shape (C, D), float64
        Sums of posterior x (frame - origin).
    second : ndarray, shape (C, D) or (C, D (D + 1) / 2), float64
        Sums of posterior x (frame - origin)^2; for full covariances, the lower triangles of
        posterior x (frame - origin) (frame - origin)', by rows.
    origin : ndarray, shape (D,), float64
        Overall mean of the mixture, or zero if the mean is near zero: there, the sums lose no
        digits by cancellation.
    log_likelihood : float
        Sum of the frames' log-likelihoods (natural logarithm).
    frames : int
        Number of frames.
    is_full : bool
        Whether the second order statistics are packed symmetric matrices.
    """

    count: Array
    first: Array
    second: Array
    origin: Array
    log_likelihood: float
    frames: int
    is_full: bool

    @property
    def log_likelihood_per_frame(self) -> float:
        """Mean log-likelihood of a frame (natural logarithm); NaN without frames."""
        return self.log_likelihood / self.frames if self.frames else float("nan")

    def __add__(self, other: Statistics) -> Statistics:
        """Add the statistics of other frames; the origins must be the same."""
        if not np.array_equal(self.origin, other.origin):
            raise ValueError("statistics about different origins cannot be added")
        if self.second.shape != other.second.shape or self.is_full != other.is_full:
            raise ValueError(
                f"statistics of shape {self.second.shape} and {other.second.shape} cannot be added"
            )
        return Statistics(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
            self.origin,
            self.log_likelihood + other.log_likelihood,
            self.frames + other.frames,
            self.is_full,
        )

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return bool(
            np.isfinite(self.log_likelihood)
            and np.isfinite(self.count).all()
            and np.isfinite(self.first).all()
            and np.isfinite(self.second).all()
            and np.isfinite(self.origin).all()
        )


class Expectation:
    """The E-step under one mixture: sums over pieces of the frames, by whom ever and in any order.

    Parameters
    ----------
    kernel : Kernel
        That of the mixture, whose way to process blocks is chosen here.
    source : FrameSource
    choice : tuple of (bool, bool), optional
        The `choice` of an object with the same arguments, if its sample need not be read again.
    has_statistics : bool
        Whether the sums are statistics and the log-likelihood, or only the latter, which takes two
        thirds of the time.
    device : {'cpu', 'cuda'}
        What computes them.

    Attributes
    ----------
    source : FrameSource
        The frames. They are not pickled with the object, and must be set after that.
    pieces : list of (int, int)
        First and last frame of each piece; see `gmmcore.core.summation.pieces`.
    choice : tuple of (bool, bool)
        How blocks are processed, which a sample of the frames decides.
    size : int
        Length of the sums of a piece.

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture.
    """

    def __init__(
        self,
        kernel: Kernel,
        source: FrameSource,
        choice: tuple[bool, bool] | None = None,
        *,
        has_statistics: bool = True,
        device: str = "cpu",
    ) -> None:
        if source.dimension != kernel.dimension:
            raise InvalidFramesError(
                f"frames have dimension {source.dimension}, the mixture has {kernel.dimension}"
            )
        self.source = source
        self.has_statistics = has_statistics
        self._frames = source.frames
        self._kernel = kernel
        self._device: DeviceSums | None = None
        if device not in ("cpu", "cuda"):
            raise ValueError(f"device is {device!r}, 'cpu' or 'cuda' was expected")
        if device != "cpu":
            from gmmcore.core.gpu.blocks import DeviceSums

            self._device = DeviceSums(kernel, has_statistics)
            choice = False, False
        if choice is None:
            with single_blas():
                kernel.prepare(source)
        else:
            kernel.is_sparse, kernel.is_referenced = choice
        self.choice = kernel.is_sparse, kernel.is_referenced
        self.size = kernel.padded_components * kernel.width * has_statistics + 1
        self.pieces = pieces(source.frames, (self._device or kernel).piece)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "source"}

    def sums(self, piece: int, out: Array | None = None) -> Array:
        """Compute the sums of a piece; threads of BLAS are the caller's business.

        Parameters
        ----------
        piece : int
            Position in `pieces`.
        out : ndarray, shape (size,), float64, optional
            Where the sums are written to.

        Returns
        -------
        ndarray, shape (size,), float64
            Sums in the order of the kernel, and at the end the sum of log-likelihoods.

        Raises
        ------
        FloatingPointError
            If a frame is not finite, or so far from every component that its log-likelihood is not.
        """
        first, last = self.pieces[piece]
        found = np.empty(self.size) if out is None else out
        if self.has_statistics:
            found[-1] = self._kernel.sums(self.source, first, last, found[:-1])
        else:
            found[-1] = self._kernel.log_likelihood(self.source, first, last)
        if not np.isfinite(found[-1]):
            raise self._not_finite(piece)
        return found

    def _not_finite(self, piece: int) -> FloatingPointError:
        first, last = self.pieces[piece]
        return FloatingPointError(
            f"the log-likelihood of frames {first} to {last} is not finite: a frame is not "
            "finite, or far outside the range of the mixture"
        )

    def tree(
        self,
        threads: int = 1,
        bounds: tuple[int, int] | None = None,
        count: Callable[[int], None] = lambda _: None,
    ) -> SumTree:
        """Compute the sums of all pieces, or of those within bounds, with threads or a device.

        `count` is called with each piece that is done.
        """
        chosen = range(*(bounds or (0, len(self.pieces))))
        if self._device is not None:
            return self._device_tree(self._device, chosen, count)
        tree = SumTree(len(self.pieces))
        with single_blas():
            for piece, sums in zip(chosen, ordered_map(self.sums, chosen, threads), strict=True):
                tree.add((0, piece), sums)
                count(piece)
        return tree

    def _device_tree(
        self, device: DeviceSums, chosen: Sequence[int], count: Callable[[int], None]
    ) -> SumTree:
        tree = device.tree(self.source, self.pieces, chosen, count)
        if not all(np.isfinite(sums[-1]) for sums in tree.nodes.values()):
            for piece in chosen:
                alone = device.tree(self.source, self.pieces, [piece], lambda _: None)
                if not all(np.isfinite(sums[-1]) for sums in alone.nodes.values()):
                    raise self._not_finite(piece)
        return tree

    def log_likelihood(self, total: Array | None) -> float:
        """Return the sum of the log-likelihoods of all pieces; 0 where there is no piece."""
        return 0.0 if total is None else float(total[-1])

    def finish(self, total: Array | None) -> Statistics:
        """Return the statistics with the sums of all pieces; None where there is no piece."""
        kernel = self._kernel
        values = np.zeros(self.size) if total is None else total
        with single_blas():
            count, first, second = kernel.finish(kernel.arranged(values[:-1]))
        return Statistics(
            count,
            first,
            second,
            kernel.origin,
            self.log_likelihood(total),
            self._frames,
            kernel.is_full,
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
        single precision may be from double is `gmmcore.core.kernels.lost_digits`: it depends on the
        smallest variances relative to the overall ones. Where it is more than 0.05 for a frame,
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
    device : {'cpu', 'cuda', 'auto'}
        What computes: the processor, a graphics processor, or that if there is one. A graphics
        processor leaves nothing out, so that `pruning` has no part there. Frames of a source
        stay on it as long as the source exists, and must not change; those of an array are read
        each time. It needs ``pip install 'gmmcore[gpu]'``; docs/gpu.md says more.

    Returns
    -------
    Statistics
        The sums over all frames.

    Raises
    ------
    InvalidFramesError
        If the frames have another dimension than the mixture, are masked, or are not real numbers.
    ValueError
        If `precision` or `pruning` has no valid value.
    FloatingPointError
        If a frame is not finite, or so far from every component that its log-likelihood is not.
    GmmcoreError
        If `device` has no valid value, or there is none.

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
    kernel = make_kernel(mixture, precision, pruning)
    expectation = Expectation(kernel, as_source(source), device=chosen(device))
    return expectation.finish(expectation.tree(threads).total)


def pack(matrices: Array) -> Array:
    """Pack symmetric matrices (C, D, D) to lower triangles by rows, (C, D (D + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack(packed: Array) -> Array:
    """Unpack lower triangles by rows, (C, D (D + 1) / 2), to symmetric matrices (C, D, D)."""
    size = packed.shape[-1]
    dimension = (int(np.sqrt(8 * size + 1)) - 1) // 2
    rows, columns = np.tril_indices(dimension)
    result = np.empty((*packed.shape[:-1], dimension, dimension))
    result[..., rows, columns] = packed
    result[..., columns, rows] = packed
    return result
