"""Trainings over whatever a notebook has, with the settings and defaults of the workflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.configuration import refuse_removed
from gmmcore.config.keys import TrainingKeys
from gmmcore.config.options import build
from gmmcore.core import train as training
from gmmcore.core.describe import few_frames, floored
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import FrameSource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.kinds import KINDS
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import Map, threads_map
from gmmcore.core.schedule import LAST_STAGE, LEAST_SECONDS, seconds
from gmmcore.errors import GmmcoreError, warn
from gmmcore.files import PathLike
from gmmcore.formats.registry import core_mixture, read_mixture
from gmmcore.interfaces.frames import divided
from gmmcore.interfaces.run import Training

KEYS_OF_SKLEARN = {
    "n_components": "components={}",
    "covariance_type": "covariance={!r}",
    "tol": "last_gain={}",
    "max_iter": "iterations=[{}]",
    "random_state": "seed={}",
    "reg_covar": 'variance={{"floor": {}}}',
}
"""What `train` calls the parameters of scikit-learn."""
Frames = FrameSource | npt.ArrayLike | PathLike | Sequence[PathLike] | Sequence[npt.NDArray[Any]]


def train(
    X: Frames,
    components: int = TrainingKeys.components,
    covariance: str = "diag",
    held_out: float | Frames | None = None,
    *,
    init: Any = None,
    features: Mapping[str, Any] | None = None,
    threads: int | None = None,
    map: Map | None = None,
    report: Callable[[HistoryEntry, GaussianMixture], None] | None = None,
    **keys: Any,
) -> Training:
    """Train a Gaussian mixture on frames, as the workflow does with files.

    Parameters
    ----------
    X : array_like of shape (F, D), path, or sequence
        The frames: an array or a memory map, of float32 or float64; a feature list, a folder or a
        feature file, as ``features.list`` in config.yaml; a sequence of feature files; or a
        sequence of arrays of shape (n, D), one per show. Files are processed as in the workflow,
        which keeps only frames labelled as speech, if there are labels.
    components : int
        Number of components of the final mixture.
    covariance : {'spherical', 'diag', 'tied', 'full'}
        Kind of the covariances of the final mixture: one variance for each component; a variance
        for each dimension; one matrix for all components; a matrix for each. The last stage is
        tied or full, and follows diagonal ones.
    held_out : float, array_like, path or sequence, optional
        Share of the frames that are not trained on, or frames as `X`. Their log-likelihood is the
        column ``held_out`` of the history. If `X` has several shows, whole shows are drawn, and
        random frames otherwise. Random frames resemble their neighbours, which are trained on;
        frames of other recordings show better whether the mixture fits its frames too closely.
    init : GaussianMixture, Mixture, Training, fitted estimator or path, optional
        Mixture to start from instead of the Gaussian of all frames; the estimator may be that of
        scikit-learn.
    features : mapping, optional
        Keys of the section ``features`` of config.yaml, such as ``{"normalisation": "cmvn"}``,
        for frames in files.
    threads : int, optional
        Number of threads; by default that of the CPU cores at hand. The result does not depend on
        it.
    map : callable, optional
        Function with the signature of `map` that computes the parts of each E-step, instead of
        threads, such as the method ``map`` of a pool of processes of `concurrent.futures` or
        ``mpi4py.futures``. The result does not depend on it.
    report : callable, optional
        Function that is called after each iteration with its history entry and its mixture.
    **keys
        Keys of config.yaml that decide a training, with their bounds and defaults: `iterations`,
        `llk_gain`, `last_gain`, `method`, `frames_per_component`, `last_iterations`, `precision`,
        `pruning`, `device` and `seed`, and as mappings the sections `variance`, `low_count` and
        `full`, such as ``variance={"floor": 0.001}``. docs/configuration.md describes each. The
        `precision` is by default double where it costs milliseconds, for about 20,000 frames. The
        section `full` serves tied covariances too; its ``iterations`` are by default the last entry
        of `iterations`, or 30.

    Returns
    -------
    Training
        The mixture and the history.

    Raises
    ------
    GmmcoreError
        If a parameter has no valid value, or frames cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> import gmmcore
    >>> rng = np.random.default_rng(0)
    >>> frames = np.concatenate([rng.normal(-5, 1, (600, 2)), rng.normal(5, 1, (200, 2))])
    >>> training = gmmcore.train(frames, components=2, held_out=0.1, iterations=[4])
    >>> training
    <Training: 2 iterations, <GaussianMixture: 2 diagonal components of dimension 2>>
    >>> training.mixture.means.round()
    array([[-5., -5.],
           [ 5.,  5.]])
    >>> training.history["log_likelihood"].round(2)
    array([-3.37, -3.37])
    """
    if covariance not in KINDS:
        raise GmmcoreError(
            f"covariance: {covariance!r}; expected one of {', '.join(KINDS)}; correct it"
        )
    for name in KEYS_OF_SKLEARN.keys() & keys.keys():
        right = KEYS_OF_SKLEARN[name].format(keys[name])
        raise GmmcoreError(f"unknown key {name}; did you mean {right}?")
    refuse_removed(keys, "train")
    settings = build(TrainingKeys, _plain({"components": components, **keys}))
    is_full, limit = KINDS[covariance].is_full, settings.full.iterations
    if is_full and "iterations" not in (keys.get("full") or {}):
        limit = (settings.schedule or (LAST_STAGE,))[-1]
    if is_full != (limit > 0):
        raise GmmcoreError(
            f"full.iterations: {limit} with covariance={covariance!r}; expected 1 or more for tied "
            "and full covariances and none for others; correct one of them"
        )
    start = None if init is None else mixture_of("init", init)
    inside, outside = divided(X, held_out, features, settings.seed)
    largest = seconds(inside.frames, components, inside.dimension, full=is_full)
    if "precision" not in keys and largest < LEAST_SECONDS:
        settings = replace(settings, precision="double")
    threads = threads or processors()
    if 1 < components <= inside.frames:
        size = inside.frames, components, inside.dimension
        warn(few_frames(*size, full=covariance == "full"))
    mixture, entries = training.train(
        inside,
        settings.components,
        settings.schedule,
        limit,
        settings.training(threads),
        kind=covariance,
        start=start,
        report=report,
        held_out=outside,
        map_of=threads_map if map is None else lambda workers: map,
    )
    warn(floored(mixture, settings.iteration("full" if is_full else "diag").floor))
    last = nan
    if outside is not None:
        last = accumulate(mixture, outside, threads=threads).log_likelihood_per_frame
    return Training(mixture, tuple(entries), last)


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def mixture_of(name: str, value: Any) -> GaussianMixture:
    """Make a `GaussianMixture` of a mixture of any kind, of its file, or of a training."""
    if isinstance(value, str | os.PathLike):
        return read_mixture(value)
    return core_mixture(name, value)


def _plain(value: Any) -> Any:
    """Replace the numbers and arrays of NumPy, which the rules of the settings do not know."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(inner) for inner in value]
    return value
