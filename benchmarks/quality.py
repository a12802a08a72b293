"""Quality against CPU time: ``python -m benchmarks.quality``.

Trains mixtures of diagonal components in several ways, and records after each iteration the CPU
seconds so far and the held-out and training log-likelihood per frame. Real features are given by
name and place, as a folder of ``.npy`` files or an ``.npz`` file, one array a show:

    python -m benchmarks.quality --output FOLDER --features "Digits, 30 shows=digits.npz"

Points are appended to FOLDER/points.tsv; what is there is not measured again, so that a benchmark
that was stopped goes on. Prints tables in Markdown, and writes the curves as SVG to FOLDER.
``--quick`` runs everything, small, and its numbers say nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

# Before numpy: one thread throughout, so that CPU seconds are those of one core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt

from benchmarks.common import PRECISION, PRUNING, Frames, cpu_name, improved, table
from gmmcore.core.estep import accumulate
from gmmcore.core.frames import ArraySource
from gmmcore.core.initial import one_gaussian
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.schedule import SIDEKIT_ITERATIONS
from gmmcore.core.settings import SIDEKIT_BOUNDS, MStep, TrainingSettings
from gmmcore.core.train import moments, train

Array = npt.NDArray[np.float64]

OURS, SIDEKIT = "default", "SIDEKIT"
PEERS = {f"scikit-learn, tol {tolerance:g}": tolerance for tolerance in (1e-3, 1e-5)}
_GAIN = 0.01  # SIDEKIT's llk_gain.
_LLOYD = 4
_SAMPLE = 20_000
_PRIOR_FRAMES = 10.0
# A component has at least so many frames of training.
_LEAST_FRAMES = 50
# Corpora up to this size are trained on with every seed, and with 64 components for longer.
_SMALL = 200_000
_LONGER = 8.0
# Where frames times components are more, only these: each of them takes minutes.
_HEAVY = 1_000_000_000
_HEAVY_CONTENDERS = (SIDEKIT, OURS, "k-means++")
_EVALUATED = 20_000


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    components: tuple[int, ...] = (64, 256, 512, 2048)
    draws: tuple[int, ...] = (1_000_000, 5_000_000)
    peers: tuple[int, ...] = (64, 256)
    seeds: int = 3


QUICK = Sizes((8, 16), (3000,), (8,), 2)


@dataclass(frozen=True)
class Corpus:
    """Frames of a name."""

    name: str
    training: Frames
    held_out: Frames


@dataclass(frozen=True)
class Point:
    """A mixture on its way; `phase` is ``more`` for iterations after the schedule's end."""

    corpus: str
    components: int
    contender: str
    seed: int
    phase: str
    seconds: float
    held_out: float
    training: float


class Record:
    """A clock of CPU time that stands still while mixtures are evaluated."""

    def __init__(self, corpus: Corpus, components: int, contender: str, seed: int) -> None:
        self.components = components
        self._key = (corpus.name, components, contender, seed)
        training = corpus.training
        small = training if len(training) <= 5 * _EVALUATED else _thinned(training)
        self._frames = [_thinned(corpus.held_out), small]
        self.points: list[Point] = []
        self._before = 0.0
        self._since = time.process_time()

    @property
    def seconds(self) -> float:
        """CPU seconds so far."""
        return self._before + time.process_time() - self._since

    def add(self, mixture: GaussianMixture, phase: str = "schedule") -> None:
        """Add a point; the clock goes on after it."""
        self._before = self.seconds
        values = [
            accumulate(mixture, each, precision=PRECISION, pruning=PRUNING).log_likelihood_per_frame
            for each in self._frames
        ]
        self.points.append(Point(*self._key, phase, self._before, *values))
        self._since = time.process_time()


def _thinned(frames: Frames) -> Frames:
    """Return at most 20,000 of the frames, evenly spaced."""
    if len(frames) <= _EVALUATED:
        return frames
    return frames[np.linspace(0, len(frames) - 1, _EVALUATED).astype(int)]


