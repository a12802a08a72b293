"""Trainings to begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from flows import PLAIN, TINY, Workflow


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished training by the programs themselves, not to be touched; see `copied`."""
    result = Workflow(tmp_path_factory.mktemp("trained"), forked=False)
    result.configure(TINY)
    result.run("corpus/shows.txt")
    result.configure(PLAIN)
    result.run()
    return result


@pytest.fixture
def copied(trained: Workflow, tmp_path: Path) -> Workflow:
    """A copy of the finished training."""
    return trained.copy_to(tmp_path / "run")


@pytest.fixture
def nearly(copied: Workflow) -> Workflow:
    """A copy of which the last iteration, and what comes after it, is yet to be made."""
    for name in ("full/4/002.h5", "full/4.h5", "ubm.h5", "history.tsv", "SHA256SUMS"):
        (copied.folder / "results/tiny" / name).unlink()
    return copied


@pytest.fixture
def fresh(copied: Workflow) -> Workflow:
    """A folder with features and a configuration."""
    copied.remove("results", "logs", ".snakemake")
    return copied
