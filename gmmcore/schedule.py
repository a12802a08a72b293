"""Which stages a training passes, and where in them it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SIDEKIT_ITERATIONS", "Stage", "iteration_name", "stages", "train_stop"]

SIDEKIT_ITERATIONS = (1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8)
"""EM iterations after each split, as SIDEKIT's ``EM_split`` has by default."""


@dataclass(frozen=True)
class Stage:
    """A number of components and the iterations spent on it.

    Attributes
    ----------
    kind : str
        ``diag`` or ``full``.
    components : int
    iterations : int
        At most this many EM iterations.
    origin : str
        What makes its first mixture: ``initialise``, ``split`` or ``diag2full``.
    """

    kind: str
    components: int
    iterations: int
    origin: str

    @property
    def name(self) -> str:
        """Such as ``diag/64``: the stage's folder."""
        return f"{self.kind}/{self.components}"


def stages(
    components: int,
    iterations: Sequence[int] = SIDEKIT_ITERATIONS,
    full_iterations: int = 0,
    *,
    start: int = 1,
    start_full: bool = False,
) -> tuple[Stage, ...]:
    """The stages from a first mixture to the last.

    Parameters
    ----------
    components : int
        Components of the final mixture. Each stage doubles; the last one divides only as many of
        the heaviest components as are wanted.
    iterations : sequence of int
        Iterations of each stage after a split; the last entry serves all further stages.
    full_iterations : int
        Iterations with full covariances at the end; 0 for a diagonal mixture.
    start : int
        Components of the first mixture: 1, or those of a mixture that is continued.
    start_full : bool
        Whether that mixture has full covariances; then it is only iterated.

    Raises
    ------
    ValueError
        If the numbers contradict each other.
    """
    if components < start:
        raise ValueError(f"components: {components}, but the initial mixture has {start}")
    if start_full:
        if components != start:
            raise ValueError(
                f"components: {components}, but the initial full-covariance mixture has {start}; "
                "only diagonal mixtures are split"
            )
        return (Stage("full", start, full_iterations, "initialise"),)
    limits = list(iterations) or [0]
    result = [Stage("diag", start, 0 if start == 1 else limits[0], "initialise")]
    current, position = start, 0 if start == 1 else 1
    while current < components:
        current = min(2 * current, components)
        limit = limits[min(position, len(limits) - 1)]
        result.append(Stage("diag", current, limit, "split"))
        position += 1
    if full_iterations:
        result.append(Stage("full", components, full_iterations, "diag2full"))
    return tuple(result)


def iteration_name(iteration: int) -> str:
    """What the file of an iteration is called, without extension."""
    return f"{iteration:03d}"


def train_stop(gain: float | None, llk_gain: float) -> bool:
    """Whether a stage ends with an iteration of this gain per frame (None: its first)."""
    return gain is not None and gain < llk_gain
