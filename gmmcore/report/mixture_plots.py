"""The plots of a mixture, as Altair charts of rows of plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.report.plots import (
    BLUE,
    RED,
    Rows,
    alt,
    data,
    finished,
    powers,
    rules,
    series,
    tooltips,
    whole,
)

__all__ = ["conditions", "moved", "occupancies", "variances"]

_POINTS = 3000

Array = npt.NDArray[np.float64]


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
            x=alt.X("rank:Q", title="rank of the component, heaviest first", axis=whole()),
            y=alt.Y("shown:Q", title="occupancy in frames", **powers([r["shown"] for r in rows])),
            color=series("count", {"enough frames": BLUE, "low count": RED}, rows),
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
            axis=whole(),
            scale=alt.Scale(domain=[-0.7, relative.shape[1] - 0.3], nice=False),
        ),
        tooltip=tooltips(
            "dimension:Q", "least:Q", "median:Q", "largest:Q", "at_floor:Q:.1%", "at_ceiling:Q:.1%"
        ),
    )
    bounds = {"floor": floor, "ceiling": ceiling}
    bounds = {name: value for name, value in bounds.items() if 0 < value < np.inf}
    logarithmic = powers([float(relative.min()), float(relative.max()), *bounds.values()])
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
            color=series("bound", {"at the floor": BLUE, "at the ceiling": RED}, rows),
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
            y=alt.Y("components:Q", axis=whole()),
            y2=alt.datum(0),
            tooltip=tooltips("from:Q:.4g", "to:Q:.4g", "components:Q"),
        )
    )
    return finished(bars, "Condition numbers of the covariances", 200)
