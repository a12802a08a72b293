"""scikit-learn's own tests of its ``GaussianMixture``, from its installation, with our estimator.

The module of these tests is executed once more, with another class in the place of scikit-learn's.
"""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("sklearn")

from gmmcore import GaussianMixtureModel

pytestmark = pytest.mark.filterwarnings("ignore:.*(frames are .* for each|at its floor)")

_PRIVATE = "it calls functions of scikit-learn's module that are not public"
_COUNT = "it calls the method _n_parameters, which is not public; bic and aic are tested beside"
EXCEPTIONS = {
    "test_suffstat_sk_full": _PRIVATE,
    "test_suffstat_sk_tied": _PRIVATE,
    "test_suffstat_sk_diag": _PRIVATE,
    "test_gaussian_suffstat_sk_spherical": _PRIVATE,
    "test_compute_log_det_cholesky": _PRIVATE,
    "test_gaussian_mixture_log_probabilities": _PRIVATE,
    "test_gaussian_mixture_n_parameters": _COUNT,
    "test_gaussian_mixture_aic_bic": _COUNT,
    "test_gaussian_mixture_precisions_init_diag": _PRIVATE,
    "test_gaussian_mixture_precisions_init": _PRIVATE,
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": _PRIVATE,
    "test_gaussian_mixture_setting_best_params": (
        "without regularisation, a component of one frame has the variance 0, and is refused as in "
        "test_regularisation; in scikit-learn, rounding leaves it 1e-17"
    ),
    "test_gaussian_mixture_array_api_compliance": "arrays are those of NumPy",
    "test_gaussian_mixture_raises_where_array_api_not_implemented": "arrays are those of NumPy",
}


class GaussianMixture(GaussianMixtureModel):
    """The estimator, by the name that messages have in the tests."""


def _suite() -> ModuleType:
    spec = find_spec("sklearn.mixture.tests.test_gaussian_mixture")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["GaussianMixture"] = GaussianMixture
    return module


TESTS = {name: test for name, test in vars(_suite()).items() if name.startswith("test_")}
globals().update({name: test for name, test in TESTS.items() if name not in EXCEPTIONS})


def test_exceptions_exist() -> None:
    """A new release may rename or remove a test."""
    assert EXCEPTIONS.keys() <= TESTS.keys()


@pytest.fixture
def global_dtype() -> type[np.float64]:
    """scikit-learn's tests are run in double precision, as they are by default."""
    return np.float64


@pytest.fixture
def global_random_seed() -> int:
    """The seed that scikit-learn's tests have by default."""
    return 42
