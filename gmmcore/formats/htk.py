"""Model definitions of HTK (MMF) as text: one state with a diagonal or full mixture.

A file holds variances or inverse covariances with seven digits per number, as HTK writes them.
Macros (``~s``, ``~m``, ``~u``, ``~v``, ``~i``) may stand for parts of the mixture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from gmmcore.core.mixture import GaussianMixture, pack, unpack
from gmmcore.core.settings import MAX_COMPONENTS
from gmmcore.files import PathLike, replace_bytes
from gmmcore.formats.base import (
    Array,
    Format,
    Reading,
    check_single,
    parse_numbers,
    read_back,
    text_begins,
)

TITLE = "HTK MMF text"
_LOG_TWO_PI = math.log(2 * math.pi)
_STRING = rb"(?:\"(?:[^\"\\\n]|\\[^\n]){0,1024}\"|'(?:[^'\\\n]|\\[^\n]){0,1024}')"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
# An item: a macro and its name, or a keyword and what follows it.
_ITEM = re.compile(
    rb"\s*(?:~\s*([A-Za-z])\s*(" + _STRING + rb"|[^\s<>~\"']{1,1024})?"
    rb"|<\s*([A-Za-z0-9_]{1,40})\s*>([^<>~\"']*(?:" + _STRING + rb"[^<>~\"']*)*))\s*"
)
_Item = tuple[bytes, bytes]  # A keyword and its values, or such as ``~v`` and a name.
# Macros that stand for a part of a mixture, and the keywords that such a part begins with. What is
# behind them in this order may be in their definitions.
_PARTS: dict[bytes, tuple[bytes, ...]] = {
    b"~s": (),
    b"~m": (b"MEAN", b"RCLASS", b"~u"),
    b"~u": (b"MEAN",),
    b"~v": (b"VARIANCE",),
    b"~i": (b"INVCOVAR",),
}
# Macros that have no part in the densities: transitions, stream weights, durations.
_NO_PART = (b"~t", b"~w", b"~d")
_UNSUPPORTED = {
    b"TMIX": "tied mixtures",
    b"DPROB": "discrete probabilities",
    b"LLTCOVAR": "Choleski factors",
    b"XFORMCOVAR": "transformed covariances",
    b"INPUTXFORM": "input transforms",
}


class _Definition(Reading):
    """The contents of a file, collected in one pass over its items ``<KEYWORD> values``."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(path, TITLE)
        self.begun = self.in_state = self.finished = self.full = False
        self.states = 0
        self.mixes: int | None = None
        self.vector_size: int | None = None
        # Numbers of each component by keyword, where ``VARIANCE`` stands for ``INVCOVAR``, too.
        self.listed: dict[int, dict[bytes, Array]] = {}
        self.current: dict[bytes, Array] | None = None
        self.parsed = cache(parse_numbers)  # What a macro stands for is read once.

    def items(self, content: bytes) -> list[_Item]:
        """Divide a text into its items."""
        found, at = [], 0
        while at < len(content):
            match = _ITEM.match(content, at)
            if match is None:
                self.refuse(f"neither a <KEYWORD> nor a macro at byte {at}")
            macro, name, keyword, values = match.groups()
            if macro is None:
                found.append((keyword.upper(), values))
            else:
                found.append((b"~" + macro.lower(), (name or b"").strip(b"\"'")))
            at = match.end()
        return found

    def divided(self, items: Sequence[_Item]) -> tuple[list[_Item], dict[_Item, list[_Item]]]:
        """Tell the options and models of a file from its definitions of macros."""
        model: list[_Item] = []
        macros: dict[_Item, list[_Item]] = {}
        place, is_inside = model, False
        kinds = [b"", *(kind for kind, _ in items), b""]
        for at, item in enumerate(items):
            if not is_inside and _is_definition(*kinds[at : at + 3]):
                if item in macros:
                    self.refuse(f"it defines the macro {_shown(item)} twice")
                place = model if item[0] in (b"~o", b"~h") else macros.setdefault(item, [])
                continue
            if item[0] == b"BEGINHMM":
                place, is_inside = model, True
            is_inside = is_inside and item[0] != b"ENDHMM"
            place.append(item)
        return model, macros

    def resolved(
        self, items: Sequence[_Item], macros: dict[_Item, list[_Item]], left: list[int]
    ) -> Iterator[_Item]:
        """Replace macros by their definitions, of which `left` items at most are read."""
        for item in items:
            kind = item[0]
            if not kind.startswith(b"~"):
                yield item
            elif kind in _PARTS:
                if item not in macros:
                    self.refuse(f"it does not define the macro {_shown(item)}, which it refers to")
                left[0] -= len(macros[item])
                if left[0] < 0:
                    self.refuse(f"its macros, such as {_shown(item)}, stand for too much")
                # A definition refers to smaller parts only, so that there is no circle.
                allowed = [*_PARTS][[*_PARTS].index(kind) + 1 :]
                if wrong := [one for one in macros[item] if one[0] in _PARTS.keys() - {*allowed}]:
                    self.refuse(f"the macro {_shown(item)} refers to {_shown(wrong[0])}")
                yield from self.resolved(macros[item], macros, left)
            elif kind not in _NO_PART:
                self.refuse(f"it refers to the macro {_shown(item)}, which is not supported")

    def item(self, keyword: bytes, values: bytes) -> None:
        """Take the next item; outside of a state, only a few keywords count."""
        if keyword in _UNSUPPORTED:
            self.refuse(f"it has {_UNSUPPORTED[keyword]}, which are not supported")
        if keyword == b"VECSIZE":
            self.vector_size = self.integer(keyword, values)
        elif keyword == b"STREAMINFO":
            if self.integer(keyword, values, alone=False) != 1:
                self.refuse("it has several streams, one was expected")
        elif keyword == b"BEGINHMM":
            if self.finished:
                self.refuse("it holds several models, one was expected")
            self.begun = True
        elif keyword == b"ENDHMM":
            self.finished, self.begun, self.in_state = True, False, False
        elif keyword == b"STATE":
            self.integer(keyword, values)
            self.states += 1
            if self.begun and self.states > 1:
                self.refuse("its model has several states with mixtures, one was expected")
            self.in_state = True
        elif keyword == b"TRANSP":
            self.in_state = False
        elif self.begun and self.in_state:
            self.parameter(keyword, values)

    def parameter(self, keyword: bytes, values: bytes) -> None:
        """Take an item inside a state."""
        if keyword == b"NUMMIXES":
            self.mixes = self.integer(keyword, values)
        elif keyword == b"MIXTURE":
            numbers = self.numbers(keyword, values)
            if numbers.size != 2 or not 1 <= numbers[0] <= MAX_COMPONENTS or numbers[0] % 1:
                self.refuse("<MIXTURE> was expected to have an index, from 1, and a weight")
            index = int(numbers[0]) - 1
            if index in self.listed:
                self.refuse(f"mixture {index + 1} is there twice")
            self.current = self.listed[index] = {b"WEIGHT": numbers[1:]}
        elif keyword in (b"MEAN", b"VARIANCE", b"INVCOVAR"):
            self.vector(keyword, values)
        elif keyword == b"GCONST":
            numbers = self.numbers(keyword, values)
            if numbers.size != 1 or self.current is None:
                self.refuse("<GCONST> was expected to have one number, in a mixture")
            self.current[keyword] = numbers

    def vector(self, keyword: bytes, values: bytes) -> None:
        """Take a mean, variances, or an inverse covariance, whose first number is a size."""
        shown = f"<{keyword.decode()}>"
        if self.current is None:
            self.current = self.listed[0] = {b"WEIGHT": np.ones(1)}
        numbers, full = self.numbers(keyword, values), keyword == b"INVCOVAR"
        size = int(numbers[0]) if numbers.size and np.isfinite(numbers[0]) else -1
        if size < 1 or numbers.size - 1 != (size * (size + 1) // 2 if full else size):
            self.refuse(f"{shown} claims {size} and has {numbers.size - 1} numbers: truncated")
        if keyword != b"MEAN":
            if full != self.full and any(b"VARIANCE" in one for one in self.listed.values()):
                self.refuse(f"{shown} is not like the covariances before it")
            self.full, keyword = full, b"VARIANCE"
        if keyword in self.current:
            self.refuse(f"a second {shown} in one mixture")
        self.current[keyword] = numbers[1:]

    def numbers(self, keyword: bytes, values: bytes) -> Array:
        """Convert values to numbers."""
        numbers = self.parsed(values)
        if numbers is None:
            self.refuse(f"<{keyword.decode()}> is followed by something that is no number")
        return numbers

    def integer(self, keyword: bytes, values: bytes, alone: bool = True) -> int:
        """Return the first of the values, a whole number; other numbers may follow if not alone."""
        words = values.split()
        bad = any(not re.fullmatch(rb"\d{1,10}", word) for word in words)
        if bad or not words or (alone and len(words) > 1):
            self.refuse(f"<{keyword.decode()}> is not followed by a whole number")
        return int(words[0])


def _is_definition(before: bytes, kind: bytes, after: bytes) -> bool:
    """Whether a macro outside of a model is defined here: its own keyword follows."""
    if kind == b"~m":
        return before not in (b"MIXTURE", b"~s") and after in _PARTS[kind]
    begins = _PARTS | {b"~w": (b"SWEIGHTS",), b"~d": (b"DURATION",)}
    return kind.startswith(b"~") and (kind == b"~s" or after in begins.get(kind, (after,)))


def _shown(macro: _Item) -> str:
    return f'{macro[0].decode()} "{macro[1][:40].decode("ascii", "backslashreplace")}"'


def decode_htk(path: PathLike, content: bytes) -> GaussianMixture:
    """Decode an HTK model definition of one model with one state and one stream."""
    found = _Definition(path)
    if _CONTROL.search(content):
        found.refuse("it holds bytes that are no text; HHEd without -B writes a binary MMF as text")
    items = found.items(content)
    model, macros = found.divided(items)
    # A component has less than ten items.
    for keyword, values in found.resolved(model, macros, [16 * len(items)]):
        found.item(keyword, values)
    if found.begun:
        found.refuse("no <ENDHMM> follows its <BEGINHMM>: truncated")
    if not found.listed:
        found.refuse("no mixture behind <BEGINHMM> and <STATE>; give a whole definition")
    return _assemble(found, len(content))


def _assemble(found: _Definition, size: int) -> GaussianMixture:
    full, last = found.full, max(found.listed)
    count = last + 1 if found.mixes is None else found.mixes
    dimension = next(iter(found.listed.values())).get(b"MEAN", np.empty(0)).size
    found.check_size(count, dimension)
    if found.vector_size not in (None, dimension):
        found.refuse(f"<VECSIZE> is {found.vector_size}, the means have {dimension}")
    if last >= count:
        found.refuse(f"mixture {last + 1} of {count}")
    # Components that are not listed, or are macros, take memory too.
    if count * dimension * (dimension if full else 1) * 8 > max(64 * size, 1 << 26):
        found.refuse(f"{count} mixtures are claimed, {len(found.listed)} are there, some as macros")
    packed = dimension * (dimension + 1) // 2 if full else dimension
    weights, constants = np.zeros(count), np.full(count, np.nan)
    means, covariances = np.full((count, dimension), np.nan), np.full((count, packed), np.nan)
    for index, one in found.listed.items():
        if b"MEAN" not in one or b"VARIANCE" not in one:
            found.refuse(f"mixture {index + 1} has no <MEAN>, <VARIANCE> or <INVCOVAR>")
        if one[b"MEAN"].size != dimension or one[b"VARIANCE"].size != packed:
            found.refuse(f"mixture {index + 1} is not like the first")
        weights[index], constants[index] = one[b"WEIGHT"][0], one.get(b"GCONST", [np.nan])[0]
        means[index], covariances[index] = one[b"MEAN"], one[b"VARIANCE"]
    listed = np.array(sorted(found.listed))
    if not full and (bad := np.argwhere(~(covariances[listed] > 0))).size:
        index, column = bad[0]
        found.refuse(
            f"a variance of mixture {listed[index] + 1} is {covariances[listed[index], column]:g}, "
            "not positive"
        )
    with np.errstate(all="ignore"):
        precisions = _flipped(unpack(covariances[:, ::-1])) if full else 1.0 / covariances
    mixture = found.mixture(weights[listed], means[listed], precisions[listed])
    computed = dimension * _LOG_TWO_PI + mixture.log_determinants
    found.check_constants(constants[listed], computed, 1e-4 * (1 + np.abs(computed)))
    if len(listed) == count:
        return mixture
    # A component that is not listed has weight 0, and mean and variance of the mixture.
    missing = np.setdiff1d(np.arange(count), listed)
    means[missing] = mixture.overall_mean
    wide = 1.0 / mixture.overall_variance
    precisions[missing] = np.diag(wide) if full else wide
    return found.mixture(weights, means, precisions)


def _flipped(matrices: Array) -> Array:
    """Reverse the rows and columns of matrices (C, D, D)."""
    # HTK's upper triangles, backwards, are the lower triangles of reversed matrices.
    return matrices[:, ::-1, ::-1]


def encode_htk(path: PathLike, mixture: GaussianMixture) -> bytes:
    """Encode an HTK model definition; messages name the path."""
    spread = mixture.precisions if mixture.is_full else mixture.covariances
    check_single(path, TITLE, mixture.means, spread)
    blank = _text(mixture, [""] * mixture.components)
    read = read_back(path, TITLE, "with seven digits", lambda: decode_htk(path, blank))
    constants = mixture.dimension * _LOG_TWO_PI + read.log_determinants
    return _text(mixture, [f"<GCONST> {value:.6e}\n" for value in constants.tolist()])


def _text(mixture: GaussianMixture, constants: list[str]) -> bytes:
    count, dimension = mixture.means.shape
    lines = [
        f"~o\n<STREAMINFO> 1 {dimension}\n"
        f"<VECSIZE> {dimension}<NULLD><USER><{'FULLC' if mixture.is_full else 'DIAGC'}>\n"
        f'~h "ubm"\n<BEGINHMM>\n<NUMSTATES> 3\n<STATE> 2\n<NUMMIXES> {count}\n'
    ]
    triangles = pack(_flipped(mixture.precisions))[:, ::-1] if mixture.is_full else None
    ends = np.cumsum(np.arange(dimension, 0, -1))[:-1]
    for c in range(count):
        lines.append(f"<MIXTURE> {c + 1} {mixture.weights[c]:.6e}\n<MEAN> {dimension}\n")
        lines.append(_digits(mixture.means[c]))
        if triangles is not None:
            lines.append(f"<INVCOVAR> {dimension}\n")
            lines.extend(_digits(row) for row in np.split(triangles[c], ends))
        else:
            lines.append(f"<VARIANCE> {dimension}\n")
            lines.append(_digits(mixture.covariances[c]))
        lines.append(constants[c])
    lines.append(
        "<TRANSP> 3\n 0.000000e+00 1.000000e+00 0.000000e+00\n"
        " 0.000000e+00 6.000000e-01 4.000000e-01\n 0.000000e+00 0.000000e+00 0.000000e+00\n"
        "<ENDHMM>\n"
    )
    return "".join(lines).encode()


def _digits(values: Array) -> str:
    return (" %.6e" * values.size) % tuple(values.tolist()) + "\n"


FORMATS = (
    Format(
        "htk",
        TITLE,
        lambda content: text_begins(content, rb"~\s*[a-z][\s<:\"']|<\s*BEGINHMM\s*>"),
        decode_htk,
        lambda path, mixture: replace_bytes(path, encode_htk(path, mixture)),
    ),
)
