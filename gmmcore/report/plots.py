"""The plots of trainings, as Altair charts of rows of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from gmmcore.core.history import HistoryEntry

try:
    import altair as alt
    import vl_convert  # noqa: F401
except ImportError:  # The pages are then written without plots.
    alt: Any = None  # type: ignore[no-redef]

# Whether Altair and vl-convert are installed.
CAN_DRAW = alt is not None

TRAINING, HELD_OUT, COMPONENTS = "#3f83cf", "#dc5567", "#7b90a3"
"""Colours of the log-likelihood of training and held-out frames, and of what is neither."""
_POINTS = 2000
_SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
Rows = list[dict[str, Any]]


def likelihoods(history: Sequence[HistoryEntry]) -> Any:
    """Plot the log-likelihood of training and held-out frames before each update."""
    across = alt.Scale(domain=[0.5, len(history) + 0.5], nice=False)
    rows: Rows = []
    for index, entry in enumerate(history, start=1):
        values = {"training": entry.log_likelihood, "held-out": entry.held_out}
        about = {
            "x": index,
            "stage": f"{entry.stage} {entry.components}",
            "iteration": entry.iteration,
            "gain": "" if isnan(entry.gain) else f"{entry.gain:+.6f}",
            "read": entry.frames,
        }
        rows += [
            {**about, "frames": frames, "log_likelihood": value}
            for frames, value in values.items()
            if isfinite(value)
        ]
    found = [each for each in ("training", "held-out") if any(r["frames"] == each for r in rows)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("x:Q", title="iteration of the training", scale=across, axis=_whole()),
        y=_likelihood(),
        color=alt.Color(
            "frames:N",
            scale=alt.Scale(domain=found, range=[TRAINING, HELD_OUT]),
            legend=alt.Legend() if len(found) > 1 else None,
        ),
    )
    # The stages are lines of their own: a division of components would look like a fall.
    line = base.mark_line().encode(detail="stage:N")
    point = base.mark_circle(size=45, opacity=1).encode(
        tooltip=_tooltips(
            *("stage:N", "iteration:Q", "frames:N", "log_likelihood:Q:.6f", "gain:N", "read:Q:,")
        )
    )
    layers = alt.layer(_bands(history, across), line + point).resolve_axis(x="independent")
    return _finished(layers, "Log-likelihood per frame by iteration", 320)


def _bands(history: Sequence[HistoryEntry], across: Any) -> Any:
    """Draw the stages as bands, whose names stand above the plot where there is room."""
    edges: Rows = []
    for index, entry in enumerate(history, start=1):
        if entry.iteration == 1 or not edges:
            name = f"{'full ' if entry.stage == 'full' else ''}{entry.components}"
            edges.append({"from": index - 0.5, "stage": name, "odd": len(edges) % 2})
        edges[-1]["to"] = index + 0.5
    names = {f"{(edge['from'] + edge['to']) / 2:g}": edge["stage"] for edge in edges}
    axis = alt.Axis(
        orient="top",
        title="components",
        values=[float(place) for place in names],
        labelExpr=f"({names})[datum.value]",
        labelOverlap="greedy",
        labelSeparation=6,
        grid=False,
        ticks=False,
        domain=False,
    )
    return (
        alt.Chart(alt.InlineData(values=edges))
        .mark_rect(color=COMPONENTS)
        .encode(
            x=alt.X("from:Q", axis=axis, scale=across),
            x2="to",
            opacity=alt.Opacity("odd:Q", scale=alt.Scale(range=[0.05, 0.16]), legend=None),
            tooltip=_tooltips("stage:N"),
        )
    )


def occupancies(weights: npt.NDArray[np.float64], frames: int) -> Any:
    """Plot the occupancies of the components, which are weights x frames, largest first."""
    order = np.argsort(-weights, kind="stable")
    kept = np.unique(np.linspace(0, len(order) - 1, min(len(order), _POINTS)).round().astype(int))
    # A logarithm has no place for a component without frames.
    lowest = weights[weights > 0].min() * frames / 2
    rows: Rows = [
        {
            "rank": rank + 1,
            "component": int(order[rank]),
            "weight": float(f"{weights[order[rank]]:.6g}"),
            "occupancy": float(f"{weights[order[rank]] * frames:.6g}"),
            "shown": max(float(f"{weights[order[rank]] * frames:.6g}"), lowest),
        }
        for rank in kept.tolist()
    ]
    points = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_circle(size=40, opacity=0.9, color=COMPONENTS)
        .encode(
            x=alt.X(
                "rank:Q",
                title="rank of the component, heaviest first",
                scale=alt.Scale(domain=[0.5, len(weights) + 0.5], nice=False),
                axis=_whole(),
            ),
            y=alt.Y(
                "shown:Q",
                title="occupancy in frames",
                scale=alt.Scale(type="log", nice=False, padding=10),
                axis=alt.Axis(format="~s", tickCount=5, labelOverlap=True),
            ),
            tooltip=_tooltips("component:Q", "rank:Q", "weight:Q:.6g", "occupancy:Q:,.1f"),
        )
    )
    return _finished(points, "Occupancy of the components", 220)


def detection_errors(misses: npt.NDArray[np.float64], alarms: npt.NDArray[np.float64]) -> Any:
    """Plot rates of misses against rates of false alarms, both as deviations of a normal score."""
    inside = (misses > 0) & (misses < 1) & (alarms > 0) & (alarms < 1)
    kept = np.flatnonzero(inside)
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), _POINTS)).astype(int))]
    rows: Rows = [
        {
            "false_alarms": float(f"{alarms[at]:.4g}"),
            "misses": float(f"{misses[at]:.4g}"),
            "x": float(f"{ndtri(alarms[at]):.5g}"),
            "y": float(f"{ndtri(misses[at]):.5g}"),
        }
        for at in kept.tolist()
    ]
    ticks = {f"{ndtri(share):.4f}": f"{100 * share:g} %" for share in _SHARES}
    words = " : ".join(f"abs(datum.value - {at}) < 0.001 ? '{text}'" for at, text in ticks.items())
    places: dict[str, Any] = {
        "scale": alt.Scale(domain=[float(ndtri(_SHARES[end])) for end in (0, -1)], clamp=True),
        "axis": alt.Axis(values=[float(at) for at in ticks], labelExpr=f"{words} : ''"),
    }
    line = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(color=TRAINING)
        .encode(
            x=alt.X("x:Q", title="false alarms", **places),
            y=alt.Y("y:Q", title="misses", **places),
            tooltip=_tooltips("false_alarms:Q:.4f", "misses:Q:.4f"),
        )
    )
    return _finished(line, "Detection error tradeoff", 320)


def _finished(chart: Any, title: str, height: int) -> Any:
    """Return the chart as wide as the page, with a text for readers of screens."""
    return (
        chart.properties(width="container", height=height, description=title)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridOpacity=0.4
        )
        .configure_axisX(labelOverlap="greedy", labelSeparation=5, labelFlush=False, grid=False)
        .configure_legend(orient="top", labelFontSize=12, title=None, columns=2, labelLimit=300)
    )


def _tooltips(*columns: str) -> list[Any]:
    """Make tooltips of columns, each ``name:type`` or ``name:type:format``."""
    parts = [column.split(":") for column in columns]
    return [
        alt.Tooltip(f"{name}:{kind}", title=name.replace("_", " "), format="".join(form))
        for name, kind, *form in parts
    ]


def _likelihood() -> Any:
    return alt.Y(
        "log_likelihood:Q",
        title="log-likelihood per frame",
        scale=alt.Scale(zero=False, nice=False, padding=8),
    )


def _whole() -> Any:
    return alt.Axis(format=",d", tickMinStep=1, labelOverlap=True)
