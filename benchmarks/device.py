"""A graphics processor beside one core, its peak and its peers: ``python -m benchmarks.device``.

Run on a machine with a device and ``pip install 'gmmcore[gpu]'``. Prints tables, and writes them
to docs/performance.md as its last section, each as it is measured; one that fails says why. The
last one needs Snakemake; for scikit-learn on the same device install PyTorch or CuPy. ``--quick``
runs everything, small, and writes nothing; with ``JAX_PLATFORMS=cpu`` the processor does what a
device would, and no number says anything.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before SciPy: scikit-learn gives it arrays of the device.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
from gmmcore.core.gpu.choice import chosen
from gmmcore.core.gpu.device import find, prepare
from gmmcore.core.gpu.program import PRODUCTS

from benchmarks.speeds.clock import ON_DEVICE, measure, processor, table
from benchmarks.speeds.data import Frames, Repeated, clusters, mixtures
from benchmarks.workflow import make_features, run_workflow
from gmmcore.config.steps import FullMStep, MStep
from gmmcore.core.estep import accumulate
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.train import TrainingSettings, train, uniform_start
from gmmcore.errors import GmmcoreError

ROOT = Path(__file__).resolve().parents[1]
DIMENSION = 60


@dataclass(frozen=True)
class Case:
    """A mixture and frames to iterate on, and how long that may take."""

    frames: int
    components: int
    full: bool
    seconds: float | None = None
    times_one_core: float | None = None

    @property
    def name(self) -> str:
        """Name in the tables."""
        kind = "full" if self.full else "diagonal"
        return f"{self.components} {kind}, {self.frames:,} frames x {DIMENSION}"

    @property
    def operations(self) -> float:
        """Operations of the two matrix products of an E-step."""
        width = 1 + DIMENSION + (DIMENSION * (DIMENSION + 1) // 2 if self.full else DIMENSION)
        return 4.0 * self.frames * self.components * width


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    cases: tuple[Case, ...] = (
        Case(1_000_000, 64, False),
        Case(1_000_000, 512, False, times_one_core=100),
        Case(10_000_000, 2048, False, seconds=1.0),
        Case(1_000_000, 128, True),
        Case(1_000_000, 512, True, seconds=2.0),
    )
    own: int = 1_000_000
    one_core: int = 50_000
    rounds: int = 5
    pycave: tuple[int, int] = (1_000_000, 100)
    peer: tuple[int, int, int] = (1_000_000, 64, 10)
    square: int = 8192
    workflow: tuple[int, int] = (5_000_000, 2048)


QUICK = Sizes(
    cases=(Case(4000, 16, False, seconds=1.0), Case(4000, 8, True, times_one_core=100)),
    own=2000,
    one_core=1000,
    rounds=1,
    pycave=(3000, 3),
    peer=(2000, 4, 2),
    square=256,
    workflow=(2000, 4),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=[*SECTIONS])
    parser.add_argument("--output", type=Path, help="docs/performance.md, but with --quick none")
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    chosen("cuda")
    with tempfile.TemporaryDirectory() as cache:
        # Nothing that was compiled before is used again.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        prepare()
        if given.digest:
            print(digest(sizes))
            return 0
        output = given.output or (None if given.quick else ROOT / "docs" / "performance.md")
        measured(sizes, given.only, output)
    return 0


def measured(sizes: Sizes, names: list[str], output: Path | None) -> None:
    """Print the sections, and write what there is after each of them."""
    before = output.read_text(encoding="utf-8") if output and output.exists() else ""
    parts = [before.partition(ON_DEVICE)[0].rstrip(), introduction()]
    print(parts[-1], end="\n\n", flush=True)
    for name in names:
        start = time.perf_counter()
        try:
            parts.append(SECTIONS[name](sizes))
        except (Exception, SystemExit) as error:  # The other sections are worth having.
            parts.append(f"### {name}\n\n**failed**: {type(error).__name__}: {error}")
        print(parts[-1], end="\n\n", flush=True)
        print(f"({name}: {time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
        if output:
            output.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")


def introduction() -> str:
    """What is measured, and on what."""
    return "\n".join(
        [
            ON_DEVICE,
            "",
            f"Measured by `python -m benchmarks.device` on {find().kind}, beside one core of",
            f"{processor()}, numpy {np.__version__}. An iteration is E-step and M-step, the best",
            "of several; its frames lie on the device, unless a table says otherwise. Frames are",
            "draws from 512 Gaussians. *One core* computes with `pruning: 2e-08`, on fewer frames,",
            "and its time is multiplied.",
        ]
    )


def iterate(mixture: GaussianMixture, frames: Any, device: str = "cuda") -> Update:
    """One iteration with the defaults of the configuration."""
    statistics = accumulate(mixture, frames, precision="single", pruning=2e-8, device=device)
    settings = FullMStep() if mixture.is_full else MStep()
    return maximise(mixture, statistics, settings, threads=os.cpu_count() or 1)


@functools.cache
def peak(size: int, name: str) -> float:
    """Operations per second of products of large matrices."""
    import jax
    import jax.numpy as jnp

    matrix = jax.device_put(np.ones((size, size), np.float32))
    algorithm = jax.lax.DotAlgorithmPreset[PRODUCTS[name]]
    product = jax.jit(lambda a: jnp.dot(a, a, precision=algorithm))
    product(matrix).block_until_ready()
    took = measure({name: lambda: product(matrix).block_until_ready()}, 3)[name].wall
    return 2 * size**3 / took


def peaks(sizes: Sizes) -> str:
    """What the device does at best: products of large matrices, and copies."""
    import jax

    size = sizes.square
    rows = []
    for name in PRODUCTS:
        try:
            rows.append([f"products, {name}", f"{peak(size, name) / 1e12:.1f} TFLOP/s"])
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            rows.append([f"products, {name}", f"not here: {str(error).splitlines()[0]}"])
    there = np.ones((size, size), np.float32)
    took = measure({"copy": lambda: jax.device_put(there).block_until_ready()}, 3)["copy"].wall
    rows.append(["copies to the device", f"{there.nbytes / took / 1e9:.1f} GB/s"])
    return "### What the device does at best\n\n" + table(["", "measured"], rows)


@functools.cache
def clusters_once(frames: int) -> Frames:
    """Frames, made once."""
    return clusters(frames, DIMENSION)


@functools.cache
def started(case: Case, sizes: Sizes) -> tuple[GaussianMixture, Frames]:
    """A mixture that was trained a little, and the frames, of which a source repeats some."""
    frames = clusters_once(min(case.frames, sizes.own))
    mixture = mixtures(frames[: sizes.one_core], [case.components], case.full)[case.components]
    return mixture, frames


def iterations(sizes: Sizes) -> str:
    """The table of iterations, with what was aimed at."""
    rows, aims = [], []
    for case in sizes.cases:
        mixture, frames = started(case, sizes)
        source = Repeated(frames, case.frames)
        start = time.perf_counter()
        iterate(mixture, source)
        first = time.perf_counter() - start
        took = measure({"device": lambda m=mixture, s=source: iterate(m, s)}, sizes.rounds)
        few = frames[: sizes.one_core]
        core = measure({"core": lambda m=mixture, f=few: iterate(m, f, "cpu")}, 2)["core"]
        one_core = core.processor * case.frames / len(few)
        seconds = took["device"].wall
        rows.append(
            [
                case.name,
                f"{first:.2f} s",
                f"{seconds:.4f} s",
                f"{case.operations / seconds / 1e12:.1f} TFLOP/s",
                f"{case.operations / seconds / peak(sizes.square, find().products):.0%}",
                f"{one_core:.1f} s",
                f"{one_core / seconds:.0f}",
            ]
        )
        if case.seconds is not None:
            reached = "yes" if seconds < case.seconds else "**no**"
            aims.append([case.name, f"under {case.seconds:g} s", f"{seconds:.3f} s", reached])
        if case.times_one_core is not None:
            found = one_core / seconds
            reached = "yes" if found >= case.times_one_core else "**no**"
            wanted = f"{case.times_one_core:g} times one core"
            aims.append([case.name, wanted, f"{found:.0f}", reached])
    head = ["", "first iteration", "iteration", "its products", "share of the peak"]
    head += ["one core", "times one core"]
    return (
        "### Iterations\n\nThe first one compiles the program, and copies the frames.\n\n"
        + table(head, rows)
        + "\n\n"
        + table(["aim", "wanted", "measured", "reached"], aims)
    )


def products(sizes: Sizes) -> str:
    """The ways to multiply: how fast, and how far from double precision."""
    rows = []
    device, usual = find(), find().products
    for case in sizes.cases[1:4:2] or sizes.cases:
        mixture, frames = started(case, sizes)
        source = Repeated(frames, len(frames))
        exact = accumulate(mixture, source, device="cuda")
        for name in PRODUCTS:
            device.products = name
            try:
                found = accumulate(mixture, source, precision="single", device="cuda")
            except (ValueError, GmmcoreError) as error:
                rows.append([case.name, name, f"not here: {str(error).splitlines()[0]}", "", ""])
                continue
            took = measure({name: lambda m=mixture, s=source: iterate(m, s)}, sizes.rounds)[name]
            away = found.log_likelihood_per_frame - exact.log_likelihood_per_frame
            used = exact.count >= 10
            counts = np.abs(found.count / np.where(used, exact.count, 1) - 1)[used].max()
            rows.append([case.name, name, f"{took.wall:.4f} s", f"{away:.1e}", f"{counts:.1e}"])
        device.products = usual
    head = ["", "products", "iteration", "log-likelihood/frame", "occupancies"]
    return (
        f"### Ways to multiply\n\nDistances from double precision; `{usual}` is used.\n\n"
        + table(head, rows)
    )


def streaming(sizes: Sizes) -> str:
    """What it costs to copy the frames in each iteration."""
    rows = []
    for case in sizes.cases:
        mixture, frames = started(case, sizes)
        kept, copied = Repeated(frames, case.frames), case.frames
        iterate(mixture, kept)
        took = measure(
            {
                "kept": lambda m=mixture, s=kept: iterate(m, s),
                # A source that was not seen before.
                "copied": lambda m=mixture, f=frames, n=copied: iterate(m, Repeated(f, n)),
            },
            sizes.rounds,
        )
        walls = [took[name].wall for name in ("kept", "copied")]
        rows.append([case.name, *(f"{wall:.4f} s" for wall in walls)])
    return "### Frames that do not fit\n\n" + table(["", "on the device", "copied"], rows)


def digest(sizes: Sizes) -> str:
    """A digest of the statistics of two cases."""
    found = hashlib.sha256()
    for case in sizes.cases[:4:3]:
        mixture, frames = started(case, sizes)
        for precision in ("single", "double"):
            statistics = accumulate(mixture, frames, precision=precision, device="cuda")
            for values in (statistics.count, statistics.first, statistics.second):
                found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def determinism(sizes: Sizes) -> str:
    """Whether two processes, one with programs compiled anew, have the same bits."""
    command = [sys.executable, "-m", "benchmarks.device", "--digest"]
    command += ["--quick"] * (sizes is QUICK)
    found = set()
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found.add(done.stdout.split()[-1])
    same = "the same bits" if len(found) == 1 else "**different bits**"
    return f"### Determinism\n\nTwo processes that compile their programs have {same}."


def pycave(sizes: Sizes) -> str:
    """PyCave's published case: 1M x 64, 64 diagonal components, 100 iterations."""
    frames, count = sizes.pycave
    values = np.random.default_rng(1).standard_normal((frames, 64)).astype(np.float32)
    start = uniform_start(values, 64)
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        mixture, source = start, Repeated(values, frames)
        for _ in range(count):
            mixture = iterate(mixture, source).mixture
        took.append(time.perf_counter() - begun)
    reached = "yes" if took[1] < 1.5 else "**no**"
    row = [f"{took[0]:.2f} s", f"{took[1]:.2f} s", "under 1.5 s", "7.7 s", reached]
    head = ["with compiling", "again", "wanted", "PyCave, published", "reached"]
    return f"### {frames:,} x 64, 64 components, {count} iterations\n\n" + table(head, [row])


