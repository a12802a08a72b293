"""The plots of trainings: specifications of Vega-Lite with rows of plain numbers, and their SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite, isnan
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry

try:
    import vl_convert
except ImportError:  # The pages are then written without plots.
    vl_convert = None  # type: ignore[assignment]

CAN_DRAW = vl_convert is not None
"""Whether vl-convert is installed."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
TRAINING, HELD_OUT, COMPONENTS = "#3f83cf", "#dc5567", "#7b90a3"
"""Colours of the log-likelihood of training and held-out frames, and of what is neither."""
_POINTS = 500
_SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_WHOLE = {"format": ",d", "tickMinStep": 1, "labelOverlap": True}
# The colour of the text around the plot, which is light in the dark.
_TEXT = dict.fromkeys(("labelColor", "titleColor", "domainColor", "tickColor"), "currentColor")
_PAGE = {"background": "transparent", "axis": _TEXT, "legend": _TEXT}
Plot = dict[str, Any]
Rows = list[dict[str, Any]]


def drawn(plot: Plot) -> str:
    """Draw a plot as SVG, where marks show their description under the mouse."""
    svg = vl_convert.vegalite_to_svg(plot, config=_PAGE)
    label = f'<svg role="graphics-document" aria-label="{plot["description"]}"'
    svg = svg.replace("<svg", label, 1)
    return re.sub(r'(<path aria-label="([^"]*)"[^>]*)/>', r"\1><title>\2</title></path>", svg)


def likelihoods(history: Sequence[HistoryEntry], width: int) -> Plot:
    """Plot the log-likelihood of training and held-out frames before each update."""
    across = {"domain": [0.5, len(history) + 0.5], "nice": False}
    rows: Rows = []
    for index, entry in enumerate(history, start=1):
        stage = f"{entry.stage} {entry.components}"
        gain = "" if isnan(entry.gain) else f", gain {entry.gain:+.6f}"
        values = {"training": entry.log_likelihood, "held-out": entry.held_out}
        for frames, value in values.items():
            words = f"{stage}, iteration {entry.iteration} on {entry.frames:,} frames: "
            words += f"{frames} {value:.6f}{gain if frames == 'training' else ''}"
            row = {"x": index, "y": value, "stage": stage, "frames": frames, "words": words}
            rows += [row] if isfinite(value) else []
    found = [each for each in ("training", "held-out") if any(r["frames"] == each for r in rows)]
    upwards = {"zero": False, "nice": False, "padding": 8}
    points: Plot = {
        "data": {"values": rows},
        "encoding": {
            "x": _axis("x", "iteration of the training", across, _WHOLE),
            "y": _axis("y", "log-likelihood per frame", upwards),
            "color": {
                "field": "frames",
                "scale": {"domain": found, "range": [TRAINING, HELD_OUT]},
                "legend": {} if len(found) > 1 else None,
            },
            "description": {"field": "words"},
        },
        # The stages are lines of their own: a division of components would look like a fall.
        "layer": [
            {"mark": {"type": "line", "aria": False}, "encoding": {"detail": {"field": "stage"}}},
            {"mark": {"type": "circle", "size": 45, "opacity": 1}},
        ],
    }
    layers = [_bands(history, across), points]
    title = "Log-likelihood per frame by iteration"
    return _finished(title, width, 380, layer=layers, resolve={"axis": {"x": "independent"}})


def _bands(history: Sequence[HistoryEntry], across: Plot) -> Plot:
    """Draw the stages as bands, whose names stand above the plot where there is room."""
    edges: Rows = []
    for index, entry in enumerate(history, start=1):
        if entry.iteration == 1 or not edges:
            name = f"{'full ' if entry.stage == 'full' else ''}{entry.components}"
            edges.append({"from": index - 0.5, "stage": name, "odd": len(edges) % 2})
        edges[-1]["to"] = index + 0.5
    names = {f"{(edge['from'] + edge['to']) / 2:g}": edge["stage"] for edge in edges}
    axis = {
        "orient": "top",
        "values": [float(place) for place in names],
        "labelExpr": f"({names})[datum.value]",
        "labelSeparation": 6,
        "ticks": False,
        "domain": False,
    }
    return {
        "data": {"values": edges},
        "mark": {"type": "rect", "color": COMPONENTS, "aria": False},
        "encoding": {
            "x": _axis("from", "components", across, axis),
            "x2": {"field": "to"},
            "opacity": {
                "field": "odd",
                "type": "quantitative",
                "scale": {"range": [0.05, 0.16]},
                "legend": None,
            },
        },
    }


