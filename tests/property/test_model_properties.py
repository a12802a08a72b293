"""Mixtures and their files: what is valid comes back to the last bit, nothing else exists."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError, inverse_of_lower
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import hdf5_image, load_model, save_model, seal

few = settings(max_examples=40)


@st.composite
def mixtures(draw, full=None):
    """Valid mixtures, also extreme ones."""
    count, dimension = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    is_full = draw(st.booleans()) if full is None else full
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-30, 30))
    weights = rng.dirichlet(np.full(count, draw(st.sampled_from([0.01, 1.0, 100.0]))))
    means = rng.standard_normal((count, dimension)) * scale
    if is_full:
        factors = rng.standard_normal((count, dimension, dimension + 2))
        precisions = factors @ factors.transpose(0, 2, 1) / scale**2
        precisions = 0.5 * (precisions + precisions.transpose(0, 2, 1))
        precisions += 1e-3 * np.eye(dimension) * np.abs(precisions).max()
    else:
        precisions = rng.gamma(1.0, size=(count, dimension)) / scale**2 + 1e-280
    control = np.full((count, dimension), scale**2) if draw(st.booleans()) else None
    return GaussianMixture(weights, means, precisions, control)


entries = st.builds(
    HistoryEntry,
    st.sampled_from(["diag", "full"]),
    st.integers(1, 10**6),
    st.integers(1, 999),
    st.integers(0, 20),
    st.integers(0, 2**60),
    st.floats(allow_nan=False),
    st.floats(),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
    st.floats(min_value=0, allow_infinity=False),
)


@few
@given(mixtures(), st.lists(entries, max_size=4), st.booleans())
def test_files_give_back_every_bit(mixture, history, compress):
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "1.h5", Path(folder) / "2.h5"
        digest = save_model(first, mixture, {"a": 1}, history, compress=compress)
        model = load_model(first)
        assert model.mixture == mixture
        assert model.digest == digest
        assert repr(model.history) == repr(tuple(history))
        assert save_model(second, model.mixture, model.facts, model.history, compress=compress)
        assert first.read_bytes() == second.read_bytes()


@few
@given(mixtures(), st.data())
def test_no_mixture_holds_what_is_no_number(mixture, data):
    name = data.draw(st.sampled_from(["weights", "means", "precisions"]))
    bad = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    values = {key: getattr(mixture, key).copy() for key in ("weights", "means", "precisions")}
    values[name].flat[data.draw(st.integers(0, values[name].size - 1))] = bad
    with pytest.raises(InvalidMixtureError, match=name):
        GaussianMixture(**values)


@few
@given(mixtures(full=False), st.data())
def test_no_mixture_has_negative_variances_or_wrong_weights(mixture, data):
    weights, precisions = mixture.weights.copy(), mixture.precisions.copy()
    at = data.draw(st.integers(0, precisions.size - 1))
    precisions.flat[at] = data.draw(st.sampled_from([0.0, -1.0, -5e-324, 1e-310]))
    with pytest.raises(InvalidMixtureError, match="precision"):
        GaussianMixture(weights, mixture.means, precisions)
    with pytest.raises(InvalidMixtureError, match=r"the weights sum to \S+, not to 1"):
        GaussianMixture(
            weights * data.draw(st.sampled_from([0.99, 1.01])), mixture.means, mixture.precisions
        )
    if mixture.components > 1:
        weights[0], weights[1] = -0.5, weights[0] + weights[1] + 0.5
        with pytest.raises(InvalidMixtureError, match=r"component 0 has the negative weight -0\.5"):
            GaussianMixture(weights, mixture.means, mixture.precisions)


@few
@given(mixtures(full=True), st.data())
def test_no_mixture_has_a_matrix_that_is_not_positive_definite(mixture, data):
    component = data.draw(st.integers(0, mixture.components - 1))
    precisions = mixture.precisions.copy()
    values, vectors = np.linalg.eigh(precisions[component])
    values[0] = -values[-1]
    matrix = (vectors * values) @ vectors.T
    precisions[component] = 0.5 * (matrix + matrix.T)
    message = f"the precision matrix of component {component} is not positive definite"
    with pytest.raises(InvalidMixtureError, match=message):
        GaussianMixture(mixture.weights, mixture.means, precisions)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("name", ["w", "mu", "invcov"])
def test_a_sealed_file_with_bad_numbers_is_refused_all_the_same(tmp_path, name, bad):
    """A checksum says that a file is as it was written, not that it was right."""
    values = {"w": np.full(2, 0.5), "mu": np.zeros((2, 3)), "invcov": np.ones((2, 3))}
    values[name].flat[0] = bad
    if name == "mu" and bad == -1.0:
        return
    path = tmp_path / "mixture.h5"
    seal(path, "mixture", hdf5_image(lambda file: file.update(values)))
    with pytest.raises(GmmcoreError, match=r"mixture\.h5: "):
        load_model(path)


@few
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(-15, 15), min_size=2, max_size=5),
)
def test_units_of_dimensions_do_not_matter_to_an_inverse(seed, exponents):
    """numpy exchanges rows of a factor whose units are large, and loses those of small ones."""
    units, count = 10.0 ** np.array(exponents), len(exponents)
    factors = np.random.default_rng(seed).uniform(-2, 2, (count, count))
    lower = np.tril(factors * np.minimum(1.0, units / units[:, np.newaxis]), -1) + np.eye(count)
    found = inverse_of_lower(lower * units[:, np.newaxis]) * units
    np.testing.assert_allclose(found, np.linalg.inv(lower), atol=1e-12)
