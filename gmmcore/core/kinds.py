"""Kinds of covariances: what each one is to the E-step and to the M-step.

The E-step knows a kind as products of a frame's coordinates: the log-likelihood of a frame under
a component is the product of a vector phi(x) of the frame with a vector of coefficients of the
component, ``log w N(x) = phi(x)' A``, so that a block of frames needs one matrix product for the
log-likelihoods and one for the statistics, which are the sums of posterior x phi(x).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import constants
from gmmcore.core.mixture import (
    GaussianMixture,
    InvalidMixtureError,
    covariance_to_precision,
    first_indefinite,
    inverse_of_lower,
    is_definite,
    pack,
    unpack,
)

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]


class Diagonal:
    """Diagonal covariances: phi(x) = [y^2, y, 1], with y the frame about an origin."""

    is_full: ClassVar[bool] = False

    # Parameters may be so large that no log-likelihood is finite, which the E-step reports.
    @np.errstate(over="ignore", invalid="ignore")
    def __init__(self, mixture: GaussianMixture) -> None:
        self.origin = _origin(mixture)
        variances = mixture.overall_variance
        # Where squares may overflow, powers of two scale y, which is exact. The exponent is
        # limited, so that the reciprocal of the scale is finite in single precision.
        exponent = np.clip(np.round(0.5 * np.log2(variances)), -120, 120)
        self.scale = 2.0 ** np.where(np.abs(exponent) > 10, exponent, 0.0)
        means = (mixture.means - self.origin) / self.scale
        precisions = mixture.precisions * self.scale**2
        linear = precisions * means
        constant = constants(mixture) - 0.5 * (linear * means).sum(axis=1)
        # Of log w N(x), one column per component; the last row is the constant.
        self.coefficients = np.vstack([-0.5 * precisions.T, linear.T, constant])
        # The products of a frame that is one overall standard deviation from the origin.
        deviations = np.sqrt(variances) / self.scale
        self.typical = np.concatenate([deviations**2, deviations])
        # The largest number that a coordinate of a frame is multiplied by.
        self.largest_factor = 1.0 / float(self.scale.min())

    def write_products(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write the products of frames (F, D), shape (width, F), in the precision of `out`."""
        dimension = frames.shape[1]
        y = out[dimension : 2 * dimension]
        _write_centred(frames, self.origin, y.T)
        if (self.scale != 1.0).any():
            y *= (1.0 / self.scale).astype(out.dtype)[:, np.newaxis]
        np.square(y, out=out[:dimension])
        out[-1] = 1.0

    def statistics(self, sums: Array) -> tuple[Array, Array, Array]:
        """Return count, first and second order statistics from the sums (width, C)."""
        return sums[-1].copy(), self.first(sums), sums[: len(self.origin)].T * self.scale**2

    def first(self, sums: Array) -> Array:
        """Return the first order statistics (C, D) from the last D + 1 sums, or from all."""
        return sums[-1 - len(self.origin) : -1].T * self.scale

    # Components of a task of the M-step, and whether all of them have the same covariance.
    piece: ClassVar[int] = 1 << 20
    is_shared: ClassVar[bool] = False

    @staticmethod
    def moments(second: Array, count: Array, offsets: Array) -> Array:
        """Return the variances (N, D) of components by their statistics and offsets from origin."""
        return second / count[:, np.newaxis] - offsets * offsets

    @staticmethod
    def mixed(moments: Array, share: Array, control: Array) -> Array:
        """Replace all but a share (N,) of the variances by others, those of all frames."""
        share = share[:, np.newaxis]
        return share * moments + (1.0 - share) * control

    @staticmethod
    def bounded(
        moments: Array, control: Array, bounds: tuple[float, float], names: npt.NDArray[np.intp]
    ) -> tuple[Array, int, int]:
        """Bring variances within bounds relative to `control` (N, D), and invert them.

        Returns the precisions and how many variances were raised and lowered. `names` are the
        numbers of the components, for the error that is raised if a variance is not positive.
        """
        low, high = bounds[0] * control, bounds[1] * control
        values = np.clip(moments, low, high)
        if (values <= 0).any():
            component, dimension = np.argwhere(values <= 0)[0]
            raise InvalidMixtureError(
                f"component {names[component]} has no variance in dimension {dimension}; "
                "set a floor above zero, or train fewer components"
            )
        return 1.0 / values, int((moments < low).sum()), int((moments > high).sum())


