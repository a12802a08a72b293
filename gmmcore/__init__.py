"""Gaussian mixture training: a small numerical core, driven by a Snakemake workflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmmcore.errors import GmmcoreError
    from gmmcore.formats.registry import read_mixture, write_mixture
    from gmmcore.model import GaussianMixture
    from gmmcore.notebook.estimator import GaussianMixtureModel
    from gmmcore.notebook.fitting import train
    from gmmcore.notebook.opened import open_run
    from gmmcore.sidekit.mixture import Mixture
    from gmmcore.sidekit.server import FeaturesServer

__all__ = [
    "FeaturesServer",
    "GaussianMixture",
    "GaussianMixtureModel",
    "GmmcoreError",
    "Mixture",
    "open_run",
    "read_mixture",
    "train",
    "write_mixture",
]

__version__ = "0.1.0"

# These are imported when they are asked for: most jobs of the workflow do without them.
_HOMES = {
    "FeaturesServer": "gmmcore.sidekit.server",
    "GaussianMixture": "gmmcore.model",
    "GaussianMixtureModel": "gmmcore.notebook.estimator",
    "GmmcoreError": "gmmcore.errors",
    "Mixture": "gmmcore.sidekit.mixture",
    "open_run": "gmmcore.notebook.opened",
    "read_mixture": "gmmcore.formats.registry",
    "train": "gmmcore.notebook.fitting",
    "write_mixture": "gmmcore.formats.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
