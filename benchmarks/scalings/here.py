"""Iterations of `gmmcore iterate` on this machine: alone, with processes and with ranks."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.speeds.data import Frames
from gmmcore.core.initial import controlled
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.moments import merge_moments
from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.data.shards import Shard, ShardWriter
from gmmcore.files import writing
from gmmcore.formats.hdf5 import save_model

__all__ = ["make_corpus", "seconds"]

_ITERATIONS = 4


def make_corpus(folder: Path, frames: Frames, shards: int, times: int) -> Path:
    """Write shards of the frames, which are repeated, and their corpus.json."""
    entries, moments = [], []
    for number in range(shards):
        path = folder / f"{number:03d}.npy"
        with writing(path) as stream, ShardWriter(stream, frames.shape[1]) as writer:
            for _ in range(times):
                writer.add(frames)
            writer.finish({"shard": f"{number:03d}", "recipe_digest": "", "faults": []})
        with Shard(path) as shard:
            moments.append(shard.moments)
            entries.append(CorpusShard.of(shard))
    total = merge_moments(moments)
    Corpus(
        tuple(entries), frames.shape[1], tuple(total.mean.tolist()), tuple(total.scatter.tolist())
    ).write(folder / "corpus.json")
    return folder / "corpus.json"


def seconds(
    path: Path, mixture: GaussianMixture, threads: int, ranks: int, launcher: str
) -> tuple[float, str]:
    """Return the seconds of the fastest iteration but the first, and a digest of the last."""
    folder = path.parent / "run" / "diag" / "x"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    corpus = Corpus.read(path)
    kind = "full" if mixture.is_full else "diag"
    facts = {"stage": kind, "components": mixture.components, "iteration": 0}
    first = controlled(mixture, corpus.moments)
    save_model(folder / "000.h5", first, {**facts, "corpus": corpus.digest})
    command = [] if ranks == 1 else [launcher, "-n", str(ranks)]
    command += [
        sys.executable,
        "-m",
        "gmmcore.cli.main",
        "iterate",
        "--corpus",
        str(path),
        "--final",
    ]
    command += ["--mixture", str(folder / "000.h5"), "--output", str(folder) + ".h5"]
    command += [f"--iterations={_ITERATIONS}", "--llk-gain=-1e9", f"--threads={threads}"]
    command += ["--frames-per-component=1000000000", f"--ranks={ranks}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [float(number) for number in re.findall(r"  ([\d.]+) s  \d+ frames/s", output)]
    last = (folder / f"{_ITERATIONS:03d}.h5").read_bytes()
    return min(found[1:]), hashlib.sha256(last).hexdigest()[:12]
