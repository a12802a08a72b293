"""Dimensions whose variance few frames make, or whose variances are at their floor, are told."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmcore
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import outlying
from gmmcore.core.train import Subsets, moments

COLUMNS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "Laplace": lambda rng, n: rng.laplace(size=n),
    "Student": lambda rng, n: rng.standard_t(5, n),
    "lognormal": lambda rng, n: rng.lognormal(size=n),
    "counts": lambda rng, n: rng.poisson(0.5, n).astype(float),
    "rare": lambda rng, n: (rng.random(n) < 0.004).astype(float),
    "rarest": lambda rng, n: (np.arange(n) == 5).astype(float),
    "half zero": lambda rng, n: np.maximum(rng.standard_normal(n), 0.0),
    "far": lambda rng, n: 1e8 + rng.standard_normal(n),
    "constant": lambda rng, n: np.full(n, 3.0),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*COLUMNS]), min_size=1, max_size=5),
    st.sampled_from([1000, 5000, 40_000]),
    st.integers(0, 9),
    st.sampled_from([1e3, -1e4, 1e10]),
    st.integers(0, 2**32 - 1),
)
def test_few_frames_that_make_a_variance_are_found_and_tails_are_not(
    names: list[str], count: int, wrong: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frames = np.column_stack([COLUMNS[name](rng, count) for name in names])
    spread = [name not in ("rarest", "rare", "constant") for name in names]
    spread_over = [at for at, is_spread in enumerate(spread) if is_spread and wrong]
    bad = rng.choice(count, min(wrong, count // 1000), replace=False)
    frames[bad] += size * np.sqrt(count) * np.array(spread)
    subsets = Subsets(ArraySource(frames), seed)
    assert outlying(subsets.of, moments(subsets.of(0))) == spread_over


def test_a_dimension_at_its_floor_is_told_and_a_constant_one_only_as_such() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 2000)
    frames = np.column_stack([9.0 * labels + rng.standard_normal(2000), labels, np.ones(2000)])
    for kind in ("diag", "full"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gmmcore.train(frames, 4, kind)
        same, floor = (str(one.message) for one in caught)
        assert same.startswith("every frame has the same value in dimension 2 ")
        assert floor.startswith("the variance is at its floor in dimension 1 (4 of 4 components), ")
        assert floor.endswith("leave out dimensions of few distinct values")
        assert {one.filename for one in caught} == {__file__}
    gmmcore.train(frames[:, :1], 4)


@pytest.mark.parametrize("size", [0.0, 1e10])
def test_an_outlier_is_told_once(size: float) -> None:
    frames = np.random.default_rng(1).standard_normal((20_000, 3))
    frames[7, 1] += size
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gmmcore.GaussianMixtureModel(4, covariance_type="diag", tol=1.0).fit(frames)
    lines = [str(one.message) for one in caught]
    assert len(lines) == (size > 0)
    assert {one.filename for one in caught} <= {__file__}
    assert all("at most 20 of 20000 frames make more than half" in line for line in lines)
    assert all("in dimension 1 (counted from 0)" in line for line in lines)
