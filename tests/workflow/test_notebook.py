"""What a notebook sees of the workflow, and that its trainings have the same numbers."""

from __future__ import annotations

import numpy as np
from flows import TINY, Workflow

import gmmcore


def test_a_run_is_opened(trained: Workflow) -> None:
    folder = trained.folder / "results/tiny"
    run = gmmcore.open_run(folder)
    assert run.finished
    assert run.mixture == gmmcore.read_mixture(folder / "ubm.h5")
    assert [*run.mixtures] == ["diag/1", "diag/2", "diag/4", "full/4"]
    assert run.mixtures["full/4"] == run.mixture
    table = [line.split("\t") for line in (folder / "history.tsv").read_text().splitlines()]
    for name, *values in zip(*table, strict=True):
        assert run.history[name].astype(str).tolist() == values


def test_an_interrupted_run_is_opened(nearly: Workflow) -> None:
    run = gmmcore.open_run(nearly.folder / "results/tiny")
    assert not run.finished
    assert [*run.mixtures] == ["diag/1", "diag/2", "diag/4"]
    assert (run.history["stage"][-1], run.history["iteration"][-1]) == ("full", 1)


def test_train_has_the_numbers_of_the_workflow(trained: Workflow) -> None:
    """Only the order of the frames differs."""
    run = gmmcore.open_run(trained.folder / "results/tiny")
    training = gmmcore.train(
        trained.folder / TINY["features"]["list"],
        components=TINY["components"],
        covariance="full",
        iterations=TINY["iterations"],
        llk_gain=TINY["llk_gain"],
        full=TINY["full"],
        features={"pattern": TINY["features"]["pattern"]},
    )
    for name in ("stage", "components", "iteration", "frames"):
        assert np.array_equal(training.history[name], run.history[name])
    expected = run.history["log_likelihood"]
    np.testing.assert_allclose(training.history["log_likelihood"], expected, rtol=1e-6)
    np.testing.assert_allclose(training.mixture.means, run.mixture.means, atol=1e-3)
    np.testing.assert_allclose(training.mixture.covariances, run.mixture.covariances, atol=1e-3)
