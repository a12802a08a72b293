"""The stages of a training, what each of them reads, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

from gmmcore.core.costs import LONG_SECONDS, seconds
from gmmcore.core.history import HistoryEntry

__all__ = [
    "LARGEST_LEVEL",
    "SIDEKIT_ITERATIONS",
    "Course",
    "Stage",
    "held_out_level",
    "iteration_name",
    "level_of",
    "place_of",
    "stages",
]

SIDEKIT_ITERATIONS = (1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8)
"""EM iterations after each split: the defaults of SIDEKIT's ``EM_split``."""
LARGEST_LEVEL = 20
"""Level of the smallest subset, which holds about 2^-20 of all frames."""
# Least number of held-out frames, about; fewer tell little.
_LEAST_HELD_OUT = 4096
# Fewer components read as many frames as so many do: their iterations cost little anyway.
_LEAST_COMPONENTS = 200


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
    final : bool
        Whether this is the last stage of the training, which ends with iterations on all frames.
    """

    kind: str
    components: int
    iterations: int
    origin: str
    final: bool = False

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
    >>> from gmmcore.core.schedule import stages
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
        return (Stage("full", start, full_iterations, "initialise", final=True),)
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
    result[-1] = replace(result[-1], final=True)
    return tuple(result)


def level_of(frames: int, wanted: int) -> int:
    """Return the level whose subset has about `wanted` of all frames; 0 stands for all frames.

    A subset of level k has about 2^-k of the frames, so that it has from 0.7 to 1.4 times the
    wanted number.

    Examples
    --------
    >>> from gmmcore.core.schedule import level_of
    >>> level_of(1_000_000, 256_000), level_of(1_000_000, 2_000_000)
    (2, 0)
    """
    level = 0
    # frames / 2^(level + 1) >= wanted / sqrt(2), in whole numbers.
    while level < LARGEST_LEVEL and 2 * frames**2 >= (wanted << (level + 1)) ** 2:
        level += 1
    return level


def held_out_level(level: int, frames: int) -> int:
    """Return the level of the held-out frames in an iteration that reads a level of the others.

    It is the same level, so that the held-out frames keep their share of the time, unless that
    leaves fewer than some 4,000 of them.

    Examples
    --------
    >>> from gmmcore.core.schedule import held_out_level
    >>> held_out_level(2, 1_000_000), held_out_level(10, 1_000_000), held_out_level(10, 1000)
    (2, 8, 0)
    """
    return min(level, level_of(frames, _LEAST_HELD_OUT))


@dataclass(frozen=True)
class Course:
    """Which frames the iterations of a stage read, and when the stage ends.

    Attributes
    ----------
    stage : Stage
    llk_gain : float
        The stage ends when the log-likelihood per frame grows by less than this (natural
        logarithm).
    level : int
        Level of the subset that the stage reads; 0 for all frames.
    least : int
        First iteration after which the stage may end because of its gain.
    last_iterations : int
        Least number of iterations on all frames in the final stage of a training.
    held_out : str or None
        Digest of the held-out frames; None if there are none.
    """

    stage: Stage
    llk_gain: float
    level: int = 0
    least: int = 1
    last_iterations: int = 1
    held_out: str | None = None

    @classmethod
    def of(
        cls,
        stage: Stage,
        *,
        llk_gain: float,
        frames: int,
        dimension: int,
        frames_per_component: int | None,
        last_iterations: int = 1,
        held_out: str | None = None,
    ) -> Course:
        """Choose the subset of a stage.

        Parameters
        ----------
        stage : Stage
        llk_gain : float
        frames : int
            Number of all frames.
        dimension : int
            Dimension D of a frame.
        frames_per_component : int or None
            Wanted number of frames per component with a diagonal covariance; fewer than 200
            components get as many frames as 200. A component with a full covariance has
            (D + 3) / 4 times as many parameters, and gets as many times the frames. None stands
            for all frames.
        last_iterations : int
            Least number of iterations on all frames in the final stage.
        held_out
            As the attribute.
        """
        if frames_per_component is None:
            return cls(stage, llk_gain, held_out=held_out)
        wanted = frames_per_component * max(stage.components, _LEAST_COMPONENTS)
        if stage.kind == "full":
            wanted = wanted * (dimension + 3) // 4
        level = level_of(frames, wanted)
        return cls(stage, llk_gain, level, last_iterations=last_iterations, held_out=held_out)

    @property
    def lowest(self) -> int:
        """Level of the largest subset that the stage reads."""
        return 0 if self.stage.final else self.level

    def largest(self, frames: int, dimension: int) -> tuple[int, int, int, bool]:
        """Return frames, components, dimension and kind of the largest E-step, of so many frames.

        They are the arguments of ``seconds`` in gmmcore/core/costs.py, the last one as ``full``.
        """
        stage = self.stage
        return frames >> self.lowest, stage.components, dimension, stage.kind == "full"

    def takes_long(self, frames: int, dimension: int) -> bool:
        """Whether the stage takes more than a minute on one core, with so many frames in all.

        Examples
        --------
        >>> from gmmcore.core.schedule import Course, Stage
        >>> courses = [Course(Stage("diag", c, 8, "split"), llk_gain=0.01) for c in (512, 2048)]
        >>> [course.takes_long(1_000_000, 60) for course in courses]
        [False, True]
        """
        *sizes, full = self.largest(frames, dimension)
        return self.stage.iterations * seconds(*sizes, full=full) >= LONG_SECONDS

    def after(self, previous: HistoryEntry | None) -> int | None:
        """Return the `next_level` after an iteration, None for the first mixture of the stage."""
        if previous is None:
            return self.next_level(0, 0, None)
        gain = None if isnan(previous.gain) else previous.gain
        return self.next_level(previous.iteration, previous.level, gain)

    def next_level(self, done: int, level: int, gain: float | None) -> int | None:
        """Return the level of the subset that the next iteration reads; None if the stage ended.

        The final stage of a training goes on with all frames when its subset has nothing more to
        gain, or when only `last_iterations` are left.

        Parameters
        ----------
        done : int
            Number of iterations that are done.
        level : int
            Level of the subset that the last of them read.
        gain : float or None
            Growth of the log-likelihood per frame in the last of them; None if the iteration
            before read other frames, or there was none.
        """
        limit = self.stage.iterations
        if done >= limit:
            return None
        ended = gain is not None and gain < self.llk_gain and done >= self.least
        if not self.level or (done and not level):
            return None if ended else 0
        if self.stage.final:
            return 0 if ended or limit - done <= self.last_iterations else self.level
        return None if ended else self.level


def place_of(facts: Mapping[str, Any]) -> tuple[int, int, float | None]:
    """Return the arguments of `Course.next_level` from the facts in the file of a mixture.

    Examples
    --------
    >>> from gmmcore.core.schedule import place_of
    >>> place_of({"iteration": 0, "level": 0})
    (0, 0, None)
    """
    return facts["iteration"], facts.get("level", 0), facts.get("gain")


def iteration_name(iteration: int) -> str:
    """Return the name of an iteration's file, without extension."""
    return f"{iteration:03d}"
