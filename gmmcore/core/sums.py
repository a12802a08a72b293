"""The sums of the E-step over frames, in blocks that stay in the cache."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from gmmcore.core.density import FarFramesError
from gmmcore.core.frames import FrameSource, Slice, Weights, weights_of
from gmmcore.core.kinds import KINDS, AnyArray, Array
from gmmcore.core.mixture import GaussianMixture, pack
from gmmcore.core.parallel import Map, single_blas

# Lower exponents are raised to these, because their exponentials, times coordinates, would be
# denormal numbers, which slow a matrix product down a hundred times.
_LOWEST = {np.dtype(np.float32): -45.0, np.dtype(np.float64): -600.0}
_NO_WEIGHT = -1e30
# Largest error of a frame's log-likelihood by rounding in single precision, and of all frames on
# average. (With speech it is below 1e-4.)
_SINGLE_TOLERANCE, _SINGLE_LOSS = 0.05, 3e-4
# Largest number of values in an array of a thread.
_LARGEST_BUFFER = 1 << 22


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of order zero, one and two, about zero and about an origin.

    Attributes
    ----------
    count : ndarray, shape (C,), float64
        Occupancies: sums of posteriors, in frames.
    centred_first : ndarray, shape (C, D), float64
        Sums of posterior x (frame - origin); the property `first` has those of posterior x frame.
    centred_second : ndarray, shape (C, D) or (C, D (D + 1) / 2), float64
        Sums of posterior x (frame - origin)^2; for full covariances, the lower triangles of
        posterior x (frame - origin) (frame - origin)', by rows. The property `second` has those
        of posterior x frame^2, or frame x frame'.
    origin : ndarray, shape (D,), float64
        Overall mean of the mixture, or zero if the mean is near zero: there, the sums lose no
        digits by cancellation.
    log_likelihood : float
        Sum of the frames' log-likelihoods (natural logarithm).
    frames : float
        Number of frames, or the sum of their weights.
    is_full : bool
        Whether the second order statistics are packed symmetric matrices.
    """

    count: Array
    centred_first: Array
    centred_second: Array
    origin: Array
    log_likelihood: float
    frames: float
    is_full: bool

    @property
    def first(self) -> Array:
        """Sums of posterior x frame, about zero, shape (C, D)."""
        return self.centred_first + self.count[:, np.newaxis] * self.origin

    @property
    def second(self) -> Array:
        """Sums of posterior x frame^2 or frame x frame', about zero, of the centred ones' shape."""
        if not self.is_full:
            return self.centred_second + self.origin * (self.centred_first + self.first)
        crossed = self.centred_first[:, :, np.newaxis] * self.origin
        return self.centred_second + pack(
            crossed + self.origin[:, np.newaxis] * self.first[:, np.newaxis]
        )

    @property
    def log_likelihood_per_frame(self) -> float:
        """Mean log-likelihood of a frame (natural logarithm); NaN without frames."""
        return self.log_likelihood / self.frames if self.frames else float("nan")

    def __add__(self, other: Statistics) -> Statistics:
        """Add the statistics of other frames; the origins must be the same."""
        if not np.array_equal(self.origin, other.origin):
            raise ValueError("statistics about different origins cannot be added")
        shapes = self.centred_second.shape, other.centred_second.shape
        if shapes[0] != shapes[1] or self.is_full != other.is_full:
            raise ValueError(f"statistics of shape {shapes[0]} and {shapes[1]} cannot be added")
        return Statistics(
            self.count + other.count,
            self.centred_first + other.centred_first,
            self.centred_second + other.centred_second,
            self.origin,
            self.log_likelihood + other.log_likelihood,
            self.frames + other.frames,
            self.is_full,
        )

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return all(np.isfinite(values).all() for values in vars(self).values())


