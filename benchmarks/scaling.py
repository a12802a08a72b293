"""How a training scales with workers, ranks and frames: ``python -m benchmarks.scaling``.

Run in a checkout with gmmcore and its extra ``mpi`` installed. Prints the tables of docs/scaling.md
between its texts; ``--output docs/scaling.md`` writes them there. ``--quick`` runs everything,
small: its times say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Before numpy: a worker has one thread.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.scalings.here import make_corpus, seconds
from benchmarks.scalings.measured import (
    PRUNING,
    Message,
    Pieces,
    Reading,
    message,
    pieces_of,
    reading,
    start,
)
from benchmarks.scalings.predicted import replay
from benchmarks.speeds.clock import processor, table
from benchmarks.speeds.data import clusters, mixtures
from benchmarks.speeds.halves import gains_of_two
from gmmcore.core.mixture import GaussianMixture

ROOT = Path(__file__).resolve().parents[1]
DIMENSION = 60
RANKS = (1, 2, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    frames: int = 100_000
    diagonal: tuple[int, ...] = (64, 512, 2048)
    full: tuple[int, ...] = (128, 512, 2048)
    pairs: tuple[int, ...] = (64, 128, 512, 2048)
    rounds: int = 5
    pieces: int = 1000
    components: int = 2048


QUICK = Sizes(frames=5000, diagonal=(8,), full=(8,), pairs=(8,), rounds=1, pieces=20, components=8)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--output", type=Path, help="a Markdown file; tables in it are replaced")
    parser.add_argument("--launcher", default="mpiexec")
    parser.add_argument("--only", nargs="*", help="names of tables")
    given = parser.parse_args(arguments)
    found = {}
    for name, text in tables(QUICK if given.quick else Sizes(), given.launcher, given.only):
        print(f"{name}\n\n{text}\n", flush=True)
        found[name] = text
    if given.output:
        page = given.output.read_text(encoding="utf-8")
        for name, text in found.items():
            begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
            before, rest = page.split(begin)
            page = before + begin + text + "\n" + end + rest.split(end, 1)[1]
        given.output.write_text(page, encoding="utf-8")
    return 0


def tables(sizes: Sizes, launcher: str, only: list[str] | None) -> Iterator[tuple[str, str]]:
    """Yield the tables with their names."""

    def wanted(name: str) -> bool:
        return not only or name in only

    frames = clusters(sizes.frames, DIMENSION)
    if wanted("machine"):
        load = os.getloadavg()[0]
        yield "machine", f"{processor()}, {os.cpu_count()} cores; load {load:.1f} as it began."
    diagonal = mixtures(frames, list(sizes.diagonal), full=False)
    full = mixtures(frames[: sizes.frames // 2], list(sizes.full), full=True)
    chosen = [*diagonal.values(), *full.values()]
    if wanted("workers"):
        yield "workers", workers(chosen, frames, sizes)
    if wanted("here"):
        yield "here", here(chosen, frames, sizes, launcher)
    if not any(map(wanted, ("pieces", "messages", "strong", "cost"))):
        return
    costs = {
        (mixture.components, mixture.is_full): pieces_of(
            mixture, frames[: len(frames) // (2 if mixture.is_full else 1)], sizes.rounds
        )
        for mixture in chosen
    }
    sent, speed = message(launcher), reading(frames)
    if wanted("pieces"):
        yield "pieces", pieces_table(costs, speed)
    if wanted("messages"):
        yield "messages", messages(sent, speed, launcher)
    if wanted("strong"):
        yield "strong", strong(costs, sent, 10**7)
        yield "weak", weak(costs, sent, 10**6)
    if wanted("cost"):
        yield "cost", strong(costs, sent, 10**9)
    if wanted("thousand"):
        yield "thousand", thousand(sizes, launcher)


def named(components: int, is_full: bool) -> str:
    """Name a mixture in a table."""
    return f"{components} {'full' if is_full else 'diagonal'}"


def workers(chosen: list[GaussianMixture], frames: np.ndarray, sizes: Sizes) -> str:
    """Two workers beside two processes that share nothing."""
    rows = []
    for mixture in chosen:
        if mixture.components in sizes.pairs and (mixture.components <= 512 or not mixture.is_full):
            part = frames[: len(frames) // (2 if mixture.is_full else 1)]
            gains = gains_of_two(mixture, part, PRUNING, 3 * sizes.rounds)
            name = named(mixture.components, mixture.is_full)
            share = f"{gains.workers / gains.halves:.0%}"
            rows.append([name, f"{gains.workers:.2f} x", f"{gains.halves:.2f} x", share])
    return table(["components", "2 workers", "2 halves", "workers / halves"], rows)


def here(chosen: list[GaussianMixture], frames: np.ndarray, sizes: Sizes, launcher: str) -> str:
    """Iterations of the program, with all its parts, on ten times the frames."""
    ways = {"1 process": (1, 1), "2 processes": (2, 1), "2 ranks": (1, 2)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = make_corpus(Path(folder), frames, shards=5, times=2)
        for mixture in chosen:
            if mixture.components not in sizes.pairs or mixture.components > 512:
                continue
            found = [seconds(path, mixture, *way, launcher) for way in ways.values()]
            times = [f"{each:.2f}" for each, _ in found]
            same = "yes" if len({digest for _, digest in found}) == 1 else "**no**"
            rows.append([named(mixture.components, mixture.is_full), *times, same])
    return table(["components", *(f"s, {way}" for way in ways), "same bytes"], rows)


def pieces_table(costs: dict[tuple[int, bool], Pieces], speed: Reading) -> str:
    """What a frame costs one worker."""
    rows = []
    size = 4 * DIMENSION
    for (components, is_full), cost in costs.items():
        micro = 1e6 * cost.seconds
        rows.append(
            [
                named(components, is_full),
                f"{np.median(micro):.2f}",
                f"{np.quantile(micro, 0.1):.2f} to {np.quantile(micro, 0.9):.2f}",
                f"{1e6 * size / speed.whole / np.median(micro):.1%}",
                f"{1e6 * size / speed.verified / np.median(micro):.1%}",
                f"{cost.size / 1e6:.1f}",
                f"{1e3 * cost.prepare:.0f}",
                f"{1e3 * cost.finish:.0f}",
            ]
        )
    head = ["components", "µs per frame", "80% of the pieces", "reading", "checksums"]
    return table([*head, "MB of sums", "ms to prepare", "ms of the M-step"], rows)


def messages(sent: Message, speed: Reading, launcher: str) -> str:
    """What reading, messages and starts cost."""
    rows = [
        ["frames, read from the system's cache and verified", f"{speed.whole / 1e9:.1f} GB/s"],
        ["frames, verified only", f"{speed.verified / 1e9:.1f} GB/s"],
        ["frames, copied only", f"{speed.copied / 1e9:.1f} GB/s"],
        ["message between two ranks, empty", f"{1e6 * sent.latency:.0f} µs"],
        ["message between two ranks, large", f"{sent.bandwidth / 1e9:.1f} GB/s"],
        ["sums, added", f"{sent.addition / 1e9:.1f} GB/s"],
        *(
            [f"start and end of {ranks} ranks", f"{start(launcher, ranks):.2f} s"]
            for ranks in (1, 2, 4)
        ),
    ]
    return table(["what", "measured"], rows)


def strong(costs: dict[tuple[int, bool], Pieces], sent: Message, frames: int) -> str:
    """One iteration on the same frames with more and more ranks."""
    rows = []
    for (components, is_full), cost in costs.items():
        one = replay(cost, sent, frames, 1, full=is_full).whole
        for ranks in RANKS:
            found = replay(cost, sent, frames, ranks, full=is_full)
            rows.append(
                [
                    named(components, is_full) if ranks == RANKS[0] else "",
                    f"{ranks}",
                    f"{found.whole:.3g}",
                    f"{one / found.whole / ranks:.0%}",
                    f"{found.waiting / found.whole:.1%}",
                    f"{found.sums / found.whole:.1%}",
                    f"{found.lead / found.whole:.1%}",
                    f"{found.whole * ranks / 3600:.3g}",
                    f"{4e-9 * frames * DIMENSION / ranks:.3g}",
                    f"{found.sent / 1e9:.3g}",
                ]
            )
    head = ["components", "ranks", "s per iteration", "efficiency", "waiting", "sums", "rank 0"]
    return table([*head, "core hours", "GB of frames per rank", "GB sent"], rows)


def weak(costs: dict[tuple[int, bool], Pieces], sent: Message, frames: int) -> str:
    """One iteration where each rank brings frames of its own."""
    rows = []
    for (components, is_full), cost in costs.items():
        times = [replay(cost, sent, frames * n, n, full=is_full).whole for n in RANKS]
        row = [f"{times[0] / seconds:.0%}" for seconds in times]
        rows.append([named(components, is_full), f"{times[0]:.3g}", *row])
    return table(["components", "s, one rank", *(f"{n} ranks" for n in RANKS)], rows)


def thousand(sizes: Sizes, launcher: str) -> str:
    """The sums of a thousand pieces, added by one to five ranks."""
    width = 1 + DIMENSION + DIMENSION * (DIMENSION + 1) // 2
    size = sizes.components * width + 1
    program = [sys.executable, "-m", "benchmarks.scalings.thousand"]
    rows = []
    for ranks in (1, 2, 3, 5):
        command = [launcher, "-n", str(ranks), *program, str(sizes.pieces), str(size)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(output)
        megabytes = [f"{found[name]}" for name in ("largest", "together")]
        rows.append([str(ranks), f"{found['seconds']:.1f}", *megabytes, found["digest"]])
    head = ["ranks", "s", "MiB, largest rank", "MiB, all ranks", "digest of the sums"]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
