"""The components in the plane of the first two principal axes of the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture
from gmmcore.report import plots
from gmmcore.report.plots import alt

__all__ = ["ELLIPSES", "plane", "principal_axes"]

ELLIPSES = 64
"""Number of components that are drawn at most, the heaviest ones."""
_FRAMES = 1200
_CORNERS = 32

Array = npt.NDArray[np.float64]


def principal_axes(frames: npt.NDArray[np.floating]) -> tuple[Array, Array, float]:
    """Return the mean (D,) of frames, their first two principal axes (D, 2), and what these hold.

    The axes are those of the coefficients divided by their standard deviations, and apply to the
    coefficients as they are. The last number is the share of the variance in the plane, up to 1.
    """
    values = np.asarray(frames, dtype=np.float64)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation[deviation == 0] = 1.0
    scaled = (values - mean) / deviation
    sizes, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    chosen = axes[:, ::-1][:, :2]
    # The sign of an axis is a matter of chance: that of the largest coefficient is positive.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), [0, 1]])
    return mean, chosen / deviation[:, np.newaxis], float(sizes[::-1][:2].sum() / sizes.sum())


def plane(
    mixture: GaussianMixture, frames: npt.NDArray[np.floating], mean: Array, axes: Array
) -> Any:
    """Plot frames as points, and the heaviest components as ellipses of one standard deviation."""
    step = max(1, len(frames) // _FRAMES)
    points = (np.asarray(frames[::step], dtype=np.float64) - mean) @ axes
    cloud = [{"x": _short(x), "y": _short(y)} for x, y in points]
    outlines: plots.Rows = []
    centres: plots.Rows = []
    turn = np.linspace(0, 2 * np.pi, _CORNERS + 1)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    for component in np.argsort(-mixture.weights, kind="stable")[:ELLIPSES].tolist():
        covariance = mixture.covariances[component]
        spread = (axes.T * covariance if covariance.ndim == 1 else axes.T @ covariance) @ axes
        centre = (mixture.means[component] - mean) @ axes
        outline = np.linalg.cholesky(spread) @ circle + centre[:, np.newaxis]
        about = {"component": component, "weight": float(f"{mixture.weights[component]:.6g}")}
        centres.append({**about, "x": _short(centre[0]), "y": _short(centre[1])})
        outlines += [
            {"component": component, "at": at, "x": _short(x), "y": _short(y)}
            for at, (x, y) in enumerate(outline.T)
        ]
    x = alt.X("x:Q", title="first principal axis", scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="second principal axis", scale=alt.Scale(zero=False))
    dots = alt.Chart(plots.data(cloud)).mark_circle(size=8, opacity=0.35, color=plots.GREY)
    ellipses = alt.Chart(plots.data(outlines)).mark_line(size=1, opacity=0.75, color=plots.BLUE)
    middles = alt.Chart(plots.data(centres)).mark_circle(opacity=0.95, color=plots.RED)
    return plots.finished(
        dots.encode(x=x, y=y)
        + ellipses.encode(x=x, y=y, detail="component:N", order="at:Q")
        + middles.encode(
            x=x,
            y=y,
            size=alt.Size("weight:Q", scale=alt.Scale(range=[10, 120]), legend=None),
            tooltip=plots.tooltips("component:Q", "weight:Q:.6g", "x:Q:.4g", "y:Q:.4g"),
        ),
        "Components in the plane of the first two principal axes",
        420,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")
