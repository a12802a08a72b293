"""What a training gives: its mixture and its history."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture

if TYPE_CHECKING:
    from altair import LayerChart

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """Result of `gmmcore.train`.

    Attributes
    ----------
    mixture : GaussianMixture
        The final mixture, which `gmmcore.write_mixture` writes.
    entries : tuple of HistoryEntry
        The history, an entry per iteration.
    held_out : float
        Log-likelihood per frame (natural logarithm) of all held-out frames under the mixture; NaN
        if there are none.
    """

    mixture: GaussianMixture
    entries: tuple[HistoryEntry, ...]
    held_out: float = nan

    @cached_property
    def history(self) -> dict[str, npt.NDArray[Any]]:
        """The history as columns, each an array with a value per iteration.

        The columns are the attributes of `gmmcore.core.history.HistoryEntry`, as in
        ``history.tsv``.
        ``pandas.DataFrame(history)`` makes a table of them.
        """
        types = {"str": str, "int": int, "float": float}
        return {
            each.name: np.array(
                [getattr(entry, each.name) for entry in self.entries], types[str(each.type)]
            )
            for each in fields(HistoryEntry)
        }

    def plot_history(self) -> LayerChart:
        """Plot the log-likelihood by iteration; see `gmmcore.interfaces.plots.plot_history`."""
        from gmmcore.interfaces.plots import plot_history

        return plot_history(self.entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.entries)} iterations, {self.mixture!r}>"