def scikit_learn(sizes: Sizes) -> str:
    """scikit-learn's GaussianMixture with arrays of the device, where that works."""
    frames, components, count = sizes.peer
    title = f"### scikit-learn on the device: {frames:,} x {DIMENSION}, {count} iterations\n\n"
    values = clusters_once(frames)
    start = uniform_start(values, components)
    rows = []
    for name, arrays in (("torch", _torch), ("cupy", _cupy)):
        try:
            convert, finish = arrays()
            seconds = _peer(convert, finish, values, start, count)
        except Exception as error:  # What is missing is the result.
            rows.append([name, f"not here: {type(error).__name__}: {str(error).splitlines()[0]}"])
        else:
            rows.append([name, f"{seconds:.2f} s"])
    settings = TrainingSettings(-np.inf, "single", 2e-8, device="cuda", frames_per_component=None)

    def own() -> None:
        source = Repeated(values, frames)
        train(source, components, (count,), 0, settings, start=start)

    own()
    rows.append(["gmmcore", f"{measure({'own': own}, 2)['own'].wall:.2f} s"])
    return title + table(["", "measured"], rows)


def _torch() -> tuple[Callable[[Any], Any], Callable[[], None]]:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no device")
    return lambda values: torch.asarray(values, device="cuda"), torch.cuda.synchronize


