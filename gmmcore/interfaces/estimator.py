"""A Gaussian mixture as an estimator of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from inspect import Signature, signature
from math import inf, isnan, nan
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import TrainingKeys
from gmmcore.core import density
from gmmcore.core.describe import gain_left
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource, FrameSource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.initial import sample_of
from gmmcore.core.kinds import KINDS, to_kind
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError, Numbers
from gmmcore.core.parallel import single_blas, threads_map
from gmmcore.core.schedule import stages
from gmmcore.core.train import Subsets
from gmmcore.errors import GmmcoreError, warn
from gmmcore.formats.sklearn import from_sklearn, parameters
from gmmcore.interfaces.fitting import KEYS_OF_SKLEARN, Frames, mixture_of, processors, train
from gmmcore.interfaces.frames import divided, is_shows, opened
from gmmcore.interfaces.run import Training

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Peer
    from sklearn.utils import check_random_state
    from sklearn.utils._param_validation import StrOptions
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise GmmcoreError(
        "GaussianMixtureModel: scikit-learn cannot be imported; install it with: "
        "pip install scikit-learn"
    ) from error

Array = npt.NDArray[np.float64]
_BLOCK = 4096
# Number of frames, about, from which random starts are made.
_SAMPLE = 20_000
# What is added to the variances of a random start, relative to the least variance of a column.
_LEAST_VARIANCE = 1e-6
# Largest `max_iter`: files count iterations with three digits.
_MOST = 999


class GaussianMixtureModel(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A Gaussian mixture with the parameters and methods of ``sklearn.mixture.GaussianMixture``.

    It is trained as the workflow trains: components are divided where the likelihood gains most,
    so that there is no random initialisation. Pipelines, grid search and ``clone`` take it. It
    needs ``pip install scikit-learn``.

    Parameters
    ----------
    n_components : int
        Number of components, C.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
        Kind of the covariances.
    tol : float
        Gain of log-likelihood per frame below which the training ends.
    reg_covar : float
        Least variance of a component, relative to that of all frames in the same dimension, so
        that units do not matter (scikit-learn adds `reg_covar` to each variance). It is the floor
        of config.yaml, for all kinds. Full covariances are also drawn to that of all components
        together, by ``full.prior``, which lowers the likelihood of the training frames a little,
        and mostly raises that of others. 0 stands for EM without any regularisation, as
        scikit-learn has with a small `reg_covar`: no floor, no prior.
    max_iter : int
        Largest number of EM iterations with all components; iterations after the divisions before
        are as in config.yaml. More than 999 stand for 999.
    n_init : int
        Number of trainings, of which the one with the largest `lower_bound_` is kept. The second
        and further ones begin from k-means with other random numbers.
    init_params : {'divide', 'kmeans', 'k-means++', 'random_from_data', 'random'}
        How the first training begins: from one Gaussian that is divided, or as in scikit-learn.
    weights_init, means_init, precisions_init : array_like, optional
        Parameters to begin from, with the shapes of the attributes; others are made as from the
        results of k-means.
    random_state : int, RandomState or None
        Seed, the `seed` of config.yaml, by default 1. `sample` draws other frames in each call if
        it is None.
    warm_start : bool
        Whether `fit` goes on from the mixture of the last `fit`.
    verbose, verbose_interval : int
        Whether iterations are printed, and every how many.
    held_out : float, array_like, path or sequence, optional
        Share of the frames that are not trained on, or such frames; see `gmmcore.train`.
    init : GaussianMixture, Mixture, Training, fitted estimator or path, optional
        Mixture to begin from. It is divided if it has fewer components.
    features : mapping, optional
        Keys of the section ``features`` of config.yaml, for frames in files.
    threads : int, optional
        Number of threads; by default that of the CPU cores. The result does not depend on it.
    keys : mapping, optional
        Further keys of config.yaml that decide a training, as `gmmcore.train` takes them, such as
        ``{"method": "sidekit", "variance": {"floor": 0.001}}``. Frames in an array of float64 are
        computed in double precision, unless ``precision`` is given here.

    Attributes
    ----------
    weights_, means_, covariances_, precisions_, precisions_cholesky_ : ndarray, float64
        Parameters of the mixture, with the shapes that they have in scikit-learn.
    converged_ : bool
        Whether the training ended because of `tol`, not because of `max_iter`.
    n_iter_ : int
        Number of iterations with all components.
    lower_bound_, lower_bounds_ : float, list of float
        Log-likelihood per frame (natural logarithm) before the last update, and before each update
        with all components, of the frames that the iteration read.
    n_features_in_ : int
        Dimension of the frames, D.
    feature_names_in_ : ndarray, shape (D,)
        Names of the columns, if the frames are given as a table with names.
    mixture_ : GaussianMixture
        The trained mixture, which `gmmcore.write_mixture` writes.
    history_ : dict of ndarray
        The columns of the history, with a value per iteration of all stages.
    held_out_ : float
        Log-likelihood per frame of the held-out frames; NaN if there are none.

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
    >>> model = GaussianMixtureModel(n_components=2).fit(frames)
    >>> model.weights_
    array([0.75, 0.25])
    >>> model.predict([[-4.0, -6.0], [4.0, 5.0]])
    array([0, 1])
    >>> model.bic(frames) < GaussianMixtureModel(n_components=1).fit(frames).bic(frames)
    True
    """

    mixture_: GaussianMixture
    history_: dict[str, npt.NDArray[Any]]
    held_out_: float
    converged_: bool
    lower_bound_: float
    n_features_in_: int

    _parameter_constraints = {  # noqa: RUF012
        **Peer._parameter_constraints,
        "init_params": [
            StrOptions({"divide", "kmeans", "k-means++", "random_from_data", "random"})
        ],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "divide",
        weights_init: npt.ArrayLike | None = None,
        means_init: npt.ArrayLike | None = None,
        precisions_init: npt.ArrayLike | None = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        held_out: float | Frames | None = None,
        init: Any = None,
        features: Mapping[str, Any] | None = None,
        threads: int | None = None,
        keys: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.held_out = held_out
        self.init = init
        self.features = features
        self.threads = threads
        self.keys = keys
        for name in unknown:
            raise TypeError(f"GaussianMixtureModel has no parameter {name}; {self._advice(name)}")

    # scikit-learn gives a value to everything in the signature, and `unknown` is no parameter.
    __signature__ = Signature([*signature(__init__).parameters.values()][1:-1])

    @classmethod
    def from_mixture(cls, mixture: Any, **params: Any) -> Self:
        """Make a fitted estimator of a mixture or of its file.

        Parameters
        ----------
        mixture : GaussianMixture, Mixture, Training, fitted estimator or path
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
        params = {"n_components": found.components, "covariance_type": found.kind, **params}
        result = cls(**params)
        result.mixture_ = found
        result.n_features_in_ = found.dimension
        return result

    def fit(self, X: Frames, y: None = None, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train the mixture; see `gmmcore.train`.

        Parameters
        ----------
        X : array_like of shape (F, D), path, or sequence
        y : None
            Not used.
        sample_weight : array_like of shape (F,), optional
            Weights of the frames of an array: a frame of weight 2 counts as two frames. If their
            mean is less than 1, they are divided by it.

        Raises
        ------
        ValueError
            If there are fewer frames than components, or a parameter has no valid value; among
            them `GmmcoreError`.
        """
        self._validate_params()
        for name in signature(train).parameters.keys() & (self.keys or {}).keys() - {"map"}:
            raise GmmcoreError(f"keys: {name} is not one of them; {self._advice(name)}")
        values, seed = self._weighted(X, sample_weight), self._seed()
        inside, outside = divided(values, self.held_out, self.features, seed)
        if inside.frames < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components but got n_components = "
                f"{self.n_components}, n_samples = {inside.frames}"
            )
        before = getattr(self, "lower_bound_", nan) if self._goes_on() else nan
        starts = self._starts(inside, seed)
        trained = [self._trained(inside, outside, start, seed) for start in starts]
        best = max(trained, key=lambda one: [each.log_likelihood for each in self._last(one)[-1:]])
        self.mixture_, self.history_, self.held_out_ = best.mixture, best.history, best.held_out
        self.n_features_in_ = inside.dimension
        last = self._last(best)
        self.lower_bounds_ = [each.log_likelihood for each in last]
        if not best.entries and self.max_iter:  # One Gaussian is found without iterations.
            self.lower_bounds_ = [accumulate(self.mixture_, inside).log_likelihood_per_frame]
        self.n_iter_ = len(self.lower_bounds_)
        self.lower_bound_ = self.lower_bounds_[-1] if self.n_iter_ else -inf
        left = gain_left(last, self.tol)
        if left is not None and isnan(left):  # A single iteration has no gain.
            left = self.lower_bound_ - before
        self.converged_ = left is None or left < self.tol
        if self.max_iter and not self.converged_:
            warn(
                "Best performing initialization did not converge. Try different init parameters, "
                "or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
            )
        return self

    def fit_predict(
        self, X: Frames, y: None = None, sample_weight: npt.ArrayLike | None = None
    ) -> Numbers:
        """Train the mixture, and find the most probable component of each frame."""
        return self.fit(X, y, sample_weight).predict(X)

    def score_samples(self, X: Frames) -> Array:
        """Compute the log-likelihood (natural logarithm) of each frame, shape (F,), float64."""
        return self._of_blocks(X, density.log_likelihood)

    def score(self, X: Frames, y: None = None) -> float:
        """Compute the log-likelihood per frame (natural logarithm)."""
        return float(self.score_samples(X).mean())

    def predict_proba(self, X: Frames) -> Array:
        """Compute the posterior of each component for each frame, shape (F, C), float64."""
        return self._of_blocks(X, density.posteriors)

    def predict(self, X: Frames) -> Numbers:
        """Find the component with the largest posterior for each frame, shape (F,), int."""
        return self._of_blocks(
            X, lambda mixture, frames: density.component_log_likelihoods(mixture, frames).argmax(1)
        )

    def sample(self, n_samples: int = 1) -> tuple[Array, Numbers]:
        """Draw random frames; see `gmmcore.GaussianMixture.sample`.

        Returns
        -------
        X : ndarray, shape (n_samples, D), float64
            The drawn frames.
        y : ndarray, shape (n_samples,), int
            Component of each frame.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"Invalid value for 'n_samples': {n_samples}; expected 1 or more")
        return self.mixture_.sample(n_samples, None if self.random_state is None else self._seed())

    def bic(self, X: Frames) -> float:
        """Compute the Bayesian information criterion; the lower, the better."""
        logs = self.score_samples(X)
        return float(self.mixture_.parameters * np.log(len(logs)) - 2.0 * logs.sum())

    def aic(self, X: Frames) -> float:
        """Compute the Akaike information criterion; the lower, the better."""
        logs = self.score_samples(X)
        return float(2.0 * self.mixture_.parameters - 2.0 * logs.sum())

    weights_ = property(lambda self: parameters(self.mixture_)["weights_"])
    means_ = property(lambda self: parameters(self.mixture_)["means_"])
    covariances_ = property(lambda self: parameters(self.mixture_)["covariances_"])
    precisions_ = property(lambda self: parameters(self.mixture_)["precisions_"])
    precisions_cholesky_ = property(lambda self: parameters(self.mixture_)["precisions_cholesky_"])

    def _advice(self, name: str) -> str:
        """Say what a parameter of another name is called here."""
        known = {ours.partition("=")[0]: theirs for theirs, ours in KEYS_OF_SKLEARN.items()}
        right = {**known, "llk_gain": "tol"}.get(name)
        if right is None and name in vars(TrainingKeys()):
            return f"give it as keys={{{name!r}: ...}}"
        guess = [right] if right else get_close_matches(name, self._get_param_names(), n=1)
        return f"did you mean {guess[0]}?" if guess else "help(GaussianMixtureModel) lists them"

    def _goes_on(self) -> bool:
        """Whether `fit` goes on from the mixture of the last `fit`."""
        return self.warm_start and hasattr(self, "mixture_")

    def _seed(self) -> int:
        """Return the seed that `random_state` stands for."""
        if self.random_state is None:
            return TrainingKeys.seed
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _starts(self, source: FrameSource, seed: int) -> list[GaussianMixture | None]:
        """Return the mixtures to begin from; None stands for the Gaussian of all frames."""
        if self.n_components == 1 and self.max_iter:
            return [None]
        if self._goes_on():
            return [self.mixture_]
        if self.init is not None:
            return [mixture_of("init", self.init)]
        given = (self.weights_init, self.means_init, self.precisions_init)
        divides = self.init_params == "divide" and all(one is None for one in given)
        return [
            None if divides and not number else self._start(source, seed + number)
            for number in range(self.n_init)
        ]

    def _start(self, source: FrameSource, seed: int) -> GaussianMixture:
        """Make the mixture that scikit-learn begins from, for random frames."""
        wanted = max(_SAMPLE, 10 * self.n_components)
        sample = sample_of(Subsets(source, seed).of, wanted).astype(np.float64)
        variances = sample.var(axis=0)
        start = Peer(
            self.n_components,
            covariance_type=self.covariance_type,
            reg_covar=_LEAST_VARIANCE
            * variances.min(where=variances > 0, initial=variances.max() or 1.0),
            max_iter=0,
            init_params="kmeans" if self.init_params == "divide" else self.init_params,
            weights_init=self.weights_init,
            means_init=self.means_init,
            precisions_init=self.precisions_init,
            random_state=seed,
        )
        start.covariances_ = None  # It needs them, and makes none if precisions are given.
        start.fit(sample)
        # Some of its methods begin with weights that are shares of frames.
        start.weights_ = start.weights_ / np.sum(start.weights_)
        return from_sklearn(start)

    def _trained(
        self,
        inside: FrameSource,
        outside: FrameSource | None,
        start: GaussianMixture | None,
        seed: int,
    ) -> Training:
        """Train from a mixture, or from the Gaussian of all frames."""
        if start is not None and not self.max_iter:
            return Training(start, ())
        kind = self.covariance_type if self.max_iter else "diag"
        keys: dict[str, Any] = {
            "llk_gain": self.tol,
            "last_gain": self.tol,
            "seed": seed,
            "precision": "double" if inside.read(0, 1).dtype == np.float64 else "single",
            **(self.keys or {}),
        }
        for name, section in self._sections(kind).items():
            keys[name] = {**section, **keys.get(name, {})}
        if not KINDS[kind].is_full:
            first = 1 if start is None else start.components
            given = keys.get("iterations", TrainingKeys.iterations)
            limits = [stage.iterations for stage in stages(self.n_components, given, start=first)]
            keys["iterations"] = [*limits[first == 1 : -1], min(self.max_iter, _MOST)]
        try:
            trained = train(
                inside,
                self.n_components,
                kind,
                outside,
                init=start,
                threads=self.threads,
                report=self._print if self.verbose else None,
                **keys,
            )
        except InvalidMixtureError as error:
            raise InvalidMixtureError(
                "Fitting the mixture model failed because some components have ill-defined "
                "empirical covariance (for instance caused by singleton or collapsed samples). Try "
                "to decrease the number of components, increase reg_covar, or scale the input "
                f"data. ({error})"
            ) from error
        return replace(trained, mixture=to_kind(trained.mixture, self.covariance_type))

    def _sections(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the sections of config.yaml that `reg_covar` and `max_iter` stand for."""
        full: dict[str, Any] = {}
        if KINDS[kind].is_full:
            full["iterations"] = min(self.max_iter, _MOST)
        bounds = {"floor": self.reg_covar, "ceiling": inf}
        if self.reg_covar:
            return {"variance": bounds, "full": {**bounds, **full}}
        plain = {"occupancy": 0.0}
        full |= {**bounds, **plain, "prior": 0.0}
        return {"variance": bounds, "low_count": plain, "full": full}

    def _last(self, training: Training) -> list[HistoryEntry]:
        """Return the iterations with all components."""
        last = (self.covariance_type, self.n_components)
        return [each for each in training.entries if (each.stage, each.components) == last]

    def _print(self, entry: HistoryEntry, mixture: GaussianMixture) -> None:
        """Print an iteration."""
        if entry.iteration % self.verbose_interval == 0:
            value = f"log-likelihood per frame {entry.log_likelihood:.5f}"
            print(f"{entry.stage} {entry.components}, iteration {entry.iteration}: {value}")

    def _weighted(self, X: Any, sample_weight: Any) -> Any:
        """Check the frames, if they are an array, and give them their weights."""
        if _is_read(X):
            if sample_weight is not None:
                raise GmmcoreError(
                    "sample_weight: given with frames in files; expected an array of frames; leave "
                    "it out"
                )
            return X
        values = self._array(X, reset=True)
        if sample_weight is None:
            return values
        weights = _check_sample_weight(
            sample_weight, values, dtype=np.float64, ensure_non_negative=True
        )
        counts = weights > 0
        values, weights = values[counts], weights[counts]
        return ArraySource(values, weights * max(1.0, len(weights) / weights.sum()))

    def _array(self, X: Any, *, reset: bool) -> npt.NDArray[Any]:
        # One frame has no variance.
        least = 2 if reset else 1
        types = [np.float64, np.float32]
        return validate_data(self, X, reset=reset, dtype=types, ensure_min_samples=least)

    def _of_blocks(
        self, X: Any, function: Callable[[GaussianMixture, npt.NDArray[Any]], npt.NDArray[Any]]
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


def _is_read(X: Any) -> bool:
    """Whether scikit-learn's checks cannot be made, because frames are not an array."""
    return is_shows(X) or isinstance(X, FrameSource)
