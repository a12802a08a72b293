"""Held-out shows: an over-fitted training, where it stops, the best size, and what it costs.

    python -m benchmarks.held_out                                  # the demonstration's corpora
    python -m benchmarks.held_out --features /data/features --pattern "{show}.h5"

Trains 64 components on few frames (`--features`: on these) and then full covariances without a
prior, with and without `stop_on: held_out`; sizes to 256 with full covariances on the
demonstration, scored by `gmmcore score`; and all iterations of a training with and without its
held-out shows.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MADE = {"list": "corpus/shows.txt", "pattern": "{show}.h5"}
SIZES = [16, 32, 64, 128, 256]


def command(folder: Path, *arguments: str) -> str:
    """What a command of a user prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        arguments, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def train(folder: Path, config: dict[str, Any]) -> str:
    """Run the workflow; what it prints."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"report": False, **config}))
    workflow = ["-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "all"]
    return command(folder, sys.executable, *workflow)


def over_fitted(folder: Path, features: dict[str, Any] | None) -> None:
    """Print the lines of a training of many parameters and few frames, and of one that stops."""
    config: dict[str, Any] = {
        "components": 64,
        "llk_gain": -1000.0,
        "held_out": 0.2,
        "full": {"iterations": 4, "prior": 0},
        "features": features or MADE,
        "runs": {"free": {}, "stopped": {"stop_on": "held_out"}},
    }
    if features is None:
        config["demo"] = {"folder": "corpus", "frames": 12_000}
    log = train(folder, config)
    for run in config["runs"]:
        print("\n".join(re.findall(rf"^{run}  .*", log, re.MULTILINE)), flush=True)
    print("\n".join(re.findall(r"^warning: .*", log, re.MULTILINE)))
    for run in config["runs"]:
        print(f"{run}: {score(folder, [f'results/{run}/ubm.h5'])[0]:.4f} on the held-out shows")


def score(folder: Path, mixtures: list[str]) -> list[float]:
    """Held-out log-likelihood per frame of mixtures."""
    table = command(folder, "gmmcore", "score", *mixtures)
    return [float(word) for word in table.splitlines()[-1].split("\t")[2:]]


def sizes(folder: Path) -> None:
    """Print the held-out log-likelihood of all sizes on the demonstration, of 64 components."""
    config = {
        "held_out": 0.1,
        "full": {"iterations": 8},
        "features": MADE,
        "demo": {"folder": "corpus"},
        "runs": {f"of{size}": {"components": size} for size in SIZES},
    }
    train(folder, config)
    for kind in ("diag", "full"):
        found = score(folder, [f"results/of{size}/{kind}/{size}.h5" for size in SIZES])
        best = SIZES[found.index(max(found))]
        values = ", ".join(f"{s}: {value:.3f}" for s, value in zip(SIZES, found, strict=True))
        print(f"{kind}  {values}; best {best}", flush=True)


def cost(folder: Path, components: int, frames: int) -> None:
    """Print the processor time of the iterations with and without 5 % held out."""
    config: dict[str, Any] = {
        "run": "cost",
        "components": components,
        "llk_gain": -1000.0,
        "held_out": 0.05,
        "features": MADE,
        "demo": {"folder": "corpus", "frames": frames},
    }
    train(folder, config)
    corpora = sorted(
        folder.glob("results/features/*/corpus.json"),
        key=lambda path: -sum(shard.stat().st_size for shard in path.parent.glob("*.npy")),
    )
    given = ["--corpus", str(corpora[0]), "--llk-gain=-1000"]
    totals = dict.fromkeys(("without", "with"), 0.0)
    for place in sorted(folder.glob("results/cost/diag/*/"), key=lambda path: int(path.name)):
        limit = len([*place.glob("[0-9]*.h5")]) - 1
        final = ["--final"] * (int(place.name) == components)
        times: dict[str, list[float]] = {name: [] for name in totals}
        for _ in range(5):
            for name in totals:
                held = ["--held-out", str(corpora[1])] * (name == "with")
                first = folder / f"again/{name}/diag/{place.name}/000.h5"
                command(folder, "rm", "-rf", str(first.parent))
                first.parent.mkdir(parents=True)
                first.write_bytes((place / "000.h5").read_bytes())
                size = [f"--iterations={limit}", "--output", f"{first.parent}.h5"]
                before = sum(os.times()[2:4])
                made = ["gmmcore", "iterate", "--mixture", str(first), *given, *size, *final, *held]
                command(folder, *made)
                times[name].append(sum(os.times()[2:4]) - before)
        for name in totals:
            totals[name] += statistics.median(times[name])
    share = totals["with"] / totals["without"] - 1
    print(
        f"{components} components, {frames} frames of speech, all stages: processor seconds "
        f"{totals['without']:.1f} without, {totals['with']:.1f} with 5 % held out, {share:+.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", type=Path, help="a folder of features, or their list")
    parser.add_argument("--pattern", default="{show}.h5")
    parser.add_argument("--components", type=int, default=512, help="of the last part")
    parser.add_argument("--frames", type=int, default=400_000, help="of the last part")
    given = parser.parse_args()
    features: dict[str, Any] | None = None
    if given.features:
        features = {"list": str(given.features.resolve()), "pattern": given.pattern}
        features |= {"delta": True, "double_delta": True, "normalisation": "cmvn"}
    with tempfile.TemporaryDirectory(prefix="gmmcore-held-out-") as place:
        over_fitted(Path(place, "few"), features)
        sizes(Path(place, "sizes"))
        cost(Path(place, "cost"), given.components, given.frames)


if __name__ == "__main__":
    main()
