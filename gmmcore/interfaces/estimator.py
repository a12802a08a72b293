"""A Gaussian mixture as an estimator of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import Bounds, LowCount, Settings
from gmmcore.core import density
from gmmcore.core.frames import ArraySource, FrameSource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import single_blas, threads_map
from gmmcore.errors import GmmcoreError
from gmmcore.interfaces.fitting import Frames, mixture_of, processors, train
from gmmcore.interfaces.frames import is_shows, opened

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise GmmcoreError(
        "GaussianMixtureModel: scikit-learn cannot be imported; install it with: "
        "pip install scikit-learn"
    ) from error

Array = npt.NDArray[np.float64]
_BLOCK = 4096


class GaussianMixtureModel(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A Gaussian mixture as an estimator, with the methods of ``sklearn.mixture.GaussianMixture``.

    It is trained as the workflow trains: components are divided where the likelihood gains most,
    so that there is no random initialisation. Pipelines, grid search and ``clone`` take it. It
    needs ``pip install scikit-learn``.

    Parameters
    ----------
    components : int
        Number of components.
    covariance : {'spherical', 'diag', 'tied', 'full'}
        Kind of the covariances.
    held_out : float, array_like, path or sequence, optional
        Share of the frames that are not trained on, or such frames.
    iterations, llk_gain, method, frames_per_component, last_iterations
        Largest number of EM iterations after each split; gain of log-likelihood per frame below
        which a stage ends; how components are divided; and what early iterations read.
    floor, ceiling, occupancy, full
        Bounds of variances, what is done with components of few frames, and the section ``full``
        of config.yaml.
    precision, pruning, seed, features, init, threads, device
        All parameters are those of `gmmcore.train`, which describes each.

    Attributes
    ----------
    mixture_ : GaussianMixture
        The trained mixture, which `gmmcore.write_mixture` writes.
    weights_, means_, covariances_, precisions_ : ndarray, float64
        Its parameters, of shape (C,), (C, D), and (C, D) or (C, D, D).
    history_ : dict of ndarray
        The columns of the history, with a value per iteration.
    held_out_ : float
        Log-likelihood per frame of the held-out frames; NaN if there are none.
    converged_ : bool
        Whether the last stage ended because of `llk_gain`, not because of `iterations`.
    n_iter_ : int
        Number of iterations of all stages.
    lower_bound_ : float
        Log-likelihood per frame (natural logarithm) before the last update, of the frames that
        the last iteration read.
    n_features_in_ : int
        Dimension of the frames, D.
    feature_names_in_ : ndarray, shape (D,)
        Names of the columns, if the frames are given as a table with names.

    Notes
    -----
    ``X`` is what `gmmcore.train` takes: an array or memory map of shape (F, D), a path, a list of
    feature files, or a list of arrays. The methods read it in blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore import GaussianMixtureModel
    >>> rng = np.random.default_rng(0)
    >>> frames = np.concatenate([rng.normal(-5, 1, (600, 2)), rng.normal(5, 1, (200, 2))])
    >>> model = GaussianMixtureModel(components=2).fit(frames)
    >>> model.weights_
    array([0.75, 0.25])
    >>> model.predict([[-4.0, -6.0], [4.0, 5.0]])
    array([0, 1])
    >>> model.bic(frames) < GaussianMixtureModel(components=1).fit(frames).bic(frames)
    True
    """

    mixture_: GaussianMixture
    history_: dict[str, npt.NDArray[Any]]
    held_out_: float
    n_features_in_: int

    def __init__(
        self,
        components: int = Settings.components,
        covariance: str = "diag",
        held_out: float | Frames | None = None,
        *,
        iterations: Sequence[int] = Settings.iterations,
        llk_gain: float = Settings.llk_gain,
        method: str = Settings.method,
        frames_per_component: int | None = Settings.frames_per_component,
        last_iterations: int = Settings.last_iterations,
        floor: float | None = Bounds.floor,
        ceiling: float | None = Bounds.ceiling,
        occupancy: float | None = LowCount.occupancy,
        full: Mapping[str, Any] | None = None,
        precision: str = Settings.precision,
        pruning: float = Settings.pruning,
        seed: int = Settings.seed,
        features: Mapping[str, Any] | None = None,
        init: Any = None,
        threads: int | None = None,
        device: str = Settings.device,
    ) -> None:
        self.components = components
        self.covariance = covariance
        self.held_out = held_out
        self.iterations = iterations
        self.llk_gain = llk_gain
        self.method = method
        self.frames_per_component = frames_per_component
        self.last_iterations = last_iterations
        self.floor = floor
        self.ceiling = ceiling
        self.occupancy = occupancy
        self.full = full
        self.precision = precision
        self.pruning = pruning
        self.seed = seed
        self.features = features
        self.init = init
        self.threads = threads
        self.device = device

    @classmethod
    def from_mixture(cls, mixture: Any, **params: Any) -> Self:
        """Make a fitted estimator of a mixture or of its file.

        Parameters
        ----------
        mixture : GaussianMixture, Mixture, Training or path
        **params
            Parameters of the estimator, such as `features` and `threads`.

        Examples
        --------
        >>> from gmmcore import GaussianMixture, GaussianMixtureModel
        >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]])
        >>> GaussianMixtureModel.from_mixture(mixture).predict_proba([[0.0], [1.0]]).round(3)
        array([[0.5  , 0.5  ],
               [0.119, 0.881]])
        """
        found = mixture_of("mixture", mixture)
        params = {
            "components": found.components,
            "covariance": found.kind,
            **params,
        }
        result = cls(**params)
        result.mixture_ = found
        result.n_features_in_ = found.dimension
        return result

    def fit(self, X: Frames, y: None = None) -> Self:  # noqa: N803
        """Train the mixture; see `gmmcore.train`.

        Parameters
        ----------
        X : array_like of shape (F, D), path, or sequence
        y : None
            Not used.
        """
        values = X if _is_read(X) else self._array(X, reset=True)
        params = self.get_params(deep=False)
        variance = {name: params.pop(name) for name in ("floor", "ceiling")}
        low_count = {"occupancy": params.pop("occupancy")}
        trained = train(values, variance=variance, low_count=low_count, **params)
        self.mixture_, self.history_ = trained.mixture, trained.history
        self.held_out_ = trained.held_out
        self.n_features_in_ = self.mixture_.dimension
        self.n_iter_ = len(self.history_["gain"])
        if self.n_iter_:
            self.lower_bound_ = float(self.history_["log_likelihood"][-1])
            self.converged_ = bool(self.history_["gain"][-1] < self.llk_gain)
        else:  # One Gaussian is found without iterations.
            self.lower_bound_, self.converged_ = self.score(X), True
        return self

    def score_samples(self, X: Frames) -> Array:  # noqa: N803
        """Compute the log-likelihood (natural logarithm) of each frame, shape (F,), float64."""
        return self._of_blocks(X, density.log_likelihood)

    def score(self, X: Frames, y: None = None) -> float:  # noqa: N803
        """Compute the log-likelihood per frame (natural logarithm)."""
        return float(self.score_samples(X).mean())

    def predict_proba(self, X: Frames) -> Array:  # noqa: N803
        """Compute the posterior of each component for each frame, shape (F, C), float64."""
        return self._of_blocks(X, density.posteriors)

    def predict(self, X: Frames) -> npt.NDArray[np.intp]:  # noqa: N803
        """Find the component with the largest posterior for each frame, shape (F,), int."""
        return self._of_blocks(
            X,
            lambda mixture, frames: density.component_log_likelihoods(mixture, frames).argmax(1),
        )

    def sample(
        self, n_samples: int = 1, seed: int | None = None
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """Draw random frames; see `gmmcore.GaussianMixture.sample`.

        Returns
        -------
        X : ndarray, shape (n_samples, D), float64
            The drawn frames.
        y : ndarray, shape (n_samples,), int
            Component of each frame.
        """
        check_is_fitted(self)
        return self.mixture_.sample(n_samples, seed)

    def bic(self, X: Frames) -> float:  # noqa: N803
        """Compute the Bayesian information criterion; the lower, the better."""
        logs = self.score_samples(X)
        return float(self.mixture_.parameters * np.log(len(logs)) - 2.0 * logs.sum())

    def aic(self, X: Frames) -> float:  # noqa: N803
        """Compute the Akaike information criterion; the lower, the better."""
        logs = self.score_samples(X)
        return float(2.0 * self.mixture_.parameters - 2.0 * logs.sum())

    @property
    def weights_(self) -> Array:
        return self.mixture_.weights

    @property
    def means_(self) -> Array:
        return self.mixture_.means

    @property
    def covariances_(self) -> Array:
        return self.mixture_.covariances

    @property
    def precisions_(self) -> Array:
        return self.mixture_.precisions

    def _array(self, X: Any, *, reset: bool) -> npt.NDArray[Any]:  # noqa: N803
        # One frame has no variance.
        least = 2 if reset else 1
        types = [np.float64, np.float32]
        return validate_data(self, X, reset=reset, dtype=types, ensure_min_samples=least)

    def _of_blocks(
        self,
        X: Any,  # noqa: N803
        function: Callable[[GaussianMixture, npt.NDArray[Any]], npt.NDArray[Any]],
    ) -> npt.NDArray[Any]:
        check_is_fitted(self)
        source = (
            opened(X, self.features) if _is_read(X) else ArraySource(self._array(X, reset=False))
        )

        def work(start: int) -> npt.NDArray[Any]:
            return function(self.mixture_, source.read(start, min(start + _BLOCK, source.frames)))

        with single_blas():
            threads = self.threads or processors()
            return np.concatenate([*threads_map(threads)(work, range(0, source.frames, _BLOCK))])


def _is_read(X: Any) -> bool:  # noqa: N803
    """Whether scikit-learn's checks cannot be made, because frames are not an array."""
    return is_shows(X) or isinstance(X, FrameSource)
