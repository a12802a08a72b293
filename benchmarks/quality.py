"""Quality against processor time: ``python -m benchmarks.quality``.

Trains mixtures of diagonal components in several ways, and records after each iteration the
processor seconds so far and the held-out and training log-likelihood per frame. Real features are
given by name and place, as a folder of ``.npy`` files or an ``.npz`` file, one array a show:

    python -m benchmarks.quality --features "Free Spoken Digit Dataset, 30 shows=digits.npz"

The points are appended to docs/quality/points.tsv; what is there is not measured again, so that a
benchmark that was stopped goes on. Tables and curves are written to docs/quality.md and
docs/quality/. ``--quick`` runs everything, small, and its numbers say nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

# Before numpy: one thread throughout, so that processor seconds are those of one core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from benchmarks.qualities.contenders import (
    CONTENDERS,
    KMEANS_ALONE,
    OURS,
    SIDEKIT,
    TOLERANCES,
    peers,
    run,
)
from benchmarks.qualities.corpora import Corpus, demonstration, draws, recorded
from benchmarks.qualities.drawing import drawing
from benchmarks.qualities.points import Curve, Point, Record, append_points, curves, read_points
from benchmarks.speeds.clock import processor, table
from gmmcore.config.demo import DemoSettings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "qualities"
# A component has at least so many frames of training.
_LEAST_FRAMES = 50
# Corpora up to this size are trained on with every seed.
_SMALL = 200_000
# With 64 components they go on for so many times the seconds of SIDEKIT's schedule.
_LONGER = 8.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    components: tuple[int, ...] = (64, 256, 512, 2048)
    draws: tuple[int, ...] = (1_000_000, 5_000_000)
    # Of more frames than a million, only this, and only what the aims are about.
    large: tuple[int, ...] = (512,)
    peers: tuple[int, ...] = (64, 256)
    peer_frames: int = 100_000
    seeds: int = 3
    demonstration: int = 120_000


QUICK = Sizes(
    components=(8, 16),
    draws=(3000,),
    peers=(8,),
    seeds=2,
    demonstration=2000,
)
_LARGE = 2_000_000
# Where frames times components are more, only these: each of them takes minutes.
_HEAVY = 1_000_000_000
_HEAVY_CONTENDERS = (SIDEKIT, OURS, "k-means++")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument(
        "--features", action="append", default=[], metavar="NAME=PATH", help="real features"
    )
    parser.add_argument("--only", default="", help="measure only corpora with this in their name")
    parser.add_argument("--components", type=int, nargs="+", help="measure only these")
    parser.add_argument(
        "--output", type=Path, help="folder of the page; docs, but with --quick none"
    )
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    output = given.output or (None if given.quick else ROOT / "docs")
    place = output / "quality" / "points.tsv" if output else None
    points = read_points(place) if place else []
    for make in corpora(sizes, given.features, given.only):
        for found in measured(make(), sizes, given.components or sizes.components, points):
            points += found
            if place:
                append_points(place, found)
    # As they are in the file, so that the page is the same when nothing is measured.
    page = written(read_points(place) if place else points, output)
    print(page)
    if output:
        (output / "quality.md").write_text(page, encoding="utf-8")
    return 0


def corpora(sizes: Sizes, features: list[str], only: str) -> Iterator[Callable[[], Corpus]]:
    """What makes each corpus, so that no two are in memory at once."""
    makers: dict[str, Callable[[], Corpus]] = {}
    for given in features:
        name, _, path = given.rpartition("=")
        if not name:
            raise SystemExit(f"--features {given}: NAME=PATH was expected")
        makers[name] = lambda name=name, path=path: recorded(name, Path(path))  # type: ignore[misc]
    makers["demonstration corpus"] = lambda: demonstration(DemoSettings(frames=sizes.demonstration))
    for frames in sizes.draws:
        makers[f"draws, {frames:,} frames"] = lambda frames=frames: draws(frames)  # type: ignore[misc]
    return (make for name, make in makers.items() if only in name)


def measured(
    corpus: Corpus, sizes: Sizes, wanted: list[int] | tuple[int, ...], before: list[Point]
) -> Iterator[list[Point]]:
    """Points of all trainings on a corpus that are not among those before."""
    done = {
        (curve.end.corpus, curve.end.components, name, curve.end.seed): curve.end
        for contenders in curves(before, ()).values()
        for name, each in contenders.items()
        for curve in each
    }
    frames = len(corpus.training)
    # What is imported or allocated by a first training is not counted for any.
    for name in CONTENDERS:
        record = Record(corpus, 4, name, 1)
        run(name, corpus.training[:2000], 1, record)
    for components in wanted:
        if components * _LEAST_FRAMES > frames:
            continue
        if frames > _LARGE and components not in sizes.large:
            continue
        for seed in range(1, 1 + (sizes.seeds if frames <= _SMALL else 1)):
            budget: float | None = None
            for name in _HEAVY_CONTENDERS if frames * components > _HEAVY else CONTENDERS:
                key = (corpus.name, components, name, seed)
                if key not in done:
                    record = Record(corpus, components, name, seed)
                    longer = _LONGER if _is_followed(frames, components) else 1.0
                    # There, to go on would take minutes for each.
                    longer = 0.0 if frames * components > _HEAVY else longer
                    run(name, corpus.training, seed, record, budget, longer)
                    done[key] = Curve(tuple(record.points)).end
                    yield record.points
                    _say(record.points)
                if name == SIDEKIT:
                    budget = done[key].seconds
            if components in sizes.peers and frames <= sizes.peer_frames:
                for name, train in peers(components, seed).items():
                    if (corpus.name, components, name, seed) not in done:
                        record = Record(corpus, components, name, seed)
                        train(corpus.training, seed, record)
                        yield record.points
                        _say(record.points)


def _is_followed(frames: int, components: int) -> bool:
    """Whether trainings go on for longer than SIDEKIT's, to see where they converge."""
    return components <= 64 and frames <= _SMALL


