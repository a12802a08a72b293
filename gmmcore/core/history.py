"""The history of a training, one entry per iteration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import isnan, nan


@dataclass(frozen=True)
class HistoryEntry:
    """History entry of one EM iteration; log-likelihoods are per frame (natural logarithm)."""

    stage: str  #: Kind of the covariances in the stage, such as ``diag`` or ``full``.
    components: int  #: Number of components of the stage.
    iteration: int  #: Number of the iteration in its stage, from 1.
    level: int  #: Level of the subset that it read, about 2^-level of all frames.
    frames: int  #: Number of frames that it read.
    log_likelihood: float  #: That of these frames, **before** the update of this iteration.
    gain: float  #: Growth since the iteration before; NaN if there is none of the same frames.
    floored: int  #: Number of variances, or eigenvalues, that were raised to their floor.
    ceiled: int  #: Number of variances, or eigenvalues, that were lowered to their ceiling.
    low_count: int  #: Number of components whose occupancy was below the configured minimum.
    smallest_occupancy: float  #: Smallest occupancy of all components, in frames.
    #: That of held-out frames before the update, of the subset of the same level; NaN without them.
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