def occupancies(weights: npt.NDArray[np.float64], frames: int, width: int) -> Plot:
    """Plot the occupancies of the components, which are weights x frames, largest first."""
    order = np.argsort(-weights, kind="stable")
    kept = np.unique(np.linspace(0, len(order) - 1, min(len(order), _POINTS)).round().astype(int))
    # A logarithm has no place for a component without frames.
    lowest = weights[weights > 0].min() * frames / 2
    rows: Rows = []
    for rank in kept.tolist():
        component, weight = int(order[rank]), float(weights[order[rank]])
        words = f"component {component}, rank {rank + 1}: weight {weight:.6g}, "
        words += f"occupancy {weight * frames:,.1f}"
        occupancy = float(f"{max(weight * frames, lowest):.6g}")
        rows.append({"rank": rank + 1, "occupancy": occupancy, "words": words})
    across = {"domain": [0.5, len(weights) + 0.5], "nice": False}
    upwards = {"type": "log", "nice": False, "padding": 10}
    ticks = {"format": "~s", "tickCount": 5, "labelOverlap": True}
    return _finished(
        "Occupancy of the components",
        width,
        260,
        data={"values": rows},
        mark={"type": "circle", "size": 40, "opacity": 0.9, "color": COMPONENTS},
        encoding={
            "x": _axis("rank", "rank of the component, heaviest first", across, _WHOLE),
            "y": _axis("occupancy", "occupancy in frames", upwards, ticks),
            "description": {"field": "words"},
        },
    )


def detection_errors(
    misses: npt.NDArray[np.float64], alarms: npt.NDArray[np.float64], width: int
) -> Plot:
    """Plot rates of misses against rates of false alarms, both as deviations of a normal score."""
    deviation = NormalDist().inv_cdf
    inside = (misses > 0) & (misses < 1) & (alarms > 0) & (alarms < 1)
    kept = np.flatnonzero(inside)
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), _POINTS)).astype(int))]
    rows: Rows = [
        {
            "x": float(f"{deviation(alarms[at]):.5g}"),
            "y": float(f"{deviation(misses[at]):.5g}"),
            "words": f"false alarms {alarms[at]:.4f}, misses {misses[at]:.4f}",
        }
        for at in kept.tolist()
    ]
    ticks = {f"{deviation(share):.4f}": f"{100 * share:g} %" for share in _SHARES}
    words = " : ".join(f"abs(datum.value - {at}) < 0.001 ? '{text}'" for at, text in ticks.items())
    ends = {"domain": [deviation(_SHARES[end]) for end in (0, -1)], "clamp": True}
    axis = {"values": [float(at) for at in ticks], "labelExpr": f"{words} : ''"}
    return _finished(
        "Detection error tradeoff",
        width,
        360,
        data={"values": rows},
        encoding={
            "x": _axis("x", "false alarms", ends, axis),
            "y": _axis("y", "misses", ends, axis),
            "description": {"field": "words"},
        },
        layer=[
            {"mark": {"type": "line", "color": COMPONENTS, "aria": False}},
            # Invisible, to be found by the mouse.
            {"mark": {"type": "circle", "opacity": 0}},
        ],
    )


def _axis(field: str, title: str, scale: Plot, axis: Plot | None = None) -> Plot:
    """Lay numbers out along an axis."""
    axis = {"title": title, **(axis or {})}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _finished(title: str, width: int, height: int, **chart: Any) -> Plot:
    """Return a whole plot, with a text for readers of screens."""
    label = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    across = {"labelOverlap": "greedy", "labelSeparation": 5, "labelFlush": False, "grid": False}
    legend = {"orient": "top", "labelFontSize": 12, "title": None, "columns": 2, "labelLimit": 300}
    return {
        "$schema": SCHEMA,
        "description": title,
        "width": width,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "view": {"stroke": None},
            "axis": {**label, "gridOpacity": 0.4},
            "axisX": across,
            "legend": legend,
        },
        **chart,
    }
