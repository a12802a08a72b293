"""The stages of a training: what each of them reads, when it ends, and what it costs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry

SIDEKIT_ITERATIONS = (1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8)
"""EM iterations after each split: the defaults of SIDEKIT's ``EM_split``."""
LAST_STAGE = 30
"""EM iterations of the last stage of a training, at most, unless numbers are given."""
LARGEST_LEVEL = 20
"""Level of the smallest subset, which holds about 2^-20 of all frames."""
# Least number of held-out frames, about; fewer tell little.
_LEAST_HELD_OUT = 4096
# Fewer components read as many frames as so many do: their iterations cost little anyway.
_LEAST_COMPONENTS = 200
# A subset's likelihood differs from that of all frames by more than what the last stage gains on it
# below so many times its `last_gain`.
_SUBSET_GAINS = 3.0
# The subset of level k has the frames whose hash is below 2^(64 - k).
_LIMITS = np.array([1 << (64 - k) for k in range(LARGEST_LEVEL, 0, -1)], dtype=np.uint64)
LONG_SECONDS = 60
"""Seconds on one core from which a stage is worth a job of a cluster, or the start of a GPU."""
# On one core of a CPU of 2020, in single precision (docs/scaling.md measures them): what a frame
# costs by itself, and what an operation of the two matrix products does.
_SECONDS_PER_FRAME = 2e-7
_SECONDS_PER_OPERATION = 1e-11
LEAST_SECONDS = 5e-3
"""Seconds that a thread must have to do in an iteration: a message costs a hundredth of them."""
FORK_SECONDS = 0.1
"""The same for a worker that is forked in each iteration: a fork costs tens of milliseconds."""


@dataclass(frozen=True)
class Stage:
    """Part of a training with one kind of covariances and number of components.

    `iterations` is their largest number, `origin` the verb that makes the first mixture
    (initialise, split or diag2full), and `final` whether the training ends with this stage.
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
    iterations: Sequence[int] | None = None,
    full_iterations: int = 0,
    *,
    kind: str | None = None,
    start: int = 1,
    start_full: bool = False,
) -> tuple[Stage, ...]:
    """Plan the stages of a training.

    Each split doubles the number of components; the last one divides only as many of the heaviest
    as are wanted. The last entry of `iterations` is used for all further splits. All stages are of
    the `kind` spherical or diag; one that is tied or full, by default full if it has iterations,
    follows the diagonal ones. A training may start from a mixture of `start` components, for which
    the first entry is then; one with full covariances (`start_full`) that keeps them is not split.
    Without `iterations`, they are `SIDEKIT_ITERATIONS`, but `LAST_STAGE` in a last stage of several
    components whose covariances are spherical or diagonal.

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
    kind = kind or ("full" if full_iterations or start_full else "diag")
    first = "diag" if kind in ("tied", "full") else kind
    if start_full and kind != first:
        if components != start:
            raise ValueError(
                f"components: {components}, but the initial full-covariance mixture has {start}; "
                "only diagonal mixtures are split"
            )
        return (Stage(kind, start, full_iterations, "initialise", final=True),)
    limits = list(SIDEKIT_ITERATIONS if iterations is None else iterations) or [0]
    result = [Stage(first, start, 0 if start == 1 else limits[0], "initialise")]
    current, position = start, 0 if start == 1 else 1
    while current < components:
        current = min(2 * current, components)
        limit = limits[min(position, len(limits) - 1)]
        result.append(Stage(first, current, limit, "split"))
        position += 1
    if kind != first:
        result.append(Stage(kind, components, full_iterations, "diag2full"))
    elif iterations is None and components > 1:
        result[-1] = replace(result[-1], iterations=LAST_STAGE)
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
        The stage ends when the log-likelihood per frame grows by less (natural logarithm).
    level : int
        Level of the subset that the stage reads; 0 for all frames.
    least : int
        First iteration after which the stage may end because of its gain.
    last_iterations : int
        Number of iterations on all frames in the final stage of a training, after those on a
        subset; if it is more than one, others may follow until the gain is low.
    """

    stage: Stage
    llk_gain: float
    level: int = 0
    least: int = 1
    last_iterations: int = 1

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
        last_gain: float = inf,
    ) -> Course:
        """Choose the subset of a stage, of so many frames of a dimension.

        Fewer than 200 components get as many frames as 200. A component with a full covariance has
        (D + 3) / 4 times as many parameters as one with a diagonal covariance, and gets as many
        times the frames. If `frames_per_component` is None, all frames are read. The final stage
        ends when the gain is less than `last_gain`, too, or than three times as much on a subset.
        """
        if frames_per_component is None:
            return cls(stage, least_gain(llk_gain, last_gain, 0) if stage.final else llk_gain)
        wanted = frames_per_component * max(stage.components, _LEAST_COMPONENTS)
        if stage.kind == "full":
            wanted = wanted * (dimension + 3) // 4
        level = level_of(frames, wanted)
        if stage.final:
            llk_gain = least_gain(llk_gain, last_gain, level)
        return cls(stage, llk_gain, level, last_iterations=last_iterations)

    @property
    def lowest(self) -> int:
        """Level of the largest subset that the stage reads."""
        return 0 if self.stage.final else self.level

    def largest(self, frames: int, dimension: int) -> tuple[int, int, int, bool]:
        """Return frames, components, dimension and kind of the largest E-step, of so many frames.

        They are the arguments of `seconds`, the last one as ``full``.
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

    def next_level(self, done: int, level: int, gain: float | None) -> int | None:
        """Return the level of the subset that the next iteration reads; None if the stage ended.

        `done` iterations were made, the last of which read the subset of `level` and gained `gain`
        per frame; NaN or None if it was the first on its frames. The final stage of a training goes
        on with all frames when its subset has nothing more to gain, or when only `last_iterations`
        are left.
        """
        limit = self.stage.iterations
        if done >= limit:
            return None
        ended = gain is not None and gain < self.llk_gain and done >= self.least
        if not self.level or (done and not level):
            is_one = self.level and self.last_iterations == 1
            return None if ended or is_one else 0
        if self.stage.final:
            return 0 if ended or limit - done <= self.last_iterations else self.level
        return None if ended else self.level

    def after(self, history: Sequence[HistoryEntry]) -> int | None:
        """Return the `next_level` after the iterations of the stage so far."""
        if not history:
            return self.next_level(0, 0, None)
        last = history[-1]
        return self.next_level(last.iteration, last.level, last.gain)