def _say(points: list[Point]) -> None:
    end = Curve(tuple(points)).end
    print(
        f"{end.corpus}, {end.components}, {end.contender}, seed {end.seed}: "
        f"{end.seconds:.2f} s, held out {end.held_out:.3f}, then {points[-1].held_out:.3f}",
        flush=True,
    )


class Claim(NamedTuple):
    """Something that is aimed at, and what was measured."""

    what: str
    wanted: str
    found: str
    kept: bool


def written(points: list[Point], output: Path | None) -> str:
    """The page; its pictures are written beside it."""
    found = curves(points, (OURS, *CONTENDERS, KMEANS_ALONE))
    parts = [introduction(), aims(found)]
    name = ""
    for (corpus, components), contenders in found.items():
        if corpus != name:
            parts.append(f"## {corpus[0].upper()}{corpus[1:]}")
            name = corpus
        parts.append(f"### {components} components\n\n" + outcome(contenders))
        slug = Corpus(corpus, np.empty(0, "f"), np.empty(0, "f")).slug
        picture = f"quality/{slug}-{components}.svg"
        if output:
            (output / picture).write_text(
                drawing(f"{components} components", contenders), encoding="utf-8"
            )
        parts.append(f"![{corpus}, {components} components]({picture})")
    parts.append(starts(found))
    parts.append((FOLDER / "notes.md").read_text(encoding="utf-8").strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def introduction() -> str:
    """What is measured, and on what."""
    text = (FOLDER / "introduction.md").read_text(encoding="utf-8").strip()
    text = text.format(processor=processor(), numpy=np.__version__, longer=_LONGER)
    return text if peers(64, 1) else f"{text}\n\n- scikit-learn: not installed, not measured"


def _median(each: list[Curve], of: Callable[[Curve], float]) -> float:
    return median(of(curve) for curve in each)


def _at_equal_time(contenders: dict[str, list[Curve]], name: str) -> tuple[float, float] | None:
    """Held-out and training likelihood by the seconds of SIDEKIT's schedule."""
    reached = [
        curve.at(limit.end.seconds)
        for curve, limit in zip(contenders[name], contenders[SIDEKIT], strict=False)
    ]
    if None in reached or not reached:
        return None
    return (
        median(point.held_out for point in reached if point),
        median(point.training for point in reached if point),
    )


def outcome(contenders: dict[str, list[Curve]]) -> str:
    """The table of a corpus and a size."""
    rows = []
    limit = _median(contenders[SIDEKIT], lambda c: c.end.seconds) if SIDEKIT in contenders else 0.0
    for name, each in contenders.items():
        seconds = _median(each, lambda c: c.end.seconds)
        cells = [name, f"{seconds:.2f}", f"{limit / seconds:.2g} x" if limit else "-"]
        held = [curve.end.held_out for curve in each]
        spread = f" ({min(held):.2f} to {max(held):.2f})" if len(held) > 1 else ""
        cells.append(f"{median(held):.3f}{spread}")
        cells.append(f"{_median(each, lambda c: c.end.training):.3f}")
        own = _at_equal_time(contenders, name) if limit and name in CONTENDERS else None
        cells += [f"{value:.3f}" for value in own] if own else ["-", "-"]
        rows.append(cells)
    head = ["contender", "s to the end", "SIDEKIT's s / these", "held out, end (seeds)"]
    head += ["training, end", "held out, equal time", "training, equal time"]
    return table(head, rows)


def aims(found: dict[tuple[str, int], dict[str, list[Curve]]]) -> str:
    """The table of what is aimed at."""
    claims: list[Claim] = []
    for (corpus, components), contenders in found.items():
        what = f"{corpus}, {components} components: "
        if not {OURS, SIDEKIT} <= set(contenders):
            continue
        ends = {
            name: (
                _median(contenders[name], lambda c: c.end.seconds),
                _median(contenders[name], lambda c: c.end.held_out),
            )
            for name in (OURS, SIDEKIT)
        }
        times = {"draws, 5,000,000 frames": 10.0, "draws, 1,000,000 frames": 3.5}.get(corpus)
        if times and components == 512:
            ratio = ends[SIDEKIT][0] / ends[OURS][0]
            claims.append(
                Claim(
                    f"{what}less processor time than SIDEKIT's method",
                    f"{times:g} x",
                    f"{ratio:.1f} x",
                    ratio >= times,
                )
            )
            more = ends[OURS][1] - ends[SIDEKIT][1]
            claims.append(Claim(f"{what}held out, at the end", "+0.1", f"{more:+.3f}", more >= 0.1))
        equal = _at_equal_time(contenders, OURS)
        if equal:
            more = equal[0] - ends[SIDEKIT][1]
            claims.append(Claim(f"{what}held out, equal time", "above 0", f"{more:+.3f}", more > 0))
        if components == 64 and KMEANS_ALONE in contenders:
            claims += against_scikit_learn(what, contenders)
    rows = [[c.what, c.wanted, c.found, "yes" if c.kept else "**no**"] for c in claims]
    text = "What is aimed at, of the default beside `method: sidekit` and scikit-learn:\n\n"
    return "## Aims\n\n" + text + table(["aim", "wanted", "measured", "reached"], rows)


def against_scikit_learn(what: str, contenders: dict[str, list[Curve]]) -> Iterator[Claim]:
    """Its converged training likelihood, and the processor seconds to come near it."""
    limit = _median(contenders[KMEANS_ALONE], lambda c: c.end.seconds)
    for tolerance in TOLERANCES:
        peer = f"scikit-learn, k-means, tol {tolerance:g}"
        if peer not in contenders:
            continue
        goal = _median(contenders[peer], lambda c: c.end.training) - 0.05
        reached = [
            next((p.seconds for p in curve.points if p.training >= goal), np.inf)
            for curve in contenders[OURS]
        ]
        seconds = median(reached)
        yield Claim(
            f"{what}seconds to within 0.05 of {peer}, in training",
            f"less than its k-means, {limit:.2f} s",
            f"{seconds:.2f} s" if np.isfinite(seconds) else "never",
            seconds < limit,
        )
        ended = _median(contenders[OURS], lambda c: c.end.training)
        yield Claim(
            f"{what}training at the end of the schedule, beside {peer}",
            "-0.05",
            f"{ended - goal - 0.05:+.3f}",
            ended >= goal,
        )


def starts(found: dict[tuple[str, int], dict[str, list[Curve]]]) -> str:
    """Starts compared at 512 components."""
    rows = []
    for (corpus, components), contenders in found.items():
        if components != 512:
            continue
        base = _median(contenders[SIDEKIT], lambda c: c.end.held_out)
        for name in (OURS, "principal, all frames", SIDEKIT, "k-means++", "random frames"):
            if name not in contenders:
                continue
            each = contenders[name]
            equal = _at_equal_time(contenders, name)
            rows.append(
                [
                    corpus,
                    name,
                    *(
                        (
                            f"{_median(each, lambda c: c.points[0].seconds):.2f}",
                            f"{_median(each, lambda c: c.points[0].held_out):.3f}",
                        )
                        if name in ("k-means++", "random frames")
                        else ("-", "-")
                    ),
                    f"{_median(each, lambda c: c.end.seconds):.2f}",
                    f"{_median(each, lambda c: c.end.held_out) - base:+.3f}",
                    f"{equal[0] - base:+.3f}" if equal else "-",
                ]
            )
    if not rows:
        return ""
    head = ["corpus", "start", "s to its first iteration's end", "held out there", "s to the end"]
    head += ["held out, end, beside SIDEKIT", "held out, equal time, beside SIDEKIT"]
    return "## Splits and k-means++ at 512 components\n\n" + table(head, rows)


if __name__ == "__main__":
    raise SystemExit(main())
