"""The first mixture of a stage, made from moments or from the last mixture of the stage before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.core.moments import Moments

Array = npt.NDArray[np.float64]
# Deviations of frames, relative to their mean, up to which a dimension is taken for constant: with
# any frames, and with frames in single precision, which has 24 bits.
_CONSTANT = 1e-10
_LOST_IN_SINGLE = 1e-7


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
    >>> from gmmcore.core.initial import one_gaussian
    >>> from gmmcore.core.moments import Moments
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
    >>> from gmmcore.core.initial import controlled
    >>> from gmmcore.core.moments import Moments
    >>> frames = np.array([[0.0, 0.0], [2.0, 8.0]])
    >>> mixture = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
    >>> controlled(mixture, Moments.of(frames)).variance_control
    array([[ 1., 16.]])
    """
    if mixture.variance_control is not None:
        return mixture
    control = np.broadcast_to(_variances(moments, stored), mixture.means.shape)
    return GaussianMixture(
        mixture.weights, mixture.means, mixture.precisions, control, mixture.kind
    )


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
            f"every frame has the same value in dimension {named(constant)} (counted from 0)"
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
            f"the values in dimension {named(lost)} (counted from 0) differ by less than single "
            "precision, in which frames are stored, holds so far from zero; subtract their mean, "
            "or leave the dimension out with `features: mask`"
        )
    return variances


def named(chosen: npt.NDArray[np.bool_]) -> str:
    """Name the chosen dimensions in words for a message."""
    return ", ".join(str(index) for index in np.flatnonzero(chosen))
