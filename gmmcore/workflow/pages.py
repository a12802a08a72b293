"""Whether the pages about runs are those that their mixtures and settings ask for.

Pages tell times, so that no checksum of another file vouches for them. A page holds a digest of its
own content and of what it is made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gmmcore.config.configuration import changed
from gmmcore.config.settings import COMPARISON, Settings
from gmmcore.files import digest_of, sha256_of
from gmmcore.report.page import is_page
from gmmcore.workflow.runs import Run
from gmmcore.workflow.verified import sealed_state

__all__ = ["comparison_fault", "page_fault", "recipe_of_report"]

_FAULT = "damaged, or of other mixtures or settings"


def recipe_of_report(name: str, digest: str, settings: Settings) -> str:
    """Compute the digest of what a report is made from, apart from times.

    Parameters
    ----------
    name
        Name of the run.
    digest
        Digest of the final mixture.
    settings : Settings
        Settings of the run.
    """
    return digest_of(name, digest, str(changed(settings)))


def page_fault(run: Run, folder: str) -> str:
    """Say what is wrong with the report in the folder of a run; empty if nothing is."""
    return "" if is_page(Path(folder, "report.html"), _recipe(run, folder)) else _FAULT


def comparison_fault(runs: Sequence[Run], results: str) -> str:
    """Say what is wrong with the comparison of runs in the folder `results`; empty if nothing is.

    Raises
    ------
    GmmcoreError
        If the table beside it cannot be read.
    """
    page, table = (Path(results, name) for name in COMPARISON)
    recipes = [_recipe(run, f"{results}/{run.name}") for run in runs]
    return "" if is_page(page, recipes, sha256_of(table)) else _FAULT


def _recipe(run: Run, folder: str) -> str:
    digest = sealed_state(f"{folder}/ubm.h5")[0].get("digest", "")
    return recipe_of_report(run.name, digest, run.settings)
