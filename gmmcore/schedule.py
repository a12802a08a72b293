"""The stages of a training, and when a stage ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SIDEKIT_ITERATIONS", "Stage", "iteration_name", "stages", "train_stop"]

SIDEKIT_ITERATIONS = (1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8)
"""EM iterations after each split: the defaults of SIDEKIT's ``EM_split``."""


@dataclass(frozen=True)
class Stage:
    """Part of a training with one kind of covariances and one number of components.

    Attributes
    ----------
    kind : str
        ``diag`` or ``full``.
    components : int
        Number of components.
    iterations : int
        Largest number of EM iterations.
    origin : str
        Verb that makes the first mixture: ``initialise``, ``split`` or ``diag2full``.
    """

    kind: str
    components: int
    iterations: int
    origin: str

    @property
    def name(self) -> str:
        """Name of the stage and of its folder, such as ``diag/64``."""
        return f"{self.kind}/{self.components}"


def stages(
    components: int,
    iterations: Sequence[int] = SIDEKIT_ITERATIONS,
    full_iterations: int = 0,
    *,
    start: int = 1,
    start_full: bool = False,
) -> tuple[Stage, ...]:
    """Plan the stages of a training.

    Parameters
    ----------
    components : int
        Number of components of the final mixture. Each split doubles the number; the last one
        divides only as many of the heaviest components as are wanted.
    iterations : sequence of int
        Largest number of iterations after each split; the last entry is used for all further
        splits. If `start` is above 1, the first entry is for the initial mixture.
    full_iterations : int
        Largest number of iterations with full covariances; 0 for a diagonal mixture.
    start : int
        Number of components of the initial mixture.
    start_full : bool
        Whether the initial mixture has full covariances, so that it is not split.

    Raises
    ------
    ValueError
        If the final mixture cannot be made from the initial one.

    Examples
    --------
    >>> from gmmcore.schedule import stages
    >>> [(stage.name, stage.iterations) for stage in stages(6, [2, 4], full_iterations=3)]
    [('diag/1', 0), ('diag/2', 2), ('diag/4', 4), ('diag/6', 4), ('full/6', 3)]
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
    """Return the name of an iteration's file, without extension."""
    return f"{iteration:03d}"


def train_stop(gain: float | None, llk_gain: float) -> bool:
    """Whether a stage ends after an iteration with this gain (None for its first iteration)."""
    return gain is not None and gain < llk_gain
