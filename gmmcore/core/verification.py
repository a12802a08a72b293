"""Speaker verification with a mixture: adapted means, scores of trials, and their error rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.density import FarFramesError
from gmmcore.core.kinds import AnyArray, Array
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import single_blas
from gmmcore.core.settings import RELEVANCE
from gmmcore.core.shows import show_source
from gmmcore.core.sums import Sums


def adapt_means(
    mixture: GaussianMixture,
    count: npt.ArrayLike,
    first: npt.ArrayLike,
    relevance: float = RELEVANCE,
) -> Array:
    """Adapt the means of a mixture to statistics: MAP adaptation of the means.

    ``(first + relevance x mean) / (count + relevance)`` of each component, as in Reynolds,
    Quatieri and Dunn (2000). Weights and covariances remain those of the mixture.

    Parameters
    ----------
    mixture : GaussianMixture
    count : array_like, shape (..., C)
        Occupancies of the components, in frames, for one model or many; for a model with several
        shows, their sum.
    first : array_like, shape (..., C, D)
        First order statistics about zero, as in `ShowStatistics`.
    relevance : float
        Number of frames that the mean of the mixture counts for, above 0.

    Returns
    -------
    ndarray, shape (..., C, D), float64
        Adapted means. A component without frames keeps its mean.

    Raises
    ------
    ValueError
        If the relevance is not above 0, or the shapes do not fit the mixture.

    Examples
    --------
    >>> from gmmcore import GaussianMixture, adapt_means
    >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[10.0], [10.0]])
    >>> adapt_means(mixture, [16.0, 0.0], [[-48.0], [0.0]])
    array([[-2.],
           [ 1.]])
    """
    if not relevance > 0:
        raise ValueError(f"relevance is {relevance!r}, a number above 0 was expected")
    count, first = _statistics(mixture, count, first)
    # In this form, the mean of a component without frames keeps its bits.
    centred = first - count[..., np.newaxis] * mixture.means
    return mixture.means + centred / (count + relevance)[..., np.newaxis]


def linear_scores(
    mixture: GaussianMixture, means: npt.ArrayLike, count: npt.ArrayLike, first: npt.ArrayLike
) -> Array:
    """Score shows against adapted models by the linear term of their log-likelihood ratios.

    The sum over components of ``(mean of the model - mean)' precision (first - count x mean)``,
    divided by the number of frames (Glembek et al., 2009).

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture that the models are adapted from.
    means : array_like, shape (M, C, D)
        Means of the models.
    count : array_like, shape (S, C)
    first : array_like, shape (S, C, D)
        Statistics of the shows about zero, as in `ShowStatistics`.

    Returns
    -------
    ndarray, shape (M, S), float64
        Scores per frame (natural logarithm); NaN for a show without frames.

    Raises
    ------
    ValueError
        If the shapes do not fit the mixture.
    """
    return scores_by_slopes(mixture, slopes_of(mixture, _means(mixture, means)), count, first)


def scores_by_slopes(
    mixture: GaussianMixture, slopes: Array, count: npt.ArrayLike, first: npt.ArrayLike
) -> Array:
    """Return the linear scores (M, S), where `slopes_of` the models serve several blocks."""
    count, first = _statistics(mixture, count, first)
    centred = first - count[..., np.newaxis] * mixture.means
    with np.errstate(invalid="ignore"), single_blas():
        total = slopes.reshape(len(slopes), -1) @ centred.reshape(len(count), -1).T
        return np.asarray(total / count.sum(axis=1))


def log_ratios(
    mixture: GaussianMixture,
    means: npt.ArrayLike,
    frames: npt.ArrayLike,
    *,
    top: int | None = None,
    precision: str = "double",
) -> Array:
    """Compute log-likelihood ratios of adapted models to the mixture for the frames of a show.

    Parameters
    ----------
    mixture : GaussianMixture
        The mixture that the models are adapted from.
    means : array_like, shape (M, C, D)
        Means of the models, which share the weights and covariances of the mixture.
    frames : array_like, shape (F, D)
    top : int, optional
        Number of components that are computed for a frame: those of the mixture with the
        largest posteriors. The ratio of a frame is then wrong by
        ``log(1 - b) - log(1 - a)``, where a and b are the posteriors of the other components
        under the mixture and under the model. By default all are computed.
    precision : {'double', 'single'}
        Precision of the matrix products, as in `accumulate`.

    Returns
    -------
    ndarray, shape (M,), float64
        Mean ratios of a frame (natural logarithm); NaN without frames. A model that has the means
        of the mixture has exactly 0.

    Raises
    ------
    ValueError
        If the shapes do not fit the mixture, or `top` is not one of 1 to C.
    InvalidFramesError
        If the frames have another dimension than the mixture, or are not real numbers.
    FarFramesError
        If a frame is not finite, or too far from the mixture.
    """
    return Ratios(mixture, precision, top).of_show("frames", _means(mixture, means), frames)


class Ratios(Sums):
    """Log-likelihood ratios of models to the mixture that they are adapted from."""

    def __init__(self, mixture: GaussianMixture, precision: str, top: int | None = None) -> None:
        if top is not None and not 1 <= top <= mixture.components:
            raise ValueError(f"top is {top!r}, 1 to {mixture.components} components were expected")
        super().__init__(mixture, precision)
        self.mixture, self.top = mixture, top

    def of_show(self, name: str, means: Array, frames: npt.ArrayLike) -> Array:
        """Return the mean ratios (M,) of the frames of a show."""
        source = show_source(name, frames, self.dimension)
        # The logarithm of a model's component is that of the mixture's plus a linear function.
        slopes = slopes_of(self.mixture, means)
        middle = (means + self.mixture.means) / 2 - self.kind.origin
        constants = -(slopes * middle).sum(axis=2, keepdims=True)
        linear = np.concatenate([slopes, constants], axis=2).astype(self.dtype)
        total = np.zeros(len(means))
        with single_blas(), np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            for block, _ in self.blocks(source):
                _, logs = self.logs(block)
                frame = np.ones((len(block), self.dimension + 1), self.dtype)
                frame[:, :-1] = block - self.kind.origin
                chosen = None
                if self.top is not None:
                    chosen = np.argpartition(logs, -self.top, axis=1)[:, -self.top :]
                    logs = np.take_along_axis(logs, chosen, axis=1)
                before = self._log_sums(logs.copy())
                for model, of_components in enumerate(linear):
                    after = self._log_sums(logs + _products(frame, of_components, chosen))
                    total[model] += (after - before).sum(dtype=np.float64)
        if not np.isfinite(total).all():
            raise FarFramesError(
                f"{name}: the ratio is not finite: a frame is not finite, or far outside the range "
                "of the mixture"
            )
        with np.errstate(invalid="ignore"):
            return np.asarray(total / np.float64(source.frames))

    def _log_sums(self, logs: AnyArray) -> AnyArray:
        """Return the logarithms of the sums of exponentials over components; `logs` is used up."""
        shifts = logs.max(axis=1)
        logs -= shifts[:, np.newaxis]
        return np.asarray(shifts + np.log(self.exponentials(logs).sum(axis=1)))


def equal_error_rate(targets: npt.ArrayLike, nontargets: npt.ArrayLike) -> float:
    """Compute the equal error rate of the scores of target and nontarget trials.

    It is the mean of the rates of missed targets and of accepted nontargets at the threshold at
    which these differ least.

    Parameters
    ----------
    targets, nontargets : array_like
        Scores of any shape, at least one of each.

    Returns
    -------
    float
        The rate, from 0 to 1.

    Raises
    ------
    ValueError
        If there are no scores of one of the two.

    Examples
    --------
    >>> from gmmcore import equal_error_rate
    >>> equal_error_rate([3, 2, 1, 0], [1.5, -1, -2, -3])
    0.25
    """
    misses, alarms = error_rates(targets, nontargets)
    nearest = int(np.argmin(np.abs(misses - alarms)))
    return float(misses[nearest] + alarms[nearest]) / 2


def error_rates(targets: npt.ArrayLike, nontargets: npt.ArrayLike) -> tuple[Array, Array]:
    """Return the rates of misses and of false alarms, one each for rising thresholds."""
    targets, nontargets = np.sort(targets, axis=None), np.sort(nontargets, axis=None)
    if not (len(targets) and len(nontargets)):
        raise ValueError(f"{len(targets)} target and {len(nontargets)} nontarget scores")
    thresholds = np.append(np.unique(np.concatenate([targets, nontargets])), np.inf)
    misses = np.searchsorted(targets, thresholds) / len(targets)
    return misses, 1 - np.searchsorted(nontargets, thresholds) / len(nontargets)


def _products(frame: AnyArray, linear: AnyArray, chosen: AnyArray | None) -> AnyArray:
    """Multiply frames (F, D + 1) by vectors of all components (C, D + 1), or of some (F, N)."""
    if chosen is None:
        return np.asarray(frame @ linear.T)
    return np.asarray(np.einsum("fd,fnd->fn", frame, linear[chosen]))


def slopes_of(mixture: GaussianMixture, means: Array) -> Array:
    """Return precision x (mean of the model - mean), shape (M, C, D)."""
    offsets = means - mixture.means
    if mixture.is_full:
        return np.einsum("cde,mce->mcd", mixture.precisions, offsets)
    return offsets * mixture.precisions


def _means(mixture: GaussianMixture, means: npt.ArrayLike) -> Array:
    return _shaped("means", means, ("M",), mixture.means.shape)


def _statistics(
    mixture: GaussianMixture, count: npt.ArrayLike, first: npt.ArrayLike
) -> tuple[Array, Array]:
    shape = mixture.means.shape
    return _shaped("count", count, ("...",), shape[:1]), _shaped("first", first, ("...",), shape)


def _shaped(name: str, values: npt.ArrayLike, before: tuple[str], shape: tuple[int, ...]) -> Array:
    array = np.asarray(values, np.float64)
    if array.shape[-len(shape) :] != shape or (before == ("M",) and array.ndim != len(shape) + 1):
        wanted = ", ".join([*before, *map(str, shape)])
        raise ValueError(f"{name}: shape {array.shape}, ({wanted}) was expected")
    return array
