"""What `benchmarks.quality` measured: the points in their file, the aims, tables and curves."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from math import inf
from pathlib import Path
from statistics import mean, median

from benchmarks.common import table

DEFAULT, SIDEKIT, BEFORE, CONVERGED = "default", "SIDEKIT's method", "before", "converged"
PEER, K_MEANS, PLUS = "scikit-learn", "scikit-learn, k-means", "scikit-learn, k-means++"
# Smaller differences of held-out log-likelihoods per frame are ties.
_TIE = 1e-3
# What single precision may change in a log-likelihood per frame.
_ROUNDING = 1e-4
# Small sets without outliers and discrete columns, a few of which would decide a mean.
_MEAN = (
    *("moons", "circles", "anisotropic blobs", "tight blobs"),
    *("swiss roll", "lognormal", "friedman1"),
)
# Part, data, kind of the covariances, components and contender.
Key = tuple[str, str, str, int, str]
# The ends of all trainings, by data, kind and components, then by contender.
Cases = dict[tuple[str, str, int], dict[str, "Point"]]


@dataclass(frozen=True)
class Point:
    """A mixture on its way, or at the end: CPU seconds, log-likelihoods per frame, largest fall."""

    part: str
    data: str
    kind: str
    components: int
    contender: str
    seconds: float
    training: float
    held_out: float
    fall: float

    @property
    def key(self) -> Key:
        """What tells the training from others."""
        return self.part, self.data, self.kind, self.components, self.contender


def append_points(path: Path, points: Iterable[Point]) -> None:
    """Append points to a file, a line of JSON each."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(astuple(point)) + "\n" for point in points)