class Spherical(Diagonal):
    """Diagonal covariances of which all variances of a component are equal."""

    @staticmethod
    def moments(second: Array, count: Array, offsets: Array) -> Array:
        """Return the mean variance of each component, repeated to (N, D)."""
        variances = Diagonal.moments(second, count, offsets)
        return np.repeat(variances.mean(axis=1, keepdims=True), variances.shape[1], axis=1)

    @staticmethod
    def bounded(
        moments: Array, control: Array, bounds: tuple[float, float], names: npt.NDArray[np.intp]
    ) -> tuple[Array, int, int]:
        """Bound as `Diagonal` does, relative to the mean of the control variances."""
        mean = np.repeat(control.mean(axis=1, keepdims=True), control.shape[1], axis=1)
        values = np.repeat(moments.mean(axis=1, keepdims=True), control.shape[1], axis=1)
        return Diagonal.bounded(values, mean, bounds, names)


class Full:
    """Full covariances: phi(x) = [lower triangle of y y' by rows, y, 1].

    The frame y about the origin is whitened by the overall covariance. This removes the
    correlation that all components share, so that the expanded quadratic loses few digits.
    """

    is_full: ClassVar[bool] = True

    # Parameters may be so large that no log-likelihood is finite, which the E-step reports.
    @np.errstate(over="ignore", invalid="ignore")
    def __init__(self, mixture: GaussianMixture) -> None:
        self.origin = _origin(mixture)
        weights = mixture.weights / mixture.weights.sum()
        centred = mixture.means - self.origin
        overall = np.tensordot(weights, mixture.covariances, 1)
        overall += (centred * weights[:, np.newaxis]).T @ centred
        self.factor = np.linalg.cholesky(overall)
        self.whitening = inverse_of_lower(self.factor)
        means = centred @ self.whitening.T
        precisions = self.factor.T @ mixture.precisions @ self.factor
        linear = np.einsum("cij,cj->ci", precisions, means)
        constant = constants(mixture) - 0.5 * (linear * means).sum(axis=1)
        rows, columns = np.tril_indices(mixture.dimension)
        # An off-diagonal product stands for both halves of the matrix.
        halves = np.where(rows == columns, 0.5, 1.0)
        packed = -(precisions[:, rows, columns] * halves)
        self.coefficients = np.vstack([packed.T, linear.T, constant])
        self.typical = np.ones(len(self.coefficients) - 1)
        self.largest_factor = float(np.abs(self.whitening).max())

    def write_products(self, frames: npt.NDArray[np.floating], out: AnyArray) -> None:
        """Write the products of frames (F, D), shape (width, F), in the precision of `out`."""
        dimension = frames.shape[1]
        y = out[-1 - dimension : -1]
        centred = np.empty(frames.shape, out.dtype)
        _write_centred(frames, self.origin, centred)
        np.matmul(self.whitening.astype(out.dtype), centred.T, out=y)
        start = 0
        for row in range(dimension):
            np.multiply(y[row], y[: row + 1], out=out[start : start + row + 1])
            start += row + 1
        out[-1] = 1.0

    def statistics(self, sums: Array) -> tuple[Array, Array, Array]:
        """Return count, first and second order statistics from the sums (width, C)."""
        products = sums[: -1 - len(self.origin)]
        second = self.factor @ unpack(products.T) @ self.factor.T
        return sums[-1].copy(), self.first(sums), pack(second)

    def first(self, sums: Array) -> Array:
        """Return the first order statistics (C, D) from the last D + 1 sums, or from all."""
        return sums[-1 - len(self.origin) : -1].T @ self.factor.T

    piece: ClassVar[int] = 32
    is_shared: ClassVar[bool] = False

    @staticmethod
    def moments(second: Array, count: Array, offsets: Array) -> Array:
        """Return the covariances (N, D, D) of components by statistics and offsets from origin."""
        moments = unpack(second) / count[:, np.newaxis, np.newaxis]
        moments -= offsets[:, :, np.newaxis] * offsets[:, np.newaxis, :]
        return moments

    @staticmethod
    def mixed(moments: Array, share: Array, control: Array) -> Array:
        """Replace all but a share (N,) of the covariances by the variances of all frames."""
        axis = np.arange(moments.shape[1])
        mixed = moments * share[:, np.newaxis, np.newaxis]
        mixed[:, axis, axis] += (1.0 - share)[:, np.newaxis] * control
        return mixed

    @staticmethod
    def bounded(
        moments: Array, control: Array, bounds: tuple[float, float], names: npt.NDArray[np.intp]
    ) -> tuple[Array, int, int]:
        """Bring eigenvalues within bounds, after whitening by `control` (N, D), and invert.

        Returns the precisions and how many eigenvalues were raised and lowered. `names` are the
        numbers of the components, for the error that is raised if a matrix is not definite.
        """
        deviation = np.sqrt(control)
        unit = deviation[:, :, np.newaxis] * deviation[:, np.newaxis, :]
        covariances = moments.copy()
        floored = ceiled = 0
        for index in range(len(covariances)):
            scaled = covariances[index] / unit[index]
            if _within(scaled, *bounds):
                continue
            values, vectors = np.linalg.eigh(scaled)
            floored += int((values < bounds[0]).sum())
            ceiled += int((values > bounds[1]).sum())
            values = np.clip(values, *bounds)
            if values[0] <= 0:
                raise _indefinite(names[index])
            bounded = (vectors * values) @ vectors.T
            covariances[index] = 0.5 * (bounded + bounded.T) * unit[index]
        try:
            return covariance_to_precision(covariances), floored, ceiled
        except InvalidMixtureError:
            raise _indefinite(names[first_indefinite(covariances)]) from None


