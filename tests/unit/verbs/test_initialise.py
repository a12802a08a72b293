"""``gmmcore initialise``: the frames that no training can start with are refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmmcore.cli.main import main
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture
from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.formats.hdf5 import load_model
from gmmcore.formats.registry import write_mixture

FRAMES = 1000
CONSTANT = "every frame has the same value in dimension 1 (counted from 0) once it is stored in si"
LOST = "the values in dimension 1 (counted from 0) differ by less than single precision"


def initialise(
    folder: Path, mean: float, deviation: float, start: GaussianMixture | None = None
) -> int:
    corpus = folder / "corpus.json"
    scatter = (FRAMES * 4.0, FRAMES * deviation**2)
    shards = (CorpusShard("000", "0.npy", (FRAMES,), "a" * 64),)
    robust = (1.0, deviation**2)
    Corpus(shards, 2, (0.5, mean), scatter, robust, 1).write(corpus)
    given = []
    if start is not None:
        write_mixture(folder / "start.h5", start)
        given = ["--from", str(folder / "start.h5")]
    output = str(folder / "000.h5")
    return main(["initialise", "--corpus", str(corpus), *given, "--output", output])


@pytest.mark.parametrize("kind", [None, "diag", "full"])
@pytest.mark.parametrize(
    ("mean", "deviation", "message"),
    [
        (0.0, 0.0, CONSTANT),
        (1234.5, 0.0, CONSTANT),
        (0.1, 1e-14, CONSTANT),
        (1e6, 0.05, LOST),
    ],
)
def test_a_dimension_without_variance(tmp_path, capsys, kind, mean, deviation, message):
    start = GaussianMixture([1.0], [[0.0, mean + 0.3]], [[1.0, 1.0]])
    start = to_kind(start, "full") if kind == "full" else start
    assert initialise(tmp_path, mean, deviation, start if kind else None) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"corpus.json: {message}" in line
    assert "features: mask" in line
    assert "subtract" in line


@pytest.mark.parametrize("full", [False, True])
def test_a_mixture_of_another_tool_gets_the_variances_of_all_frames(tmp_path, full):
    start = GaussianMixture([0.5, 0.5], np.zeros((2, 2)), np.ones((2, 2)))
    start = to_kind(start, "full") if full else start
    assert initialise(tmp_path, 1.0, 3.0, start) == 0
    mixture = load_model(tmp_path / "000.h5").mixture
    np.testing.assert_array_equal(mixture.variance_control, np.tile([1.0, 9.0], (2, 1)))
    np.testing.assert_array_equal(mixture.precisions, start.precisions)
    # Bounds of its own are kept, and a constant dimension is no fault then.
    own = GaussianMixture(start.weights, start.means, start.precisions, np.full((2, 2), 7.0))
    assert initialise(tmp_path, 1.0, 0.0, own) == 0
    np.testing.assert_array_equal(load_model(tmp_path / "000.h5").mixture.variance_control, 7.0)
