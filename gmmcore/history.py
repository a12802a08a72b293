"""The history of a training, one entry per iteration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from math import isnan, nan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["HistoryEntry", "column_names", "history_columns", "history_table"]


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
        Growth of the log-likelihood since the last iteration that was not rejected; NaN if that
        read other frames, and in the first iteration of a stage.
    floored, ceiled : int
        Number of variances, or eigenvalues, that were moved to their floor or ceiling.
    low_count : int
        Number of components whose occupancy was below the configured minimum.
    action : str
        What was done with these components: ``keep``, ``resplit`` or ``remove``; empty if there
        were none.
    smallest_occupancy : float
        Smallest occupancy of all components, in frames.
    step : str
        What the iteration started from: a mixture made by EM, ``plain``, or one extrapolated beyond
        it, ``extrapolated``. If the likelihood of that is lower than before, it is ``rejected``:
        the iteration goes back to the mixture made by EM, to which floored, ceiled, low_count,
        action and smallest_occupancy belong.
    held_out : float
        Log-likelihood per frame of held-out frames before the update; NaN if there are none.
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
    action: str
    smallest_occupancy: float
    step: str = "plain"
    held_out: float = nan


def column_names(entries: Iterable[HistoryEntry]) -> list[str]:
    """Return the columns that tables of these entries have; `held_out` only if one has it."""
    names = [field.name for field in fields(HistoryEntry)]
    return names[:-1] if all(isnan(entry.held_out) for entry in entries) else names


def history_table(entries: Sequence[HistoryEntry]) -> str:
    """Write the entries as tab-separated text with a header line; floats keep all their digits."""
    names = column_names(entries)
    lines = ["\t".join(names)]
    lines += ["\t".join(str(getattr(entry, name)) for name in names) for entry in entries]
    return "\n".join(lines) + "\n"


def history_columns(entries: Sequence[HistoryEntry]) -> dict[str, npt.NDArray[Any]]:
    """Return the entries as columns, each an array with a value per iteration.

    Examples
    --------
    >>> from gmmcore.history import HistoryEntry, history_columns
    >>> entry = HistoryEntry("diag", 2, 1, 0, 500, -3.5, float("nan"), 0, 0, 0, "", 240.5)
    >>> history_columns([entry, entry])["log_likelihood"]
    array([-3.5, -3.5])
    """
    import numpy as np

    types = {"str": str, "int": int, "float": float}
    return {
        each.name: np.array([getattr(entry, each.name) for entry in entries], types[str(each.type)])
        for each in fields(HistoryEntry)
    }