def least_gain(llk_gain: float, last_gain: float, level: int) -> float:
    """Return the gain below which the final stage ends, if it begins with the subset of `level`.

    Examples
    --------
    >>> from gmmcore.core.schedule import least_gain
    >>> least_gain(0.01, 0.001, 0), least_gain(0.01, 0.001, 2)
    (0.001, 0.003)
    """
    return min(llk_gain, last_gain * (_SUBSET_GAINS if level else 1.0))


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


def frame_levels(seed: int, show: str, frames: int) -> npt.NDArray[np.intp]:
    """Draw the level of each frame of a show; a frame is in the subsets up to its level.

    A level is k with probability 2^-(k + 1), at most `LARGEST_LEVEL`. It depends on the seed, the
    name of the show and the position in it alone, which SplitMix64 hashes (Steele, Lea and Flood,
    OOPSLA 2014).

    Examples
    --------
    >>> from gmmcore.core.schedule import frame_levels
    >>> frame_levels(1, "show", 1000)[:8]
    array([0, 0, 1, 0, 0, 0, 0, 0])
    """
    start = hashlib.sha256(f"{seed} {show}".encode()).digest()[:8]
    # Sums and products of unsigned integers wrap around without a warning, as intended.
    value = np.arange(1, frames + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    value = splitmix(value + np.frombuffer(start, dtype="<u8"))
    return LARGEST_LEVEL - np.searchsorted(_LIMITS, value, side="right")


def splitmix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter the bits of each value with a bijection, the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def seconds(frames: int, components: int, dimension: int, *, full: bool) -> float:
    """Estimate the seconds that an E-step takes on one core.

    Examples
    --------
    >>> from gmmcore.core.schedule import seconds
    >>> round(seconds(1_000_000, 512, 60, full=False), 1)
    2.7
    """
    width = 1 + dimension + (dimension * (dimension + 1) // 2 if full else dimension)
    operations = 4 * components * width
    return frames * (_SECONDS_PER_FRAME + operations * _SECONDS_PER_OPERATION)


def useful_workers(
    frames: int,
    components: int,
    dimension: int,
    *,
    full: bool,
    most: int,
    least: float = LEAST_SECONDS,
) -> int:
    """Choose how many workers an E-step is worth, each with `least` seconds to do or more.

    Examples
    --------
    >>> from gmmcore.core.schedule import useful_workers
    >>> [useful_workers(10_000, c, 60, full=False, most=16) for c in (2, 64, 512)]
    [1, 1, 5]
    """
    wanted = seconds(frames, components, dimension, full=full) / least
    return max(1, min(most, int(wanted)))


def megabytes(
    components: int,
    dimension: int,
    *,
    full: bool,
    workers: int = 1,
    kept: int = 0,
    devices: int = 0,
) -> int:
    """Estimate the memory of a stage: processes, frames kept in memory, and GPUs that are driven.

    Examples
    --------
    >>> from gmmcore.core.schedule import megabytes
    >>> megabytes(2048, 60, full=True, workers=2)
    1443
    """
    size = 8 * components * dimension * (dimension if full else 1)
    bytes_ = 12 * size + workers * (50_000_000 + 2 * size) + 4 * dimension * kept
    return 400 + bytes_ // 1_000_000 + 3000 * devices
