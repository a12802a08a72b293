"""What Snakemake and the workflow need before the first job: many shards, stages and runs.

    python -m benchmarks.planning /data/scratch             # 10 runs, 4 features of 1,000 shards
    python -m benchmarks.planning /data/scratch --jobs 8    # iterations as jobs

Makes features, shards and mixtures in a folder of its own below the one that is named: tiny, but
valid, and with Snakemake's records of them. Measures dry runs of a configuration of which nothing,
a part or everything is made, and a start with nothing to do. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gmmcore.cli.main import main as gmmcore
from gmmcore.config.options import words
from gmmcore.core.history import HistoryEntry
from gmmcore.core.initial import one_gaussian, split, to_full
from gmmcore.core.mixture import GaussianMixture
from gmmcore.data.corpus import Corpus
from gmmcore.data.identity import shard_paths
from gmmcore.data.packing import pack_shard
from gmmcore.formats.hdf5 import save_model
from gmmcore.workflow.provenance import provenance
from gmmcore.workflow.resume import mixture_path
from gmmcore.workflow.runs import Run, read_runs

ROOT = Path(__file__).resolve().parents[1]
NORMALISATIONS = [None, "cms", "cmvn", "cms_global"]
FRAMES = 4
# In place of gmmcore: brings the outputs of a job, and what else it makes, from the folder `made`.
JOB = """#!/bin/sh
verb=$1
while [ $# -gt 0 ]; do
    case $1 in
        --output|--skipped)
            mv made/"$2" "$2" 2> /dev/null || : >> "$2"
            case $verb in
                shard) mv made/"${2%/*}"/*.npy "${2%/*}" 2> /dev/null ;;
                iterate) mv made/"${2%.h5}"/*.h5 "${2%.h5}" 2> /dev/null ;;
            esac ;;
    esac
    shift
done
exit 0
"""


def configuration(runs: int, shards: int, jobs: int | None) -> dict[str, Any]:
    """Runs of 12 stages after the first Gaussian, and 60 iterations; some share features."""
    owners = [index for index in range(len(NORMALISATIONS)) for _ in range(4 - index)]
    return {
        "components": 2048,
        "iterations": [2, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6],
        "llk_gain": 0.0,
        "full": {"iterations": 6},
        "report": False,
        "jobs": jobs or "auto",
        "features": {
            "list": "features",
            "pattern": "{show}.npy",
            "vad": None,
            "select_speech": False,
            "shards": shards,
        },
        "runs": {
            f"run{index}": {
                "features": {"normalisation": NORMALISATIONS[owners[index % len(owners)]]},
                "variance": {"floor": 0.01 + 0.001 * index},
            }
            for index in range(runs)
        },
    }


def call(*arguments: str) -> None:
    """A verb, in this process and without what it prints, unless it fails."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = gmmcore(arguments)
    if code:
        sys.exit(printed.getvalue())


def make_features(shows: int, dimension: int) -> None:
    """A show for each shard."""
    rng = np.random.default_rng(1)
    Path("features").mkdir()
    for index in range(shows):
        frames = rng.standard_normal((FRAMES, dimension), dtype=np.float32)
        np.save(f"features/show{index:05d}.npy", frames)


def make_corpus(run: Run, folder: str) -> None:
    """The checked list, the shards and what gathers them."""
    table = f"{folder}/shows.tsv"
    call("shows", *words(run.features), "--output", table)
    for path in shard_paths(table).values():
        pack_shard(run.features, table, Path(path).name.split("-")[0], path)
    skipped = f"{folder}/skipped.tsv"
    call("corpus", "--shows", table, "--output", f"{folder}/corpus.json", "--skipped", skipped)


def mixtures_of(run: Run, corpus: Corpus) -> dict[str, GaussianMixture]:
    """A mixture for each stage; those of other iterations would be no larger."""
    result: dict[str, GaussianMixture] = {}
    mixture = one_gaussian(corpus.moments, stored="float32")
    for stage in run.plan:
        if stage.origin == "split":
            mixture = split(mixture, stage.components)
        elif stage.origin == "diag2full":
            mixture = to_full(mixture)
        result[stage.name] = mixture
    return result


def make_run(run: Run, corpus: Corpus, mixtures: dict[str, GaussianMixture]) -> None:
    """All files of a training, with the records of what each is made from."""
    folder, parent = f"results/{run.name}", None
    history: tuple[HistoryEntry, ...] = ()
    for stage in run.plan:
        for iteration in range(stage.iterations + 1):
            settings = run.digest("maximise" if iteration else stage.origin, stage.kind)
            entry = HistoryEntry(
                *(stage.kind, stage.components, iteration, 0, corpus.frames, -1.0 + iteration),
                *(1.0 if iteration > 1 else math.nan, 0, 0, 0, "", 1.0),
            )
            history += (entry,) * bool(iteration)
            facts = provenance(
                stage=stage.kind,
                components=stage.components,
                iteration=iteration,
                parent=parent,
                corpus=corpus.digest,
                settings=settings,
                **({"gain": 1.0 if iteration > 1 else None} if iteration else {}),
            )
            path = mixture_path(f"{folder}/{stage.name}", iteration)
            parent = save_model(path, mixtures[stage.name], facts, history)
        shutil.copy(path, f"{folder}/{stage.name}.h5")
    final = f"{folder}/ubm.h5"
    call("finish", "--mixture", f"{folder}/{run.plan[-1].name}.h5", "--output", final)
    call("history", "--mixture", final, "--output", f"{folder}/history.tsv")
    products = [f"{folder}/{name}" for name in ("ubm.h5", *run.products)]
    call("checksums", *products, "--output", f"{folder}/SHA256SUMS")


def snakemake(*arguments: str, programs: str = "") -> tuple[float, float, str]:
    """Seconds, seconds of processor and output of Snakemake; `programs` is a folder of commands."""
    folders = [os.path.abspath(programs)] * bool(programs)
    path = os.pathsep.join([*folders, str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, done.stdout


def record() -> None:
    """Have Snakemake run jobs that only bring back what is made, so that it has its records."""
    for folder in ("made", "bin"):
        Path(folder).mkdir()
    os.rename("results", "made/results")
    Path("bin/gmmcore").write_text(JOB)
    Path("bin/gmmcore").chmod(0o755)
    snakemake(programs="bin")


def measure(what: str, *arguments: str) -> None:
    """Print a row of the table."""
    seconds, cpu, output = snakemake(*arguments)
    jobs = re.search(r"^total +(\d+)", output, re.MULTILINE)
    count = jobs[1] if jobs else "0"
    command = " ".join(["snakemake", *(word for word in arguments if word != "--quiet")])
    print(f"| {what} | `{command}` | {count} | {seconds:.1f} | {cpu:.1f} |", flush=True)


@contextlib.contextmanager
def without(paths: Sequence[str]) -> Any:
    """Move files and folders away as long as the block lasts."""
    with tempfile.TemporaryDirectory(dir=".", prefix="away-") as away:
        moved = [(path, f"{away}/{index}") for index, path in enumerate(paths)]
        for path, place in moved:
            os.rename(path, place)
        try:
            yield
        finally:
            for path, place in moved:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
                os.rename(place, path)


def write(config: dict[str, Any]) -> None:
    """The configuration."""
    Path("config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def make(config: dict[str, Any]) -> None:
    """Make everything in the current folder, from the features on."""
    runs = read_runs(config)
    for name, run in {run.corpus: run for run in runs.values()}.items():
        make_corpus(run, f"results/features/{name}")
    mixtures: dict[str, dict[str, GaussianMixture]] = {}
    for run in runs.values():
        corpus = Corpus.read(f"results/features/{run.corpus}/corpus.json")
        known = mixtures.setdefault(run.corpus, mixtures_of(run, corpus))
        make_run(run, corpus, known)
    record()


def look(config: dict[str, Any]) -> None:
    """Measure starts in the current folder, where everything is made."""
    runs = read_runs(config)
    corpora = {run.corpus: run for run in runs.values()}
    time.sleep(3)  # What changed a moment ago is read again.
    measure("everything, not read by a start before", "-n")
    measure("everything", "-n")
    measure("everything", "--quiet")
    with without([".snakemake"]):
        measure("everything, without `.snakemake`", "-n")
    write({**config, "precision": "double"})
    measure("everything, with other settings", "-n")
    write(config)
    shutil.rmtree("logs/again")
    show = Path("features/show00000.npy")
    times = show.stat()
    show.touch()
    measure("everything, and a show of all features that changed", "-n")
    shutil.rmtree("logs/again")
    os.utime(show, ns=(times.st_atime_ns, times.st_mtime_ns))
    later = [f"results/{run.name}/{stage.name}" for run in runs.values() for stage in run.plan[6:]]
    finals = [
        f"results/{run.name}/{file}"
        for run in runs.values()
        for file in ("ubm.h5", "SHA256SUMS", *run.products)
    ]
    with without([*later, *(f"{stage}.h5" for stage in later), *finals]):
        measure("the first half of all stages", "-n")
    trainings = [f"results/{run.name}" for run in runs.values()]
    gathered = [f"results/features/{name}/corpus.json" for name in corpora]
    shards = [
        str(path) for name in corpora for path in Path(f"results/features/{name}").glob("*.npy")
    ]
    with without(trainings):
        measure("all shards", "-n")
    with without([*trainings, *gathered, *shards[::2]]):
        measure("half of the shards", "-n")
    with without([*trainings, *gathered, *shards]):
        measure("the checked lists", "-n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", help="where to make the results, in a folder of their own")
    parser.add_argument("--shards", type=int, default=1000, help="of each of the features")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--jobs", type=int, help="iterations as so many jobs")
    parser.add_argument("--dimension", type=int, default=2, help="60: mixtures of the real size")
    parser.add_argument("--keep", action="store_true", help="keep the results")
    given = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="planning-", dir=given.folder)
    os.chdir(folder)
    try:
        config = configuration(given.runs, given.shards, given.jobs)
        write(config)
        make_features(given.shards, given.dimension)
        print("| what is there | command | jobs shown | wall s | processor s |")
        print("|---|---|---|---|---|")
        measure("the features", "-n")
        make(config)
        look(config)
    finally:
        if not given.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
