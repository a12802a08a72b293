"""Gaussian mixture training: a small numerical core, driven by a Snakemake workflow.

The workflow is started by ``make train`` or Snakemake, and documented in README.md. In Python:

`train`
    Train a mixture on arrays, memory maps or files of features.
`GaussianMixtureModel`
    The same in scikit-learn's manner, with scores, posteriors, samples, BIC and AIC.
`open_run`
    Open the results of the workflow: mixtures by stage, history, plot.
`GaussianMixture`
    A mixture: weights, means, covariances and precisions; its method ``sample`` draws frames.
`read_mixture`, `write_mixture`
    Mixtures in the formats of SIDEKIT, Kaldi, ALIZE and HTK.
`Mixture`, `FeaturesServer`
    Drop-in replacements for SIDEKIT's classes of these names.
`accumulate`
    The E-step alone: the sufficient statistics of frames under a mixture.
`read_shows`, `accumulate_shows`
    The frames of each show of a list, and their Baum-Welch statistics.
`adapt_means`, `linear_scores`, `log_ratios`, `equal_error_rate`
    Models by MAP adaptation, scores of shows against them, and the error rate of the scores.
`GmmcoreError`
    Base class of errors in input or configuration.

Below these, `gmmcore.core.density` has log-likelihoods and posteriors as functions, and
`gmmcore.core.mstep` the M-step.

Examples
--------
>>> import gmmcore
>>> mixture = gmmcore.GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [[1.0], [1.0]])
>>> frames, components = mixture.sample(1000, seed=1)
>>> gmmcore.train(frames, components=2).mixture.means.round()
array([[-3.],
       [ 3.]])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmcore.core.estep import accumulate as accumulate
    from gmmcore.core.mixture import GaussianMixture as GaussianMixture
    from gmmcore.core.shows import accumulate_shows as accumulate_shows
    from gmmcore.core.verification import adapt_means as adapt_means
    from gmmcore.core.verification import equal_error_rate as equal_error_rate
    from gmmcore.core.verification import linear_scores as linear_scores
    from gmmcore.core.verification import log_ratios as log_ratios
    from gmmcore.data.score import read_shows as read_shows
    from gmmcore.errors import GmmcoreError as GmmcoreError
    from gmmcore.formats.registry import read_mixture as read_mixture
    from gmmcore.formats.registry import write_mixture as write_mixture
    from gmmcore.interfaces.estimator import GaussianMixtureModel as GaussianMixtureModel
    from gmmcore.interfaces.fitting import train as train
    from gmmcore.interfaces.run import open_run as open_run
    from gmmcore.interfaces.sidekit_mixture import Mixture as Mixture
    from gmmcore.interfaces.sidekit_server import FeaturesServer as FeaturesServer

__version__ = "0.1.0"

# These are imported when they are asked for: most jobs of the workflow do without them.
_HOMES = {
    "FeaturesServer": "gmmcore.interfaces.sidekit_server",
    "GaussianMixture": "gmmcore.core.mixture",
    "GaussianMixtureModel": "gmmcore.interfaces.estimator",
    "GmmcoreError": "gmmcore.errors",
    "Mixture": "gmmcore.interfaces.sidekit_mixture",
    "accumulate": "gmmcore.core.estep",
    "accumulate_shows": "gmmcore.core.shows",
    "adapt_means": "gmmcore.core.verification",
    "equal_error_rate": "gmmcore.core.verification",
    "linear_scores": "gmmcore.core.verification",
    "log_ratios": "gmmcore.core.verification",
    "open_run": "gmmcore.interfaces.run",
    "read_mixture": "gmmcore.formats.registry",
    "read_shows": "gmmcore.data.score",
    "train": "gmmcore.interfaces.fitting",
    "write_mixture": "gmmcore.formats.registry",
}


__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
