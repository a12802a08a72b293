"""The cluster, and trainings on it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_flows import CONFIG, OnCluster
from flows import Workflow, finished
from slurm import Slurm, missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Two nodes of two cores each."""
    if lacking := missing():
        pytest.fail(f"a cluster on this machine needs {lacking}; `make test-cluster` installs it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished training without a cluster, not to be touched."""
    return finished(Workflow(tmp_path_factory.mktemp("laptop"), forked=False), CONFIG)


@pytest.fixture
def flow(laptop: Workflow, slurm: Slurm, tmp_path: Path) -> OnCluster:
    """A folder with the features of `laptop`, in which trainings run on the cluster."""
    copy = laptop.copy_to(tmp_path / "run")
    copy.remove("results", "logs", ".snakemake")
    return OnCluster(copy.folder)
