"""How good mixtures are, and what they cost: ``python -m benchmarks.quality``.

Prints a table with a row for each aim, and the measurements. Features of speech are given by name
and place, as a folder of ``.npy`` files or an ``.npz`` file, one array a show; draws take their
place if none are given. The last fifth of every show is held out:

    python -m benchmarks.quality --output FOLDER --features "digits=digits.npz"

Each training is appended to FOLDER/points.jsonl; what is there is not measured again, so that a
benchmark that was stopped goes on, and ``--only`` prints all parts that are there. Curves are
written as SVG to FOLDER. ``--quick`` runs everything, small, and its numbers say nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import islice, product
from math import inf
from pathlib import Path
from statistics import mean
from typing import Any

# Before numpy: one thread throughout, so that CPU seconds are those of one core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn import datasets
from sklearn.mixture import GaussianMixture as Peer

import gmmcore
from benchmarks.aims import (
    BEFORE,
    CONVERGED,
    DEFAULT,
    K_MEANS,
    PEER,
    PLUS,
    SIDEKIT,
    Key,
    Point,
    aims,
    append_points,
    draw,
    read_points,
    tables,
)
from benchmarks.common import cpu_name
from gmmcore.core.schedule import SIDEKIT_ITERATIONS

Array = npt.NDArray[Any]
Split = tuple[Array, Array]
_SPEECH_FRAMES, _OUTLIER_FRAMES, _FOLDS, _REPEATS = 20_000, 24_000, 3, 7
_EVALUATED = 20_000
_MOST_SIDEKIT = 1_000_000  # Each iteration of SIDEKIT's method reads all frames.
PARTS = ("speech", "small", "outliers", "fits", "draws")


@dataclass(frozen=True)
class Sizes:
    """How much is measured; fits are of frames, dimension and components."""

    speech: tuple[tuple[str, int], ...] = (("diag", 16), ("diag", 64), ("diag", 256), ("full", 16))
    small: int | None = None
    values: tuple[float, ...] = (-1e3, -1e4, -1e5, -1e6, -1e8, -1e10)
    outliers: int = 33
    draws: tuple[tuple[int, int], ...] = ((1_000_000, 512), (5_000_000, 512))
    fits: tuple[tuple[int, int, int], ...] = ((1000, 3, 5), (20_000, 10, 32))
    drawn: int = 30_000


QUICK = Sizes((("diag", 8), ("full", 4)), 3, (-1e3, -1e10), 4, ((3000, 8),), ((500, 3, 3),), 2000)


def recorded(path: Path) -> Split:
    """Read features; the last fifth of every show is held out: the same speakers, other frames."""
    if path.is_dir():
        shows = [np.load(file) for file in sorted(path.glob("*.npy"))]
    else:
        with np.load(path) as archive:
            shows = [archive[show] for show in sorted(archive.files)]
    parts = [np.split(show.astype(np.float32), [len(show) * 4 // 5]) for show in shows]
    training, held_out = (np.concatenate(each) for each in zip(*parts, strict=True))
    return training, held_out


def draws(frames: int, gaussians: int = 700, dimension: int = 60) -> Split:
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
    values = np.empty((frames + _EVALUATED, dimension), np.float32)
    # In blocks, so that nothing but the frames themselves takes much memory.
    for start in range(0, len(values), 100_000):
        block = values[start : start + 100_000]
        drawn = rng.choice(gaussians, len(block), p=weights)
        rng.standard_normal(dtype=np.float32, out=block)
        for gaussian in np.unique(drawn):
            chosen = np.flatnonzero(drawn == gaussian)
            block[chosen] = block[chosen] @ factors[gaussian].T + means[gaussian]
    return values[:frames], values[frames:]


def thinned(frames: Array, most: int = _EVALUATED) -> Array:
    """Return at most so many of the frames, evenly spaced."""
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).astype(int)]


def spoilt(split: Split, value: float) -> list[Split]:
    """Replace one value of one frame of training, unless it is 0."""
    training = thinned(split[0], _OUTLIER_FRAMES).copy()
    if value:
        training[len(training) // 2, -1] = value
    return [(training, split[1])]


def small_sets() -> Iterator[tuple[str, Array]]:
    """Yield small data sets: made ones, and those of the packages that are installed."""
    rng = np.random.default_rng(0)
    tight = {"n_features": 5, "centers": 8, "cluster_std": 0.3, "center_box": (-20, 20)}
    scales = 10.0 ** np.arange(-3, 3)
    yield "moons", datasets.make_moons(1500, noise=0.05, random_state=0)[0]
    yield "circles", datasets.make_circles(1500, noise=0.05, factor=0.5, random_state=0)[0]
    stretched = datasets.make_blobs(1500, random_state=170)[0] @ [[0.6, -0.6], [-0.4, 0.8]]
    yield "anisotropic blobs", stretched
    yield "tight blobs", datasets.make_blobs(4000, random_state=1, **tight)[0]
    yield "swiss roll", datasets.make_swiss_roll(2000, noise=0.1, random_state=0)[0]
    yield "lognormal", rng.lognormal(size=(2000, 4))
    yield "friedman1", np.column_stack(datasets.make_friedman1(1500, random_state=0))
    yield "blobs", datasets.make_blobs(3000, n_features=4, centers=4, random_state=5)[0]
    yield "Student's t", rng.standard_t(2, (2000, 4))
    yield "duplicates", rng.normal(size=(300, 3))[rng.integers(300, size=1500)]
    yield "mixed scales", scales * datasets.make_blobs(1500, n_features=6, random_state=1)[0]
    for name in ("iris", "wine", "breast_cancer", "diabetes", "digits"):
        yield name, getattr(datasets, f"load_{name}")().data
    frames = {}
    if find_spec("statsmodels"):
        import statsmodels.datasets as econometric

        names = ["fair", "star98", "engel", "anes96", "macrodata", "ccard", "sunspots", "heart"]
        names.append("randhie")
        frames |= {name: getattr(econometric, name).load_pandas().data for name in names}
    if find_spec("vega_datasets"):
        from vega_datasets import data

        names = ["cars", "seattle_weather", "airports"]
        frames |= {name: getattr(data, name)() for name in names}
    for name, frame in frames.items():
        yield name, frame.select_dtypes("number").dropna().to_numpy(float)


def folds(values: Array) -> list[Split]:
    """Hold out thirds; a column that is constant in a training is left out of it."""
    parts = np.array_split(np.random.default_rng(0).permutation(len(values)), _FOLDS)
    found = []
    for part in parts:
        training, held_out = np.delete(values, part, axis=0), values[part]
        varies = np.ptp(training, axis=0) > 0
        found.append((training[:, varies], held_out[:, varies]))
    return found


OURS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    SIDEKIT: {"method": "sidekit"},
    # The default's course in version 6a4f46c, in keys of today.
    BEFORE: {"last_gain": inf, "iterations": SIDEKIT_ITERATIONS, "variance": {"floor": 0.01}},
    CONVERGED: {"last_gain": 1e-4, "full": {"iterations": 300}},
}
THEIRS: dict[str, dict[str, Any]] = {
    PEER: {},
    K_MEANS: {"max_iter": 1000},
    PLUS: {"max_iter": 1000, "init_params": "k-means++"},
}


@dataclass(frozen=True)
class Job:
    """Trainings of a contender, one on each of some splits; `curve` records each iteration."""

    key: Key
    splits: Callable[[], list[Split]]
    curve: bool = False

    def run(self) -> list[Point]:
        """Return the points of a curve, or of several splits the shortest time and means."""
        curves = [self._train(*split) for split in self.splits()]
        if len(curves) == 1:
            return curves[0]
        seconds, training, held_out, falls = zip(*(astuple(c[-1])[5:] for c in curves), strict=True)
        return [Point(*self.key, min(seconds), mean(training), mean(held_out), max(falls))]

    def _train(self, *split: Array) -> list[Point]:
        """Train, with a clock that stands still while mixtures are evaluated."""
        points: list[Point] = []
        *_, kind, components, contender = self.key
        spent, since = 0.0, time.process_time()

        def add(mixture: gmmcore.GaussianMixture, fall: float = 0.0) -> None:
            nonlocal spent, since
            spent += time.process_time() - since
            training, held_out = (
                gmmcore.accumulate(mixture, thinned(each), threads=1).log_likelihood_per_frame
                for each in split
            )
            points.append(Point(*self.key, spent, training, held_out, fall))
            since = time.process_time()

        if contender in OURS:
            report = (lambda _, mixture: add(mixture)) if self.curve else None
            keys = {"threads": 1, "report": report, **OURS[contender]}
            found = gmmcore.train(split[0], components, kind, **keys)
            gains = found.history["gain"]
            add(found.mixture, max(-gains[np.isfinite(gains)], default=0.0))
        else:
            own = {"covariance_type": kind, "random_state": 0, **THEIRS[contender]}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                peer = Peer(components, **own).fit(split[0])
            parameters = (peer.weights_, peer.means_, peer.covariances_)
            add(gmmcore.GaussianMixture.from_covariances(*parameters))
        return points


def jobs(parts: list[str], features: dict[str, Path], sizes: Sizes) -> Iterator[Job]:
    """Yield what is measured. Frames are read or drawn when they are needed, and then kept."""
    speech = {name: cache(partial(recorded, path)) for name, path in features.items()}
    speech = speech or {"draws": cache(partial(draws, sizes.drawn))}
    if "speech" in parts:
        for (name, read), (kind, components) in product(speech.items(), sizes.speech):
            for contender in (SIDEKIT if kind == "diag" else CONVERGED, DEFAULT, K_MEANS, PLUS):
                yield Job(
                    ("speech", name, kind, components, contender),
                    lambda read=read: [(thinned(read()[0], _SPEECH_FRAMES), read()[1])],
                    contender in (SIDEKIT, DEFAULT),
                )
    if "small" in parts:
        for name, values in islice(small_sets(), sizes.small):
            for components, contender in product((4, 10), (DEFAULT, PEER)):
                key = ("small", name, "diag", components, contender)
                yield Job(key, partial(folds, values))
    if "outliers" in parts:
        read = next(iter(speech.values()))
        for value, contender in product((0.0, *sizes.values), (DEFAULT, PEER)):
            key = ("outliers", f"{value:g}", "diag", sizes.outliers, contender)
            yield Job(key, lambda value=value: spoilt(read(), value))
    if "fits" in parts:
        for frames, dimension, components in sizes.fits:
            drawn = draws(frames, components, dimension)
            for contender in (DEFAULT, PEER):
                key = ("fits", f"{frames:,} x {dimension}", "diag", components, contender)
                yield Job(key, lambda drawn=drawn: [drawn] * _REPEATS)
    if "draws" in parts:
        for frames, components in sizes.draws:
            drawn_once = cache(partial(draws, frames))
            for contender in (SIDEKIT, BEFORE, DEFAULT):
                if contender != SIDEKIT or frames <= _MOST_SIDEKIT:
                    key = ("draws", f"{frames:,} draws", "diag", components, contender)
                    yield Job(key, lambda drawn=drawn_once: [drawn()], curve=True)


def main() -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--features", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only this")
    parser.add_argument("--output", type=Path, default=Path("quality"), help="folder to write to")
    given = parser.parse_args()
    features = {name: Path(path) for name, _, path in (f.rpartition("=") for f in given.features)}
    if "" in features:
        parser.error("--features: NAME=PATH was expected")
    given.output.mkdir(parents=True, exist_ok=True)
    place = given.output / "points.jsonl"
    done = {point.key for point in read_points(place)}
    for name in (
        *OURS,
        *THEIRS,
    ):  # What is imported or compiled by a first training is not counted.
        Job(("", "", "full", 2, name), lambda: [(np.eye(50, 3), np.eye(50, 3))]).run()
    for job in jobs(given.only, features, QUICK if given.quick else Sizes()):
        if job.key not in done:
            found = job.run()
            append_points(place, found)
            print(*job.key, f"{found[-1].seconds:.2f} s", file=sys.stderr)
    # As they are in the file, so that the tables are the same when nothing is measured.
    points = read_points(place)
    print(f"{cpu_name()}, numpy {np.__version__}, scikit-learn {sklearn.__version__}, one thread\n")
    print(aims(points), *tables(points), sep="\n\n")
    draw(points, given.output)


if __name__ == "__main__":
    main()