def recorded(name: str, path: Path) -> Corpus:
    """Read features; the last fifth of every show is held out: the same speakers, other frames."""
    if path.is_dir():
        shows = [np.load(file) for file in sorted(path.glob("*.npy"))]
    else:
        with np.load(path) as archive:
            shows = [archive[show] for show in sorted(archive.files)]
    parts = [np.split(show.astype(np.float32), [len(show) * 4 // 5]) for show in shows]
    training, held_out = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Corpus(name, training, held_out)


def draws(frames: int, gaussians: int = 700, dimension: int = 60) -> Corpus:
    """Draw from Gaussians with full covariances that overlap, of different weights.

    A mixture of diagonal components has no truth to find here, as it has none in speech.
    """
    rng = np.random.default_rng(0)
    means = 1.2 * rng.standard_normal((gaussians, dimension))
    weights = rng.dirichlet(np.full(gaussians, 2.0))
    factors = np.empty((gaussians, dimension, dimension), np.float32)
    for factor in factors:
        rotation = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        factor[:] = 0.8 * rotation * np.exp(0.6 * rng.standard_normal(dimension))
    values = np.empty((frames + 100_000, dimension), np.float32)
    # In blocks, so that nothing but the frames themselves takes much memory.
    for start in range(0, len(values), 100_000):
        block = values[start : start + 100_000]
        drawn = rng.choice(gaussians, len(block), p=weights)
        rng.standard_normal(dtype=np.float32, out=block)
        for gaussian in np.unique(drawn):
            chosen = np.flatnonzero(drawn == gaussian)
            block[chosen] = block[chosen] @ factors[gaussian].T + means[gaussian]
    return Corpus(f"draws, {frames:,} frames", values[:frames], values[frames:])


Train = Callable[[Frames, int, Record], GaussianMixture]


def _ours(method: str, frames_per_component: int | None) -> Train:
    own: dict[str, Any] = {}
    if method == "sidekit":
        bounds = MStep(**SIDEKIT_BOUNDS["diag"])
        own = {"diag": bounds, "robust": False, "last_gain": np.inf}

    def training(frames: Frames, seed: int, record: Record) -> GaussianMixture:
        settings = TrainingSettings(
            llk_gain=_GAIN,
            method=method,
            frames_per_component=frames_per_component,
            seed=seed,
            precision=PRECISION,
            pruning=PRUNING,
            **own,
        )
        return train(
            frames,
            record.components,
            SIDEKIT_ITERATIONS if own else None,
            settings=settings,
            report=lambda _, mixture: record.add(mixture),
        )[0]

    return training


def _from_start(start: Callable[[Frames, int, int], GaussianMixture]) -> Train:
    def training(frames: Frames, seed: int, record: Record) -> GaussianMixture:
        mixture = start(frames, record.components, seed)
        gain, before = np.inf, -np.inf
        while gain >= _GAIN:
            mixture, value = improved(mixture, frames)
            gain, before = value - before, value
            record.add(mixture)
        return mixture

    return training


def random_frames(frames: Frames, components: int, seed: int) -> GaussianMixture:
    """Take random frames as means and the variances of all frames, as Kaldi begins."""
    overall = one_gaussian(moments(ArraySource(frames)))
    chosen = np.random.default_rng(seed).choice(len(frames), components, replace=False)
    variances = np.repeat(overall.covariances, components, axis=0)
    weights = np.full(components, 1 / components)
    return GaussianMixture.from_covariances(weights, frames[chosen], variances, variances)


def k_means(frames: Frames, components: int, seed: int) -> GaussianMixture:
    """Take k-means++ and a few iterations of Lloyd on a sample, in deviations of all frames."""
    overall = one_gaussian(moments(ArraySource(frames)))
    deviations = np.sqrt(overall.covariances[0])
    rng = np.random.default_rng(seed)
    count = min(len(frames), max(_SAMPLE, 100 * components))
    sample = frames[np.sort(rng.choice(len(frames), count, replace=False))]
    scaled = ((sample - overall.means[0]) / deviations).astype(np.float32)
    norms = np.einsum("ij,ij->i", scaled, scaled)
    # k-means++ as published: one candidate for each centre.
    centres = np.empty((components, scaled.shape[1]), np.float32)
    nearest = np.full(count, np.inf, np.float32)
    chosen = int(rng.integers(count))
    for index in range(components):
        centres[index] = scaled[chosen]
        distances = norms - 2 * (scaled @ centres[index]) + norms[chosen]
        np.minimum(nearest, np.maximum(distances, 0), out=nearest)
        sums = np.cumsum(nearest, dtype=float)
        chosen = min(int(np.searchsorted(sums, rng.random() * sums[-1])), count - 1)
    for _ in range(_LLOYD):
        sizes, means, _ = _clusters(scaled, centres)
        centres = np.where(sizes > 0, means, centres).astype(np.float32)
    sizes, means, squares = _clusters(scaled, centres)
    # The variances within all clusters count for a few frames of each, so that none is zero.
    within = np.maximum(squares.sum(axis=0) / count, 1e-3)
    variances = (squares + _PRIOR_FRAMES * within) / (sizes + _PRIOR_FRAMES)
    weights = np.maximum(sizes[:, 0], 1.0)
    return GaussianMixture.from_covariances(
        weights / weights.sum(),
        overall.means + deviations * np.where(sizes > 0, means, centres),
        overall.covariances * variances,
        np.repeat(overall.covariances, components, axis=0),
    )


def _clusters(scaled: Frames, centres: Frames) -> tuple[Array, Array, Array]:
    """Return sizes, means and sums of squares about them of the frames nearest to each centre."""
    half = 0.5 * np.einsum("ij,ij->i", centres, centres)
    labels = np.concatenate(
        [
            (scaled[start : start + 4096] @ centres.T - half).argmax(axis=1)
            for start in range(0, len(scaled), 4096)
        ]
    )
    sizes = np.zeros((len(centres), 1))
    means, squares = np.zeros(centres.shape), np.zeros(centres.shape)
    for index in np.unique(labels):
        own = scaled[labels == index]
        sizes[index] = len(own)
        means[index] = own.mean(axis=0, dtype=float)
        squares[index] = ((own - means[index]) ** 2).sum(axis=0)
    return sizes, means, squares


# SIDEKIT is the first: its time is what all may use.
CONTENDERS: dict[str, Train] = {
    SIDEKIT: _ours("sidekit", None),
    OURS: _ours("principal", 500),
    "principal, all frames": _ours("principal", None),
    "SIDEKIT's split, subsets": _ours("sidekit", 500),
    "random frames": _from_start(random_frames),
    "k-means++": _from_start(k_means),
}


def run(name: str, frames: Frames, seed: int, record: Record, until: float | None) -> None:
    """Train to the end of the schedule, then go on with EM on all frames.

    It goes on until these CPU seconds, None for as long as its schedule took, times `_LONGER`
    where the corpus and the mixture are small.
    """
    mixture = CONTENDERS[name](frames, seed, record)
    ended = record.points[-1].seconds
    is_small = record.components <= 64 and len(frames) <= _SMALL
    until = (ended if until is None else until) * (_LONGER if is_small else 1)
    heavy = len(frames) * record.components > _HEAVY
    while record.seconds < until and not heavy:
        mixture, _ = improved(mixture, frames)
        # Long ends have a point where the time has grown by a fiftieth.
        if record.seconds >= min(1.02 * record.points[-1].seconds, until):
            record.add(mixture, "more")


def scikit_learn(tolerance: float, frames: Frames, seed: int, record: Record) -> None:
    """Train scikit-learn's mixture from k-means to a tolerance."""
    from sklearn.mixture import GaussianMixture as Peer

    peer = Peer(
        record.components,
        covariance_type="diag",
        tol=tolerance,
        max_iter=2000,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(frames)
    record.add(GaussianMixture.from_covariances(peer.weights_, peer.means_, peer.covariances_))


def measured(
    corpus: Corpus, sizes: Sizes, wanted: Sequence[int], before: list[Point]
) -> Iterator[list[Point]]:
    """Yield the points of all trainings on a corpus that are not among those before."""
    done = ends(before)
    frames = corpus.training
    # What is imported or allocated by a first training is not counted for any.
    for name in CONTENDERS:
        run(name, frames[:2000], 1, Record(corpus, 4, name, 1), None)
    peers = PEERS if importlib.util.find_spec("sklearn") else {}
    for tolerance in peers.values():
        scikit_learn(tolerance, frames[:2000], 1, Record(corpus, 4, "", 1))
    for components in wanted:
        if components * _LEAST_FRAMES > len(frames):
            continue
        heavy = len(frames) * components > _HEAVY
        for seed in range(1, 1 + (sizes.seeds if len(frames) <= _SMALL else 1)):
            until: float | None = None
            contenders = [*(_HEAVY_CONTENDERS if heavy else CONTENDERS)]
            if components in sizes.peers and len(frames) <= _SMALL:
                contenders += peers
            for name in contenders:
                key = (corpus.name, components, name, seed)
                if key not in done:
                    record = Record(corpus, components, name, seed)
                    if name in CONTENDERS:
                        run(name, frames, seed, record, until)
                    else:
                        scikit_learn(PEERS[name], frames, seed, record)
                    done |= ends(record.points)
                    yield record.points
                if name == SIDEKIT:
                    until = done[key].seconds


def ends(points: Iterable[Point]) -> dict[tuple[str, int, str, int], Point]:
    """Return the end of the schedule of each training."""
    return {
        (point.corpus, point.components, point.contender, point.seed): point
        for point in points
        if point.phase == "schedule"
    }


def written(points: list[Point], folder: Path | None) -> Iterator[str]:
    """Yield a table for each corpus and size, of medians over seeds; draw the curves beside it."""
    order = [*CONTENDERS, *PEERS]
    points = sorted(
        (point for point in points if point.contender in order),
        key=lambda p: (p.corpus, p.components, order.index(p.contender), p.seed, p.seconds),
    )
    for (corpus, components), own in groupby(points, key=lambda p: (p.corpus, p.components)):
        curves = [
            [*curve] for _, curve in groupby(own, key=lambda p: (order.index(p.contender), p.seed))
        ]
        limit = median(_end(c).seconds for c in curves if c[0].contender == SIDEKIT)
        rows = []
        for name, each in groupby(curves, key=lambda curve: curve[0].contender):
            seeds = [*each]
            equal = [_by(curve, limit) for curve in seeds] if name in CONTENDERS else []
            rows.append(
                [
                    name,
                    f"{median(_end(curve).seconds for curve in seeds):.2f}",
                    f"{median(_end(curve).held_out for curve in seeds):.3f}",
                    f"{median(_end(curve).training for curve in seeds):.3f}",
                    f"{median(p.held_out for p in equal if p):.3f}" if any(equal) else "-",
                ]
            )
        head = ["contender", "s", "held out", "training", "held out, equal time"]
        yield f"### {corpus}, {components} components\n\n{table(head, rows)}\n"
        if folder:
            slug = re.sub(r"[^a-z0-9]+", "-", corpus.lower()).strip("-")
            draw(curves, folder / f"{slug}-{components}.svg")


def _end(curve: list[Point]) -> Point:
    """Return the end of the schedule."""
    return [point for point in curve if point.phase == "schedule"][-1]


def _by(curve: list[Point], seconds: float) -> Point | None:
    """Return the last point within the time."""
    return next((point for point in reversed(curve) if point.seconds <= seconds), None)


def draw(curves: list[list[Point]], path: Path) -> None:
    """Draw the held-out log-likelihood by CPU seconds, of the first seed; ends are dots."""
    import altair as alt

    curves = [curve for curve in curves if curve[0].seed == 1]
    found = [_end(curve).held_out for curve in curves] + [curve[-1].held_out for curve in curves]
    # What a schedule goes through in its first stages is left out: the ends are compared.
    least = min(found) - 0.7 * max(max(found) - min(found), 0.2)
    rows = [
        {
            "contender": point.contender,
            "seconds": round(point.seconds, 3),
            "held_out": round(point.held_out, 3),
            "end": point == _end(curve),
        }
        for curve in curves
        for point in curve
        if point.held_out >= least
    ]
    base = alt.Chart(alt.InlineData(values=rows), width=420, height=260).encode(
        x=alt.X("seconds:Q", title="CPU seconds", scale=alt.Scale(type="log", nice=False)),
        y=alt.Y(
            "held_out:Q", title="held-out log-likelihood per frame", scale=alt.Scale(zero=False)
        ),
        color=alt.Color(
            "contender:N",
            sort=[curve[0].contender for curve in curves],
            legend=alt.Legend(title=None, labelLimit=200),
        ),
    )
    dots = base.transform_filter("datum.end").mark_circle(size=50, opacity=1)
    (base.mark_line(strokeWidth=1.5) + dots).save(path)


def append_points(path: Path, points: list[Point]) -> None:
    """Append points to a tab-separated file; make it, with a header line, if it is not there."""
    lines = [] if path.exists() else ["\t".join(field.name for field in fields(Point))]
    for point in points:
        cells = (f"{c:.4f}" if isinstance(c, float) else str(c) for c in astuple(point))
        lines.append("\t".join(cells))
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def read_points(path: Path) -> list[Point]:
    """Read the points of a file; none where it is absent."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    kinds = (str, int, str, int, str, float, float, float)
    return [
        Point(*(kind(cell) for kind, cell in zip(kinds, line.split("\t"), strict=True)))
        for line in lines
    ]


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument(
        "--features", action="append", default=[], metavar="NAME=PATH", help="real features"
    )
    parser.add_argument("--components", type=int, nargs="+", help="measure only these")
    parser.add_argument("--output", type=Path, help="folder of points and curves")
    given = parser.parse_args()
    sizes = QUICK if given.quick else Sizes()
    makers: list[Callable[[], Corpus]] = []
    for each in given.features:
        name, _, path = each.rpartition("=")
        if not name:
            parser.error(f"--features {each}: NAME=PATH was expected")
        makers.append(partial(recorded, name, Path(path)))
    makers += [partial(draws, frames) for frames in sizes.draws]
    place = given.output / "points.tsv" if given.output else None
    points = read_points(place) if place else []
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
    for make in makers:  # One after the other, so that no two corpora are in memory at once.
        for found in measured(make(), sizes, given.components or sizes.components, points):
            points += found
            if place:
                append_points(place, found)
            end = [*ends(found).values()][-1]
            print(
                f"{end.corpus}, {end.components}, {end.contender}: {end.seconds:.2f} s",
                file=sys.stderr,
            )
    print(f"{cpu_name()}, numpy {np.__version__}, one thread\n")
    # As they are in the file, so that the tables are the same when nothing is measured.
    for text in written(read_points(place) if place else points, given.output):
        print(text)


if __name__ == "__main__":
    main()
