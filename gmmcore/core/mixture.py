"""Gaussian mixtures, whose parameters are checked on construction and never change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.parallel import single_blas
from gmmcore.errors import GmmcoreError, counted

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

WEIGHT_SUM_TOLERANCE = 1e-4
"""Largest difference of the sum of the weights from 1: some formats keep only seven digits."""

# Number of components, and of numbers of each, that a notebook shows.
_SHOWN = 8
_SHOWN_NUMBERS = 5


class InvalidMixtureError(GmmcoreError, ValueError):
    """Error raised for invalid parameters of a mixture; the message says which and why."""


class GaussianMixture:
    """A Gaussian mixture with spherical, diagonal, tied or full covariances.

    Precisions (inverse covariances) are stored, because every file format but one stores them:
    a mixture that is read and written again keeps its bytes.

    Parameters
    ----------
    weights : array_like, shape (C,)
        Weights of the components, not negative, whose sum is 1 within 1e-4.
    means : array_like, shape (C, D)
        Means of the components.
    precisions : array_like, shape (C, D) or (C, D, D)
        Inverse variances (diagonal), or symmetric positive definite inverse covariances (full).
    variance_control : array_like, shape (C, D), optional
        Variances that the floor and the ceiling are relative to: SIDEKIT's ``cov_var_ctl``.
    kind : {'spherical', 'diag', 'tied', 'full'}, optional
        Kind of the covariances, by default ``diag`` or ``full``, as the shape says. The precisions
        of a spherical mixture have the shape (C, D) and are equal in all dimensions; those of a
        tied one have the shape (C, D, D) and are equal for all components.

    Raises
    ------
    InvalidMixtureError
        If a shape is wrong, an array is masked or not of real numbers, a value is not finite,
        a weight is negative, the weights do not sum to one, or a covariance is not positive
        definite.

    Notes
    -----
    All arrays are float64, C-contiguous and read-only.

    Examples
    --------
    >>> from gmmcore import GaussianMixture
    >>> mixture = GaussianMixture.from_covariances([0.25, 0.75], [[-2.0], [2.0]], [[1.0], [4.0]])
    >>> mixture
    <GaussianMixture: 2 diagonal components of dimension 1>
    >>> mixture.overall_mean, mixture.overall_variance
    (array([1.]), array([6.25]))
    """

    weights: Array
    means: Array
    precisions: Array
    variance_control: Array | None
    kind: str

    def __init__(
        self,
        weights: npt.ArrayLike,
        means: npt.ArrayLike,
        precisions: npt.ArrayLike,
        variance_control: npt.ArrayLike | None = None,
        kind: str | None = None,
    ) -> None:
        own = self.__dict__
        own["weights"] = _frozen("weights", weights)
        own["means"] = _frozen("means", means)
        own["precisions"] = _frozen("precisions", precisions)
        if (control := variance_control) is not None:
            control = _frozen("variance_control", control)
        own["variance_control"] = control
        own["kind"] = kind or ("full" if self.is_full else "diag")
        self._check()

    @classmethod
    def from_covariances(
        cls,
        weights: npt.ArrayLike,
        means: npt.ArrayLike,
        covariances: npt.ArrayLike,
        variance_control: npt.ArrayLike | None = None,
        kind: str | None = None,
    ) -> GaussianMixture:
        """Make a mixture from variances (C, D) or covariances (C, D, D) instead of precisions."""
        return cls(weights, means, covariance_to_precision(covariances), variance_control, kind)

    @classmethod
    def merged(cls, mixtures: Sequence[GaussianMixture]) -> GaussianMixture:
        """Make a mixture of the components of several, with weights divided by their sum.

        Parameters
        ----------
        mixtures : sequence of GaussianMixture
            One or more, of the same dimension, all diagonal or all full. If one has no
            `variance_control`, the result has none.

        Examples
        --------
        >>> from gmmcore import GaussianMixture
        >>> one = GaussianMixture([1.0], [[0.0]], [[1.0]])
        >>> GaussianMixture.merged([one, one]).weights
        array([0.5, 0.5])
        """
        controls = [one.variance_control for one in mixtures if one.variance_control is not None]
        weights = np.concatenate([one.weights for one in mixtures])
        return cls(
            weights / weights.sum(),
            np.concatenate([one.means for one in mixtures]),
            np.concatenate([one.precisions for one in mixtures]),
            np.concatenate(controls) if len(controls) == len(mixtures) else None,
            "spherical" if all(one.kind == "spherical" for one in mixtures) else None,
        )

    @property
    def components(self) -> int:
        """Number of components, C."""
        return int(self.weights.shape[0])

    @property
    def dimension(self) -> int:
        """Dimension of the feature vectors, D."""
        return int(self.means.shape[1])

    @property
    def is_full(self) -> bool:
        """Whether the covariances are full matrices."""
        return self.precisions.ndim == 3

    @property
    def parameters(self) -> int:
        """Number of free parameters: weights, means and covariances."""
        size = self.dimension
        one = {"spherical": 1, "diag": size}.get(self.kind, size * (size + 1) // 2)
        matrices = 1 if self.kind == "tied" else self.components
        return self.components * (1 + size) - 1 + matrices * one

    @cached_property
    def covariances(self) -> Array:
        """Variances (C, D) or covariances (C, D, D), float64."""
        if not self.is_full:
            return _read_only(1.0 / self.precisions)
        # The inverse of the factor keeps the result symmetric and positive definite.
        inverse = np.linalg.inv(self.precision_factors)
        return _read_only(inverse @ inverse.transpose(0, 2, 1))

    @cached_property
    def precision_factors(self) -> Array:
        """Upper Cholesky factors U of full precisions P = U' U, shape (C, D, D), float64."""
        if not self.is_full:
            raise ValueError("a diagonal mixture has no Cholesky factors")
        return _read_only(np.linalg.cholesky(self.precisions).transpose(0, 2, 1).copy())

    @cached_property
    def log_determinants(self) -> Array:
        """Natural logarithm of the determinants of the covariances, shape (C,), float64."""
        if self.is_full:
            diagonal = np.diagonal(self.precision_factors, axis1=1, axis2=2)
            return _read_only(-2.0 * np.log(diagonal).sum(axis=1))
        return _read_only(-np.log(self.precisions).sum(axis=1))

    @cached_property
    def log_weights(self) -> Array:
        """Natural logarithm of the weights, shape (C,), float64; -inf for a weight of zero."""
        with np.errstate(divide="ignore"):
            return _read_only(np.log(self.weights))

    @cached_property
    def overall_mean(self) -> Array:
        """Mean of the whole mixture, shape (D,), float64."""
        return (self.weights / self.weights.sum()) @ self.means

    @cached_property
    @np.errstate(over="ignore")  # A mean may be beyond 1e154.
    def overall_variance(self) -> Array:
        """Variances of the whole mixture, shape (D,), float64."""
        own = np.diagonal(self.covariances, axis1=1, axis2=2) if self.is_full else self.covariances
        spread = own + (self.means - self.overall_mean) ** 2
        return (self.weights / self.weights.sum()) @ spread

    def sample(self, frames: int = 1, seed: int | None = None) -> tuple[Array, Numbers]:
        """Draw random frames of the mixture.

        Parameters
        ----------
        frames : int
            Number of frames, F; 0 or more.
        seed : int, optional
            Seed of the random numbers; the same seed draws the same frames. Without one, every
            call draws other frames.

        Returns
        -------
        frames : ndarray, shape (F, D), float64
            The drawn frames.
        components : ndarray, shape (F,), int
            Number of the component that each frame is drawn from.

        Examples
        --------
        >>> from gmmcore import GaussianMixture
        >>> mixture = GaussianMixture([0.25, 0.75], [[-9.0], [9.0]], [[1.0], [4.0]])
        >>> frames, components = mixture.sample(1000, seed=1)
        >>> frames.shape, components[:5]
        ((1000, 1), array([1, 1, 0, 1, 1]))
        """
        rng = np.random.default_rng(seed)
        components = rng.choice(self.components, frames, p=self.weights / self.weights.sum())
        values = rng.standard_normal((frames, self.dimension))
        if not self.is_full:
            values /= np.sqrt(self.precisions)[components]
        else:
            with single_blas():
                for component in np.unique(components):
                    chosen = components == component
                    # If z has the covariance I, then U^-1 z has (U' U)^-1.
                    factor = self.precision_factors[component]
                    values[chosen] = np.linalg.solve(factor, values[chosen].T).T
        values += self.means[components]
        return values, components

    def __repr__(self) -> str:
        kind = "diagonal" if self.kind == "diag" else self.kind
        return (
            f"<GaussianMixture: {self.components} {kind} components of dimension {self.dimension}>"
        )

    def _repr_html_(self) -> str:
        """Show the mixture in a notebook, with its heaviest components."""
        variances = self.covariances
        if self.is_full:
            variances = np.diagonal(variances, axis1=1, axis2=2)
        order = np.argsort(-self.weights, kind="stable")[:_SHOWN]
        head = ["component", "weight", "mean", "standard deviation"]
        rows = [
            [i, f"{self.weights[i]:.4g}", _few(self.means[i]), _few(np.sqrt(variances[i]))]
            for i in order
        ]
        more = self.components - len(order)
        note = f"and {counted(more, 'more component')}" if more else ""
        return html_table(repr(self), head, rows, note)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GaussianMixture):
            return NotImplemented
        return all(map(np.array_equal, self._given(), other._given()))

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a GaussianMixture does not change; build a new one to set {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return GaussianMixture, self._given()

    def _given(self) -> tuple[Any, ...]:
        """Return what `__init__` takes."""
        return self.weights, self.means, self.precisions, self.variance_control, self.kind

    def _check(self) -> None:
        weights, means, precisions = self.weights, self.means, self.precisions
        if weights.ndim != 1 or weights.size == 0:
            raise _of_shape("weights have", weights, "(C,)")
        if means.ndim != 2 or means.shape[0] != weights.size or means.shape[1] == 0:
            raise _of_shape("means have", means, f"({weights.size}, D)")
        diagonal, full = means.shape, (*means.shape, means.shape[1])
        if precisions.shape not in (diagonal, full):
            raise _of_shape("precisions have", precisions, f"{diagonal} or {full}")
        if self.kind not in (("tied", "full") if self.is_full else ("spherical", "diag")):
            raise InvalidMixtureError(f"precisions of shape {precisions.shape} are not {self.kind}")
        if (self.kind == "spherical" and (precisions != precisions[:, :1]).any()) or (
            self.kind == "tied" and (precisions != precisions[0]).any()
        ):
            raise InvalidMixtureError(f"the precisions are not {self.kind}: they differ")
        control = self.variance_control
        if control is not None:
            if control.shape != diagonal:
                raise _of_shape("variance_control has", control, f"{diagonal}")
            if not (control > 0).all():
                raise InvalidMixtureError("variance_control holds a variance that is not positive")
        if (weights < 0).any():
            bad = int(np.argmax(weights < 0))
            raise InvalidMixtureError(f"component {bad} has the negative weight {weights[bad]}")
        total = float(weights.sum())
        if abs(total - 1.0) > WEIGHT_SUM_TOLERANCE:
            raise InvalidMixtureError(f"the weights sum to {total:.9g}, not to 1")
        if self.is_full:
            self._check_full()
        else:
            low = (precisions <= 0).any(axis=1)
            if low.any():
                what = "has a precision that is not positive"
                raise InvalidMixtureError(f"component {int(np.argmax(low))} {what}")
            with np.errstate(over="ignore"):
                inverse = 1.0 / precisions
            if not np.isfinite(inverse).all():
                raise InvalidMixtureError(
                    "a precision is too small: its variance would be infinite"
                )

    def _check_full(self) -> None:
        precisions = self.precisions
        scale = np.abs(precisions).max(axis=(1, 2))
        skew = np.abs(precisions - precisions.transpose(0, 2, 1)).max(axis=(1, 2))
        if (skew > 1e-8 * scale).any():
            bad = int(np.argmax(skew > 1e-8 * scale))
            raise InvalidMixtureError(f"the precision matrix of component {bad} is not symmetric")
        try:
            finite = bool(np.isfinite(self.precision_factors).all())
        except np.linalg.LinAlgError:
            finite = False
        if not finite:
            bad = first_indefinite(precisions)
            raise InvalidMixtureError(
                f"the precision matrix of component {bad} is not positive definite"
            )


def _of_shape(what: str, values: Array, expected: str) -> InvalidMixtureError:
    return InvalidMixtureError(f"{what} shape {values.shape}, {expected} was expected")


def html_table(
    title: str, head: Sequence[object], rows: Sequence[Sequence[object]], note: str = ""
) -> str:
    """Make a table for a notebook."""

    def line(cell: str, values: Sequence[object]) -> str:
        cells = "".join(f"<{cell}>{escape(str(value))}</{cell}>" for value in values)
        return f"<tr>{cells}</tr>"

    body = line("th", head) + "".join(line("td", row) for row in rows)
    return f"<p>{escape(title)}</p><table>{body}</table><p>{escape(note)}</p>"


def _few(values: Array) -> str:
    """Write the first of some numbers."""
    more = ", …" if len(values) > _SHOWN_NUMBERS else ""
    return ", ".join(f"{value:.4g}" for value in values[:_SHOWN_NUMBERS]) + more


def covariance_to_precision(covariances: npt.ArrayLike) -> Array:
    """Invert variances (C, D) or symmetric positive definite covariances (C, D, D)."""
    values = np.asarray(covariances, dtype=np.float64)
    if values.ndim not in (2, 3):
        raise _of_shape("covariances have", values, "(C, D) or (C, D, D)")
    if values.ndim == 2:
        with np.errstate(divide="ignore"):
            return 1.0 / values
    try:
        lower = np.linalg.cholesky(values)
    except np.linalg.LinAlgError:
        bad = first_indefinite(values)
        raise InvalidMixtureError(f"covariance {bad} is not positive definite") from None
    inverse = inverse_of_lower(lower)
    result: Array = inverse.transpose(0, 2, 1) @ inverse
    return 0.5 * (result + result.transpose(0, 2, 1))


def inverse_of_lower(factors: npt.NDArray[np.floating]) -> Array:
    """Invert lower triangular matrices (..., D, D) whose rows may have any units."""
    # Without units, no row is exchanged for another one because its unit is large.
    units = np.abs(factors).max(axis=-1)
    return np.tril(np.linalg.inv(factors / units[..., np.newaxis])) / units[..., np.newaxis, :]


def is_definite(matrix: Array) -> bool:
    """Whether a symmetric matrix (D, D) is positive definite."""
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def first_indefinite(matrices: Array) -> int:
    """Index of the first of the matrices (N, D, D) that is not positive definite; -1 if all are."""
    return next((index for index, one in enumerate(matrices) if not is_definite(one)), -1)


def pack(matrices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pack symmetric matrices (C, D, D) to lower triangles by rows, (C, D (D + 1) / 2)."""
    rows, columns = np.tril_indices(matrices.shape[-1])
    return np.ascontiguousarray(matrices[..., rows, columns])


def unpack(packed: npt.NDArray[Any]) -> Array:
    """Unpack lower triangles by rows, (C, D (D + 1) / 2), to symmetric matrices (C, D, D)."""
    dimension = (int(np.sqrt(8 * packed.shape[-1] + 1)) - 1) // 2
    rows, columns = np.tril_indices(dimension)
    result = np.empty((*packed.shape[:-1], dimension, dimension))
    result[..., rows, columns] = packed
    result[..., columns, rows] = packed
    return result


def _read_only(values: npt.NDArray[Any]) -> Array:
    values.flags.writeable = False
    return values


def _frozen(name: str, values: npt.ArrayLike) -> Array:
    # NumPy would drop a mask, and only warn that it drops imaginary parts.
    if np.ma.isMaskedArray(values):
        raise InvalidMixtureError(f"{name} are a masked array, a plain array was expected")
    try:
        if np.iscomplexobj(values):
            raise TypeError
        result = np.array(values, dtype=np.float64, order="C", copy=True)
    except (TypeError, ValueError):
        raise InvalidMixtureError(f"{name} are not an array of real numbers") from None
    if not np.isfinite(result).all():
        raise InvalidMixtureError(f"{name} hold a value that is not finite")
    result.flags.writeable = False
    return result
