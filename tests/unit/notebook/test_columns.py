"""Columns of all types and scales are trained from Python."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmcore
from gmmcore import GaussianMixtureModel
from gmmcore.core.kinds import KINDS

pytest.importorskip("sklearn")

LABELS = np.random.default_rng(0).integers(0, 3, 200)
COLUMNS = {
    "normal": lambda rng: 4.0 * LABELS + rng.normal(size=200),
    "integer": lambda rng: (10 * LABELS + rng.normal(0, 9, 200)).astype(np.int64),
    "bytes": lambda rng: rng.integers(0, 256, 200).astype(np.uint8),
    "boolean": lambda rng: (LABELS > 0) ^ (rng.random(200) < 0.1),
    "category": lambda rng: LABELS + rng.integers(0, 2, 200),
    "rare": lambda rng: np.arange(200) == 7,
    "small": lambda rng: 1e-12 * (LABELS + rng.random(200)),
    "large": lambda rng: 1e12 * (LABELS + rng.random(200)),
    "far": lambda rng: 1e8 + LABELS + rng.random(200),
    "constant": lambda rng: np.full(200, 7.0),
    "zero": lambda rng: np.zeros(200),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*COLUMNS]), min_size=1, max_size=4),
    st.sampled_from([*KINDS]),
    st.integers(1, 5),
    st.booleans(),
)
def test_columns_of_any_type_are_trained(
    names: list[str], kind: str, components: int, is_single: bool
) -> None:
    rng = np.random.default_rng(1)
    frames: npt.NDArray[np.generic] = np.column_stack([COLUMNS[name](rng) for name in names])
    if is_single and "far" not in names:
        frames = frames.astype(np.float32)
    constant = [str(index) for index, name in enumerate(names) if name in ("constant", "zero")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mixture = gmmcore.train(frames, components, kind, threads=1).mixture
        model = GaussianMixtureModel(components, covariance_type=kind, threads=1).fit(frames)
    told = {str(one.message) for one in caught if "same value" in str(one.message)}
    assert len(told) == bool(constant)
    assert all(f"in dimension {', '.join(constant)} (counted" in line for line in told)
    for one in (mixture, model.mixture_):
        assert np.isfinite(GaussianMixtureModel.from_mixture(one).score_samples(frames)).all()
        assert (one.weights > 0).all()


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_units_of_columns_do_not_matter(kind: str) -> None:
    frames = np.column_stack([COLUMNS["normal"](np.random.default_rng(s)) for s in range(3)])
    units = np.array([1e-12, 1.0, 1e12])
    plain, scaled = (
        GaussianMixtureModel(3, covariance_type=kind).fit(frames * unit) for unit in (1.0, units)
    )
    np.testing.assert_allclose(scaled.means_ / units, plain.means_, rtol=1e-6)
    np.testing.assert_allclose(scaled.weights_, plain.weights_, rtol=1e-6)
    assert scaled.n_iter_ == plain.n_iter_
