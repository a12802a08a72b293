"""Settings of the M-step."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FullMStep", "MStep"]


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

    floor: float = 0.01
    ceiling: float = 10.0
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

    floor: float = 0.001
    ceiling: float = 1000.0
    occupancy: float | None = None
    prior: float | None = None
