"""The history of a training as one self-contained HTML page with text, plots and a table."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from gmmcore.history import HistoryEntry
from gmmcore.model import GaussianMixture

__all__ = ["report_page"]

_WIDTH, _HEIGHT, _MARGIN = 860, 260, 56
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 900px; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd; }
svg { background: #fafafa; } text { font: 11px system-ui, sans-serif; fill: #444; }
"""


def report_page(mixture: GaussianMixture, history: Sequence[HistoryEntry], title: str) -> str:
    """Write the page.

    Parameters
    ----------
    mixture : GaussianMixture
        The final mixture.
    history : sequence of HistoryEntry
        History entries of all iterations, in order.
    title : str
        Title of the page, usually the name of the run.

    Returns
    -------
    str
        The HTML text.
    """
    likelihoods = [entry.log_likelihood for entry in history]
    floored = [float(entry.floored + entry.ceiled) for entry in history]
    low_counts = [float(entry.low_count) for entry in history]
    weights = sorted(mixture.weights.tolist(), reverse=True)
    boundaries = [
        (index, f"{entry.stage} {entry.components}")
        for index, entry in enumerate(history)
        if entry.iteration == 1
    ]
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>",
        f"<p>{_summary(mixture, history)}</p>",
    ]
    if history:
        parts += [
            "<h2>Log-likelihood per frame, before each update</h2>",
            _plot(likelihoods, boundaries),
            "<h2>Variances (or eigenvalues) moved to a bound</h2>",
            _plot(floored, boundaries),
            "<h2>Components under the least occupancy</h2>",
            _plot(low_counts, boundaries),
        ]
    parts += [
        "<h2>Weights of the final mixture, largest first</h2>",
        _plot(weights, []),
        "<h2>Iterations</h2>",
        _table(history),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(mixture: GaussianMixture, history: Sequence[HistoryEntry]) -> str:
    kind = "full" if mixture.is_full else "diagonal"
    entropy = -sum(weight * math.log(weight) for weight in mixture.weights if weight > 0)
    text = (
        f"{mixture.components} components with {kind} covariances, dimension "
        f"{mixture.dimension}; the weights' entropy is that of {math.exp(entropy):.1f} equal ones."
    )
    if history:
        text += (
            f" {history[-1].frames} frames, {len(history)} iterations, log-likelihood per frame "
            f"{history[-1].log_likelihood:.4f} before the last update."
        )
    return text


def _plot(values: Sequence[float], boundaries: Sequence[tuple[int, str]]) -> str:
    """Plot the values as an SVG image, with the stages marked."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    across = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    down = (_HEIGHT - 2 * _MARGIN) / (high - low)

    def x(index: float) -> float:
        return _MARGIN + index * across

    def y(value: float) -> float:
        return _HEIGHT - _MARGIN - (value - low) * down

    parts = [f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img">']
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}" stroke="#ddd"/>'
            f'<text x="{_MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    for index, name in boundaries:
        parts.append(
            f'<line x1="{x(index):.1f}" x2="{x(index):.1f}" y1="{_MARGIN - 12}" '
            f'y2="{_HEIGHT - _MARGIN}" stroke="#bbb" stroke-dasharray="3 3"/>'
            f'<text x="{x(index) + 3:.1f}" y="{_MARGIN - 16}">{html.escape(name)}</text>'
        )
    points = " ".join(f"{x(index):.1f},{y(value):.1f}" for index, value in enumerate(values))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1b6ca8" stroke-width="1.5"/>')
    if len(values) <= 200:
        parts += [
            f'<circle cx="{x(index):.1f}" cy="{y(value):.1f}" r="2.2" fill="#1b6ca8"/>'
            for index, value in enumerate(values)
        ]
    return "".join(parts) + "</svg>"


def _table(history: Sequence[HistoryEntry]) -> str:
    head = (
        "stage components iteration log-likelihood gain floored ceiled low&nbsp;count "
        "least&nbsp;occupancy"
    )
    rows = ["<tr>" + "".join(f"<th>{name}</th>" for name in head.split()) + "</tr>"]
    for entry in history:
        gain = "" if math.isnan(entry.gain) else f"{entry.gain:+.6f}"
        gain += " (rejected)" * (entry.step == "rejected")
        low_count = f"{entry.low_count} ({html.escape(entry.action)})" if entry.low_count else "0"
        cells = [
            entry.stage,
            entry.components,
            entry.iteration,
            f"{entry.log_likelihood:.6f}",
            gain,
            entry.floored,
            entry.ceiled,
            low_count,
            f"{entry.smallest_occupancy:.1f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "<table>" + "\n".join(rows) + "</table>"
