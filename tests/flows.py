"""Whole runs of the workflow in folders of their own, for the tests in workflow/ and soak/."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forks
import yaml

from gmmcore.config.configuration import merged
from gmmcore.workflow.runs import read_runs

ROOT = Path(__file__).resolve().parents[1]

LONG = os.environ.get("GMMCORE_TESTS") == "long"
"""Whether the tests take no shortcuts: no forks, and as many rounds as a night has time for."""

TINY: dict[str, Any] = {
    "run": "tiny",
    "components": 4,
    "iterations": [2, 3],
    "llk_gain": -1.0,  # All iterations are made, whatever they gain.
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

PLAIN: dict[str, Any] = {**TINY, "demo": {"folder": None}}
"""The same training once its corpus is there."""


FIRST = ["diag/2/1", "diag/2/2", "diag/4/1", "diag/4/2", "diag/4/3", "full/4/1", "full/4/2"]
"""Its iterations."""


def changed(base: Mapping[str, Any] = TINY, **values: Any) -> dict[str, Any]:
    """A configuration with some keys replaced; those of sections one by one."""
    return merged(base, values)


def iterations(log: str) -> list[str]:
    """Stage, components and number of every iteration that a log tells of."""
    found = re.findall(r"^[\w.-]+  (diag|full) +(\d+)  iteration +(\d+) ", log, re.MULTILINE)
    return ["/".join(match) for match in found]


def jobs(log: str) -> dict[str, int]:
    """The first table of jobs in a log."""
    table = re.search(r"^Job stats:\n.*\n-.*\n((?:\w+ +\d+\n)+)", log, re.MULTILINE)
    return {
        name: int(count) for name, count in re.findall(r"(\w+) +(\d+)", table[1] if table else "")
    }


def errors(log: str) -> list[str]:
    """The lines in which gmmcore says what is wrong; at least one, and no traceback of it."""
    found = [line for line in log.splitlines() if re.match(r"gmmcore( \w+)?: error: ", line)]
    assert found, log
    assert "Traceback" not in log, log
    return found


def finished(flow: Workflow, values: Mapping[str, Any]) -> Workflow:
    """The same folder, with a training that has ended, and no longer makes its corpus."""
    flow.configure(values)
    flow.run("corpus/shows.txt")
    flow.configure(changed(values, demo=PLAIN["demo"]))
    flow.run()
    return flow


class Workflow:
    """A folder in which `snakemake` is run with this checkout's Snakefile.

    `forked` says whether it and its jobs are forks; see forks.py.
    """

    def __init__(self, folder: Path, *, forked: bool = not LONG) -> None:
        self.folder, self.forked = folder, forked

    def configure(self, values: Mapping[str, Any]) -> None:
        """Write config.yaml."""
        text = yaml.safe_dump(dict(values), sort_keys=False)
        (self.folder / "config.yaml").write_text(text)

    @property
    def config(self) -> dict[str, Any]:
        """What config.yaml says."""
        values: dict[str, Any] = yaml.safe_load((self.folder / "config.yaml").read_text())
        return values

    def command(self, *arguments: str) -> list[str]:
        """The command line of a run; two cores unless `arguments` say otherwise."""
        cores = [] if "--cores" in arguments else ["--cores", "2"]
        snakefile = [] if "-s" in arguments else ["-s", str(ROOT / "Snakefile")]
        program = (
            [str(forks.command("snakemake"))]
            if self.forked
            else [sys.executable, "-m", "snakemake"]
        )
        return [*program, *snakefile, *cores, *arguments]

    def environment(self) -> dict[str, str]:
        """With the commands of this Python first in the path."""
        folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
        if self.forked:
            folders.insert(0, str(forks.command("gmmcore").parent))
        return {**os.environ, "PATH": os.pathsep.join(folders)}

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
        )

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """Run to the end; the exit code and what was printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run to the end; what it printed. The exit code must be `code`."""
        found, output = self.attempt(*arguments)
        assert found == code, output
        return output

    def heal(self) -> str:
        """Give the command, twice if it fails, and once more after a repair; what all printed."""
        code, log = self.attempt()
        if code:
            code, more = self.attempt()
            log += more
        if self.verb("check")[0]:
            log += self.verb("check", "--repair")[1] + self.run()
            code = 0
        assert code == 0, log
        return log

    def verb(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of `gmmcore`."""
        done = subprocess.run(
            ["gmmcore", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def wrap_jobs(self, text: str) -> Workflow:
        """The same folder, with jobs that run this Python code in place of `gmmcore`, REAL.

        What comes after this code, and Snakemake itself, are no forks.
        """
        folder = self.folder / "bin"
        folder.mkdir()
        real = Path(sys.executable).parent / "gmmcore"
        (folder / "gmmcore").write_text(f"#!{sys.executable}\nREAL = {str(real)!r}\n{text}")
        (folder / "gmmcore").chmod(0o755)
        wrapped = Workflow(self.folder, forked=False)
        path = f"{folder}{os.pathsep}{self.environment()['PATH']}"
        wrapped.environment = lambda: {**os.environ, "PATH": path}  # type: ignore[method-assign]
        return wrapped

    def remove(self, *names: str) -> None:
        """Remove files and folders."""
        for name in names:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def copy_to(self, folder: Path) -> Workflow:
        """A copy, with the times of the files."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workflow(folder)

    def digests(self, pattern: str = "results/*/**/*.h5") -> dict[str, str]:
        """SHA-256 of files, by their paths."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.glob(pattern))
            if path.is_file()
        }

    def made(self) -> dict[str, str]:
        """SHA-256 of all that the configuration asks for, iterations included, by path."""
        result: dict[str, str] = {}
        for run in read_runs({**self.config, **self._initial_path()}).values():
            place = f"results/{run.name}"
            for pattern in [
                f"results/features/{run.corpus}/[!.]*.[!j]*",
                f"results/features/{run.corpus}/corpus.json",
                *(f"{place}/{stage.name}{end}" for stage in run.plan for end in (".h5", "/*.h5")),
                *(
                    f"{place}/{name}"
                    for name in ["ubm.h5", "SHA256SUMS", *run.products, *run.scores]
                ),
            ]:
                result |= self.digests(pattern)
        return result

    def _initial_path(self) -> dict[str, Any]:
        init = dict(self.config.get("init") or {})
        if init.get("from"):
            init["from"] = str(self.folder / init["from"])
        return {"init": init}
