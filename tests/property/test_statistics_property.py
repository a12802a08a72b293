"""The E-step of any small mixture is the sum of its posteriors, and adds up over any cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.core import density
from gmmcore.core.estep import accumulate
from gmmcore.core.mixture import GaussianMixture, pack


def mixture(rng: np.random.Generator, components: int, dimension: int, full: bool):
    weights = rng.dirichlet(np.ones(components))
    means = rng.normal(0, 3, (components, dimension)) * 10.0 ** rng.uniform(-3, 3)
    if full:
        factors = rng.normal(0, 1, (components, dimension, dimension + 3))
        return GaussianMixture.from_covariances(
            weights, means, factors @ factors.transpose(0, 2, 1) / dimension
        )
    return GaussianMixture.from_covariances(
        weights, means, np.exp(rng.normal(0, 1, (components, dimension)))
    )


CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "components": st.one_of(st.integers(1, 9), st.integers(126, 133)),
    "dimension": st.integers(1, 6),
    "frames": st.integers(1, 700),
    "full": st.booleans(),
}


@settings(max_examples=40)
@given(**CASES, pruning=st.sampled_from([0.0, 1e-12]))
def test_statistics_are_sums_of_posteriors(seed, components, dimension, frames, full, pruning):
    rng = np.random.default_rng(seed)
    model = mixture(rng, components, dimension, full)
    chosen = rng.integers(0, components, frames)
    values = model.means[chosen] + rng.standard_normal((frames, dimension))
    statistics = accumulate(model, values, pruning=pruning)
    posteriors = density.posteriors(model, values)
    centred = values - statistics.origin
    products = centred**2
    if full:
        products = pack(centred[:, :, np.newaxis] * centred[:, np.newaxis, :])
    size = np.abs(centred).max() + 1.0
    np.testing.assert_allclose(statistics.count, posteriors.sum(axis=0), atol=1e-8)
    np.testing.assert_allclose(statistics.centred_first, posteriors.T @ centred, atol=1e-8 * size)
    np.testing.assert_allclose(
        statistics.centred_second, posteriors.T @ products, atol=1e-8 * size**2
    )
    expected = density.log_likelihood(model, values).sum()
    np.testing.assert_allclose(statistics.log_likelihood, expected, rtol=1e-9, atol=1e-7)


@settings(max_examples=20)
@given(**CASES, cut=st.integers(0, 700))
def test_parts_add_up(seed, components, dimension, frames, full, cut):
    rng = np.random.default_rng(seed)
    model = mixture(rng, components, dimension, full)
    values = model.means[rng.integers(0, components, frames)]
    values = (values + rng.standard_normal(values.shape)).astype(np.float32)
    cut = min(cut, frames)
    whole = accumulate(model, values)
    parts = accumulate(model, values[:cut]) + accumulate(model, values[cut:])
    assert parts.frames == whole.frames
    np.testing.assert_allclose(parts.count, whole.count, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, rtol=1e-9, atol=1e-6)
