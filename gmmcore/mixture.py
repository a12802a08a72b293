"""``Mixture``: SIDEKIT's interface, and nothing but delegation to the core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore import density, em, training
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import write_hdf5
from gmmcore.formats.registry import read_mixture, write_mixture
from gmmcore.formats.sidekit_layout import constants
from gmmcore.model import GaussianMixture, InvalidMixtureError
from gmmcore.schedule import SIDEKIT_ITERATIONS, Stage
from gmmcore.statistics import ArraySource, FrameSource

__all__ = ["Mixture"]

Array = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]


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
        if mixture_file_name != "":
            self.read(mixture_file_name)

    @classmethod
    def from_gaussian_mixture(cls, mixture: GaussianMixture, name: str = "empty") -> Mixture:
        """A `Mixture` of the core's parameters."""
        result = cls(name=name)
        result._adopt(mixture)
        return result

    def gaussian_mixture(self) -> GaussianMixture:
        """The core's mixture of these parameters.

        Raises
        ------
        InvalidMixtureError
            If they are no mixture.
        """
        control = np.asarray(self.cov_var_ctl)
        usable = control.ndim == 2 and control.shape == np.shape(self.mu)
        return GaussianMixture(self.w, self.mu, self.invcov, control if usable else None)

    # Sizes

    def distrib_nb(self) -> int:
        """Number of components, C."""
        return int(self.w.shape[0])

    def get_distrib_nb(self) -> int:
        """Number of components, C."""
        return self.distrib_nb()

    def dim(self) -> int:
        """Dimension of the features, D."""
        return int(self.mu.shape[1])

    def sv_size(self) -> int:
        """Length of a mean super-vector, C x D."""
        return int(self.mu.size)

    def get_mean_super_vector(self) -> Array:
        """Means, one component after the other, shape (C x D,)."""
        return self.mu.flatten()

    def get_invcov_super_vector(self) -> Array:
        """Inverse variances, one component after the other, shape (C x D,).

        Raises
        ------
        GmmcoreError
            If the mixture is not diagonal.
        """
        if self.invcov.ndim != 2:
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
        """Write SIDEKIT's HDF5 layout; with mode ``a``, into a file that may hold others."""
        write_hdf5(mixture_file_name, self.gaussian_mixture(), prefix=prefix, mode=mode)

    @staticmethod
    def read_alize(mixture_file_name: PathLike) -> Mixture:
        """Read ALIZE RAW, or XML if that is the file's extension."""
        xml = os.fspath(mixture_file_name).lower().endswith(".xml")
        mixture = read_mixture(mixture_file_name, format="alize-xml" if xml else "alize")
        return Mixture.from_gaussian_mixture(mixture)

    def write_alize(self, mixture_file_name: PathLike) -> None:
        """Write ALIZE RAW, diagonal or full."""
        write_mixture(mixture_file_name, self.gaussian_mixture(), "alize")

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
        write_mixture(mixture_file_name, self.gaussian_mixture(), "htk")

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
        """
        mixture = self.gaussian_mixture()
        if mu is not None:
            means = np.reshape(np.asarray(mu), self.mu.shape)
            mixture = GaussianMixture(self.w, means, self.invcov)
        return density.component_log_likelihoods(mixture, np.atleast_2d(np.asarray(cep)))

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
            Anything with ``load(show, start=, stop=)``.
        feature_list
            Names of shows, or an IdMap.
        distrib_nb : int
            Components in the end; any number.
        iterations : sequence of int
            At most so many iterations after each split; the last entry serves further splits.
        num_thread : int
            Does not change the result.
        llk_gain : float
            The next split follows when an iteration gains less than this per frame.
        save_partial : bool
            Write ``<output_file_name>_<C>g.h5`` before each split.
        output_file_name : str
        ceil_cov, floor_cov : float
            Bounds of the variances, relative to those of all frames.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.
        """

        def save(mixture: GaussianMixture) -> None:
            write_hdf5(f"{output_file_name}_{mixture.components}g.h5", mixture)

        mixture, history = training.train(
            _frames(features_server, feature_list),
            distrib_nb,
            iterations,
            settings=training.TrainingSettings(
                llk_gain=llk_gain,
                threads=num_thread,
                update=em.MaximiseSettings(floor=floor_cov, ceiling=ceil_cov),
            ),
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
            Otherwise continue the mixture as it is.

        Returns
        -------
        list of float
            Log-likelihood per frame of every iteration, before its update.
        """
        frames = np.asarray(cep)
        mixture = training.uniform_start(frames, distrib_nb) if do_init else self.gaussian_mixture()
        kind = "full" if mixture.is_full else "diag"
        mixture, history = training.iterate(
            mixture,
            ArraySource(frames),
            Stage(kind, mixture.components, iteration_max, "initialise"),
            training.TrainingSettings(llk_gain=llk_gain),
            least=iteration_min + 1,
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
        start = em.to_full(diagonal_mixture.gaussian_mixture())
        mixture, history = training.iterate(
            start,
            _frames(features_server, featureList),
            Stage("full", start.components, iterations, "diag2full"),
            training.TrainingSettings(llk_gain=-np.inf, threads=num_thread),
        )
        self._adopt(mixture)
        self.name = diagonal_mixture.name
        return [entry.log_likelihood for entry in history]

    # Parameters

    def init_from_diag(self, diag_mixture: Mixture) -> None:
        """Become the full-covariance form of a diagonal mixture."""
        self._adopt(em.to_full(diag_mixture.gaussian_mixture()))
        self.name = diag_mixture.name

    def merge(self, model_list: Sequence[Mixture]) -> None:
        """Become all components of several mixtures, with weights that sum to one."""
        parts = [model.gaussian_mixture() for model in model_list]
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
        """Variances within ``flooring x cov_ctl`` and ``ceiling x cov_ctl``, as a new array."""
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
    from gmmcore.features.served import ServedFrames

    return ServedFrames(features_server, feature_list)
