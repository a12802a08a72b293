"""Any mixture through any format, and any damage to any file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.formats.registry import decode_mixture, formats
from gmmcore.model import GaussianMixture

ROOT = Path(__file__).resolve().parents[2]


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


@settings(max_examples=100, deadline=None)
@given(mixture=mixtures())
def test_what_is_read_is_written_with_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, mixture: GaussianMixture
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for one in formats():
        first, second = folder / "first", folder / "second"
        one.write(first, mixture)
        content = first.read_bytes()
        read = decode_mixture(first, content)
        one.write(second, read)
        assert second.read_bytes() == content, one.name
        assert decode_mixture(second, content) == read


def _fuzzer() -> ModuleType:
    path = ROOT / "benchmarks" / "fuzz_formats.py"
    spec = importlib.util.spec_from_file_location("fuzz_formats", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_formats"] = module
    spec.loader.exec_module(module)
    return module


def test_damaged_files_of_every_format(tmp_path: Path) -> None:
    """A few thousand of the mutations that ``benchmarks/fuzz_formats.py`` makes 100,000 of."""
    fuzzer = _fuzzer()
    shared = ROOT.parent / "shared" / "data"
    samples = fuzzer.own_samples(tmp_path)
    if shared.is_dir():
        samples += fuzzer.shared_samples(shared)
    result = fuzzer.run(samples, seed=20240501, count=5000)
    assert result["bad"] == []
    assert sum(result["total"].values()) == 5000
    assert result["slowest"] < 2.0
    # It must have found something to refuse in every kind of file.
    assert {name for name, outcome in result["total"] if outcome == "error"} == {
        one.name for one in samples
    }


def test_the_fuzzer_sees_a_wrong_model(tmp_path: Path) -> None:
    fuzzer = _fuzzer()
    one = next(s for s in fuzzer.own_samples(tmp_path) if s.name == "own diag alize")
    content = bytearray(one.content)
    values = np.frombuffer(one.content, "<f8", 3, 8)[::-1].copy()
    content[8:32] = values.tobytes()
    assert fuzzer.judge(one, bytes(content), touched=24) == "touched"
    assert fuzzer.judge(one, bytes(content), touched=0) == "2 numbers changed by 0 bytes"
