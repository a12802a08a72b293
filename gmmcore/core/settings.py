"""Settings of a training and their defaults, which are those of config.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

RELEVANCE = 16.0
"""Frames that the mean of the mixture counts for in an adapted one (Reynolds et al., 2000)."""

MAX_COMPONENTS = 1 << 20
"""Largest number of components of a mixture, in a file and in a training."""

PARTS = 64
"""Largest number of parts that frames are divided into, each of which one worker sums."""


@dataclass(frozen=True)
class MStep:
    """Bounds of covariances, and how many frames a component needs.

    Attributes
    ----------
    floor, ceiling : float
        Bounds of the variances, relative to the ``variance_control`` of the mixture; with full
        covariances, of the eigenvalues after whitening by it.
    occupancy : float or None
        A component with fewer frames has a low count; None stands for the dimension.
    prior : float or None
        Full covariances: number of frames that the correlations of all components together count
        for; None stands for twice the dimension.
    """

    floor: float = 1e-4
    ceiling: float = inf
    occupancy: float | None = 10.0
    prior: float | None = 0.0

    def frames(self, dimension: int) -> tuple[float, float]:
        """Return the least occupancy of a component, and the prior, for frames of a dimension.

        Examples
        --------
        >>> from gmmcore.core.settings import FullMStep
        >>> FullMStep(prior=30).frames(60)
        (60.0, 30.0)
        """
        least = dimension if self.occupancy is None else self.occupancy
        return float(least), float(2 * dimension if self.prior is None else self.prior)


@dataclass(frozen=True)
class FullMStep(MStep):
    """The same for full covariances, with other defaults."""

    floor: float = 1e-3
    occupancy: float | None = None
    prior: float | None = None


SIDEKIT_BOUNDS = {
    "diag": {"floor": 0.01, "ceiling": 10.0},
    "full": {"floor": 0.001, "ceiling": 1000.0},
}
"""Bounds of diagonal variances in SIDEKIT, and of eigenvalues, relative to plain variances."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training in one process.

    Attributes
    ----------
    llk_gain : float
        A stage ends when the log-likelihood per frame grows by less than this (natural logarithm).
    last_gain : float
        The last stage ends when it grows by less than this, too; on a subset of the frames, by less
        than three times as much.
    precision : {'single', 'double'}
        Precision of the E-step's matrix products.
    pruning : float
        Posterior below which a component may be skipped; see `gmmcore.core.estep.accumulate`.
    threads : int
        Number of threads. The result does not depend on it.
    device : {'cpu', 'cuda'}
        What computes the E-steps.
    diag, full : MStep
        Settings of the M-step in stages with spherical or diagonal, and tied or full covariances.
    method : {'principal', 'sidekit'}
        How components are divided: where the likelihood gains most (`gmmcore.core.divide.divide`),
        or all of them along the axis of largest variance (`gmmcore.core.initial.split`). SIDEKIT's
        trainings also read all frames, ``frames_per_component=None``, with `SIDEKIT_BOUNDS` and
        ``robust=False``.
    robust : bool
        Whether bounds are relative to `gmmcore.core.initial.robust_variances`, where these are less
        than the plain variances of all frames.
    frames_per_component : int or None
        Number of frames per component that stages read until the last iterations; None for all
        frames. See `gmmcore.core.schedule.Course`.
    last_iterations : int
        Least number of iterations on all frames at the end of the training.
    seed : int
        Seed of the random subsets of frames.
    """

    llk_gain: float = 0.01
    precision: str = "single"
    pruning: float = 2e-8
    threads: int = 1
    device: str = "cpu"
    diag: MStep = field(default_factory=MStep)
    full: MStep = field(default_factory=FullMStep)
    method: str = "principal"
    robust: bool = True
    frames_per_component: int | None = 500
    last_gain: float = 0.001
    last_iterations: int = 1
    seed: int = 1
