"""The first mixture of a stage, made from moments or from the last mixture of the stage before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gmmcore.core.frames import FrameSource, repeated
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.core.moments import Moments
from gmmcore.core.schedule import level_of

Array = npt.NDArray[np.float64]
# Deviations of frames, relative to their mean, up to which a dimension is taken for constant: with
# any frames, and with frames in single precision, which has 24 bits.
_CONSTANT = 1e-10
_LOST_IN_SINGLE = 1e-7
# Deviation that a constant dimension of frames in memory is given. At the floor, the variance is
# the 1e-6 of scikit-learn, so that held-out frames of another value are not beyond all bounds.
_CONSTANT_DEVIATION = 0.1
# Number of frames, about, whose quantiles are computed.
_SAMPLE = 20_000
# Least number of frames of which a single one may be told as an outlier.
_LEAST_FRAMES = 100
# Pairs of quantiles, and how many standard deviations of a Gaussian lie between them.
_QUANTILES = ((0.25, 1.349), (0.1, 2.563), (0.025, 3.920), (0.005, 5.152))


def sample_of(subset: Callable[[int], FrameSource], wanted: int) -> npt.NDArray[np.floating]:
    """Read about so many random frames, by the function that returns the subset of a level."""
    return repeated(subset(level_of(subset(0).frames, wanted)))


def robust_variances(subset: Callable[[int], FrameSource]) -> Array:
    """Estimate the variances of frames (D,) by quantiles, which outliers do not move."""
    # The square of the interquartile range divided by 1.349 (Huber, Robust Statistics, 1981). Where
    # half of the values are equal, quantiles farther out take its place; where nearly all of them
    # are, the result is infinite.
    sample = sample_of(subset, _SAMPLE)
    found = np.full(sample.shape[1], np.inf)
    points = [point for low, _ in _QUANTILES for point in (low, 1 - low)]
    with np.errstate(invalid="ignore"):  # Frames that are not finite are refused later.
        values = np.quantile(sample, points, axis=0).astype(float)
        for row, (_, width) in reversed([*enumerate(_QUANTILES)]):
            spread = (values[2 * row + 1] - values[2 * row]) / width
            found = np.where(spread > 0, spread**2, found)
    return found


def outlying(subset: Callable[[int], FrameSource], moments: Moments) -> list[int]:
    """Return the dimensions in which 0.1 % of the frames, or one, make most of the variance."""
    sample = sample_of(subset, _SAMPLE)
    if len(sample) < _LEAST_FRAMES:
        return []
    few, found = few_of(len(sample)), []
    with np.errstate(invalid="ignore", over="ignore"):  # Such frames are refused later.
        squares = np.square(sample - moments.mean, dtype=np.float64)
        least = squares.mean(axis=0) - few / len(sample) * squares.max(axis=0)
        # Few dimensions need a closer look.
        for at in np.flatnonzero(moments.scatter > 2 * moments.count * least).tolist():
            rest = np.partition(squares[:, at], -few)[:-few].mean()
            # Where nearly all values are equal, the others are no outliers.
            different = np.count_nonzero(sample[:, at] != np.median(sample[:, at]))
            if different >= 10 * few and moments.scatter[at] > 2 * moments.count * rest:
                found.append(at)
    return found


def few_of(frames: float) -> int:
    """Return how many frames are few: a thousandth, or a single one."""
    return max(1, int(frames) // 1000)


def one_gaussian(
    moments: Moments,
    robust: npt.ArrayLike = np.inf,
    *,
    stored: npt.DTypeLike | None = None,
) -> GaussianMixture:
    """Make the diagonal mixture of one component that fits all frames, by their moments.

    Bounds of variances are relative to its ``variance_control``: the variances, or those by
    `robust_variances` where these are less. A dimension that is constant in the type `stored`, in
    which the frames are in files, is an error; frames in memory get some variance there.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore.core.initial import one_gaussian
    >>> from gmmcore.core.moments import Moments
    >>> mixture = one_gaussian(Moments.of(np.array([[0.0, 0.0], [2.0, 8.0]])))
    >>> mixture.means, mixture.covariances
    (array([[1., 4.]]), array([[ 1., 16.]]))
    """
    row = _variances(moments, stored)[np.newaxis]
    control = np.minimum(row, robust)
    return GaussianMixture.from_covariances([1.0], moments.mean[np.newaxis], row, control)


def controlled(
    mixture: GaussianMixture,
    moments: Moments,
    robust: npt.ArrayLike = np.inf,
    *,
    stored: npt.DTypeLike | None = None,
) -> GaussianMixture:
    """Give a mixture of another tool the ``variance_control`` of `one_gaussian`."""
    if mixture.variance_control is not None:
        return mixture
    variances = np.minimum(_variances(moments, stored), robust)
    control = np.broadcast_to(variances, mixture.means.shape)
    return GaussianMixture(
        mixture.weights, mixture.means, mixture.precisions, control, mixture.kind
    )


def split(mixture: GaussianMixture, components: int | None = None) -> GaussianMixture:
    """Divide components in two, the heaviest ones if there will be fewer than twice as many.

    As in SIDEKIT, the mean moves by one standard deviation to either side along the axis of
    largest variance (for full covariances, the principal axis). Both halves keep the covariance
    and half the weight. The upper halves follow after all others.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> from gmmcore.core.initial import split
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


def _variances(moments: Moments, stored: npt.DTypeLike | None) -> Array:
    """Return the variances of all frames, shape (D,).

    Of stored frames, those that are zero or lost are refused.
    """
    if moments.count < 2:
        raise InvalidMixtureError(f"{moments.count} frames are too few for a Gaussian")
    variances = moments.scatter / moments.count
    if not np.isfinite(variances).all():
        raise InvalidMixtureError("a frame holds a value that is not finite, or too large")
    size = np.abs(moments.mean)
    constant = constant_dimensions(moments)
    if stored is None:
        # Single precision still holds a ten-millionth of the mean.
        return np.where(
            constant, np.maximum(_CONSTANT_DEVIATION, _LOST_IN_SINGLE * size) ** 2, variances
        )
    if constant.any():
        raise InvalidMixtureError(
            f"every frame has the same value in dimension {named(constant)} (counted from 0) once "
            "it is stored in single precision; leave it out with `features: mask`, or subtract the "
            "mean if the values do differ"
        )
    lost = variances <= (_LOST_IN_SINGLE * size) ** 2
    if np.dtype(stored) == np.float32 and lost.any():
        raise InvalidMixtureError(
            f"the values in dimension {named(lost)} (counted from 0) differ by less than single "
            "precision, in which frames are stored, can tell so far from zero; subtract their "
            "mean, or leave the dimension out with `features: mask`"
        )
    return variances


def constant_dimensions(moments: Moments) -> npt.NDArray[np.bool_]:
    """Say of each dimension (D,) whether all frames have the same value in it."""
    # Rounding alone leaves a constant dimension a deviation of about 1e-12 of its value.
    limit = (_CONSTANT * np.abs(moments.mean)) ** 2
    return np.asarray(moments.scatter <= moments.count * limit)


def named(chosen: npt.NDArray[np.bool_]) -> str:
    """Name the chosen dimensions in words for a message."""
    return ", ".join(str(index) for index in np.flatnonzero(chosen))
