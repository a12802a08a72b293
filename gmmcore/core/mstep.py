"""The M-step, as a function of a mixture and statistics."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from gmmcore.core.initial import named
from gmmcore.core.kinds import KINDS
from gmmcore.core.mixture import (
    GaussianMixture,
    InvalidMixtureError,
    unpack,
)
from gmmcore.core.parallel import single_blas, threads_map
from gmmcore.core.settings import MStep
from gmmcore.core.sums import Statistics

Array = npt.NDArray[np.float64]
ARITHMETIC = 7
"""Version of the arithmetic: it is raised with every change that alters any bit of a result."""
# Occupancy, in frames, below which a mean is mostly noise.
_LEAST_OCCUPANCY = 1e-3
# Occupancy that stands for none in a division; it is too small to change a sum of frames.
_NO_FRAMES = 1e-30
# Least occupancy that a weight is computed from: its logarithm stays finite, and a component
# without frames can win some again.
_LEAST_WEIGHT = 1e-6
# Loss of log-likelihood per frame that is none.
_NO_LOSS = 1e-12
# Variance, relative to the second moment, up to which a dimension is taken for constant, because of
# sums in single precision.
_LOST_IN_SUMS = 1e-6


@dataclass(frozen=True)
class Update:
    """Result of an M-step: the next mixture, and what a person is told of it."""

    mixture: GaussianMixture
    floored: int = 0  # Variances, or eigenvalues, that were moved to their floor or ceiling.
    ceiled: int = 0
    low_count: tuple[tuple[int, float], ...] = ()  # Components of few frames, with how many.
    smallest_occupancy: float = 0.0
    held_out: float = nan  # Log-likelihood per held-out frame of the mixture, if there are any.


def maximise(
    mixture: GaussianMixture, statistics: Statistics, settings: MStep, *, threads: int = 1
) -> Update:
    """M-step: compute the next mixture from the statistics of all frames.

    Notes
    -----
    Weights are proportional to the occupancies; means and covariances are the weighted moments
    (Dempster, Laird and Rubin 1977).

    A full covariance S of n frames is then shrunk to (n S + k d R d) / (n + k), where d are its
    own standard deviations, R the correlations of the scatter within all components together, and
    k is ``settings.prior``. So its diagonal stays, and of its correlations a share that grows with
    its count. To shrink to what the classes have in common is regularised discriminant analysis
    (Friedman 1989), to leave the variances alone is in Schaefer and Strimmer (2005), and by the
    count it is done as if by a conjugate prior worth k frames (Gauvain and Lee 1994).

    A component of n frames, fewer than L = ``settings.occupancy``, keeps its place in the mixture,
    and the variances of all frames V stand in for the frames that it lacks: its covariance is
    (n S + (L - n) V) / L. It becomes wide, and can win frames again. With L frames, that changes
    nothing. L is at least 0.001, and of fewer frames than that, the mean keeps the same share of
    its last value, so that neither mean nor covariance has a jump where a component loses its
    frames. The bounds are applied last, to every component.

    Where correlations that are shrunk, or variances that stand in, suit the frames of a component
    less than the covariance before, that one is kept. So each update raises the lower bound that EM
    maximises, and the likelihood never falls (generalised EM, Dempster, Laird and Rubin 1977).

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.mstep import maximise
    >>> from gmmcore.core.estep import accumulate
    >>> from gmmcore.core.settings import MStep
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[10.0], [10.0]])
    >>> statistics = accumulate(mixture, [[-2.0], [-1.0], [1.0], [2.0]])
    >>> maximise(mixture, statistics, MStep(occupancy=1)).mixture.means.round(3)
    array([[-1.5],
           [ 1.5]])
    """
    if not statistics.is_finite():
        raise InvalidMixtureError("the statistics hold a number that is not finite")
    if statistics.count.shape != (mixture.components,) or (statistics.is_full != mixture.is_full):
        raise InvalidMixtureError("the statistics are not those of this mixture")
    if statistics.frames == 0 or not statistics.count.sum() > 0:
        raise InvalidMixtureError("the statistics hold no frames")
    count = np.maximum(statistics.count, 0.0)
    divisor = np.maximum(count, _NO_FRAMES)
    least, prior = settings.frames(mixture.dimension)
    least = max(least, _LEAST_OCCUPANCY)
    low = count < least
    offsets = statistics.centred_first / divisor[:, np.newaxis]
    control = _control(mixture, statistics)
    moved = np.minimum(count / _LEAST_OCCUPANCY, 1.0)[:, np.newaxis]
    means = moved * (statistics.origin + offsets) + (1.0 - moved) * mixture.means
    precisions = np.empty_like(mixture.precisions)
    kind, floored, ceiled = KINDS[mixture.kind], 0, 0
    lacking = low & (not kind.is_shared)
    if kind.is_shared:  # It is estimated from all frames, and needs no others to stand in.
        prior = 0.0

    def work(piece: npt.NDArray[np.intp]) -> tuple[Array, int, int]:
        plain = kind.moments(statistics.centred_second[piece], divisor[piece], offsets[piece])
        moments = plain
        if prior:
            moments = _sharing(plain, pooled, count[piece] / (count[piece] + prior))
        if lacking[piece].any():
            moments = kind.mixed(moments, np.minimum(count[piece] / least, 1.0), control[piece])
        bounds = settings.floor, settings.ceiling
        values, below, above = kind.bounded(moments, control[piece], bounds, piece)
        # What stands in for frames may suit the frames less than before: likelihoods never fall.
        if lacking[piece].any() or prior:
            before = mixture.precisions[piece]
            lost = count[piece] * (_suits(before, plain) - _suits(values, plain))
            worse = (lacking[piece] | bool(prior)) & (lost > _NO_LOSS * statistics.frames)
            values[worse] = before[worse]
        return values, below, above

    with single_blas():
        pooled = _pooled_correlations(statistics, offsets) if prior else np.empty(0)
        pieces = np.array_split(np.arange(mixture.components), -(-mixture.components // kind.piece))
        done = threads_map(threads)(work, pieces)
        for piece, (values, below, above) in zip(pieces, done, strict=True):
            precisions[piece] = values
            floored += below
            ceiled += above
    occupancy = np.maximum(count, _LEAST_WEIGHT)
    updated = GaussianMixture(
        occupancy / occupancy.sum(), means, precisions, mixture.variance_control, mixture.kind
    )
    listed = tuple((int(index), float(count[index])) for index in np.flatnonzero(low))
    return Update(updated, floored, ceiled, listed, float(count.min()))


def _pooled_correlations(statistics: Statistics, offsets: Array) -> Array:
    """Return the correlations (D, D) within components, of all of them together."""
    scatter = unpack(statistics.centred_second.sum(axis=0)) - statistics.centred_first.T @ offsets
    scatter = 0.5 * (scatter + scatter.T)
    variances = np.diagonal(scatter)
    # Coefficients that do not vary have no correlations.
    deviations = np.sqrt(np.where(variances > 0, variances, np.inf))
    return np.asarray(scatter / np.multiply.outer(deviations, deviations))


def _sharing(covariances: Array, pooled: Array, shares: Array) -> Array:
    """Move the correlations of covariances (N, D, D) to pooled ones (D, D).

    A covariance keeps its diagonal, every bit of it, and a share (N,) of its correlations.
    """
    axis = np.arange(len(pooled))
    variances = covariances[:, axis, axis]
    deviations = np.sqrt(np.maximum(variances, 0.0))
    moved = (1.0 - shares)[:, np.newaxis, np.newaxis] * pooled
    moved *= deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :]
    moved += covariances * shares[:, np.newaxis, np.newaxis]
    moved[:, axis, axis] = variances
    return moved


def _suits(precisions: Array, moments: Array) -> Array:
    """Return how well precisions suit frames of some moments: log-likelihoods up to constants."""
    if precisions.ndim == 2:
        return np.asarray((np.log(precisions) - precisions * moments).sum(axis=1))
    return np.asarray(
        np.linalg.slogdet(precisions)[1] - np.einsum("nij,nij->n", precisions, moments)
    )


def _control(mixture: GaussianMixture, statistics: Statistics) -> Array:
    """Return the variances that the bounds are relative to, shape (C, D)."""
    if mixture.variance_control is not None:
        return mixture.variance_control
    # `controlled` was not called: the statistics have the variance of all frames, if not exactly.
    total = statistics.count.sum()
    mean = statistics.centred_first.sum(axis=0) / total
    second = statistics.centred_second.sum(axis=0)
    if statistics.is_full:
        second = np.diagonal(unpack(second))
    second = second / total
    variance = second - mean**2
    # Sums with full covariances are taken in units of the mixture's deviations.
    size = second + mixture.overall_variance if statistics.is_full else second
    constant = variance <= _LOST_IN_SUMS * size
    if constant.any():
        raise InvalidMixtureError(
            f"in dimension {named(constant)} (counted from 0), the frames differ by no more than "
            "rounding, and the mixture has no variance_control; leave the dimension out, or set it"
        )
    return np.broadcast_to(variance, mixture.means.shape)
