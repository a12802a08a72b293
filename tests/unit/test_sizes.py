"""The table of sizes, against scikit-learn's criteria."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
from sklearn.mixture import GaussianMixture as Other

from gmmcore import GaussianMixture
from gmmcore.core.estep import accumulate
from gmmcore.core.history import HistoryEntry
from gmmcore.core.sizes import sizes


def test_bic_and_aic_are_those_of_scikit_learn():
    frames = np.random.default_rng(3).standard_normal((500, 4)) * [1, 2, 3, 4]
    found, wanted = {}, []
    for kind, name in (("diag", "diag"), ("full", "full")):
        other = Other(3, covariance_type=name, random_state=0, max_iter=20, tol=0.1).fit(frames)
        made = GaussianMixture.from_covariances(other.weights_, other.means_, other.covariances_)
        assert made.parameters == other._n_parameters()
        total = accumulate(made, frames).log_likelihood
        found[kind, 3] = made, total / len(frames), nan
        wanted += [other.bic(frames), other.aic(frames)]
    known = sizes(found, [], len(frames), 0.01)
    assert [size.name for size in known] == ["diag/3", "full/3"]
    np.testing.assert_allclose([v for size in known for v in (size.bic, size.aic)], wanted)
    assert all(size.ended == "" and isnan(size.held_out) for size in known)


def test_each_size_says_how_its_stage_ended():
    one = GaussianMixture([1.0], [[0.0]], [[1.0]])
    rows = [(2, 1, nan), (2, 2, 0.5), (4, 1, nan), (4, 2, 0.001)]
    history = [
        HistoryEntry("diag", count, number, 0, 50, -1.0, gain, 0, 0, 0, 9.0)
        for count, number, gain in rows
    ]
    made = {("diag", count): (one, -1.0, nan) for count in (1, 2, 4)}
    found = sizes(made, history, 100, 0.01)
    assert [size.ended for size in found] == ["", "limit", "converged"]
    assert [size.trained_on for size in found] == [0, 50, 50]
    assert found[1].gain == 0.5
