"""Curves as SVG, written without any other package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from math import ceil, floor, log10

from benchmarks.qualities.points import Curve, Point

__all__ = ["drawing"]

# Colours that the colour-blind can tell apart (Okabe and Ito).
_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#999999")
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 380, 300, 52, 30, 60
_LEGEND = 215


def drawing(title: str, contenders: dict[str, list[Curve]]) -> str:
    """Held-out and training log-likelihood against processor seconds; one seed of each.

    The iterations of the schedule are a line, those after it are dashed, its end is a dot.
    """
    first = {name: each[0] for name, each in contenders.items()}
    width = 2 * (_LEFT + _WIDTH) + _GAP + _LEGEND
    height = _TOP + _HEIGHT + 45
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, (name, value) in enumerate(
        (("held-out", lambda p: p.held_out), ("training", lambda p: p.training))
    ):
        left = _LEFT + index * (_WIDTH + _GAP)
        lines += _panel(f"{title}: {name} log-likelihood per frame", first, value, left, index)
    left = 2 * (_LEFT + _WIDTH) + _GAP - 30
    for row, (name, curve) in enumerate(first.items()):
        y = _TOP + 12 + 18 * row
        colour = _COLOURS[row % len(_COLOURS)]
        if len(curve.points) > 1:
            lines.append(f'<path d="M{left} {y - 4}h22" stroke="{colour}" stroke-width="1.6"/>')
        lines.append(f'<circle cx="{left + 11}" cy="{y - 4}" r="3" fill="{colour}"/>')
        lines.append(f'<text x="{left + 28}" y="{y}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(
    title: str, curves: dict[str, Curve], value: Callable[[Point], float], left: int, index: int
) -> Iterator[str]:
    ends = [value(curve.end) for curve in curves.values()]
    ends += [value(curve.points[-1]) for curve in curves.values()]
    # What a schedule goes through in its first stages is left out: the ends are compared.
    room = max(max(ends) - min(ends), 0.2)
    low, high = min(ends) - 0.7 * room, max(ends) + 0.08 * room
    shown = [p.seconds for c in curves.values() for p in c.points if value(p) >= low]
    earliest = log10(max(min(shown), 1e-3)) - 0.05
    latest = log10(max(shown)) + 0.05

    def x(seconds: float) -> float:
        return left + _WIDTH * (log10(max(seconds, 1e-3)) - earliest) / (latest - earliest)

    def y(likelihood: float) -> float:
        return _TOP + _HEIGHT * (high - likelihood) / (high - low)

    bottom = _TOP + _HEIGHT
    yield f'<text x="{left}" y="{_TOP - 10}">{escape(title)}</text>'
    yield (
        f'<clipPath id="p{index}"><rect x="{left}" y="{_TOP}" width="{_WIDTH}" '
        f'height="{_HEIGHT}"/></clipPath>'
    )
    for decade in range(floor(earliest), ceil(latest) + 1):
        for digit in (1, 2, 5):
            seconds = digit * 10.0**decade
            if earliest <= log10(seconds) <= latest:
                yield f'<path d="M{x(seconds):.1f} {_TOP}v{_HEIGHT}" stroke="#ddd"/>'
                yield (
                    f'<text x="{x(seconds):.1f}" y="{bottom + 14}" text-anchor="middle">'
                    f"{seconds:g}</text>"
                )
    step = _step((high - low) / 6)
    for count in range(ceil(low / step), floor(high / step) + 1):
        place = y(count * step)
        yield f'<path d="M{left} {place:.1f}h{_WIDTH}" stroke="#ddd"/>'
        yield (
            f'<text x="{left - 4}" y="{place + 4:.1f}" text-anchor="end">{count * step:.4g}</text>'
        )
    yield (
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#555"/>'
    )
    yield (
        f'<text x="{left + _WIDTH / 2:.0f}" y="{bottom + 32}" text-anchor="middle">'
        "processor seconds</text>"
    )
    yield f'<g clip-path="url(#p{index})" fill="none" stroke-width="1.6">'
    for row, curve in enumerate(curves.values()):
        colour = _COLOURS[row % len(_COLOURS)]
        schedule = [p for p in curve.points if p.phase == "schedule"]
        more = [curve.end, *(p for p in curve.points if p.phase == "more")]
        for points, dashes in ((schedule, ""), (more, ' stroke-dasharray="4 3"')):
            if len(points) > 1:
                path = "L".join(f"{x(p.seconds):.1f} {y(value(p)):.1f}" for p in points)
                yield f'<path d="M{path}" stroke="{colour}"{dashes}/>'
        end = curve.end
        yield (
            f'<circle cx="{x(end.seconds):.1f}" cy="{y(value(end)):.1f}" r="3" fill="{colour}"/>'
        )
    yield "</g>"


def _step(wanted: float) -> float:
    """A round step between the lines of a scale."""
    decade = 10.0 ** floor(log10(wanted))
    return next(digit * decade for digit in (1, 2, 5, 10) if digit * decade >= wanted)
