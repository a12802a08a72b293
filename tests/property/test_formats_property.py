"""Any mixture through any format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.core.mixture import GaussianMixture
from gmmcore.files import WRITTEN
from gmmcore.formats.registry import decode_mixture, format_by_name


@st.composite
def mixtures(draw: st.DrawFn) -> GaussianMixture:
    """Mixtures with scales, offsets and conditions far apart, and awkward exact numbers."""
    count, dimension = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** rng.uniform(-3, 3, dimension)
    means = rng.normal(size=(count, dimension)) * scale * 10 ** draw(st.integers(-4, 4))
    if draw(st.booleans()):
        means = np.round(means)
    weights = rng.dirichlet(np.ones(count))
    if draw(st.booleans()):
        variances = rng.uniform(0.1, 10, (count, dimension)) * scale**2
        return GaussianMixture.from_covariances(weights, means, variances)
    spread = rng.normal(size=(count, dimension, dimension + draw(st.integers(1, 10))))
    if draw(st.booleans()):
        spread = np.round(2 * spread)
        spread += 3 * np.eye(dimension, spread.shape[2])
    covariances = spread @ spread.transpose(0, 2, 1) + 1e-2 * np.eye(dimension)
    if draw(st.booleans()):
        covariances *= scale[:, np.newaxis] * scale
    return GaussianMixture.from_covariances(weights, means, covariances)


@settings(max_examples=50)
@given(mixture=mixtures())
def test_what_is_read_is_written_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, mixture: GaussianMixture
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for one in map(format_by_name, WRITTEN):
        first, second = folder / "first", folder / "second"
        one.write(first, mixture)
        content = first.read_bytes()
        read = decode_mixture(first, content)
        one.write(second, read)
        assert second.read_bytes() == content, one.name
        assert decode_mixture(second, content) == read
