"""Every step of a training except the E-step, as functions of parameters and statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gmmcore.bounds import bounded_precisions, bounded_variances
from gmmcore.model import GaussianMixture, InvalidMixtureError, covariance_to_precision
from gmmcore.moments import Moments
from gmmcore.statistics import Statistics, unpack
from gmmcore.steps import MStep
from gmmcore.threads import ordered_map, single_blas

__all__ = [
    "ARITHMETIC",
    "Update",
    "controlled",
    "maximise",
    "one_gaussian",
    "split",
    "to_full",
]

Array = npt.NDArray[np.float64]
ARITHMETIC = 3
"""Version of the arithmetic: it is raised with every change that alters any bit of a result."""
# Least occupancy, in frames, that a weight is computed from: its logarithm stays finite, and a
# component without frames can win some again. Of fewer frames, nothing else is computed.
_LEAST_OCCUPANCY = 1e-3
# Deviations of frames, relative to their mean, up to which a dimension is taken for constant: with
# any frames, and with frames in single precision, which has 24 bits.
_CONSTANT = 1e-10
_LOST_IN_SINGLE = 1e-7
# The same for a variance relative to the second moment, of sums in single precision.
_LOST_IN_SUMS = 1e-6
# Number of components in one task of a thread.
_PIECE_COMPONENTS = 32


@dataclass(frozen=True)
class Update:
    """Result of an M-step.

    Attributes
    ----------
    mixture : GaussianMixture
        The next mixture.
    floored, ceiled : int
        Number of variances, or eigenvalues, that were moved to their floor or ceiling.
    low_count : tuple of (int, float)
        Components whose occupancy is below ``MStep.occupancy``, each with its occupancy.
    smallest_occupancy : float
        Smallest occupancy of all components, in frames.
    allowance : float
        How far the log-likelihood per frame may fall because ``MStep.prior`` shrinks correlations:
        what the lower bound that EM maximises lost with this update; 0 if it grew.
    plain : GaussianMixture or None
        What EM made, if `mixture` was extrapolated beyond it (`gmmcore.training.iterations`).
    ahead : bool or None
        Whether `mixture` was extrapolated; None if it could not be, however the stage goes on.
    """

    mixture: GaussianMixture
    floored: int = 0
    ceiled: int = 0
    low_count: tuple[tuple[int, float], ...] = ()
    smallest_occupancy: float = 0.0
    allowance: float = 0.0
    plain: GaussianMixture | None = None
    ahead: bool | None = None


def one_gaussian(moments: Moments, *, stored: npt.DTypeLike = np.float64) -> GaussianMixture:
    """Make the mixture of one component that fits all frames.

    Parameters
    ----------
    moments : Moments
        Moments of all frames.
    stored : dtype
        Type in which the frames are stored: ``float32`` cannot hold a deviation of less than a
        ten-millionth of the mean, which is then refused.

    Returns
    -------
    GaussianMixture
        One diagonal component with the variance of the frames, which is also its
        ``variance_control``.

    Raises
    ------
    InvalidMixtureError
        If there are fewer than two frames or a dimension is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore.em import one_gaussian
    >>> from gmmcore.moments import Moments
    >>> mixture = one_gaussian(Moments.of(np.array([[0.0, 0.0], [2.0, 8.0]])))
    >>> mixture.means, mixture.covariances
    (array([[1., 4.]]), array([[ 1., 16.]]))
    """
    row = _variances(moments, stored)[np.newaxis]
    return GaussianMixture.from_covariances([1.0], moments.mean[np.newaxis], row, row)


def controlled(
    mixture: GaussianMixture, moments: Moments, *, stored: npt.DTypeLike = np.float64
) -> GaussianMixture:
    """Give a mixture the variances of all frames as its ``variance_control``, if it has none.

    Mixtures of other tools have none. Parameters and errors are those of `one_gaussian`.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.em import controlled
    >>> from gmmcore.moments import Moments
    >>> frames = np.array([[0.0, 0.0], [2.0, 8.0]])
    >>> mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
    >>> controlled(mixture, Moments.of(frames)).variance_control
    array([[ 1., 16.]])
    """
    if mixture.variance_control is not None:
        return mixture
    control = np.broadcast_to(_variances(moments, stored), mixture.means.shape)
    return GaussianMixture(mixture.weights, mixture.means, mixture.precisions, control)


def split(mixture: GaussianMixture, components: int | None = None) -> GaussianMixture:
    """Divide components in two.

    As in SIDEKIT, the mean moves by one standard deviation to either side along the axis of
    largest variance (for full covariances, the principal axis). Both halves keep the covariance
    and half the weight.

    Parameters
    ----------
    mixture : GaussianMixture
    components : int, optional
        Number of components of the result, from C to 2 C; 2 C by default. If it is less than
        2 C, only the heaviest components are divided.

    Returns
    -------
    GaussianMixture
        The C components, where a divided one is its lower half, followed by the upper halves.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.em import split
    >>> split(GaussianMixture.from_covariances([1.0], [[1.0, 4.0]], [[1.0, 16.0]])).means
    array([[1., 0.],
           [1., 8.]])
    """
    count = mixture.components
    wanted = 2 * count if components is None else components
    if not count <= wanted <= 2 * count:
        raise ValueError(f"{count} components can be split to {count}..{2 * count}, not {wanted}")
    # The sort is stable: of equal weights, the first are taken.
    chosen = np.sort(np.argsort(-mixture.weights, kind="stable")[: wanted - count])
    shift = _shift(mixture, chosen)
    weights = mixture.weights.copy()
    weights[chosen] *= 0.5
    means = mixture.means.copy()
    means[chosen] -= shift
    control = mixture.variance_control
    return GaussianMixture(
        np.concatenate([weights, weights[chosen]]),
        np.concatenate([means, mixture.means[chosen] + shift]),
        np.concatenate([mixture.precisions, mixture.precisions[chosen]]),
        None if control is None else np.concatenate([control, control[chosen]]),
    )


def to_full(mixture: GaussianMixture) -> GaussianMixture:
    """Give a mixture full covariances; one that has them is returned as it is.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.em import to_full
    >>> to_full(GaussianMixture.from_covariances([1.0], [[1.0, 4.0]], [[1.0, 16.0]])).covariances
    array([[[ 1.,  0.],
            [ 0., 16.]]])
    """
    if mixture.is_full:
        return mixture
    identity = np.eye(mixture.dimension)
    return GaussianMixture(
        mixture.weights,
        mixture.means,
        mixture.precisions[:, :, np.newaxis] * identity,
        mixture.variance_control,
    )


def maximise(
    mixture: GaussianMixture,
    statistics: Statistics,
    settings: MStep,
    *,
    threads: int = 1,
) -> Update:
    """M-step: compute the next mixture from the statistics.

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture that the statistics were computed with, shape (C, D).
    statistics : Statistics
        Sufficient statistics of all frames.
    settings : MStep
        Bounds of the covariances, and what is done with components that have few frames.
    threads : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    Update

    Raises
    ------
    InvalidMixtureError
        If the statistics are not finite, hold no frames or are not those of this mixture, if a
        covariance is not positive definite and the floor is zero, or if no component is left.

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
    nothing. The bounds are applied last.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.em import maximise
    >>> from gmmcore.statistics import accumulate
    >>> from gmmcore.steps import MStep
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
    least, prior = settings.frames(mixture.dimension)
    low = count < least
    # Numbers of almost no frames are noise, so that such a component is kept as it is.
    kept = np.where(low, count < _LEAST_OCCUPANCY, count <= 0)
    safe = np.where(kept, 1.0, count)[:, np.newaxis]
    offsets = statistics.first / safe
    control = _control(mixture, statistics)
    means = mixture.means.copy()
    means[~kept] = statistics.origin + offsets[~kept]
    precisions = mixture.precisions.copy()
    growth = np.zeros(mixture.components)
    if mixture.is_full:
        floored = ceiled = 0
        axis = np.arange(mixture.dimension)
        with single_blas():
            pooled = _pooled_correlations(statistics, offsets) if prior else np.empty(0)

        def work(piece: npt.NDArray[np.intp]) -> tuple[Array, int, int, Array]:
            mean = offsets[piece]
            moments = unpack(statistics.second[piece]) / count[piece, np.newaxis, np.newaxis]
            moments -= mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
            plain = moments.copy() if prior else moments
            if prior:
                _share_correlations(moments, pooled, count[piece] / (count[piece] + prior))
            if low[piece].any():
                share = np.minimum(count[piece] / least, 1.0)[:, np.newaxis]
                moments *= share[:, :, np.newaxis]
                moments[:, axis, axis] += (1.0 - share) * control[piece]
            values, below, above = bounded_precisions(
                moments, control[piece], (settings.floor, settings.ceiling), piece
            )
            grown = _growth(mixture, piece, plain, means[piece], values) if prior else growth[piece]
            return values, below, above, grown

        pieces = np.array_split(np.flatnonzero(~kept), -(-mixture.components // _PIECE_COMPONENTS))
        with single_blas():
            done = ordered_map(work, pieces, threads)
            for piece, (values, below, above, grown) in zip(pieces, done, strict=True):
                precisions[piece] = values
                growth[piece] = grown
                floored += below
                ceiled += above
    else:
        raw = statistics.second / safe - offsets * offsets
        if low.any():
            share = np.minimum(count / least, 1.0)[:, np.newaxis]
            raw = np.where(low[:, np.newaxis], share * raw + (1.0 - share) * control, raw)
        variances, floored, ceiled = bounded_variances(
            raw, control, (settings.floor, settings.ceiling), ~kept
        )
        precisions[~kept] = covariance_to_precision(variances[~kept])
    occupancy = np.maximum(count, _LEAST_OCCUPANCY)
    updated = GaussianMixture(
        occupancy / occupancy.sum(), means, precisions, mixture.variance_control
    )
    allowance = 0.0
    if mixture.is_full and prior:
        growth += updated.log_weights - mixture.log_weights
        growth += 0.5 * (mixture.log_determinants - updated.log_determinants)
        used = count > 0
        allowance = max(0.0, -float(count[used] @ growth[used]) / statistics.frames)
    listed = tuple((int(index), float(count[index])) for index in np.flatnonzero(low))
    if listed and settings.action == "remove":
        updated = _without(updated, low)
    elif listed and settings.action == "resplit":
        updated = _resplit(updated, low)
    return Update(updated, floored, ceiled, listed, float(count.min()), allowance)


def _pooled_correlations(statistics: Statistics, offsets: Array) -> Array:
    """Return the correlations (D, D) within components, of all of them together."""
    scatter = unpack(statistics.second.sum(axis=0)) - statistics.first.T @ offsets
    scatter = 0.5 * (scatter + scatter.T)
    variances = np.diagonal(scatter)
    # Coefficients that do not vary have no correlations.
    deviations = np.sqrt(np.where(variances > 0, variances, np.inf))
    return np.asarray(scatter / np.multiply.outer(deviations, deviations))


def _share_correlations(covariances: Array, pooled: Array, shares: Array) -> None:
    """Move the correlations of covariances (N, D, D), in place, to pooled ones (D, D).

    A covariance keeps its diagonal, every bit of it, and a share (N,) of its correlations.
    """
    axis = np.arange(len(pooled))
    variances = covariances[:, axis, axis]
    deviations = np.sqrt(np.maximum(variances, 0.0))
    rest = (1.0 - shares)[:, np.newaxis, np.newaxis] * pooled
    rest *= deviations[:, :, np.newaxis] * deviations[:, np.newaxis, :]
    covariances *= shares[:, np.newaxis, np.newaxis]
    covariances += rest
    covariances[:, axis, axis] = variances


def _growth(
    mixture: GaussianMixture,
    piece: npt.NDArray[np.intp],
    covariances: Array,
    means: Array,
    precisions: Array,
) -> Array:
    """Return what the quadratic terms add, per frame, to the log-likelihood of some components.

    The frames of the components `piece` have the given means, which are the new ones, and
    covariances; the new precisions replace those of the mixture.
    """
    before = mixture.precisions[piece]
    moved = means - mixture.means[piece]
    lost = np.einsum("nij,nij->n", before - precisions, covariances)
    result: Array = 0.5 * (lost + np.einsum("ni,nij,nj->n", moved, before, moved))
    return result


def _shift(mixture: GaussianMixture, chosen: npt.NDArray[np.intp]) -> Array:
    if mixture.is_full:
        values, vectors = np.linalg.eigh(mixture.covariances[chosen])
        axis = vectors[:, :, -1]
        # An eigenvector's sign is arbitrary; the largest coordinate is made positive.
        largest = np.take_along_axis(axis, np.abs(axis).argmax(axis=1)[:, np.newaxis], axis=1)
        return axis * np.sign(largest) * np.sqrt(values[:, -1:])
    precisions = mixture.precisions[chosen]
    shift = np.zeros_like(precisions)
    rows = np.arange(len(chosen))
    widest = precisions.argmin(axis=1)
    shift[rows, widest] = 1.0 / np.sqrt(precisions[rows, widest])
    return shift


def _variances(moments: Moments, stored: npt.DTypeLike) -> Array:
    """Return the variances of all frames, shape (D,); refuse those that are zero or lost."""
    if moments.count < 2:
        raise InvalidMixtureError(f"{moments.count} frames are too few for a Gaussian")
    variances = moments.scatter / moments.count
    if not np.isfinite(variances).all():
        raise InvalidMixtureError("a frame holds a value that is not finite, or too large")
    size = np.abs(moments.mean)
    # Rounding alone leaves a constant dimension a deviation of about 1e-12 of its value.
    constant = variances <= (_CONSTANT * size) ** 2
    single = np.dtype(stored) == np.float32
    if constant.any():
        remedy = "leave it out with `features: mask`"
        raise InvalidMixtureError(
            f"every frame has the same value in dimension {_named(constant)} (counted from 0)"
            + (
                f" once it is stored in single precision; {remedy}, or subtract the mean if the "
                "values do differ"
                if single
                else f"; {remedy}"
            )
        )
    lost = variances <= (_LOST_IN_SINGLE * size) ** 2
    if single and lost.any():
        raise InvalidMixtureError(
            f"the values in dimension {_named(lost)} (counted from 0) differ by less than single "
            "precision, in which frames are stored, holds so far from zero; subtract their mean, "
            "or leave the dimension out with `features: mask`"
        )
    return variances


def _named(chosen: npt.NDArray[np.bool_]) -> str:
    return ", ".join(str(index) for index in np.flatnonzero(chosen))


def _control(mixture: GaussianMixture, statistics: Statistics) -> Array:
    """Return the variances that the bounds are relative to, shape (C, D)."""
    if mixture.variance_control is not None:
        return mixture.variance_control
    # `controlled` was not called: the statistics have the variance of all frames, if not exactly.
    total = statistics.count.sum()
    mean = statistics.first.sum(axis=0) / total
    second = statistics.second.sum(axis=0)
    if statistics.is_full:
        second = np.diagonal(unpack(second))
    second = second / total
    variance = second - mean**2
    # Sums with full covariances are taken in units of the mixture's deviations.
    size = second + mixture.overall_variance if statistics.is_full else second
    constant = variance <= _LOST_IN_SUMS * size
    if constant.any():
        raise InvalidMixtureError(
            f"in dimension {_named(constant)} (counted from 0), the frames differ by no more than "
            "rounding, and the mixture has no variance_control; leave the dimension out, or set it"
        )
    return np.broadcast_to(variance, mixture.means.shape)


def _without(mixture: GaussianMixture, low: npt.NDArray[np.bool_]) -> GaussianMixture:
    keep = ~low
    if not keep.any():
        raise InvalidMixtureError("no component has enough frames; train fewer components")
    weights = mixture.weights[keep]
    control = mixture.variance_control
    return GaussianMixture(
        weights / weights.sum(),
        mixture.means[keep],
        mixture.precisions[keep],
        None if control is None else control[keep],
    )


def _resplit(mixture: GaussianMixture, low: npt.NDArray[np.bool_]) -> GaussianMixture:
    """Replace each component that has a low count by one half of the heaviest component."""
    current = _without(mixture, low)
    for _ in range(int(low.sum())):
        current = split(current, current.components + 1)
    return current
