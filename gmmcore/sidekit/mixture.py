"""``Mixture``: SIDEKIT's interface, and nothing but delegation to the core."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore import density, em, training
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import write_hdf5
from gmmcore.formats.registry import (
    core_mixture,
    format_by_extension,
    format_by_name,
    read_mixture,
    write_mixture,
)
from gmmcore.formats.sidekit_layout import constants
from gmmcore.model import GaussianMixture, InvalidMixtureError
from gmmcore.schedule import SIDEKIT_ITERATIONS, Stage
from gmmcore.statistics import ArraySource, FrameSource
from gmmcore.steps import MStep

__all__ = ["Mixture"]

Array = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]
_WRITERS = {
    "sidekit": "write",
    "alize": "write_alize",
    "alize-xml": "write_alize",
    "htk": "write_htk",
}


class Mixture:
    """A Gaussian mixture with the names of ``sidekit.Mixture``.

    Parameters
    ----------
    mixture_file_name : str
        A mixture in any format to read; empty for a mixture without components.
    name : str

    Attributes
    ----------
    w : ndarray, shape (C,)
        Weights.
    mu : ndarray, shape (C, D)
        Means.
    invcov : ndarray, shape (C, D) or (C, D, D)
        Inverse variances, or inverse covariances.
    invchol : ndarray, shape (C, D, D)
        Upper Cholesky factors U of full inverse covariances U' U; empty for diagonal ones.
    cov_var_ctl : ndarray, shape (C, D)
        Variances that the floors and ceilings of a training refer to; empty where there are none.
    cst, det : ndarray, shape (C,)
        Normalising factors of the densities, and determinants of the covariances. Plain numbers
        for those who look at them: they may overflow, and nothing is computed from them.
    A : ndarray, shape (C,)
        ``sum(mu^2 invcov) - 2 (log w + log cst)``, from logarithms; zeros for full mixtures.
    name : str

    Notes
    -----
    The methods compute from `w`, `mu`, `invcov` and `cov_var_ctl` as they are when called. Who
    changes those in place and looks at the others calls `_compute_all`, as in SIDEKIT.
    """

    def __init__(self, mixture_file_name: PathLike = "", name: str = "empty") -> None:
        self.w: Array = np.array([])
        self.mu: Array = np.array([])
        self.invcov: Array = np.array([])
        self.invchol: Array = np.array([])
        self.cov_var_ctl: Array = np.array([])
        self.cst: Array = np.array([])
        self.det: Array = np.array([])
        self.A: Array = np.zeros(0)
        self.name = name
        if not isinstance(mixture_file_name, str) or mixture_file_name:
            self.read(mixture_file_name)

    @classmethod
    def from_gaussian_mixture(cls, mixture: GaussianMixture, name: str = "empty") -> Mixture:
        """A `Mixture` of the core's parameters."""
        result = cls(name=name)
        result._adopt(core_mixture("mixture", mixture))
        return result

    def gaussian_mixture(self) -> GaussianMixture:
        """The core's mixture of these parameters.

        Raises
        ------
        InvalidMixtureError
            If they are no mixture, or there are none yet.
        """
        self._filled(self.w)
        control = np.asarray(self.cov_var_ctl)
        usable = control.ndim == 2 and control.shape == np.shape(self.mu)
        return GaussianMixture(self.w, self.mu, self.invcov, control if usable else None)

    # Sizes

    def distrib_nb(self) -> int:
        """Number of components, C; 0 for an empty mixture."""
        return int(self.w.shape[0])

    def get_distrib_nb(self) -> int:
        """Number of components, C; 0 for an empty mixture."""
        return self.distrib_nb()

    def dim(self) -> int:
        """Dimension of the features, D; `InvalidMixtureError` for an empty mixture."""
        return int(self._filled(self.mu).shape[1])

    def sv_size(self) -> int:
        """Length of a mean super-vector, C x D; 0 for an empty mixture."""
        return int(self.mu.size)

    def get_mean_super_vector(self) -> Array:
        """Means, one component after the other, shape (C x D,); `InvalidMixtureError` for none."""
        return self._filled(self.mu).flatten()

    def get_invcov_super_vector(self) -> Array:
        """Inverse variances, one component after the other, shape (C x D,).

        Raises
        ------
        GmmcoreError
            If the mixture is empty or not diagonal.
        """
        if self._filled(self.invcov).ndim != 2:
            raise GmmcoreError(f"mixture {self.name}: only a diagonal mixture has such a vector")
        return self.invcov.flatten()

    def validate(self) -> bool:
        """Whether the parameters are a mixture, and the shapes of the constants fit them."""
        try:
            count = self.gaussian_mixture().components
        except InvalidMixtureError:
            return False
        return self.cst.shape == (count,) and self.det.shape == (count,)

    # Files

    def read(self, mixture_file_name: PathLike, prefix: str = "") -> None:
        """Read a mixture in any format; `prefix` tells several in one HDF5 file apart."""
        self._adopt(read_mixture(mixture_file_name, prefix=prefix))

    def write(self, mixture_file_name: PathLike, prefix: str = "", mode: str = "w") -> None:
        """Write SIDEKIT's HDF5 layout, whatever the name, as SIDEKIT does.

        Parameters
        ----------
        mixture_file_name
            Any name but one with the extension of another format, such as ``.gmm``, ``.mmf`` or
            ``.dubm``: `write_alize`, `write_htk` and `gmmcore.write_mixture` write those.
        prefix : str
            What the names of the datasets begin with.
        mode : str
            ``w`` writes a new file, ``a`` into a file that may hold other mixtures.

        Raises
        ------
        GmmcoreError
            If the extension is another format's, the mixture is empty, or the file cannot be
            written.
        """
        _check_extension(mixture_file_name, "sidekit")
        write_hdf5(mixture_file_name, self.gaussian_mixture(), prefix=prefix, mode=mode)

    @staticmethod
    def read_alize(mixture_file_name: PathLike) -> Mixture:
        """Read ALIZE RAW, or XML if that is the file's extension."""
        mixture = read_mixture(mixture_file_name, format=_alize_format(mixture_file_name))
        return Mixture.from_gaussian_mixture(mixture)

    def write_alize(self, mixture_file_name: PathLike) -> None:
        """Write ALIZE RAW, or XML if that is the file's extension; diagonal or full."""
        _check_extension(mixture_file_name, "alize", "alize-xml")
        write_mixture(mixture_file_name, self, _alize_format(mixture_file_name))

    @staticmethod
    def read_htk(filename: PathLike, begin_hmm: bool = False, state2: bool = False) -> Mixture:
        """Read HTK MMF text.

        Parameters
        ----------
        filename
        begin_hmm, state2
            Read parameters without a ``<BEGINHMM>`` or ``<STATE>`` before them.
        """
        mixture = read_mixture(filename, begin_hmm=begin_hmm, state2=state2, format="htk")
        return Mixture.from_gaussian_mixture(mixture)

    def write_htk(self, mixture_file_name: PathLike) -> None:
        """Write HTK MMF text, diagonal or full."""
        _check_extension(mixture_file_name, "htk")
        write_mixture(mixture_file_name, self, "htk")

    # Densities

    def compute_log_posterior_probabilities(
        self, cep: npt.ArrayLike, mu: npt.ArrayLike | None = None
    ) -> Array:
        """``log(w_c N(x; mu_c, S_c))``, not normalised over the components.

        Parameters
        ----------
        cep : array_like, shape (F, D) or (D,)
            Frames.
        mu : array_like, shape (C x D,) or (C, D), optional
            Means to use instead of the mixture's.

        Returns
        -------
        ndarray, shape (F, C), float64

        Raises
        ------
        GmmcoreError
            If the mixture is empty, `cep` or `mu` has another shape, or one of them is masked or
            holds anything but finite real numbers.
        """
        mixture = self.gaussian_mixture()
        if mu is not None:
            means = density.checked_frames(mu, "mu")
            shape = mixture.means.shape
            is_vector = means.size == mixture.means.size == max(means.shape, default=0)
            if means.shape != shape and not is_vector:
                raise GmmcoreError(
                    f"mu: an array of shape {means.shape}; expected {shape} or "
                    f"({mixture.means.size},); give the means of this mixture's components"
                )
            mixture = GaussianMixture(self.w, np.reshape(means, shape), self.invcov)
        frames = np.atleast_2d(density.checked_frames(cep, finite=True))
        return density.component_log_likelihoods(mixture, frames)

    def compute_log_posterior_probabilities_full(
        self, cep: npt.ArrayLike, mu: npt.ArrayLike | None = None
    ) -> Array:
        """The same as `compute_log_posterior_probabilities`: both do either kind."""
        return self.compute_log_posterior_probabilities(cep, mu)

    # Training

    def EM_split(  # noqa: N802
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
    ) -> list[float]:
        """Train by splitting, from the one Gaussian of all frames.

        Parameters
        ----------
        features_server
            Anything with ``load(show, start=, stop=)``; or all frames as one array (F, D).
        feature_list
            Names of shows, or an IdMap; None where all frames are given as an array.
        distrib_nb : int
            Components in the end; any number.
        iterations : sequence of int
            At most so many iterations after each split, 0 or more; the last entry serves
            further splits.
        num_thread : int
            Does not change the result.
        llk_gain : float
            The next split follows when an iteration gains less than this per frame.
        save_partial : bool
            Write ``<output_file_name>_<C>g.h5`` before each split.
        output_file_name : str
            What the names of these files begin with, in a folder that exists.
        ceil_cov, floor_cov : float
            Bounds of the variances, relative to those of all frames.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.

        Raises
        ------
        GmmcoreError
            If an argument makes no sense, which is told before anything is loaded; or if a show
            cannot be used.
        """
        components = _whole("distrib_nb", distrib_nb, 1)
        limits = _iterations(iterations)
        threads = _whole("num_thread", num_thread, 1)
        floor, ceiling = _bounds(floor_cov=floor_cov, ceil_cov=ceil_cov)
        settings = training.TrainingSettings(
            llk_gain=_real("llk_gain", llk_gain),
            threads=threads,
            diag=MStep(floor=floor, ceiling=ceiling),
        )
        if save_partial:
            _check_folder(output_file_name)

        def save(mixture: GaussianMixture) -> None:
            write_hdf5(f"{output_file_name}_{mixture.components}g.h5", mixture)

        mixture, history = training.train(
            _frames(features_server, feature_list),
            components,
            limits,
            settings=settings,
            before_split=save if save_partial else None,
        )
        self._adopt(mixture)
        return [entry.log_likelihood for entry in history]

    def EM_uniform(  # noqa: N802
        self,
        cep: npt.ArrayLike,
        distrib_nb: int,
        iteration_min: int = 3,
        iteration_max: int = 10,
        llk_gain: float = 0.01,
        do_init: bool = True,
    ) -> list[float]:
        """Train from components that begin as equal slices of the frames.

        Parameters
        ----------
        cep : array_like, shape (F, D)
        distrib_nb : int
            Components.
        iteration_min, iteration_max : int
            Fewest and most iterations.
        llk_gain : float
            Stop when an iteration gains less than this per frame.
        do_init : bool
            Otherwise continue the mixture as it is, with its `distrib_nb` components.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.

        Raises
        ------
        GmmcoreError
            If an argument makes no sense.
        """
        components = _whole("distrib_nb", distrib_nb, 1)
        least = _whole("iteration_min", iteration_min, 0) + 1
        most = _whole("iteration_max", iteration_max, 0)
        settings = training.TrainingSettings(llk_gain=_real("llk_gain", llk_gain))
        if not do_init and components != self.gaussian_mixture().components:
            raise GmmcoreError(
                f"distrib_nb: {components}; expected {self.distrib_nb()}, the components of the "
                "mixture that is continued; correct it, or set do_init"
            )
        frames = _array_source(cep)
        mixture = training.uniform_start(frames, components) if do_init else self.gaussian_mixture()
        kind = "full" if mixture.is_full else "diag"
        mixture, history = training.iterate(
            mixture,
            frames,
            Stage(kind, mixture.components, most, "initialise"),
            settings,
            least=least,
        )
        self._adopt(mixture)
        return [entry.log_likelihood for entry in history]

    def EM_diag2full(  # noqa: N802
        self,
        diagonal_mixture: Mixture,
        features_server: Any,
        featureList: Any,  # noqa: N803
        iterations: int = 2,
        num_thread: int = 1,
    ) -> list[float]:
        """Make a diagonal mixture full, and train it.

        Parameters
        ----------
        diagonal_mixture : Mixture
        features_server, featureList
            As of `EM_split`.
        iterations : int
            All of them are made.
        num_thread : int
            Does not change the result.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.
        """
        start = em.to_full(core_mixture("diagonal_mixture", diagonal_mixture))
        limit = _whole("iterations", iterations, 0)
        threads = _whole("num_thread", num_thread, 1)
        mixture, history = training.iterate(
            start,
            _frames(features_server, featureList),
            Stage("full", start.components, limit, "diag2full"),
            training.TrainingSettings(llk_gain=-np.inf, threads=threads),
        )
        self._adopt(mixture)
        self.name = getattr(diagonal_mixture, "name", self.name)
        return [entry.log_likelihood for entry in history]

    # Parameters

    def init_from_diag(self, diag_mixture: Mixture) -> None:
        """Become the full-covariance form of a diagonal mixture."""
        self._adopt(em.to_full(core_mixture("diag_mixture", diag_mixture)))
        self.name = getattr(diag_mixture, "name", self.name)

    def merge(self, model_list: Sequence[Mixture]) -> None:
        """Become all components of several mixtures, with weights that sum to one.

        Raises
        ------
        GmmcoreError
            If there are none, or they differ in dimension or in the kind of covariances.
        """
        models = list(model_list) if np.iterable(model_list) else []
        if not models:
            raise GmmcoreError(
                f"model_list: {_shown(model_list)}; expected a list of one Mixture or more; "
                "correct it"
            )
        parts = [core_mixture("model_list", model) for model in models]
        for part in parts:
            if part.precisions.shape[1:] != parts[0].precisions.shape[1:]:
                raise GmmcoreError(
                    f"model_list: {part!r} beside {parts[0]!r}; expected mixtures of the same "
                    "dimension, all diagonal or all full; merge such mixtures only"
                )
        controls = [part.variance_control for part in parts if part.variance_control is not None]
        weights = np.concatenate([part.weights for part in parts])
        self._adopt(
            GaussianMixture(
                weights / weights.sum(),
                np.concatenate([part.means for part in parts]),
                np.concatenate([part.precisions for part in parts]),
                np.concatenate(controls) if len(controls) == len(parts) else None,
            )
        )

    @staticmethod
    def variance_control(
        cov: npt.ArrayLike, flooring: float, ceiling: float, cov_ctl: npt.ArrayLike
    ) -> Array:
        """Variances within ``flooring x cov_ctl`` and ``ceiling x cov_ctl``, as a new array.

        Raises
        ------
        GmmcoreError
            If the floor is negative or above the ceiling.
        """
        _bounds(flooring=flooring, ceiling=ceiling)
        control = np.asarray(cov_ctl, dtype=np.float64)
        return np.clip(np.asarray(cov, dtype=np.float64), flooring * control, ceiling * control)

    def to_sklearn(self) -> Any:
        """A fitted ``sklearn.mixture.GaussianMixture``; needs the extra ``sklearn``."""
        from gmmcore.formats.sklearn import to_sklearn

        return to_sklearn(self.gaussian_mixture())

    @staticmethod
    def from_sklearn(estimator: Any) -> Mixture:
        """The `Mixture` of a fitted ``sklearn.mixture.GaussianMixture``."""
        from gmmcore.formats.sklearn import from_sklearn

        return Mixture.from_gaussian_mixture(from_sklearn(estimator))

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
        self.cst, self.det, self.A = constants(mixture)

    def __repr__(self) -> str:
        if self.mu.ndim != 2:
            return f"<Mixture {self.name}: empty>"
        kind = "full" if self.invcov.ndim == 3 else "diagonal"
        return f"<Mixture {self.name}: {self.distrib_nb()} {kind} of dimension {self.dim()}>"