def _cupy() -> tuple[Callable[[Any], Any], Callable[[], None]]:
    import cupy

    return cupy.asarray, cupy.cuda.get_current_stream().synchronize


def _peer(
    convert: Callable[[Any], Any],
    finish: Callable[[], None],
    values: Frames,
    start: GaussianMixture,
    count: int,
) -> float:
    import warnings

    import sklearn
    from sklearn.mixture import GaussianMixture as Peer

    mixture = Peer(
        start.components,
        covariance_type="diag",
        init_params="random",  # Others are not for arrays of devices.
        tol=0,
        max_iter=count,
        weights_init=convert(start.weights.astype(np.float32)),
        means_init=convert(start.means.astype(np.float32)),
        precisions_init=convert(start.precisions.astype(np.float32)),
    )
    there = convert(values)
    best = np.inf
    with sklearn.config_context(array_api_dispatch=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            begun = time.perf_counter()
            mixture.fit(there)
            finish()
            best = min(best, time.perf_counter() - begun)
    return best


def workflow(sizes: Sizes) -> str:
    """The whole time of a training through Snakemake, with and without the device."""
    frames, components = sizes.workflow
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_features(folder / "features", frames, DIMENSION)
        for name in ("packed", "cuda", "cpu"):
            config: dict[str, object] = {
                "run": name,
                "components": components if name != "packed" else 1,
                "device": name if name != "packed" else "cpu",
                "report": False,
                "features": {"list": "features"},
            }
            seconds = run_workflow(folder, config, os.cpu_count() or 1)
            if name != "packed":
                lines = _lines_of_last_stage(folder / "logs" / name)
                rows.append([name, f"{seconds:.1f} s", lines])
    title = f"### The workflow: {frames:,} frames x {DIMENSION} to {components} components\n\n"
    title += "The frames are packed before.\n\n"
    return title + table(["device", "whole time", "last stage"], rows)


def _lines_of_last_stage(logs: Path) -> str:
    """The line of the times in the log of the last stage."""
    stages = sorted(logs.glob("diag/*.log"), key=lambda path: int(path.stem))
    return stages[-1].read_text(encoding="utf-8").splitlines()[-1].partition(": ")[2]


SECTIONS: dict[str, Callable[[Sizes], str]] = {
    "peak": peaks,
    "iterations": iterations,
    "pycave": pycave,
    "products": products,
    "streaming": streaming,
    "sklearn": scikit_learn,
    "determinism": determinism,
    "workflow": workflow,
}


if __name__ == "__main__":
    sys.exit(main())
