"""Whole runs of the workflow in folders of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

TINY = {
    "run": "tiny",
    "components": 4,
    "iterations": [2, 3],
    "full": {"iterations": 2},
    "report": False,
    "features": {"list": "corpus/shows.txt", "pattern": "{show}.h5", "shards": 3},
    "demo": {
        "folder": "corpus",
        "components": 4,
        "dimension": 4,
        "shows": 6,
        "speakers": 2,
        "frames": 3000,
    },
}
"""A real training, demonstration corpus included, of a few seconds."""


class Workflow:
    """A folder in which `snakemake` is run with this checkout's Snakefile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def configure(self, values: Mapping[str, Any]) -> None:
        """Write config.yaml."""
        text = yaml.safe_dump(dict(values), sort_keys=False)
        (self.folder / "config.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a run; two cores unless `arguments` say otherwise."""
        cores = [] if "--cores" in arguments else ["--cores", "2"]
        return [
            *(sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")),
            *cores,
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        """With the commands of this Python first in the path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts the tests in its background has them ignore it, and all below.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run to the end; what it printed. The exit code must be `code`."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == code, output
        return output

    def digests(self, pattern: str = "results/*/**/*.h5") -> dict[str, str]:
        """SHA-256 of files, by their paths."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.glob(pattern))
        }


PLAIN = {**TINY, "demo": {"folder": None}}
"""The same training once its corpus is there."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A finished training, not to be touched; see `copied`."""
    result = Workflow(tmp_path_factory.mktemp("trained") / "run")
    result.folder.mkdir()
    result.configure(TINY)
    result.run()
    (result.folder / "results/tiny/recovery.txt").unlink()
    result.configure(PLAIN)
    return result


@pytest.fixture
def copied(trained: Workflow, tmp_path: Path) -> Workflow:
    """A copy of the finished training."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Workflow(tmp_path / "run")


@pytest.fixture
def nearly(copied: Workflow) -> Workflow:
    """A copy of which the last iteration, and what comes after it, is yet to be done."""
    results = copied.folder / "results/tiny"
    for name in ("full/4/002.h5", "ubm.h5", "history.tsv"):
        (results / name).unlink()
    return copied


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """A folder with the tiny configuration."""
    result = Workflow(tmp_path)
    result.configure(TINY)
    return result
