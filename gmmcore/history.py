"""What is remembered of an iteration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

__all__ = ["HistoryEntry", "history_table"]


@dataclass(frozen=True)
class HistoryEntry:
    """One EM iteration.

    Attributes
    ----------
    stage : str
        ``diag`` or ``full``.
    components : int
        Components of the stage.
    iteration : int
        From 1.
    frames : int
        Frames the statistics were taken from.
    log_likelihood : float
        Natural logarithm, per frame, of the mixture **before** this iteration's update.
    gain : float
        Its growth since the iteration before; NaN in the first of a stage.
    floored, ceiled : int
        Variances (or eigenvalues of full covariances) that met their floor or ceiling.
    low_count : int
        Components whose occupancy was under the configured minimum.
    action : str
        What was done with them: ``keep``, ``resplit`` or ``remove``; empty when there were none.
    smallest_occupancy : float
        Of all components, in frames.
    """

    stage: str
    components: int
    iteration: int
    frames: int
    log_likelihood: float
    gain: float
    floored: int
    ceiled: int
    low_count: int
    action: str
    smallest_occupancy: float


def history_table(entries: Iterable[HistoryEntry]) -> str:
    """The entries as tab-separated text with a header line; floats keep all their digits."""
    names = [field.name for field in fields(HistoryEntry)]
    lines = ["\t".join(names)]
    lines += ["\t".join(str(getattr(entry, name)) for name in names) for entry in entries]
    return "\n".join(lines) + "\n"
