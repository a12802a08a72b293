"""Settings of E-step and M-step."""

from __future__ import annotations

from dataclasses import dataclass

from gmmcore.config.options import Options, OptionsError, option, same
from gmmcore.core import settings

__all__ = [
    "Bounds",
    "EStep",
    "FullBounds",
    "FullCounts",
    "FullMStep",
    "IterationSettings",
    "Limits",
    "LowCount",
    "MStep",
    "Memory",
    "Split",
]


@dataclass(frozen=True)
class EStep(Options):
    """Settings of the E-step."""

    precision: str = option(
        "single", "of the E-step's matrix products; sums are double", enum=["single", "double"]
    )
    pruning: float = option(
        2e-8,
        "posteriors below this may be left out of the statistics; 0 is exact",
        type="number",
        minimum=0,
        exclusiveMaximum=1,
    )


@dataclass(frozen=True)
class Bounds(Options):
    """Bounds of diagonal variances, relative to the variances of all frames."""

    floor: float = option(0.01, "lower bound", type="number", minimum=0)
    ceiling: float = option(10.0, "upper bound", type="number", exclusiveMinimum=0, infinite=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.floor > self.ceiling:
            raise OptionsError(f"floor is {self.floor}, above ceiling, {self.ceiling}")


@dataclass(frozen=True)
class FullBounds(Bounds):
    """Bounds of the eigenvalues of full covariances, after whitening by the global variances.

    With correlated dimensions, an eigenvalue can be as large as their number.
    """

    floor: float = option(0.001, "lower bound", type="number", minimum=0)
    ceiling: float = option(1000.0, "upper bound", type="number", exclusiveMinimum=0, infinite=True)


@dataclass(frozen=True)
class LowCount(Options):
    """Settings for components that have few frames."""

    occupancy: float | None = option(
        10.0, "a component with fewer frames has a low count", type="number", minimum=0
    )


@dataclass(frozen=True)
class FullCounts(Options):
    """How much full covariances are trusted, by their number of frames."""

    occupancy: float | None = option(
        None,
        "a component with fewer frames has a low count; null: as many as dimensions",
        type="number",
        minimum=0,
    )
    prior: float | None = option(
        None,
        "the correlations of all components together count for so many frames: of n frames, a "
        "component keeps n / (n + prior) of its own; null: twice as many as dimensions; 0: none",
        type="number",
        minimum=0,
    )


@dataclass(frozen=True)
class MStep(LowCount, Bounds, settings.MStep):
    """Settings of the M-step for diagonal covariances."""

    occupancy: float | None = option(
        LowCount.occupancy,
        "a component with fewer frames has a low count; null: as many as dimensions",
        nullable=True,
        type="number",
        minimum=0,
    )
    prior: float | None = option(
        0.0,
        "full covariances: frames that the correlations of all components together count for; "
        "null: twice as many as dimensions",
        nullable=True,
        type="number",
        minimum=0,
    )


@dataclass(frozen=True)
class FullMStep(MStep):
    """Settings of the M-step for full covariances."""

    floor: float = same(FullBounds, "floor")
    ceiling: float = same(FullBounds, "ceiling")
    occupancy: float | None = same(FullCounts, "occupancy")
    prior: float | None = same(FullCounts, "prior")


@dataclass(frozen=True)
class IterationSettings(EStep, MStep):
    """Settings of an EM iteration."""


@dataclass(frozen=True)
class Memory(Options):
    """What a job may keep from one iteration to the next."""

    memory: int = option(
        4000,
        "megabytes of frames that a job keeps in memory; those of a larger corpus are read from "
        "their shards in each iteration",
        type="integer",
        minimum=0,
    )


@dataclass(frozen=True)
class Limits(Options):
    """What decides which frames a stage reads, and when it ends."""

    llk_gain: float = option(
        0.01,
        "a stage ends when the log-likelihood per frame (natural logarithm) grows by less",
        type="number",
        infinite=True,
    )
    frames_per_component: int | None = option(
        500,
        "about as many random frames per component are read until the last iteration or more, "
        "which read all frames (fewer than 200 components get as many as 200; with full "
        "covariances (D + 3) / 4 times as many); null reads all frames in every iteration",
        nullable=True,
        type="integer",
        minimum=1,
    )
    last_iterations: int = option(
        1,
        "so many iterations of the last stage, or more, read all frames",
        type="integer",
        minimum=1,
    )


@dataclass(frozen=True)
class Split(Options):
    """How components are divided."""

    method: str = option(
        "principal",
        "principal divides components where the likelihood of a sample gains most; sidekit "
        "divides all of them along their axis of largest variance, and reads all frames in every "
        "iteration",
        enum=["principal", "sidekit"],
    )
    floor: float = same(Bounds, "floor")
