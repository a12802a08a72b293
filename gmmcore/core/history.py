"""The history of a training, one entry per iteration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import isnan, nan


@dataclass(frozen=True)
class HistoryEntry:
    """History entry of one EM iteration.

    Attributes
    ----------
    stage : str
        Kind of the covariances in the stage: ``diag`` or ``full``.
    components : int
        Number of components of the stage.
    iteration : int
        Number of the iteration in its stage, from 1.
    level : int
        Level of the subset of the frames that the iteration read, about 2^-level of all frames.
    frames : int
        Number of frames that it read.
    log_likelihood : float
        Log-likelihood per frame (natural logarithm) **before** the update of this iteration.
    gain : float
        Growth of the log-likelihood since the iteration before; NaN if that read other frames,
        and in the first iteration of a stage.
    floored, ceiled : int
        Number of variances, or eigenvalues, that were moved to their floor or ceiling.
    low_count : int
        Number of components whose occupancy was below the configured minimum.
    smallest_occupancy : float
        Smallest occupancy of all components, in frames.
    held_out : float
        Held-out log-likelihood per frame (natural logarithm), before the update as well; NaN if no
        frames are held out. Like the gain, it can be compared with iterations of the same level.
    """

    stage: str
    components: int
    iteration: int
    level: int
    frames: int
    log_likelihood: float
    gain: float
    floored: int
    ceiled: int
    low_count: int
    smallest_occupancy: float
    held_out: float = nan


def columns(entries: Sequence[HistoryEntry]) -> list[str]:
    """Return the names of the columns of a history; `held_out` only if an entry has it."""
    names = [field.name for field in fields(HistoryEntry)]
    return names if any(not isnan(entry.held_out) for entry in entries) else names[:-1]


def history_table(entries: Iterable[HistoryEntry]) -> str:
    """Write the entries as tab-separated text with a header line; floats keep all their digits."""
    entries = [*entries]
    names = columns(entries)
    lines = ["\t".join(names)]
    lines += ["\t".join(str(getattr(entry, name)) for name in names) for entry in entries]
    return "\n".join(lines) + "\n"
