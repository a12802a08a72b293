"""Whole runs of the workflow on a cluster."""

from __future__ import annotations

import re
import sys
from typing import Any

from flows import ROOT, TINY, Workflow, changed

CONFIG: dict[str, Any] = {
    "run": "demo",
    "components": 64,
    "iterations": [2, 4, 4, 8, 8, 12],
    "full": {"iterations": 4},
    "report": False,
    "features": {"list": "corpus/shows.txt", "pattern": "{show}.h5", "shards": 4},
    "demo": {"folder": "corpus"},
}
"""The demonstration of `make train`."""

STAGES = 8
"""With that of one component, which has no iterations."""

LONG: dict[str, Any] = changed(
    TINY, llk_gain=0.0, full={"iterations": 60, "prior": 100.0}, demo={"frames": 30_000}
)
"""A training whose last stage, which is a job, takes some seconds."""


class OnCluster(Workflow):
    """A folder in which `snakemake` submits to the cluster of the tests.

    Without accounting, the state of jobs is what squeue says, and the queue is looked at often.
    """

    def __init__(self, folder: Any) -> None:
        super().__init__(folder, forked=False)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a run with profiles/slurm."""
        profile = [
            "--workflow-profile",
            str(ROOT / "profiles/slurm"),
            "--slurm-no-account",
            *("--slurm-status-command", "squeue"),
            *("--slurm-init-seconds-before-status-checks", "1"),
            *("--set-threads", "iterate=2", "accumulate=1"),
        ]
        snakefile = ["-s", str(ROOT / "Snakefile")]
        return [sys.executable, "-m", "snakemake", *snakefile, *profile, *arguments]


def submissions(log: str) -> int:
    """How many jobs a log says were submitted."""
    return len(re.findall(r"has been submitted with SLURM jobid", log))
