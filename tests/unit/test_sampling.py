"""Random frames of a mixture have its moments and the densities of its components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, kstest, norm

from gmmcore import GaussianMixture, Mixture
from gmmcore.core.describe import describe
from gmmcore.data.demo import known_mixture

FRAMES = 200_000


def diagonal_part(mixture: GaussianMixture) -> GaussianMixture:
    variances = np.diagonal(mixture.covariances, axis1=1, axis2=2)
    return GaussianMixture.from_covariances(mixture.weights, mixture.means, variances)


@pytest.fixture(params=["diagonal", "full"])
def mixture(request: pytest.FixtureRequest) -> GaussianMixture:
    full = known_mixture(np.random.default_rng(3), components=5, dimension=3)
    return full if request.param == "full" else diagonal_part(full)


def test_each_component_has_its_share_mean_and_covariance(mixture: GaussianMixture) -> None:
    frames, components = mixture.sample(FRAMES, seed=7)
    assert frames.shape == (FRAMES, 3)
    assert frames.dtype == np.float64
    for number in range(mixture.components):
        own = frames[components == number]
        weight, covariance = mixture.weights[number], mixture.covariances[number]
        covariance = covariance if mixture.is_full else np.diag(covariance)
        deviation = np.sqrt(FRAMES * weight * (1 - weight))
        assert abs(len(own) - FRAMES * weight) < 5 * deviation
        # (n times) the squared distance of means follows chi-squared with D degrees of freedom.
        difference = own.mean(axis=0) - mixture.means[number]
        distance = len(own) * difference @ np.linalg.solve(covariance, difference)
        assert distance < chi2.isf(1e-6, 3)
        # Wishart: the variance of a covariance is (c_ij^2 + c_ii c_jj) / n.
        variances = np.diag(covariance)
        error = np.sqrt((covariance**2 + np.outer(variances, variances)) / len(own))
        assert (np.abs(np.cov(own.T) - covariance) < 5 * error).all()


def test_frames_are_normal_along_any_direction(mixture: GaussianMixture) -> None:
    frames, components = mixture.sample(20_000, seed=8)
    direction = np.array([0.6, -0.48, 0.64])
    for number in range(mixture.components):
        covariance = mixture.covariances[number]
        covariance = covariance if mixture.is_full else np.diag(covariance)
        deviation = np.sqrt(direction @ covariance @ direction)
        values = (frames[components == number] - mixture.means[number]) @ direction / deviation
        assert kstest(values, norm.cdf).pvalue > 1e-4


def test_the_seed_decides_the_frames(mixture: GaussianMixture) -> None:
    first, again = (mixture.sample(50, seed=1) for _ in range(2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], mixture.sample(50, seed=2)[0])
    assert not np.array_equal(mixture.sample(50)[0], mixture.sample(50)[0])
    ubm = Mixture.from_gaussian_mixture(mixture)
    assert all(map(np.array_equal, first, ubm.sample(50, seed=1)))


def test_no_frames_and_components_without_weight() -> None:
    mixture = GaussianMixture([0.0, 1.0], [[-9.0], [9.0]], [[1.0], [1.0]])
    assert [len(part) for part in mixture.sample(0)] == [0, 0]
    assert (mixture.sample(1000, seed=1)[1] == 1).all()


def test_weights_that_sum_to_one_only_nearly() -> None:
    mixture = GaussianMixture([0.25, 0.75004], [[0.0], [1.0]], [[1.0], [1.0]])
    assert len(mixture.sample(10, seed=1)[0]) == 10


@pytest.mark.parametrize(("full", "parameters"), [(False, 3 * 4 * 2 + 2), (True, 3 * (4 + 10) + 2)])
def test_the_number_of_free_parameters(full: bool, parameters: int) -> None:
    mixture = known_mixture(np.random.default_rng(0), components=3, dimension=4)
    mixture = mixture if full else diagonal_part(mixture)
    assert mixture.parameters == describe(mixture)["parameters"] == parameters