def _frames(features_server: Any, feature_list: Any) -> FrameSource:
    if isinstance(features_server, np.ndarray):
        if feature_list is not None:
            raise GmmcoreError(
                f"feature_list: {_shown(feature_list)} beside frames in an array; expected None, "
                "for an array has no shows; give a features server, or None"
            )
        return _array_source(features_server)
    from gmmcore.sidekit.served import ServedFrames
    from gmmcore.sidekit.server import CheckedServer, checked_list

    return ServedFrames(CheckedServer(features_server), checked_list(feature_list))


def _array_source(values: npt.ArrayLike) -> ArraySource:
    frames = ArraySource(density.checked_frames(values, finite=True))
    if not frames.frames:
        raise GmmcoreError(
            "frames: none were given; expected an array (F, D); check where it is made"
        )
    return frames


def _whole(name: str, value: Any, least: int) -> int:
    """An argument that is a whole number of any type, as an int."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise GmmcoreError(
            f"{name}: {_shown(value)}; expected a whole number, {least} or more; correct it"
        )
    return number


def _iterations(values: Any) -> list[int]:
    numbers = list(values) if np.iterable(values) and not isinstance(values, str) else []
    if not numbers:
        raise GmmcoreError(
            f"iterations: {_shown(values)}; expected a sequence such as (1, 2, 4); "
            "(0,) makes no iterations"
        )
    return [_whole("iterations", number, 0) for number in numbers]


def _real(name: str, value: Any) -> float:
    if not isinstance(value, Real) or np.isnan(float(value)):
        raise GmmcoreError(f"{name}: {_shown(value)}; expected a number; correct it")
    return float(value)


def _bounds(**limits: Any) -> list[float]:
    """A floor and a ceiling, given by their names."""
    floor, ceiling = values = [_real(name, value) for name, value in limits.items()]
    if not 0 <= floor <= ceiling:
        names = list(limits)
        raise GmmcoreError(
            f"{', '.join(names)}: {floor:g}, {ceiling:g}; expected 0 <= {' <= '.join(names)}; "
            "correct them"
        )
    return values


def _shown(value: Any) -> str:
    """Short values themselves, and of others the type, so that a message is one line."""
    if isinstance(value, int | float | str | np.number):
        return repr(value) if isinstance(value, str) else str(value)
    empty = "an empty" if isinstance(value, list | tuple) and not value else "a"
    return f"{empty} value of type {type(value).__name__}"


def _check_folder(output_file_name: Any) -> None:
    if not isinstance(output_file_name, str | os.PathLike):
        raise GmmcoreError(
            f"output_file_name: {_shown(output_file_name)}; expected what the names of files "
            "begin with; correct it"
        )
    folder = os.path.dirname(output_file_name)
    if folder and not os.path.isdir(folder):
        raise GmmcoreError(
            f"output_file_name: the folder {folder} does not exist; expected an existing folder; "
            "make it first"
        )


def _check_extension(path: PathLike, *names: str) -> None:
    """Refuse a name that tells another format than one of `names`."""
    found = format_by_extension(path)
    if found is None or found.name in names:
        return
    wanted, other = format_by_name(names[0]), _WRITERS.get(found.name, "gmmcore.write_mixture")
    raise GmmcoreError(
        f"{path}: the extension of {found.title}; expected that of {wanted.title}, such as "
        f"{wanted.extensions[0]}; change it, or write that format with {other}"
    )


def _alize_format(path: PathLike) -> str:
    found = format_by_extension(path)
    return "alize-xml" if found is not None and found.name == "alize-xml" else "alize"
