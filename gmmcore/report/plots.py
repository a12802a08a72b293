"""The plots of trainings, as Altair charts of rows of plain numbers, and what all plots share."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np

from gmmcore.core.history import HistoryEntry
from gmmcore.core.sizes import Size
from gmmcore.report.outcome import StageHistory

try:
    import altair as alt
    import vl_convert  # noqa: F401
except ImportError:  # The pages are then written without plots.
    alt: Any = None  # type: ignore[no-redef]

__all__ = [
    "BLUE",
    "CAN_DRAW",
    "GREY",
    "RED",
    "Rows",
    "alt",
    "by_size",
    "curves",
    "data",
    "finished",
    "gains",
    "likelihoods",
    "powers",
    "rules",
    "series",
    "stage_times",
    "tooltips",
    "whole",
]

CAN_DRAW = alt is not None
"""Whether Altair and vl-convert are installed."""

BLUE, RED, GREY = "#2f6db3", "#d1495b", "#8a8a8a"
Rows = list[dict[str, Any]]


def finished(chart: Any, title: str, height: int = 260) -> Any:
    """Return the chart as wide as the page, with a text for readers of screens."""
    return (
        chart.properties(width="container", height=height, description=title)
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_axisX(labelOverlap="greedy", labelSeparation=5, labelFlush=False)
        .configure_legend(orient="top", labelFontSize=12, title=None, columns=2, labelLimit=300)
    )


def data(rows: Rows) -> Any:
    return alt.InlineData(values=rows)


def tooltips(*columns: str) -> list[Any]:
    """Make tooltips of columns, each ``name:type`` or ``name:type:format``."""
    parts = [column.split(":") for column in columns]
    return [
        alt.Tooltip(f"{name}:{kind}", title=name.replace("_", " "), format="".join(form))
        for name, kind, *form in parts
    ]


def rules(levels: dict[str, float]) -> Any:
    """Draw dashed lines across a plot, each with its name at its left end."""
    rows = [{"name": f"{name} {value:g}", "level": value} for name, value in levels.items()]
    base = alt.Chart(data(rows)).encode(y="level:Q")
    line = base.mark_rule(strokeDash=[4, 3], color=GREY, size=1.5).encode(tooltip="name:N")
    text = base.mark_text(align="left", dx=4, dy=-6, color="#555", fontSize=11)
    return line + text.encode(x=alt.value(0), text="name:N")


def bands(history: Sequence[HistoryEntry]) -> Any:
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
        alt.Chart(data(edges))
        .mark_rect(color="#5b7083")
        .encode(
            x=alt.X("from:Q", axis=axis, scale=_across(history)),
            x2="to",
            opacity=alt.Opacity("odd:Q", scale=alt.Scale(range=[0.04, 0.13]), legend=None),
            tooltip=tooltips("stage:N"),
        )
    )


def likelihoods(history: Sequence[HistoryEntry]) -> Any:
    """Plot the log-likelihood of training and held-out frames before each update."""
    rows: Rows = []
    for index, entry in enumerate(history, start=1):
        values = {"training": entry.log_likelihood, "held-out": entry.held_out}
        for frames, value in values.items():
            if isfinite(value):
                rows.append({**_place(index, entry), "frames": frames, "log_likelihood": value})
    base = alt.Chart(data(rows)).encode(
        x=_iterations(history),
        y=alt.Y(
            "log_likelihood:Q",
            title="log-likelihood per frame",
            scale=alt.Scale(zero=False, nice=True),
        ),
        color=series("frames", {"training": BLUE, "held-out": RED}, rows),
    )
    # The stages are lines of their own: a division of components would look like a fall.
    line = base.mark_line().encode(detail="stage:N")
    point = base.mark_circle(size=45, opacity=1).encode(
        tooltip=tooltips(
            "stage:N",
            "iteration:Q",
            "frames:N",
            "log_likelihood:Q:.6f",
            "gain:N",
            "read:Q:,",
            "step:N",
        )
    )
    return finished(
        _over_bands(history, line + point), "Log-likelihood per frame by iteration", 320
    )


def gains(history: Sequence[HistoryEntry], llk_gain: float) -> Any:
    """Plot the gains on a logarithmic scale; falls have another colour."""
    rows: Rows = [
        {**_place(i, e), "size": abs(e.gain), "sign": "gain" if e.gain > 0 else "fall"}
        for i, e in enumerate(history, start=1)
        if isfinite(e.gain) and e.gain
    ]
    points = (
        alt.Chart(data(rows))
        .mark_point(filled=True, size=55, opacity=1)
        .encode(
            x=_iterations(history),
            y=alt.Y("size:Q", title="gain per frame", **powers([row["size"] for row in rows])),
            color=series("sign", {"gain": BLUE, "fall": RED}, rows),
            tooltip=tooltips("stage:N", "iteration:Q", "gain:N", "read:Q:,", "step:N"),
        )
    )
    if isfinite(llk_gain) and llk_gain > 0:
        points += rules({"llk_gain": llk_gain})
    return finished(_over_bands(history, points), "Gain of the log-likelihood by iteration")


def by_size(sizes: Sequence[Size]) -> Any:
    """Plot the log-likelihood of the last mixture of each stage by its number of components."""
    rows: Rows = []
    for size in sizes:
        for frames, value in {"training": size.log_likelihood, "held-out": size.held_out}.items():
            if not isnan(value):
                rows.append(
                    {
                        "components": size.components,
                        "series": f"{size.kind}, {frames}",
                        "log_likelihood": value,
                    }
                )
    base = alt.Chart(data(rows)).encode(
        x=alt.X("components:Q", scale=alt.Scale(type="log", base=2), axis=alt.Axis(format="d")),
        y=alt.Y("log_likelihood:Q", title="log-likelihood per frame", scale=alt.Scale(zero=False)),
        color=alt.Color("series:N", scale=alt.Scale(scheme="category10")),
        tooltip=tooltips("series:N", "components:Q", "log_likelihood:Q:.6f"),
    )
    points = base.mark_line() + base.mark_circle(size=60, opacity=1)
    return finished(points, "Log-likelihood by number of components")


def stage_times(stages: Sequence[StageHistory]) -> Any:
    """Plot the processor time of the iterations of each stage."""
    rows: Rows = [
        {
            "stage": stage.name,
            "iterations": stage.time.iterations,
            "seconds": stage.time.seconds,
            "processor_seconds": stage.time.processor_seconds,
            "memory_in_MB": stage.time.megabytes,
        }
        for stage in stages
        if stage.time and stage.time.iterations
    ]
    bars = (
        alt.Chart(data(rows))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("processor_seconds:Q", title="processor seconds"),
            y=alt.Y("stage:N", sort=None, title=None, axis=alt.Axis(labelLimit=120)),
            tooltip=tooltips(
                "stage:N", "iterations:Q", "seconds:Q", "processor_seconds:Q", "memory_in_MB:Q"
            ),
        )
    )
    return finished(bars, "Processor time by stage", max(60, 22 * len(rows)))


def curves(rows: Rows, names: Sequence[str], what: str) -> Any:
    """Plot the learning curves of several runs.

    Parameters
    ----------
    rows
        Points with ``run``, ``frames`` (``training`` or ``held-out``), ``x``, ``log_likelihood``,
        ``stage`` and ``iteration``.
    names
        Names of the runs, in their order.
    what
        Title of the horizontal axis.
    """
    dashes = alt.Scale(domain=["training", "held-out"], range=[[1, 0], [5, 3]])
    has_held_out = any(row["frames"] == "held-out" for row in rows)
    colours = alt.Scale(domain=[*names], scheme="category10" if len(names) <= 10 else "category20")
    # Curves that coincide lie on one another, the later ones narrower.
    widths = dict(zip(names, np.linspace(6, 1.5, len(names)).tolist(), strict=True))
    rows = [{**row, "width": widths[row["run"]]} for row in rows]
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:Q", title=what, axis=alt.Axis(labelOverlap=True)),
        y=alt.Y("log_likelihood:Q", title="log-likelihood per frame", scale=alt.Scale(zero=False)),
        color=alt.Color("run:N", scale=colours),
        strokeDash=alt.StrokeDash(
            "frames:N", scale=dashes, legend=alt.Legend() if has_held_out else None
        ),
    )
    lines = base.mark_line().encode(strokeWidth=alt.StrokeWidth("width:Q", scale=None))
    points = base.mark_circle(size=35, opacity=1).encode(
        tooltip=tooltips(
            "run:N", "stage:N", "iteration:Q", "frames:N", "log_likelihood:Q:.6f", "x:Q:.4~g"
        )
    )
    return finished(lines + points, f"Log-likelihood per frame by {what}", 340)


def _place(index: int, entry: HistoryEntry) -> dict[str, Any]:
    gain = "" if isnan(entry.gain) else f"{entry.gain:+.6f}"
    return {
        "x": index,
        "stage": f"{entry.stage} {entry.components}",
        "iteration": entry.iteration,
        "gain": gain,
        "read": entry.frames,
        "step": entry.step,
    }


def _across(history: Sequence[HistoryEntry]) -> Any:
    return alt.Scale(domain=[0.5, len(history) + 0.5], nice=False)


def _iterations(history: Sequence[HistoryEntry]) -> Any:
    return alt.X("x:Q", title="iteration of the training", scale=_across(history), axis=whole())


def powers(values: Sequence[float]) -> dict[str, Any]:
    """Return scale and axis of a logarithmic coordinate, with a line at each power of ten."""
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    powers = [float(f"1e{power}") for power in range(int(low), int(high) + 1)]
    axis = alt.Axis(values=powers, format="~g", labelOverlap=True)
    return {"scale": alt.Scale(type="log"), "axis": axis}


def whole() -> Any:
    return alt.Axis(format=",d", tickMinStep=1, labelOverlap=True)


def series(name: str, colours: dict[str, str], rows: Rows) -> Any:
    """Colour marks by a column; where it has one value only, there is no legend."""
    found = [value for value in colours if any(row[name] == value for row in rows)]
    scale = alt.Scale(domain=found, range=[colours[value] for value in found])
    legend = alt.Legend() if len(found) > 1 else None
    return alt.Color(f"{name}:N", scale=scale, legend=legend)


def _over_bands(history: Sequence[HistoryEntry], chart: Any) -> Any:
    return alt.layer(bands(history), chart).resolve_axis(x="independent")
