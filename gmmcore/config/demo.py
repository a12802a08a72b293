"""Settings of the demonstration corpus."""

from __future__ import annotations

from dataclasses import dataclass

from gmmcore.config.options import Options, option

__all__ = ["DemoSettings"]


@dataclass(frozen=True)
class DemoSettings(Options):
    """Settings of the demonstration corpus."""

    components: int = option(64, "components of the mixture", type="integer", minimum=1)
    dimension: int = option(20, "coefficients of a frame", type="integer", minimum=2)
    shows: int = option(40, "how many shows", type="integer", minimum=1)
    speakers: int = option(10, "how many speakers", type="integer", minimum=1)
    frames: int = option(120_000, "frames of speech, in all shows", type="integer", minimum=100)
    offset: float = option(
        0.1, "standard deviation of the speakers' offsets", type="number", minimum=0
    )
    persistence: float = option(
        0.8,
        "probability that the next frame stays in its component",
        type="number",
        minimum=0,
        exclusiveMaximum=1,
    )
    correlation: float = option(
        0.5,
        "correlation of the noise of neighbouring frames",
        type="number",
        minimum=0,
        exclusiveMaximum=1,
    )