class Tied(Full):
    """Full covariances of which all components have the same one."""

    piece = 1 << 20
    is_shared = True

    @staticmethod
    def moments(second: Array, count: Array, offsets: Array) -> Array:
        """Return the covariance of all frames about their components, repeated to (N, D, D)."""
        scatter = unpack(second.sum(axis=0)) - (offsets * count[:, np.newaxis]).T @ offsets
        return np.repeat(scatter[np.newaxis] / count.sum(), len(count), axis=0)

    @staticmethod
    def bounded(
        moments: Array, control: Array, bounds: tuple[float, float], names: npt.NDArray[np.intp]
    ) -> tuple[Array, int, int]:
        """Bound the one covariance as `Full` does."""
        one, floored, ceiled = Full.bounded(moments[:1], control[:1], bounds, names[:1])
        return np.repeat(one, len(moments), axis=0), floored, ceiled


KINDS: dict[str, type[Diagonal] | type[Full]] = {
    "spherical": Spherical,
    "diag": Diagonal,
    "tied": Tied,
    "full": Full,
}
"""Kinds of covariances, by their names in `GaussianMixture.kind`."""


def to_kind(mixture: GaussianMixture, kind: str) -> GaussianMixture:
    """Give a mixture another kind of covariances, those that are nearest to its own."""
    if mixture.kind == kind:
        return mixture
    precisions = mixture.precisions
    if KINDS[kind].is_full and not mixture.is_full:
        precisions = precisions[:, :, np.newaxis] * np.eye(mixture.dimension)
    elif mixture.is_full and not KINDS[kind].is_full:
        precisions = 1.0 / np.diagonal(mixture.covariances, axis1=1, axis2=2)
    if kind == "spherical":
        variances = (1.0 / precisions).mean(axis=1, keepdims=True)
        precisions = np.repeat(1.0 / variances, mixture.dimension, axis=1)
    elif kind == "tied":
        covariances = mixture.covariances if mixture.is_full else np.linalg.inv(precisions)
        mean = np.tensordot(mixture.weights / mixture.weights.sum(), covariances, 1)
        precisions = np.repeat(covariance_to_precision(mean[np.newaxis]), len(precisions), axis=0)
    return GaussianMixture(
        mixture.weights, mixture.means, precisions, mixture.variance_control, kind
    )


def _indefinite(component: int) -> InvalidMixtureError:
    return InvalidMixtureError(
        f"the covariance of component {component} is not positive definite; "
        "set a floor above zero, or train fewer components"
    )


def _within(scaled: Array, floor: float, ceiling: float) -> bool:
    """Whether all eigenvalues lie between the bounds; much faster than to compute them."""
    identity = np.eye(len(scaled))
    return is_definite(scaled - floor * identity) and (
        not np.isfinite(ceiling) or is_definite(ceiling * identity - scaled)
    )


def _origin(mixture: GaussianMixture) -> Array:
    """Choose an origin a few standard deviations from the frames, so that no digits are lost."""
    mean = mixture.overall_mean
    # For normalised features, zero is as good, and statistics about zero are what users expect.
    if (np.abs(mean) <= np.sqrt(mixture.overall_variance)).all():
        return np.zeros_like(mean)
    # The mean is rounded to single precision, so that both precisions subtract the same value.
    return mean.astype(np.float32).astype(np.float64)


def _write_centred(frames: npt.NDArray[np.floating], origin: Array, out: AnyArray) -> None:
    """Write frames - origin, subtracted in the higher precision of `frames` and `out`."""
    if not origin.any():
        out[...] = frames
        return
    work = np.result_type(frames.dtype, out.dtype)
    np.subtract(frames, origin.astype(work), out=out, dtype=work, casting="same_kind")
