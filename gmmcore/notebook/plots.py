"""The plot of a history, as a chart of Vega-Altair."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

from gmmcore.errors import GmmcoreError
from gmmcore.history import HistoryEntry

if TYPE_CHECKING:
    from altair import Chart

__all__ = ["plot_history"]


def plot_history(entries: Sequence[HistoryEntry]) -> Chart:
    """Plot the log-likelihood per frame by iteration, of training and held-out frames.

    Parameters
    ----------
    entries : sequence of HistoryEntry

    Returns
    -------
    altair.Chart
        A notebook shows it; its method ``save`` writes it.

    Raises
    ------
    GmmcoreError
        If Vega-Altair is not installed.

    Examples
    --------
    >>> from gmmcore import train
    >>> from gmmcore.notebook.plots import plot_history
    >>> training = train([[-2.0], [-1.0], [1.0], [2.0]] * 10, components=2)
    >>> plot_history(training.entries).to_dict()["encoding"]["y"]["title"]
    'log-likelihood per frame'
    """
    try:
        import altair
    except ImportError as error:
        raise GmmcoreError(
            f"plot_history: Vega-Altair cannot be imported ({error}); expected for plots; install "
            "it with: pip install 'gmmcore[plot]'"
        ) from error
    rows = [
        {
            "number": number,
            "stage": f"{entry.stage} {entry.components}",
            "iteration": entry.iteration,
            "frames": frames,
            "value": value,
        }
        for number, entry in enumerate(entries, 1)
        for frames, value in (("training", entry.log_likelihood), ("held-out", entry.held_out))
        if not isnan(value)
    ]
    chart = altair.Chart(altair.InlineData(values=rows)).mark_line(point=True)
    return chart.encode(
        x=altair.X("number:Q", title="iteration", axis=altair.Axis(tickMinStep=1, format="d")),
        y=altair.Y("value:Q", title="log-likelihood per frame", scale=altair.Scale(zero=False)),
        color=altair.Color("frames:N", title=None),
        # Each stage is a line of its own: a split would look like a fall.
        detail="stage:N",
        tooltip=["stage:N", "iteration:Q", "frames:N", altair.Tooltip("value:Q", format=".6f")],
    )
