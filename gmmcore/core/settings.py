"""Settings of a training and their defaults, which are those of config.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

# Frames that the mean of the mixture counts for in an adapted one (Reynolds et al., 2000).
RELEVANCE = 16.0
# Largest number of components of a mixture, in a file and in a training.
MAX_COMPONENTS = 1 << 20
# Largest number of parts that frames are divided into, each of which one worker sums.
PARTS = 64


@dataclass(frozen=True)
class MStep:
    """Bounds of covariances, and how many frames a component needs."""

    # Relative to the ``variance_control`` of the mixture: bounds of variances, and with full
    # covariances of eigenvalues after whitening by it.
    floor: float = 1e-4
    ceiling: float = inf
    # A component with fewer frames has a low count; None stands for the dimension.
    occupancy: float | None = 10.0
    # So many frames the correlations of all components together count for; None: 2 per dimension.
    prior: float | None = 0.0

    def frames(self, dimension: int) -> tuple[float, float]:
        """Return the least occupancy of a component, and the prior, for frames of a dimension.

        >>> FullMStep(prior=30).frames(60)
        (60.0, 30.0)
        """
        least = dimension if self.occupancy is None else self.occupancy
        return float(least), float(2 * dimension if self.prior is None else self.prior)


@dataclass(frozen=True)
class FullMStep(MStep):
    """The same for full covariances, with other defaults."""

    occupancy: float | None = None
    prior: float | None = None


SIDEKIT_BOUNDS = {
    "diag": {"floor": 0.01, "ceiling": 10.0},
    "full": {"floor": 0.001, "ceiling": 1000.0},
}
"""Bounds of diagonal variances in SIDEKIT, and of eigenvalues, relative to plain variances."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training in one process; `gmmcore.config.keys` says what each one does."""

    llk_gain: float = 0.01
    precision: str = "single"
    pruning: float = 2e-8
    threads: int = 1
    device: str = "cpu"
    diag: MStep = field(default_factory=MStep)
    full: MStep = field(default_factory=FullMStep)
    method: str = "principal"
    # Whether bounds are relative to `robust_variances` where these are less than the plain ones.
    robust: bool = True
    frames_per_component: int | None = 500
    last_gain: float = 0.001
    last_iterations: int = 1
    seed: int = 1