class Sums:
    """Sums of posterior x phi(x) and of log-likelihoods under one mixture, with all components."""

    # How the sums (width, C) lie in memory: in the order in which they are added.
    order: Literal["C", "F"] = "C"

    def __init__(
        self, mixture: GaussianMixture, precision: str, *, padding: int = 1, block: int = 1024
    ) -> None:
        # Components of no weight are added up to a multiple of `padding`. The arrays of a `block`
        # of frames should stay in the cache.
        if precision not in ("single", "double"):
            raise ValueError(f"precision is {precision!r}, 'single' or 'double' was expected")
        self.kind = KINDS[mixture.kind](mixture)
        self.components, self.dimension = mixture.components, mixture.dimension
        width = len(self.kind.coefficients)
        self.shape = width, self.components + -self.components % padding
        self.dtype: np.dtype[Any] = np.dtype(np.float32 if precision == "single" else np.float64)
        self._round()
        # Where single precision would lose more of a log-likelihood, double precision is used.
        overflows = self.kind.largest_factor > float(np.finfo(self.dtype).max)
        lost = mixture.weights @ self.rounding[: self.components]
        if overflows or not (self.rounding.max() < _SINGLE_TOLERANCE and lost < _SINGLE_LOSS):
            self.dtype = np.dtype(np.float64)
            self._round()
        most = _LARGEST_BUFFER // max(self.shape)
        self.block = max(64, min(block, 1 << most.bit_length() - 1))
        self._lowest = np.array(_LOWEST[self.dtype], self.dtype)
        self._ones = np.ones(self.shape[1], self.dtype)
        self._own = threading.local()

    @property
    def size(self) -> int:
        """Length of the sums."""
        return math.prod(self.shape) + 1

    def _round(self) -> None:
        """Round the coefficients to the precision of the products, and bound the error."""
        exact = self.kind.coefficients
        self.coefficients = np.zeros(self.shape, self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            self.coefficients[-1] = _NO_WEIGHT
            self.coefficients[:, : self.components] = exact
            np.maximum(self.coefficients[-1], _NO_WEIGHT, out=self.coefficients[-1])
            # The error of the expanded quadratic is that of its terms, for a frame one overall
            # deviation from the origin: their absolute sum times the spacing of numbers near one.
            terms = self.kind.typical @ np.abs(self.coefficients[:-1], dtype=np.float64)
            self.rounding = np.asarray(np.finfo(self.dtype).eps * terms)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own = threading.local()

    def buffer(self, name: str, *shape: int) -> AnyArray:
        """Return an array of this thread, which each block uses again; its content is undefined."""
        size = math.prod(shape)
        kept: AnyArray | None = getattr(self._own, name, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, self.dtype)
            setattr(self._own, name, kept)
        return kept[:size].reshape(shape)

    def over(self, source: FrameSource) -> Array:
        """Sum over the frames of a source: shape (width * components + 1,), float64."""
        # The last number is the sum of the log-likelihoods.
        result = np.zeros(self.size)
        total = self._arranged(result)
        with single_blas(), np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for frames, weights in self.blocks(source):
                result[-1] += self.add_block(frames, total, weights)
            self.flush(total)
        return checked(result, source)

    def blocks(self, source: FrameSource) -> Iterator[tuple[AnyArray, Weights | None]]:
        """Yield the frames of a source in blocks, and their weights."""
        for start in range(0, source.frames, self.block):
            stop = min(start + self.block, source.frames)
            yield source.read(start, stop), weights_of(source, start, stop)

    def _arranged(self, result: Array) -> Array:
        return result[:-1].reshape(self.shape, order=self.order)

    def log_likelihood(self, source: FrameSource) -> float:
        """Sum the log-likelihoods of the frames of a source, with all components."""
        total = np.zeros(1)
        with single_blas(), np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for frames, weights in self.blocks(source):
                total += self.densities(frames, weights)[3]
        return float(checked(total, source)[0])

    def total(self, parts: Sequence[Slice], map: Map) -> Array:
        """Add the sums of all parts in their order; any `map` may call the workers."""
        return reduce(operator.iadd, map(self.over, parts))

    def densities(
        self, frames: AnyArray, weights: Weights | None = None
    ) -> tuple[AnyArray, AnyArray, AnyArray, float]:
        """Return products (width, F), densities (F, C) up to a factor, sums, and log-likelihood."""
        products, logs = self.logs(frames)
        shifts = logs.max(axis=1)
        logs -= shifts[:, np.newaxis]
        densities = self.exponentials(logs)
        sums = densities @ self._ones
        return (
            products,
            densities,
            sums,
            weighted(shifts, weights) + weighted(np.log(sums), weights),
        )

    def logs(self, frames: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return products (width, F), and logarithms of weighted densities (F, C)."""
        products = self.products_of(frames)
        logs = self.buffer("logs", len(frames), self.shape[1])
        return products, np.matmul(products.T, self.coefficients, out=logs)

    def products_of(self, frames: AnyArray) -> AnyArray:
        """Return the products of frames (F, D), shape (width, F)."""
        if self.kind.is_full:
            products = self.buffer("products", self.shape[0], len(frames))
        else:  # Those of a frame are adjacent in memory: frames are copied, not transposed.
            products = self.buffer("products", len(frames), self.shape[0]).T
        self.kind.write_products(frames, products)
        return products

    def exponentials(self, logs: AnyArray) -> AnyArray:
        """Replace `logs` by their exponentials, in place; none is a denormal number."""
        np.maximum(logs, self._lowest, out=logs)
        return np.exp(logs, out=logs)

    def add_block(self, frames: AnyArray, total: Array, weights: Weights | None = None) -> float:
        """Add the sums of a block to `total` (width, C), and return its log-likelihood."""
        products, densities, sums, log_likelihood = self.densities(frames, weights)
        shares = 1 / sums
        if weights is not None:
            shares *= weights.astype(self.dtype)
        # The smaller of both factors becomes that of posteriors.
        if self.shape[1] < self.shape[0]:
            densities *= shares[:, np.newaxis]
        else:
            products *= shares
        total += np.matmul(products, densities, out=self.buffer("part", *self.shape))
        return log_likelihood

    def flush(self, total: Array) -> None:
        """Add to `total` what earlier blocks have left."""

    def statistics(self, total: Array, frames: float) -> Statistics:
        """Make the statistics from the sums over all frames."""
        values = self._arranged(total)[:, : self.components]
        return Statistics(
            *self.kind.statistics(values),
            self.kind.origin,
            float(total[-1]),
            frames,
            self.kind.is_full,
        )


def weighted(values: AnyArray, weights: Weights | None) -> float:
    """Add values, each times its weight, in float64."""
    return float(values.sum(dtype=np.float64) if weights is None else weights @ values)


def checked(total: Array, source: FrameSource) -> Array:
    """Return a sum whose last number, the log-likelihood, is finite."""
    if not np.isfinite(total[-1]):
        first = getattr(source, "offset", 0)
        raise FarFramesError(
            f"the log-likelihood of frames {first} to {first + source.frames} is not finite: a "
            "frame is not finite, or far outside the range of the mixture; leave such frames out, "
            "or choose another mixture"
        )
    return total
