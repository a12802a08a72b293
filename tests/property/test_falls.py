"""The likelihood falls in no training of few frames, whatever their columns are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmcore
from gmmcore.core.kinds import KINDS

COLUMNS = {
    "normal": lambda rng, labels: labels + 0.2 * rng.standard_normal(len(labels)),
    "tail": lambda rng, labels: rng.standard_t(1.5, len(labels)),
    "integer": lambda rng, labels: rng.poisson(1.0 + labels),
    "category": lambda rng, labels: labels,
    "boolean": lambda rng, labels: rng.random(len(labels)) < 0.1,
    "rounded": lambda rng, labels: np.round(3.0 * labels + rng.standard_normal(len(labels)), 1),
    "clusters": lambda rng, labels: 50.0 * labels + rng.integers(0, 2, len(labels)),
    "rare": lambda rng, labels: np.arange(len(labels)) == 7,
    "constant": lambda rng, labels: np.full(len(labels), 7.0),
    "outlier": lambda rng, labels: rng.standard_normal(len(labels)) + 1e4 * (labels == labels[0]),
    "empty half": lambda rng, labels: np.maximum(rng.standard_normal(len(labels)), 0.0),
}


@st.composite
def tables(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Frames of some kinds of columns, each in a unit of its own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, draw(st.integers(1, 5)), draw(st.sampled_from([25, 150, 600])))
    names = draw(st.lists(st.sampled_from([*COLUMNS]), min_size=1, max_size=5))
    units = [10.0 ** draw(st.integers(-12, 12)) for _ in names]
    made = [unit * COLUMNS[name](rng, labels) for name, unit in zip(names, units, strict=True)]
    return np.column_stack(made)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None)
@given(
    tables(),
    st.integers(1, 24),
    st.sampled_from([*KINDS]),
    st.sampled_from([{}, {}, {"method": "sidekit"}]),
)
def test_the_likelihood_never_falls_by_more_than_rounding(
    frames: npt.NDArray[np.float64], components: int, kind: str, keys: dict[str, str]
) -> None:
    history = gmmcore.train(frames, components, kind, threads=1, **keys).history
    size = 1.0 + np.abs(history["log_likelihood"])
    # Of clusters that are ten thousand deviations apart, half of the digits are lost.
    assert not (history["gain"] < -1e-7 * size).any()
