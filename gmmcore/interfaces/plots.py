"""The plot of a history, as a chart of Vega-Altair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gmmcore.core.history import HistoryEntry
from gmmcore.errors import GmmcoreError

if TYPE_CHECKING:
    from altair import LayerChart

__all__ = ["plot_history"]

# Pixels; a notebook gives no width that a plot could fill.
_WIDTH = 640


def plot_history(entries: Sequence[HistoryEntry]) -> LayerChart:
    """Plot the log-likelihood per frame by iteration, of training and held-out frames.

    Parameters
    ----------
    entries : sequence of HistoryEntry

    Returns
    -------
    altair.LayerChart
        The plot of the report. A notebook shows it; its method ``save`` writes it.

    Raises
    ------
    GmmcoreError
        If Vega-Altair is not installed.

    Examples
    --------
    >>> from gmmcore import train
    >>> from gmmcore.interfaces.plots import plot_history
    >>> training = train([[-2.0], [-1.0], [1.0], [2.0]] * 10, components=2)
    >>> plot_history(training.entries).to_dict()["description"]
    'Log-likelihood per frame by iteration'
    """
    from gmmcore.report.plots import CAN_DRAW, likelihoods

    if not CAN_DRAW:
        raise GmmcoreError(
            "plot_history: Vega-Altair cannot be imported; expected for plots; install it with: "
            "pip install 'gmmcore[plot]'"
        )
    return likelihoods(entries).properties(width=_WIDTH)
