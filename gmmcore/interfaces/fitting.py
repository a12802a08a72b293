"""Trainings over whatever a notebook has, with the settings and defaults of the workflow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import Bounds, LowCount, Settings
from gmmcore.config.options import build
from gmmcore.core import train as training
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import FrameSource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.train import TrainingSettings
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.registry import core_mixture, read_mixture
from gmmcore.interfaces.frames import divided
from gmmcore.interfaces.run import Training

__all__ = ["mixture_of", "processors", "train"]

Frames = FrameSource | npt.ArrayLike | PathLike | Sequence[PathLike] | Sequence[npt.NDArray[Any]]


def train(
    X: Frames,  # noqa: N803
    components: int = Settings.components,
    covariance: str = "diag",
    held_out: float | Frames | None = None,
    *,
    iterations: Sequence[int] = Settings.iterations,
    llk_gain: float = Settings.llk_gain,
    method: str = Settings.method,
    frames_per_component: int | None = Settings.frames_per_component,
    last_iterations: int = Settings.last_iterations,
    floor: float = Bounds.floor,
    ceiling: float = Bounds.ceiling,
    occupancy: float | None = LowCount.occupancy,
    full: Mapping[str, Any] | None = None,
    precision: str = Settings.precision,
    pruning: float = Settings.pruning,
    seed: int = Settings.seed,
    features: Mapping[str, Any] | None = None,
    init: Any = None,
    threads: int | None = None,
    device: str = Settings.device,
    report: Callable[[HistoryEntry, GaussianMixture], None] | None = None,
) -> Training:
    """Train a Gaussian mixture on frames, as the workflow does with files.

    The parameters have the names, bounds and defaults of the keys of config.yaml, which
    docs/configuration.md lists. The result does not depend on the number of threads.

    Parameters
    ----------
    X : array_like of shape (F, D), path, or sequence
        The frames: an array or a memory map, of float32 or float64; a feature list, a folder or a
        feature file, as ``features.list`` in config.yaml; a sequence of feature files; or a
        sequence of arrays of shape (n, D), one per show. Files are processed as in the workflow,
        which keeps only frames labelled as speech, if there are labels.
    components : int
        Number of components of the final mixture.
    covariance : {'diag', 'full'}
        Kind of the covariances of the final mixture. Full covariances follow the last stage with
        diagonal ones.
    held_out : float, array_like, path or sequence, optional
        Share of the frames that are not trained on, or frames as `X`. Their log-likelihood is the
        column ``held_out`` of the history. If `X` has several shows, whole shows are drawn, and
        random frames otherwise. The neighbours of a random frame resemble it, so that a mixture
        that fits these too closely is better told by frames of other recordings.
    iterations : sequence of int
        Largest number of EM iterations after each split; the last entry serves further splits.
    llk_gain : float
        A stage ends when the log-likelihood per frame (natural logarithm) grows by less.
    method : {'principal', 'sidekit'}
        How components are divided.
    frames_per_component : int, optional
        About as many random frames per component are read before the last iterations; None reads
        all frames in every iteration.
    last_iterations : int
        Number of iterations of the last stage, or more, that read all frames.
    floor, ceiling : float
        Bounds of diagonal variances, relative to those of all frames: ``variance`` in config.yaml.
    occupancy : float
        A diagonal component with fewer frames has a low count.
    full : mapping, optional
        Keys of the section ``full`` of config.yaml, such as ``{"iterations": 4, "prior": 30}``.
        By default there are as many iterations as the last entry of `iterations`.
    precision : {'single', 'double'}
        Precision of the E-step's matrix products; sums are double.
    pruning : float
        Posteriors below this may be left out of the statistics; 0 is exact.
    seed : int
        Seed of the random subsets of frames.
    features : mapping, optional
        Keys of the section ``features`` of config.yaml, such as ``{"normalisation": "cmvn"}``,
        for frames in files.
    init : GaussianMixture, Mixture or path, optional
        Mixture to start from instead of the Gaussian of all frames.
    threads : int, optional
        Number of threads; by default that of the processors at hand.
    device : {'auto', 'cpu', 'cuda'}
        What computes the E-steps. A graphics processor needs ``pip install 'gmmcore[gpu]'``; by
        default it is used if there is one, in stages that take more than a minute on one core.
    report : callable, optional
        Function that is called after each iteration with its history entry and its mixture.

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
    <Training: 3 iterations, <GaussianMixture: 2 diagonal components of dimension 2>>
    >>> training.mixture.means.round()
    array([[-5., -5.],
           [ 5.,  5.]])
    >>> training.history["log_likelihood"].round(2)
    array([-3.45, -3.37, -3.37])
    """
    if covariance not in ("diag", "full"):
        raise GmmcoreError(f"covariance: {covariance!r}; expected diag or full; correct it")
    section = dict(full or {})
    limits = _plain(iterations)
    if covariance == "full" and isinstance(limits, list) and limits:
        section.setdefault("iterations", limits[-1])
    settings = build(
        Settings,
        _plain(
            {
                "components": components,
                "iterations": limits,
                "llk_gain": llk_gain,
                "method": method,
                "frames_per_component": frames_per_component,
                "last_iterations": last_iterations,
                "variance": {"floor": floor, "ceiling": ceiling},
                "low_count": {"occupancy": occupancy},
                "full": section,
                "precision": precision,
                "pruning": pruning,
                "seed": seed,
                "device": device,
            }
        ),
    )
    if (covariance == "full") != (settings.full.iterations > 0):
        raise GmmcoreError(
            f"full.iterations: {settings.full.iterations} with covariance={covariance!r}; expected "
            "1 or more for full covariances and none for diagonal ones; correct one of them"
        )
    start = None if init is None else mixture_of("init", init)
    inside, outside = divided(X, held_out, features, settings.seed)
    threads = threads or processors()
    mixture, entries = training.train(
        inside,
        settings.components,
        settings.iterations,
        settings.full.iterations,
        TrainingSettings(
            llk_gain=settings.limits.llk_gain,
            frames_per_component=settings.limits.frames_per_component,
            last_iterations=settings.limits.last_iterations,
            precision=settings.precision,
            pruning=settings.pruning,
            threads=threads,
            device=settings.device,
            diag=settings.iteration("diag"),
            full=settings.iteration("full"),
            method=settings.method,
            seed=settings.seed,
        ),
        start=start,
        report=report,
        held_out=outside,
    )
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
    for attribute in ("mixture", "mixture_"):
        value = getattr(value, attribute, value)
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
