"""`Mixture`: the methods of ``sidekit.Mixture``, which check arguments and call the core."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core import density
from gmmcore.core import train as training
from gmmcore.core.history import HistoryEntry
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError, Numbers
from gmmcore.core.schedule import SIDEKIT_ITERATIONS, Course, Stage
from gmmcore.core.settings import SIDEKIT_BOUNDS, FullMStep, MStep, TrainingSettings
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats import sklearn
from gmmcore.formats.base import linear_constants
from gmmcore.formats.hdf5 import write_hdf5
from gmmcore.formats.registry import core_mixture, format_by_extension, read_mixture, write_mixture
from gmmcore.interfaces import sidekit_arguments as arguments

Array = npt.NDArray[np.float64]
# SIDEKIT shrinks no correlations, and computes in double precision with all components.
_SIDEKIT_FULL = FullMStep(prior=0.0, occupancy=10.0, **SIDEKIT_BOUNDS["full"])
_EXACT: dict[str, Any] = {"precision": "double", "pruning": 0.0, "robust": False, "last_gain": inf}


class Mixture:
    """A Gaussian mixture with the attributes and methods of ``sidekit.Mixture``.

    Parameters
    ----------
    mixture_file_name : path, optional
        A mixture file of any format; without a file the mixture has no components.
    name : str, optional
        Name of the mixture, for messages.

    Attributes
    ----------
    w, mu : ndarray, shape (C,) and (C, D), float64
        Weights and means of the components.
    invcov : ndarray, shape (C, D) or (C, D, D), float64
        Precisions: inverse variances, or inverse covariances.
    invchol : ndarray, shape (C, D, D), float64
        Upper Cholesky factors U of full precisions U' U; empty for diagonal covariances.
    cov_var_ctl : ndarray, shape (C, D), float64
        Variances to which the floor and the ceiling of a training are relative; may be empty.
    cst, det, A : ndarray, shape (C,), float64
        Normalising factors of the densities, determinants of the covariances, and
        ``sum(mu^2 invcov) - 2 (log w + log cst)``, or zeros for full covariances. `cst` and `det`
        may overflow; no method uses the three arrays.
    name : str
        Name of the mixture, for messages.

    Notes
    -----
    All methods compute from the current `w`, `mu`, `invcov` and `cov_var_ctl`. If a script changes
    one of them, `_compute_all` sets the other attributes, as in SIDEKIT. A `Mixture` is diagonal or
    full: spherical covariances become diagonal ones, and tied covariances full ones.

    Examples
    --------
    >>> import numpy as np
    >>> from gmmcore import Mixture
    >>> rng = np.random.default_rng(0)
    >>> frames = np.concatenate([rng.normal(-5, 1, (300, 2)), rng.normal(5, 1, (100, 2))])
    >>> ubm = Mixture(name="ubm")
    >>> llk = ubm.EM_split(frames, None, distrib_nb=2, iterations=[10])
    >>> ubm
    <Mixture ubm: 2 diagonal of dimension 2>
    >>> ubm.w.round(2)
    array([0.75, 0.25])
    """

    def __init__(self, mixture_file_name: PathLike = "", name: str = "empty") -> None:
        empty: Array = np.array([])
        self.w = self.mu = self.invcov = self.invchol = self.cov_var_ctl = empty
        self.cst = self.det = self.A = empty
        self.name = name
        if not isinstance(mixture_file_name, str) or mixture_file_name:
            self.read(mixture_file_name)

    @classmethod
    def from_gaussian_mixture(cls, mixture: GaussianMixture, name: str = "empty") -> Mixture:
        """Make a `Mixture` of a `gmmcore.GaussianMixture`."""
        result = cls(name=name)
        result._adopt(core_mixture("mixture", mixture))
        return result

    def gaussian_mixture(self) -> GaussianMixture:
        """Make a `gmmcore.GaussianMixture`; raise `InvalidMixtureError` for invalid parameters."""
        self._filled(self.w)
        control = np.asarray(self.cov_var_ctl)
        usable = control.ndim == 2 and control.shape == np.shape(self.mu)
        return GaussianMixture(self.w, self.mu, self.invcov, control if usable else None)

    def distrib_nb(self) -> int:
        """Return the number of components, C; 0 for an empty mixture."""
        return int(self.w.shape[0])

    get_distrib_nb = distrib_nb

    def dim(self) -> int:
        """Return the dimension of a frame, D; raise `InvalidMixtureError` for an empty mixture."""
        return int(self._filled(self.mu).shape[1])

    def sv_size(self) -> int:
        """Return the length of the mean super-vector, C D; 0 for an empty mixture."""
        return int(self.mu.size)

    def get_mean_super_vector(self) -> Array:
        """Return all means, shape (C D,); raise `InvalidMixtureError` for an empty mixture."""
        return self._filled(self.mu).flatten()

    def get_invcov_super_vector(self) -> Array:
        """Return all inverse variances of a diagonal mixture, shape (C D,)."""
        if self._filled(self.invcov).ndim != 2:
            raise GmmcoreError(f"mixture {self.name}: only a diagonal mixture has such a vector")
        return self.invcov.flatten()

    def validate(self) -> bool:
        """Whether the parameters are valid, and `cst` and `det` have one value per component."""
        try:
            count = self.gaussian_mixture().components
        except InvalidMixtureError:
            return False
        return self.cst.shape == (count,) and self.det.shape == (count,)

    def read(self, mixture_file_name: PathLike, prefix: str = "") -> None:
        """Read a mixture, as `gmmcore.read_mixture` does."""
        self._adopt(read_mixture(mixture_file_name, prefix=prefix))

    def write(self, mixture_file_name: PathLike, prefix: str = "", mode: str = "w") -> None:
        """Write an HDF5 file with SIDEKIT's layout.

        Parameters
        ----------
        mixture_file_name : path
            Name of the file. The extension of another format, such as ``.gmm``, is refused:
            `write_alize`, `write_htk` and `gmmcore.write_mixture` write other formats.
        prefix : str, optional
            Beginning of the names of the datasets.
        mode : {'w', 'a'}
            ``w`` replaces the file, ``a`` adds the mixture to those in the file.
        """
        arguments.check_extension(mixture_file_name, "sidekit")
        write_hdf5(mixture_file_name, self.gaussian_mixture(), prefix=prefix, mode=mode)

    @staticmethod
    def read_alize(file_name: PathLike) -> Mixture:
        """Read ALIZE XML if the extension is ``.xml``, ALIZE RAW otherwise."""
        found = format_by_extension(file_name)
        format = "alize-xml" if found is not None and found.name == "alize-xml" else "alize"
        return Mixture.from_gaussian_mixture(read_mixture(file_name, format=format))

    def write_alize(self, mixture_file_name: PathLike) -> None:
        """Write ALIZE RAW."""
        arguments.check_extension(mixture_file_name, "alize")
        write_mixture(mixture_file_name, self, "alize")

    @staticmethod
    def read_htk(filename: PathLike, begin_hmm: bool = False, state2: bool = False) -> Mixture:
        """Read a whole definition in HTK MMF text; `begin_hmm` and `state2` must be false."""
        if begin_hmm or state2:
            found = "begin_hmm or state2, which read a part of a definition"
            arguments.refuse(str(filename), found, "a whole one", "give it from ~o to <ENDHMM>")
        return Mixture.from_gaussian_mixture(read_mixture(filename, format="htk"))

    def write_htk(self, mixture_file_name: PathLike) -> None:
        """Write HTK MMF text."""
        arguments.check_extension(mixture_file_name, "htk")
        write_mixture(mixture_file_name, self, "htk")

    def compute_log_posterior_probabilities(
        self, cep: npt.ArrayLike, mu: npt.ArrayLike | None = None
    ) -> Array:
        """Compute the logarithm of each component's weighted density, ``log(w_c N(x))``.

        The method has two names, as in SIDEKIT; both take diagonal and full covariances.

        Parameters
        ----------
        cep : array_like, shape (F, D) or (D,)
            Frames.
        mu : array_like, shape (C D,) or (C, D), optional
            Means in the place of the mixture's.

        Returns
        -------
        ndarray, shape (F, C), float64
            Log-densities, which are not normalised over the components, as in SIDEKIT.

        Examples
        --------
        >>> from gmmcore import GaussianMixture, Mixture
        >>> ubm = Mixture.from_gaussian_mixture(GaussianMixture([1], [[0, 0]], [[1, 4]]))
        >>> ubm.compute_log_posterior_probabilities([[0, 0], [1, 0]]).round(3)
        array([[-1.145],
               [-1.645]])
        """
        mixture = self.gaussian_mixture()
        if mu is not None:
            means, shape = density.checked_frames(mu, "mu"), mixture.means.shape
            is_vector = means.size == mixture.means.size == max(means.shape, default=0)
            if means.shape != shape and not is_vector:
                arguments.refuse(
                    "mu",
                    f"an array of shape {means.shape}",
                    f"{shape} or ({mixture.means.size},)",
                    "give the means of this mixture's components",
                )
            mixture = GaussianMixture(self.w, np.reshape(means, shape), self.invcov)
        frames = np.atleast_2d(density.checked_frames(cep, finite=True))
        return density.component_log_likelihoods(mixture, frames)

    compute_log_posterior_probabilities_full = compute_log_posterior_probabilities

    def sample(self, frames: int = 1, seed: int | None = None) -> tuple[Array, Numbers]:
        """Draw random frames, as `gmmcore.GaussianMixture.sample` does."""
        return self.gaussian_mixture().sample(frames, seed)

    def EM_split(
        self,
        features_server: Any,
        feature_list: Any,
        distrib_nb: int,
        iterations: Sequence[int] = SIDEKIT_ITERATIONS,
        num_thread: int = 1,
        llk_gain: float = 0.01,
        save_partial: bool = False,
        output_file_name: str = "ubm",
        ceil_cov: float = 10,
        floor_cov: float = 1e-2,
        *,
        method: str = "sidekit",
        frames_per_component: int | None = None,
        seed: int = 1,
        occupancy: float = 10.0,
    ) -> list[float]:
        """Train a diagonal mixture: split the Gaussian of all frames, and iterate after each split.

        Parameters
        ----------
        features_server : FeaturesServer or ndarray, shape (F, D)
            An object with ``load(show, start=, stop=)``, or an array of all frames.
        feature_list : sequence of str, IdMap or None
            Names of shows, or segments of shows; None for an array of frames.
        distrib_nb : int
            Number of components of the trained mixture.
        iterations : sequence of int, optional
            Largest number of iterations after each split; the last number serves further splits.
        num_thread : int, optional
            Number of threads; the result does not depend on the number.
        llk_gain : float, optional
            Smallest gain of log-likelihood per frame after which another iteration follows.
        save_partial, output_file_name : bool and path, optional
            Whether to write ``<output_file_name>_<C>g.h5``, in an existing folder, before a split.
        ceil_cov, floor_cov : float, optional
            Bounds of the variances, relative to those of all frames.
        method : {'sidekit', 'principal'}, optional
            ``sidekit`` divides each component along its axis of largest variance; ``principal``
            divides where the likelihood gains most, and reaches more in fewer iterations.
        frames_per_component, seed : int, optional
            Number of random frames per component that all but the last iterations read, and the
            seed; None reads all frames in every iteration.
        occupancy : float, optional
            Components with fewer frames are shrunk towards the variances of all frames.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmcore import Mixture
        >>> frames = np.random.default_rng(0).normal(size=(500, 3))
        >>> ubm = Mixture()
        >>> llk = ubm.EM_split(frames, None, distrib_nb=4, iterations=(1, 2), llk_gain=0)
        >>> ubm.distrib_nb(), len(llk)
        (4, 3)
        """
        components = arguments.whole("distrib_nb", distrib_nb, 1)
        limits = arguments.limits(iterations)
        floor, ceiling = arguments.bounds(floor_cov=floor_cov, ceil_cov=ceil_cov)
        if not isinstance(method, str) or method not in ("sidekit", "principal"):
            arguments.refuse("method", arguments.shown(method), "one of sidekit, principal")
        settings = TrainingSettings(
            llk_gain=arguments.real("llk_gain", llk_gain),
            method=method,
            diag=MStep(
                floor=floor, ceiling=ceiling, occupancy=arguments.frames("occupancy", occupancy)
            ),
            **_common(num_thread, frames_per_component, seed),
        )
        if save_partial:
            arguments.check_folder(output_file_name)

        def save(mixture: GaussianMixture) -> None:
            write_hdf5(f"{output_file_name}_{mixture.components}g.h5", mixture)

        trained = training.train(
            arguments.frame_source(features_server, feature_list),
            components,
            limits,
            settings=settings,
            before_split=save if save_partial else None,
        )
        return self._trained(*trained)

    def EM_uniform(
        self,
        cep: npt.ArrayLike,
        distrib_nb: int,
        iteration_min: int = 3,
        iteration_max: int = 10,
        llk_gain: float = 0.01,
        do_init: bool = True,
    ) -> list[float]:
        """Train a diagonal mixture whose components start from equal slices of the frames.

        Parameters
        ----------
        cep : array_like, shape (F, D)
            Frames.
        distrib_nb : int
            Number of components.
        iteration_min, iteration_max : int, optional
            Smallest and largest number of iterations.
        llk_gain : float, optional
            Smallest gain of log-likelihood per frame after which another iteration follows.
        do_init : bool, optional
            False continues the training of the mixture, which has `distrib_nb` components.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.
        """
        components = arguments.whole("distrib_nb", distrib_nb, 1)
        least = arguments.whole("iteration_min", iteration_min, 0) + 1
        most = arguments.whole("iteration_max", iteration_max, 0)
        gain = arguments.real("llk_gain", llk_gain)
        diag = MStep(**SIDEKIT_BOUNDS["diag"])
        settings = TrainingSettings(llk_gain=gain, diag=diag, full=_SIDEKIT_FULL, **_EXACT)
        if not do_init and components != self.gaussian_mixture().components:
            expected = f"{self.distrib_nb()}, the components of the mixture that is continued"
            arguments.refuse("distrib_nb", str(components), expected, "correct it, or set do_init")
        frames = arguments.array_source(cep)
        start = training.uniform_start(frames, components) if do_init else self.gaussian_mixture()
        stage = Stage(start.kind, start.components, most, "initialise")
        course = Course(stage, settings.llk_gain, least=least)
        return self._trained(*training.iterate(start, frames, course, settings))

    def EM_diag2full(
        self,
        diagonal_mixture: Mixture,
        features_server: Any,
        featureList: Any,
        iterations: int = 2,
        num_thread: int = 1,
        *,
        prior: float | None = 0.0,
        occupancy: float | None = _SIDEKIT_FULL.occupancy,
        frames_per_component: int | None = None,
        seed: int = 1,
    ) -> list[float]:
        """Train full covariances from a diagonal mixture.

        Parameters
        ----------
        diagonal_mixture : Mixture
            Mixture to start from.
        features_server, featureList
            As `features_server` and `feature_list` of `EM_split`.
        iterations, num_thread : int, optional
            Numbers of iterations and of threads.
        prior : float or None, optional
            Number of frames that stand for the correlations of all components: a component of n
            frames keeps n / (n + prior) of its own correlations, against overfitting. 0 gives the
            numbers of SIDEKIT. None, recommended and the default of the workflow, gives twice as
            many frames as dimensions.
        occupancy : float or None, optional
            Components with fewer frames are shrunk towards the variances of all frames; None for
            as many frames as dimensions.
        frames_per_component, seed : int, optional
            As in `EM_split`; full components read (D + 3) / 4 times as many frames.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.

        Examples
        --------
        >>> import numpy as np
        >>> from gmmcore import Mixture
        >>> frames = np.random.default_rng(0).normal(size=(500, 3))
        >>> diagonal, full = Mixture(), Mixture()
        >>> llk = diagonal.EM_split(frames, None, distrib_nb=2)
        >>> llk = full.EM_diag2full(diagonal, frames, None, prior=None)
        >>> full.invcov.shape
        (2, 3, 3)
        """
        start = to_kind(core_mixture("diagonal_mixture", diagonal_mixture), "full")
        limit = arguments.whole("iterations", iterations, 0)
        settings = TrainingSettings(
            llk_gain=-np.inf,
            full=FullMStep(
                prior=None if prior is None else arguments.frames("prior", prior),
                occupancy=None if occupancy is None else arguments.frames("occupancy", occupancy),
                **SIDEKIT_BOUNDS["full"],
            ),
            **_common(num_thread, frames_per_component, seed),
        )
        source = arguments.frame_source(features_server, featureList)
        course = Course.of(
            Stage("full", start.components, limit, "diag2full", final=True),
            llk_gain=settings.llk_gain,
            frames=source.frames,
            dimension=source.dimension,
            frames_per_component=settings.frames_per_component,
        )
        llk = self._trained(*training.iterate(start, source, course, settings))
        self.name = getattr(diagonal_mixture, "name", self.name)
        return llk

    def init_from_diag(self, diag_mixture: Mixture) -> None:
        """Take the parameters of a diagonal mixture, with full covariances."""
        self._adopt(to_kind(core_mixture("diag_mixture", diag_mixture), "full"))
        self.name = getattr(diag_mixture, "name", self.name)

    def merge(self, model_list: Sequence[Mixture]) -> None:
        """Take the components of several mixtures; all weights are divided by their sum."""
        models = list(model_list) if np.iterable(model_list) else []
        if not models:
            found = arguments.shown(model_list)
            arguments.refuse("model_list", found, "a list of one Mixture or more")
        parts = [core_mixture("model_list", model) for model in models]
        for part in parts:
            if part.precisions.shape[1:] != parts[0].precisions.shape[1:]:
                arguments.refuse(
                    "model_list",
                    f"{part!r} beside {parts[0]!r}",
                    "mixtures of the same dimension, all diagonal or all full",
                    "merge such mixtures only",
                )
        self._adopt(GaussianMixture.merged(parts))

    @staticmethod
    def variance_control(
        cov: npt.ArrayLike, flooring: float, ceiling: float, cov_ctl: npt.ArrayLike
    ) -> Array:
        """Limit variances to ``flooring x cov_ctl`` and ``ceiling x cov_ctl``, in a new array."""
        arguments.bounds(flooring=flooring, ceiling=ceiling)
        control = np.asarray(cov_ctl, dtype=np.float64)
        return np.clip(np.asarray(cov, dtype=np.float64), flooring * control, ceiling * control)

    def to_sklearn(self) -> Any:
        """Make a fitted ``sklearn.mixture.GaussianMixture``; needs ``pip install scikit-learn``."""
        return sklearn.to_sklearn(self.gaussian_mixture())

    @staticmethod
    def from_sklearn(estimator: Any) -> Mixture:
        """Make a `Mixture` of a fitted ``sklearn.mixture.GaussianMixture``."""
        return Mixture.from_gaussian_mixture(sklearn.from_sklearn(estimator))

    def _trained(self, mixture: GaussianMixture, history: Sequence[HistoryEntry]) -> list[float]:
        self._adopt(mixture)
        return [entry.log_likelihood for entry in history]

    def _compute_all(self) -> None:
        """Set `invchol`, `cst`, `det` and `A` from `w`, `mu` and `invcov`."""
        self._derive(self.gaussian_mixture())

    def _filled(self, values: Array) -> Array:
        if np.size(values) == 0:
            raise InvalidMixtureError(
                f"mixture {self.name}: it is empty; expected one with components; "
                "read it from a file or train it first"
            )
        return values

    def _adopt(self, mixture: GaussianMixture) -> None:
        control = mixture.variance_control
        self.w = mixture.weights.copy()
        self.mu = mixture.means.copy()
        self.invcov = mixture.precisions.copy()
        self.cov_var_ctl = np.array([]) if control is None else control.copy()
        self._derive(mixture)

    def _derive(self, mixture: GaussianMixture) -> None:
        self.invchol = mixture.precision_factors.copy() if mixture.is_full else np.array([])
        self.cst, self.det, self.A = linear_constants(mixture)

    def __repr__(self) -> str:
        if self.mu.ndim != 2:
            return f"<Mixture {self.name}: empty>"
        kind = "full" if self.invcov.ndim == 3 else "diagonal"
        return f"<Mixture {self.name}: {self.distrib_nb()} {kind} of dimension {self.dim()}>"


def _common(num_thread: Any, frames_per_component: Any, seed: Any) -> dict[str, Any]:
    """Return the settings that `EM_split` and `EM_diag2full` share."""
    if frames_per_component is not None:
        frames_per_component = arguments.whole("frames_per_component", frames_per_component, 1)
    return {
        **_EXACT,
        "threads": arguments.whole("num_thread", num_thread, 1),
        "frames_per_component": frames_per_component,
        "seed": arguments.whole("seed", seed, 0),
    }
