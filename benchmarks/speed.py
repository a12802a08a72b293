"""gmmcore beside its peers and beside the limit of the machine: ``python -m benchmarks.speed``.

Run in a checkout with gmmcore installed; `benchmarks/requirements.txt` has the peers. Prints
tables and writes them to docs/performance.md. ``--quick`` runs everything, small, and
writes nothing: its times say nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Before numpy: threads of the matrix products are the contenders' own business.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count() or 1))

import numpy as np

from benchmarks.speeds import peers
from benchmarks.speeds.clock import ON_DEVICE, Seconds, measure, processor, table
from benchmarks.speeds.data import Frames, Repeated, clusters, mixtures, speech
from benchmarks.speeds.halves import gains_of_two
from benchmarks.speeds.memory import peak
from benchmarks.workflow import costs
from gmmcore.core.estep import accumulate
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.train import TrainingSettings, train

ROOT = Path(__file__).resolve().parents[1]
PRUNING = 2e-8
DIMENSION = 60


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    frames: int = 100_000
    diagonal: tuple[int, ...] = (64, 512, 2048)
    full: tuple[int, ...] = (128, 512)
    full_frames: int = 50_000
    rounds: int = 7
    peer_rounds: int = 2
    pycave_frames: int = 1_000_000
    pycave_iterations: int = 100
    scaling: tuple[tuple[int, int], ...] = (
        *((10_000, c) for c in (64, 512, 4096)),
        *((100_000, c) for c in (64, 512, 4096)),
        *((1_000_000, c) for c in (64, 512)),
        (10_000_000, 64),
    )
    memory: tuple[tuple[int, int], ...] = ((2048, 100_000), (2048, 500_000))
    accuracy: int = 128
    workflow: tuple[tuple[int, int], ...] = ((200_000, 64), (1_000_000, 512), (5_000_000, 512))


QUICK = Sizes(
    frames=2000,
    diagonal=(8, 128),
    full=(8,),
    full_frames=1000,
    rounds=1,
    peer_rounds=1,
    pycave_frames=30_000,
    pycave_iterations=2,
    scaling=((1000, 8), (2000, 8)),
    memory=((128, 5000),),
    accuracy=8,
    workflow=((2000, 2),),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--output", type=Path, help="docs/performance.md, but with --quick none")
    parser.add_argument(
        "--speech",
        type=Path,
        default=ROOT / "tests" / "reference" / "data" / "features" / "sidekit_none",
        help="folder of SIDEKIT's feature files (energy and 19 cepstra) for the speech tables",
    )
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    output = given.output or (None if given.quick else ROOT / "docs" / "performance.md")
    parts = []
    claims: list[Claim] = []
    for part in sections(sizes, given.speech, claims):
        print(part, end="\n\n", flush=True)
        parts.append(part)
    rows = [[c.what, c.wanted, c.found, "yes" if c.kept else "**no**"] for c in claims]
    parts.insert(1, "## Aims\n\n" + table(["aim", "wanted", "measured", "reached"], rows))
    print(parts[1])
    if output:
        before = output.read_text(encoding="utf-8") if output.exists() else ""
        parts += ["".join(before.partition(ON_DEVICE)[1:]).strip()] * (ON_DEVICE in before)
        output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


class Claim(NamedTuple):
    """Something that is aimed at, and what was measured."""

    what: str
    wanted: str
    found: str
    kept: bool


def sections(sizes: Sizes, speech_folder: Path, claims: list[Claim]) -> Iterator[str]:
    """The pieces of the page, as they are measured; `claims` grows with them."""
    yield introduction(sizes)
    frames = clusters(sizes.frames, DIMENSION)
    data = {"clusters": frames}
    spoken = speech(speech_folder, sizes.frames)
    if spoken is not None:
        data["speech"] = spoken
    for name, values in data.items():
        yield f"## Diagonal covariances, {name}\n\n" + diagonal(name, values, sizes, claims)
    for name, values in data.items():
        yield f"## Full covariances, {name}\n\n" + full(name, values, sizes, claims)
    yield "## 100 iterations: PyCave's published case\n\n" + pycave(sizes, claims)
    yield "## Growth\n\n" + scaling(frames, sizes)
    yield "## Memory\n\n" + memory(sizes, claims)
    yield "## Accuracy\n\n" + accuracy(data, sizes, claims)
    yield "## The workflow itself\n\n" + workflow(sizes, claims)
    yield (ROOT / "benchmarks" / "speeds" / "notes.md").read_text(encoding="utf-8").strip()


def introduction(sizes: Sizes) -> str:
    """What is measured, and on what."""
    lines = [
        "# Performance",
        "",
        f"Measured by `python -m benchmarks.speed` on {processor()}, {os.cpu_count()} cores,",
        f"numpy {np.__version__}; load {os.getloadavg()[0]:.1f} as it began.",
        "Every table is one run, contenders in turn, the best of several",
        "rounds: wall seconds, and processor seconds in brackets. Ratios are of processor seconds,",
        "which other programs disturb less; those of two workers are of wall seconds, and",
        "suffer where a machine is shared. An iteration is E-step and M-step, from",
        f"one mixture, on {sizes.frames:,} frames x {DIMENSION} (full: {sizes.full_frames:,}).",
        "*Floor* is the dense float32 matrix products [x^2, x] times coefficients, and posteriors",
        "times [x^2, x], on one core, with nothing around them. *Exact* is `pruning: 0`, *default*",
        f"is `pruning: {PRUNING:g}`; both `precision: single`. *Clusters* are draws from 512",
        "Gaussians in random order; *speech* is real speech with deltas, whose posteriors are",
        "softer. *2 workers* is what a team of two processes gains over one, *2 halves* what the",
        "machine itself does: two processes that share nothing, with half of the frames each,",
        "measured in turn with the team. scikit-learn works on the same float32 frames;",
        "*float64* is how it works on frames in double precision.",
        "",
        *(f"- {line}" for line in peers.missing()),
    ]
    return "\n".join(lines)


def diagonal(name: str, frames: Frames, sizes: Sizes, claims: list[Claim]) -> str:
    """The table of diagonal covariances."""
    rows = []
    for components, mixture in mixtures(frames, list(sizes.diagonal), full=False).items():
        times = contest(mixture, frames, sizes, peers.floor(mixture, frames))
        what = f"diagonal, {name}, {components}"
        rows.append(
            [str(components), *cells(times), *two_workers(what, mixture, frames, sizes, claims)]
        )
        limit = 1.0 if components >= 2048 else 1.25
        found = times["default"].processor / times["floor"].processor
        claims.append(
            Claim(f"{what}: default / floor", f"at most {limit}", f"{found:.2f}", found <= limit)
        )
        claims += against_peer(what, times)
    return table(["C", *HEAD, *GAINS], rows)


def full(name: str, frames: Frames, sizes: Sizes, claims: list[Claim]) -> str:
    """The table of full covariances."""
    frames = frames[: sizes.full_frames]
    rows = []
    for components, mixture in mixtures(frames, list(sizes.full), full=True).items():
        what = f"full, {name}, {components}"
        times = contest(mixture, frames, sizes, None)
        rows.append(
            [str(components), *cells(times), *two_workers(what, mixture, frames, sizes, claims)]
        )
        claims += against_peer(what, times)
    return table(["C", *HEAD, *GAINS], rows)


def two_workers(
    what: str, mixture: GaussianMixture, frames: Frames, sizes: Sizes, claims: list[Claim]
) -> list[str]:
    """What two workers gain, and two processes that share nothing."""
    gains = gains_of_two(mixture, frames, PRUNING, sizes.rounds)
    share = gains.workers / gains.halves
    claims.append(Claim(f"{what}: 2 workers / 2 halves", "95%", f"{share:.0%}", share >= 0.95))
    return [f"{gains.workers:.2f} x", f"{gains.halves:.2f} x"]


def against_peer(what: str, times: dict[str, Seconds]) -> Iterator[Claim]:
    """Ten times scikit-learn, one thread each."""
    for peer in ("scikit-learn", "scikit-learn float64"):
        for own in ("exact", "default"):
            if peer in times:
                found = times[peer].processor / times[own].processor
                yield Claim(f"{what}: {peer} / {own}", "10", f"{found:.1f}", found >= 10)


HEAD = [
    "floor",
    "exact, 1 thread",
    "default, 1 thread",
    "scikit-learn, 1 thread",
    "scikit-learn, 2 threads",
    "exact / floor",
    "default / floor",
    "scikit-learn / exact",
    "scikit-learn / default",
    "others",
]
GAINS = ["2 workers", "2 halves"]


def contest(
    mixture: GaussianMixture, frames: Frames, sizes: Sizes, limit: peers.Work | None
) -> dict[str, Seconds]:
    """Best times of all that can run."""
    quick: dict[str, Callable[[], object]] = {} if limit is None else {"floor": limit}
    quick["exact"] = peers.ours(mixture, frames, 1, 0.0)
    quick["default"] = peers.ours(mixture, frames, 1, PRUNING)
    times = measure(quick, sizes.rounds)
    slow: dict[str, Callable[[], object]] = {}
    if not any("scikit" in line for line in peers.missing()):
        slow["scikit-learn"] = peers.scikit_learn(mixture, frames, 1)
        slow["scikit-learn 2"] = peers.scikit_learn(mixture, frames, 2)
        if mixture.components <= 512:  # more would take gigabytes
            slow["scikit-learn float64"] = peers.scikit_learn(mixture, frames.astype(float), 1)
    with tempfile.TemporaryDirectory() as folder:
        for name, work in (
            ("SIDEKIT", peers.sidekit(mixture, frames)),
            ("Kaldi", peers.kaldi(mixture, frames, Path(folder))),
        ):
            if work is not None:
                slow[name] = work
        return times | measure(slow, sizes.peer_rounds)


def cells(times: dict[str, Seconds]) -> list[str]:
    """A row of times and ratios."""

    def shown(name: str) -> str:
        if name not in times:
            return "-"
        return f"{times[name].wall:.3f} ({times[name].processor:.3f})"

    def ratio(name: str, to: str) -> str:
        if name not in times or to not in times:
            return "-"
        return f"{times[name].processor / times[to].processor:.2f}"

    own = ("floor", "exact", "default", "scikit-learn", "scikit-learn 2")
    others = ", ".join(f"{name} {shown(name)}" for name in times if name not in own)
    return [
        *map(shown, own),
        ratio("exact", "floor"),
        ratio("default", "floor"),
        ratio("scikit-learn", "exact"),
        ratio("scikit-learn", "default"),
        others or "-",
    ]


def pycave(sizes: Sizes, claims: list[Claim]) -> str:
    """1M x 64, 64 diagonal components: whole runs of EM, two threads each."""
    dimension, components = 64, 64
    frames = clusters(sizes.pycave_frames, dimension, seed=1)
    tenth = frames[: len(frames) // 10]
    start = mixtures(tenth[:20_000], [components], full=False)[components]
    clock = time.perf_counter()
    mixture = start
    with peers.team(frames, 2, PRUNING, start) as step:
        for _ in range(sizes.pycave_iterations):
            mixture = step(mixture)
    own = time.perf_counter() - clock
    rows = [[f"gmmcore, {len(frames):,} frames", f"{own:.1f}", "1"]]
    if not any("scikit" in line for line in peers.missing()):
        few = max(1, sizes.pycave_iterations // 10)
        for values in (tenth, tenth.astype(float)):
            work = peers.scikit_learn(start, values, 2)
            clock = time.perf_counter()
            for _ in range(few):
                work()
            once = (time.perf_counter() - clock) / few
            whole = once * 10 * sizes.pycave_iterations
            found = whole / own
            peer = f"scikit-learn, {values.dtype}"
            what = f"1M x 64, 64 components, 100 iterations, 2 threads: {peer} / default"
            claims.append(Claim(what, "20", f"{found:.1f}", found >= 20))
            rows.append(
                [
                    f"{peer}, {few} iterations of {len(tenth):,} frames, times "
                    f"{10 * sizes.pycave_iterations // few}",
                    f"{whole:.1f}",
                    f"{whole / own:.1f}",
                ]
            )
    head = [f"{sizes.pycave_iterations} iterations, 2 threads", "wall s", "times ours"]
    return table(head, rows)


def scaling(frames: Frames, sizes: Sizes) -> str:
    """Cost a frame, component and dimension."""
    rng = np.random.default_rng(2)
    rows = []
    for count, components in sizes.scaling:
        mixture = GaussianMixture.from_covariances(
            np.full(components, 1 / components),
            frames[rng.integers(0, len(frames), components)],
            np.ones((components, DIMENSION)),
        )
        source = Repeated(frames, count)

        def work(mixture: GaussianMixture = mixture, source: Repeated = source) -> None:
            accumulate(mixture, source, precision="single", pruning=PRUNING)

        seconds = measure({"": work}, 3 if count * components < 10**8 else 1)[""].processor
        each = seconds / (count * components * DIMENSION) * 1e12
        rows.append([f"{count:,}", str(components), f"{seconds:.3f}", f"{each:.1f}"])
    head = ["frames", "components", "processor s", "ps per frame x component x dimension"]
    return table(head, rows)


def memory(sizes: Sizes, claims: list[Claim]) -> str:
    """Peak of processes of their own."""
    rows = []
    for components, frames in sizes.memory:
        for threads in (1, 2):
            used = peak(components, DIMENSION, frames, threads)
            rows.append([str(components), f"{frames:,}", str(threads), f"{used:.0f}"])
            what = f"memory, {components} x {DIMENSION}, {frames:,} frames, {threads} threads"
            claims.append(Claim(what, "under 300 MB", f"{used * 1.048576:.0f} MB", used < 286))
    return table(["components", "frames", "threads", "peak MiB"], rows)


def accuracy(data: dict[str, Frames], sizes: Sizes, claims: list[Claim]) -> str:
    """Whole trainings, in single precision with default pruning and in double exact."""
    rows = []
    for name, values in data.items():
        deviation = values.std(axis=0, dtype=float)
        for shift in (0, 1000):
            frames = (values[: min(20_000, sizes.full_frames)] + shift * deviation).astype(
                np.float32
            )
            ends = []
            for precision, pruning in (("double", 0.0), ("single", PRUNING)):
                ends.append(trained_log_likelihood(frames, sizes.accuracy, precision, pruning))
            rows.append([name, str(shift), *(f"{end:.7f}" for end in ends)])
            found = abs(ends[0] - ends[1])
            rows[-1].append(f"{found:.1e}")
            what = f"training, {name}, shifted by {shift} deviations: single - double"
            claims.append(Claim(what, "1e-5 a frame", f"{found:.1e}", found < 1e-5))
    head = ["data", "shift, deviations", "double, exact", "single, default", "difference"]
    return table(head, rows)


def workflow(sizes: Sizes, claims: list[Claim]) -> str:
    """Whole trainings through Snakemake, with SIDEKIT's schedule, on two cores."""
    rows = []
    for frames, components in sizes.workflow:
        found = costs(frames, components, 2)
        what = f"workflow, {frames:,} frames to {components}"
        added = found.an_iteration
        claims.append(
            Claim(f"{what}: added to an iteration", "0.35 s", f"{added:.2f} s", added <= 0.35)
        )
        if frames >= 5_000_000:
            share = found.share
            claims.append(
                Claim(f"{what}: share of the E-steps", "85%", f"{share:.0%}", share >= 0.85)
            )
        rows.append(
            [
                *(f"{frames:,}", str(components), str(found.iterations)),
                *(f"{seconds:.1f}" for seconds in (found.idle, found.whole, found.kernels)),
                *(f"{found.share:.0%}", f"{added:.2f}"),
            ]
        )
    head = ["frames", "components", "iterations", "s, Snakemake alone", "s, training with that"]
    head += ["s, E-steps alone", "their share", "s added to an iteration"]
    return table(head, rows)


def trained_log_likelihood(
    frames: Frames, components: int, precision: str, pruning: float
) -> float:
    """Log-likelihood per frame, in double, after a whole training by splitting."""
    settings = TrainingSettings(-np.inf, precision, pruning, threads=2)
    mixture, _ = train(frames, components, settings=settings)
    return accumulate(mixture, frames, threads=2).log_likelihood_per_frame


if __name__ == "__main__":
    sys.exit(main())