def read_points(path: Path) -> list[Point]:
    """Read the points of a file; none where it is absent."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Point(*json.loads(line)) for line in lines]


def _cases(points: Iterable[Point], part: str) -> Cases:
    found: Cases = defaultdict(dict)
    for point in points:
        if point.part == part:
            found[point.data, point.kind, point.components][point.contender] = point
    return found


def aims(points: list[Point]) -> str:
    """Write a table of the aims whose parts were measured."""
    rows: list[list[str]] = []

    def row(aim: str, values: list[float], least: float = -inf, most: float = inf) -> None:
        ends = dict.fromkeys(f"{end:.3g}" for end in (min(values), max(values)))
        wanted = f"at least {least:g}" if most == inf else f"at most {most:.3g}"
        is_met = least <= min(values) and max(values) <= most
        rows.append([aim, " to ".join(ends), wanted, "yes" if is_met else "no"])

    speech: dict[str, list[list[float]]] = defaultdict(list)
    for (_, kind, count), each in _cases(points, "speech").items():
        peers = each[K_MEANS], each[PLUS]
        gap = each[DEFAULT].training - max(peer.training for peer in peers)
        ratio = each[DEFAULT].seconds / min(peer.seconds for peer in peers)
        speech[kind].append([count, gap, ratio])
        if kind == "full":
            speech["own"].append([count, each[DEFAULT].training - each[CONVERGED].training])
    if diag := speech["diag"]:
        sizes = ", ".join(dict.fromkeys(f"{count}" for count, *_ in diag))
        name = f"speech, {sizes} diag: training likelihood beside scikit-learn's better start"
        row(name, [gap for _, gap, _ in diag], -0.01)
        for name, most, is_large in (("below 64", 0.6, False), ("from 64 on", 1 / 3, True)):
            if ratios := [ratio for count, _, ratio in diag if (count >= 64) == is_large]:
                row(f"the same, {name}: time beside scikit-learn's faster start", ratios, most=most)
    for kind, name in (("full", "scikit-learn's better start"), ("own", "our own, converged")):
        if found := speech[kind]:
            row(f"speech, {found[0][0]} full: the same beside {name}", [f[1] for f in found], -0.05)
    if small := _cases(points, "small"):
        both = [(each[DEFAULT], each[PEER]) for each in small.values()]
        gains = [ours.held_out - theirs.held_out for ours, theirs in both]
        own_gains = [gain for gain, case in zip(gains, small, strict=True) if case[0] in _MEAN]
        share, name = len(gains) / 55, f"{len(gains)} small cases, held out, beside scikit-learn"
        row(f"{name}: wins", [sum(gain > _TIE for gain in gains)], int(35 * share))
        row(f"{name}: losses", [sum(gain < -_TIE for gain in gains)], most=int(15 * share))
        row(f"{name}: mean difference of {len(own_gains)}", [mean(own_gains)], 0)
        row(f"{name}: median difference of all", [median(gains)], 0)
        times = [sum(end.seconds for end in ends) for ends in zip(*both, strict=True)]
        row(f"{len(gains)} small cases: time beside scikit-learn", [times[0] / times[1]], most=1)
    if bad := _cases(points, "outliers"):
        clean, *spoilt = (each[DEFAULT].held_out for each in bad.values())
        row("one bad value: loss on clean frames", [clean - each for each in spoilt], most=0.05)
    if draws := _cases(points, "draws"):
        pairs = [(each[DEFAULT], each[BEFORE]) for each in draws.values()]
        name = f"{' and '.join(data for data, *_ in draws)}, beside the default of before"
        row(f"{name}: time", [now.seconds / before.seconds for now, before in pairs], most=1.5)
        row(f"{name}: held out", [now.held_out - before.held_out for now, before in pairs], -_TIE)
    for (data, _, count), each in _cases(points, "fits").items():
        ratio = each[DEFAULT].seconds / each[PEER].seconds
        row(f"{data} to {count}: time beside scikit-learn", [ratio], most=0.5 if count > 5 else 1)
    falls = [point.fall for point in points]
    row("largest fall of the likelihood in an iteration", [max(falls, default=0)], most=_ROUNDING)
    return table(["aim", "measured", "wanted", "reached"], rows)


def tables(points: list[Point]) -> Iterator[str]:
    """Yield a table for each part: likelihoods of training and held out, and CPU seconds."""
    for part in dict.fromkeys(point.part for point in points):
        cases = _cases(points, part)
        names = list(dict.fromkeys(name for each in cases.values() for name in each))
        rows = [
            [f"{data}, {count} {kind}"]
            + [
                f"{end.training:.3f} / {end.held_out:.3f} ({end.seconds:.3g})" if end else "-"
                for end in map(each.get, names)
            ]
            for (data, kind, count), each in cases.items()
        ]
        yield f"### {part}\n\n{table(['training / held out (s)', *names], rows)}"


def draw(points: list[Point], folder: Path) -> None:
    """Draw held-out log-likelihoods by CPU seconds where there are curves; ends are dots."""
    import altair as alt

    curves: dict[tuple[str, str, int], list[Point]] = defaultdict(list)
    for point in points:
        if point.part in ("speech", "draws"):
            curves[point.data, point.kind, point.components].append(point)
    for (data, kind, count), own in curves.items():
        ends = {point.contender: point for point in own}
        found = [end.held_out for end in ends.values()]
        # What a training goes through in its first stages is left out: the ends are compared.
        least = min(found) - 0.7 * max(max(found) - min(found), 0.2)
        rows = [
            {
                "contender": point.contender,
                "seconds": round(point.seconds, 3),
                "held_out": round(point.held_out, 3),
                "end": point is ends[point.contender],
            }
            for point in own
            if point.held_out >= least
        ]
        base = alt.Chart(alt.InlineData(values=rows), width=420, height=260).encode(
            x=alt.X("seconds:Q", title="CPU seconds").scale(type="log", nice=False, padding=12),
            y=alt.Y("held_out:Q", title="held-out log-likelihood per frame").scale(zero=False),
            color=alt.Color("contender:N", sort=[*ends]).legend(title=None, labelLimit=200),
        )
        dots = base.transform_filter("datum.end").mark_circle(size=60, opacity=1)
        name = re.sub(r"[^a-z0-9]+", "-", f"{data} {count} {kind}".lower())
        (base.mark_line(strokeWidth=1.5) + dots).save(folder / f"{name}.svg")
