"""The plots of the pages, as Altair charts of rows of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.cautions import held_out_of
from gmmcore.history import HistoryEntry
from gmmcore.outcome import StageHistory
from gmmcore.sizes import Size

try:
    import altair as alt
    import vl_convert  # noqa: F401
except ImportError:  # The pages are then written without plots.
    alt: Any = None  # type: ignore[no-redef]

__all__ = [
    "CAN_DRAW",
    "alt",
    "bands",
    "by_size",
    "conditions",
    "curves",
    "gains",
    "likelihoods",
    "moved",
    "occupancies",
    "stage_times",
    "variances",
]

CAN_DRAW = alt is not None
"""Whether Altair and vl-convert are installed."""

BLUE, RED, GREY = "#2f6db3", "#d1495b", "#8a8a8a"
_POINTS = 3000

Array = npt.NDArray[np.float64]
Rows = list[dict[str, Any]]


def finished(chart: Any, title: str, height: int = 260) -> Any:
    """Return the chart as wide as the page, with a text for readers of screens."""
    return (
        chart.properties(width="container", height=height, description=title)
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", grid=True)
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
        values = {"training": entry.log_likelihood, "held-out": held_out_of(entry)}
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
        color=_series("frames", {"training": BLUE, "held-out": RED}, rows),
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
            y=alt.Y("size:Q", title="gain per frame", **_powers([row["size"] for row in rows])),
            color=_series("sign", {"gain": BLUE, "fall": RED}, rows),
            tooltip=tooltips("stage:N", "iteration:Q", "gain:N", "read:Q:,", "step:N"),
        )
    )
    if isfinite(llk_gain) and llk_gain > 0:
        points += rules({"llk_gain": llk_gain})
    return finished(_over_bands(history, points), "Gain of the log-likelihood by iteration")


def occupancies(weights: Array, frames: int, least: float) -> Any:
    """Plot the occupancies of the components, largest first; those with few frames are marked."""
    order = np.argsort(-weights, kind="stable")
    kept = np.unique(np.linspace(0, len(order) - 1, min(len(order), _POINTS)).round().astype(int))
    lowest = weights[weights > 0].min() * frames
    rows: Rows = []
    for rank in kept.tolist():
        weight = float(weights[order[rank]])
        rows.append(
            {
                "rank": rank + 1,
                "component": int(order[rank]),
                "weight": float(f"{weight:.6g}"),
                "occupancy": float(f"{weight * frames:.6g}"),
                "shown": max(weight * frames, lowest / 2),
                "count": "low count" if weight * frames < least else "enough frames",
            }
        )
    points = (
        alt.Chart(data(rows))
        .mark_circle(size=40, opacity=0.9)
        .encode(
            x=alt.X("rank:Q", title="rank of the component, heaviest first", axis=_whole()),
            y=alt.Y("shown:Q", title="occupancy in frames", **_powers([r["shown"] for r in rows])),
            color=_series("count", {"enough frames": BLUE, "low count": RED}, rows),
            tooltip=tooltips("component:Q", "rank:Q", "weight:Q:.6g", "occupancy:Q:,.1f"),
        )
    )
    if least > 0 and any(row["count"] == "low count" for row in rows):
        points += rules({"least occupancy": least})
    return finished(points, "Occupancy of the components")


def variances(relative: Array, floor: float, ceiling: float, what: str) -> Any:
    """Plot the range of relative variances (C, D) in each dimension, with their bounds."""
    middle = np.median(relative, axis=0)
    at_floor, at_ceiling = relative <= floor * (1 + 1e-6), relative >= ceiling * (1 - 1e-6)
    rows: Rows = [
        {
            "dimension": d,
            "least": float(f"{relative[:, d].min():.5g}"),
            "median": float(f"{middle[d]:.5g}"),
            "largest": float(f"{relative[:, d].max():.5g}"),
            "at_floor": float(at_floor[:, d].mean()),
            "at_ceiling": float(at_ceiling[:, d].mean()),
        }
        for d in range(relative.shape[1])
    ]
    base = alt.Chart(data(rows)).encode(
        x=alt.X(
            "dimension:Q",
            title=what,
            axis=_whole(),
            scale=alt.Scale(domain=[-0.7, relative.shape[1] - 0.3], nice=False),
        ),
        tooltip=tooltips(
            "dimension:Q", "least:Q", "median:Q", "largest:Q", "at_floor:Q:.1%", "at_ceiling:Q:.1%"
        ),
    )
    bounds = {"floor": floor, "ceiling": ceiling}
    bounds = {name: value for name, value in bounds.items() if 0 < value < np.inf}
    logarithmic = _powers([float(relative.min()), float(relative.max()), *bounds.values()])
    span = base.mark_rule(size=5, opacity=0.35, color=BLUE).encode(
        y=alt.Y("least:Q", title="relative to the global variance", **logarithmic), y2="largest"
    )
    median = base.mark_circle(size=35, opacity=1, color=BLUE).encode(y="median:Q")
    points = span + median + rules(bounds) if bounds else span + median
    return finished(points, "Variances of the components by dimension")


def moved(shares: dict[str, Array], what: str) -> Any:
    """Plot the share of variances at each bound, by dimension: arrays (D,) of numbers up to 1."""
    rows: Rows = [
        {"dimension": d, "bound": name, "share": float(value)}
        for name, share in shares.items()
        for d, value in enumerate(share)
        if value
    ]
    bars = (
        alt.Chart(data(rows))
        .mark_bar(width={"band": 0.8})
        .encode(
            x=alt.X("dimension:O", title=what, axis=alt.Axis(labelOverlap=True, labelAngle=0)),
            y=alt.Y("share:Q", title="share of components", axis=alt.Axis(format="%")),
            color=_series("bound", {"at the floor": BLUE, "at the ceiling": RED}, rows),
            tooltip=tooltips("dimension:O", "bound:N", "share:Q:.2%"),
        )
    )
    return finished(bars, "Share of variances at their bounds", 180)


def conditions(values: Array) -> Any:
    """Plot how many components have which condition number, values (C,) of at least 1."""
    counts, edges = np.histogram(np.log10(values), bins=min(30, max(4, len(values) // 4)))
    rows: Rows = [
        {"from": float(10**low), "to": float(10**high), "components": int(count)}
        for count, low, high in zip(counts, edges, edges[1:], strict=False)
        if count
    ]
    bars = (
        alt.Chart(data(rows))
        .mark_rect(color=BLUE, stroke="white")
        .encode(
            x=alt.X(
                "from:Q",
                title="condition number",
                scale=alt.Scale(type="log", nice=False, zero=False),
                axis=alt.Axis(format="~s", labelOverlap=True),
            ),
            x2="to",
            y=alt.Y("components:Q", axis=_whole()),
            y2=alt.datum(0),
            tooltip=tooltips("from:Q:.4g", "to:Q:.4g", "components:Q"),
        )
    )
    return finished(bars, "Condition numbers of the covariances", 200)


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
    base = alt.Chart(data(rows)).encode(
        x=alt.X("x:Q", title=what, axis=alt.Axis(labelOverlap=True)),
        y=alt.Y("log_likelihood:Q", title="log-likelihood per frame", scale=alt.Scale(zero=False)),
        color=alt.Color("run:N", scale=colours),
        strokeDash=alt.StrokeDash(
            "frames:N", scale=dashes, legend=alt.Legend() if has_held_out else None
        ),
    )
    # Curves that coincide lie on one another, the later ones narrower.
    widths = alt.Scale(domain=[*names], range=np.linspace(7, 1.5, len(names)).tolist())
    lines = base.mark_line().encode(strokeWidth=alt.StrokeWidth("run:N", scale=widths, legend=None))
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
    return alt.X("x:Q", title="iteration of the training", scale=_across(history), axis=_whole())


def _powers(values: Sequence[float]) -> dict[str, Any]:
    """Return scale and axis of a logarithmic coordinate, with a line at each power of ten."""
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    powers = [float(f"1e{power}") for power in range(int(low), int(high) + 1)]
    axis = alt.Axis(values=powers, format="~g", labelOverlap=True)
    return {"scale": alt.Scale(type="log"), "axis": axis}


def _whole() -> Any:
    return alt.Axis(format=",d", tickMinStep=1, labelOverlap=True)


def _series(name: str, colours: dict[str, str], rows: Rows) -> Any:
    """Colour marks by a column; where it has one value only, there is no legend."""
    found = [value for value in colours if any(row[name] == value for row in rows)]
    scale = alt.Scale(domain=found, range=[colours[value] for value in found])
    legend = alt.Legend() if len(found) > 1 else None
    return alt.Color(f"{name}:N", scale=scale, legend=legend)


def _over_bands(history: Sequence[HistoryEntry], chart: Any) -> Any:
    return alt.layer(bands(history), chart).resolve_axis(x="independent")
