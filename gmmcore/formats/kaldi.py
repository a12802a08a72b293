"""Mixture files of Kaldi, ``DiagGmm`` and ``FullGmm``, binary and text.

Kaldi stores precisions, and means times precision, in float32. The writer rounds precisions before
it multiplies means by them, so that a file keeps its bytes when it is read and written again.
"""

from __future__ import annotations

import math
import re

import numpy as np

from gmmcore.core.density import constants
from gmmcore.core.mixture import GaussianMixture, pack, unpack
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

BINARY, TEXT = "Kaldi binary", "Kaldi text"
_END = {b"<DiagGMM>": b"</DiagGMM>", b"<FullGMM>": b"</FullGMM>"}
_OLD = {b"<DiagGMMBegin>": b"<DiagGMMEnd>", b"<FullGMMBegin>": b"<FullGMMEnd>"}
_TOKENS = {
    False: (b"<DiagGMM>", b"<MEANS_INVVARS>", b"<INV_VARS>"),
    True: (b"<FullGMM>", b"<MEANS_INVCOVARS>", b"<INV_COVARS>"),
}
_TEXT_ITEM = re.compile(rb"\s*(<[^<>\[\]\s]{1,40}>|\[[^<>\[\]]*\])")


class _Items(Reading):
    """The tokens, vectors and matrices of a binary file, one after the other."""

    _title = BINARY
    _at = 2  # Position in the content, behind the mark of a binary file.

    def __init__(self, path: PathLike, content: bytes) -> None:
        super().__init__(path, self._title)
        self._content = content

    def token(self) -> bytes:
        """Return the next item, which must be a token."""
        end = self._content.find(b" ", self._at, self._at + 40)
        if end < 0:
            self.refuse(f"no token at byte {self._at}: truncated or damaged")
        found = self._content[self._at : end]
        self._at = end + 1
        return found

    def numbers(self, kind: bytes) -> Array:
        """Return the next item: a vector (``V``), a matrix (``M``) or a packed triangle (``P``)."""
        found = self.token()
        if found not in (b"F" + kind, b"D" + kind):
            what = {b"V": "a vector", b"M": "a matrix", b"P": "a packed matrix"}[kind]
            self.refuse(f"{what} was expected before byte {self._at}")
        dtype = np.dtype("<f4" if found[:1] == b"F" else "<f8")
        sizes = [self._int() for _ in range(2 if kind == b"M" else 1)]
        count = sizes[0] * (sizes[1] if kind == b"M" else 1)
        if kind == b"P":
            count = sizes[0] * (sizes[0] + 1) // 2
        left = len(self._content) - self._at
        if min(sizes) < 0 or count * dtype.itemsize > left:
            self.refuse(
                f"{sizes} numbers are claimed at byte {self._at}, {left} bytes are left: "
                "truncated, damaged or of another byte order"
            )
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = np.frombuffer(self._content, dtype, count, self._at).astype(np.float64)
        self._at += count * dtype.itemsize
        return values.reshape(sizes) if kind == b"M" else values

    def at_end(self) -> bool:
        """Whether no item follows."""
        return self._at == len(self._content)

    def _int(self) -> int:
        field = self._content[self._at : self._at + 5]
        if len(field) < 5 or field[0] != 4:
            self.refuse(f"no size at byte {self._at}: truncated or damaged")
        self._at += 5
        return int.from_bytes(field[1:], "little", signed=True)


class _TextItems(_Items):
    """The tokens, vectors and matrices of a text file."""

    _title = TEXT
    _at = 0

    def token(self) -> bytes:
        item = self._item()
        if not item.startswith(b"<"):
            self.refuse(f"a token was expected before byte {self._at}")
        return item

    def numbers(self, kind: bytes) -> Array:
        item = self._item()
        if not item.startswith(b"["):
            self.refuse(f"numbers were expected before byte {self._at}")
        if kind != b"M":
            return self._parse(item[1:-1])
        rows = [self._parse(line) for line in item[1:-1].split(b"\n") if line.strip()]
        if len({row.size for row in rows}) != 1:
            self.refuse(f"rows of unequal length before byte {self._at}")
        return np.array(rows)

    def at_end(self) -> bool:
        return not self._content[self._at :].strip()

    def _item(self) -> bytes:
        match = _TEXT_ITEM.match(self._content, self._at)
        if match is None:
            self.refuse(
                f"neither a token nor bracketed numbers at byte {self._at}: truncated or damaged"
            )
        self._at = match.end()
        return match[1]

    def _parse(self, text: bytes) -> Array:
        values = parse_numbers(text)
        if values is None:
            self.refuse(f"something that is no number before byte {self._at}")
        return values


def _decode(items: _Items) -> GaussianMixture:
    begin = items.token()
    end = (_END | _OLD).get(begin)
    if end is None:
        what = f"it begins with {_shown(begin)}"
        if begin == b"<TransitionModel>":
            what = "it is an acoustic model, whose states have a mixture each"
        items.refuse(f"{what}; a DiagGMM or FullGMM was expected")
    full = begin.startswith(b"<Full")
    stated = None
    token = items.token()
    if token == b"<GCONSTS>":
        stated = items.numbers(b"V")
        token = items.token()
    _expect(items, token, b"<WEIGHTS>")
    weights = items.numbers(b"V")
    count = weights.size
    _expect(items, items.token(), _TOKENS[full][1])
    scaled = items.numbers(b"M")
    if scaled.shape[0] != count:
        items.refuse(f"{scaled.shape[0]} means for {count} weights")
    dimension = scaled.shape[1]
    items.check_size(count, dimension)
    _expect(items, items.token(), _TOKENS[full][2])
    if full:
        rows = [items.numbers(b"P") for _ in range(count)]
        if any(row.size != dimension * (dimension + 1) // 2 for row in rows):
            items.refuse(f"a covariance is not of dimension {dimension}")
        precisions = unpack(np.array(rows))
    else:
        precisions = items.numbers(b"M")
        if precisions.shape != scaled.shape:
            items.refuse(f"variances {precisions.shape} for means {scaled.shape}")
    _expect(items, items.token(), end)
    if not items.at_end():
        items.refuse(f"something follows {end.decode()}")
    means = _means(scaled, precisions)
    if not np.isfinite(means).all():
        # If the precisions are invalid, the error names them instead of the means.
        items.mixture(weights, np.zeros_like(means), precisions)
    mixture = items.mixture(weights, means, precisions)
    if stated is not None:
        if stated.size != count:
            items.refuse(f"{stated.size} constants for {count} weights")
        computed = _gconsts(mixture)
        # Kaldi adds in single precision, whose errors grow with the terms, not with their sum.
        terms = np.abs(mixture.log_determinants) + np.abs(computed) + dimension
        items.check_constants(stated, computed, 1e-4 * terms)
    return mixture


def _expect(items: _Items, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        items.refuse(f"{_shown(found)} where {wanted.decode()} was expected")


def _shown(token: bytes) -> str:
    return repr(token[:40])[1:]


def _means(scaled: Array, precisions: Array) -> Array:
    """Divide means times precision by the precisions; impossible divisions give inf or NaN."""
    with np.errstate(all="ignore"):
        if precisions.ndim == 2:
            return scaled / precisions
        try:
            means = np.linalg.solve(precisions, scaled[:, :, np.newaxis])
            # After refinement, means times precision are equal to the stored numbers.
            for _ in range(2):
                residual = scaled[:, :, np.newaxis] - precisions @ means
                means = means + np.linalg.solve(precisions, residual)
        except np.linalg.LinAlgError:
            return np.full(scaled.shape, np.nan)
    return np.asarray(means[:, :, 0], dtype=np.float64)


@np.errstate(over="ignore", invalid="ignore")
def _scaled(means: Array, precisions: Array) -> Array:
    """Multiply means by precisions, and drop digits that are rounding errors."""
    if precisions.ndim == 2:
        return means * precisions
    result = (precisions @ means[:, :, np.newaxis])[:, :, 0]
    terms = (np.abs(precisions) @ np.abs(means)[:, :, np.newaxis])[:, :, 0]
    # Where terms cancel by more than 2^20, the result depends on the order of additions. Results
    # of this size are rounded to multiples of 2^-36 times their terms.
    grid = np.exp2(np.ceil(np.log2(np.maximum(terms, 1e-300))) - 36)
    cancelled = np.abs(result) < grid * 2.0**16
    return np.where(cancelled, np.round(result / grid) * grid, result)


def _gconsts(mixture: GaussianMixture) -> Array:
    return constants(mixture) - 0.5 * (
        _scaled(mixture.means, mixture.precisions) * mixture.means
    ).sum(axis=1)


def encode_kaldi(path: PathLike, mixture: GaussianMixture, text: bool) -> bytes:
    """Encode a Kaldi file, in float32 or as text with seven digits per number."""
    kind, full = _TextItems if text else _Items, mixture.is_full
    title = TEXT if text else BINARY
    check_single(path, title, mixture.weights, mixture.precisions)
    # A reader divides by the rounded precisions, so the writer multiplies by them.
    held = _held(pack(mixture.precisions) if full else mixture.precisions, text)
    scaled = _scaled(mixture.means, unpack(held) if full else held)
    check_single(path, title, scaled)
    write, after = (_text, b" \n") if text else (_binary, b" ")
    begin, means, spread = _TOKENS[full]
    body = b"<WEIGHTS> " + write(b"V", mixture.weights) + means + b" " + write(b"M", scaled)
    body += spread + b" "
    body += b"".join(write(b"P", row) for row in held) if full else write(b"M", held)
    body += _END[begin] + after
    head = (b"" if text else b"\0B") + begin + after
    items = kind(path, head + body)
    read = read_back(path, title, "in single precision", lambda: _decode(items))
    return head + b"<GCONSTS> " + write(b"V", _gconsts(read)) + body


def encode_accumulator(count: Array, first: Array) -> bytes:
    """Encode counts (C,) and first order statistics (C, D) as Kaldi's ``AccumDiagGmm``, binary."""
    sizes = [b"\4" + size.to_bytes(4, "little") for size in reversed(first.shape)]
    means_and_weights = b"\xfe" + (1 | 4).to_bytes(2, "little")  # The size of unsigned is negative.
    body = b"<VECSIZE> %b<NUMCOMPONENTS> %b" % tuple(sizes)
    body += b"<FLAGS> " + means_and_weights + b"<OCCUPANCY> " + _binary(b"V", count)
    body += b"<MEANACCS> " + _binary(b"M", first) + b"<DIAGVARACCS> "
    body += _binary(b"M", np.empty((0, 0)))
    return b"\0B<GMMACCS> " + body + b"</GMMACCS> "


def _held(values: Array, text: bool) -> Array:
    """Round values as a file does."""
    if not text:
        return values.astype(np.float32).astype(np.float64)
    held = parse_numbers(_digits(values.ravel()))
    assert held is not None
    return held.reshape(values.shape)


def _binary(kind: bytes, values: Array) -> bytes:
    """Encode a vector (``V``), a matrix (``M``) or a packed lower triangle (``P``)."""
    sizes = (_side(values),) if kind == b"P" else values.shape
    head = b"".join(b"\4" + size.to_bytes(4, "little") for size in sizes)
    with np.errstate(over="ignore"):
        return b"F" + kind + b" " + head + values.astype("<f4").tobytes()


def _text(kind: bytes, values: Array) -> bytes:
    if kind == b"V":
        return b" [ " + _digits(values) + b"]\n"
    if kind == b"M":
        return b" [" + b"".join(b"\n  " + _digits(row) for row in values) + b"]\n"
    rows = np.split(values, np.cumsum(np.arange(1, _side(values))))
    return b"[" + b"".join(b"\n" + _digits(row) for row in rows) + b"]\n"


def _side(packed: Array) -> int:
    """Return the dimension D of a packed lower triangle of D (D + 1) / 2 numbers."""
    return (math.isqrt(8 * packed.size + 1) - 1) // 2


def _digits(values: Array) -> bytes:
    return (b"%.7g " * values.size) % tuple(values.tolist())


FORMATS = (
    Format(
        "kaldi",
        BINARY,
        # ALIZE RAW of 16,896 components begins with the same two bytes, and two null bytes.
        lambda content: re.match(rb"\0B[<A-Z]", content) is not None,
        lambda path, content: _decode(_Items(path, content)),
        lambda path, mixture: replace_bytes(path, encode_kaldi(path, mixture, False)),
    ),
    Format(
        "kaldi-text",
        TEXT,
        lambda content: text_begins(content, rb"<(Diag|Full)GMM|<TransitionModel>"),
        lambda path, content: _decode(_TextItems(path, content)),
        lambda path, mixture: replace_bytes(path, encode_kaldi(path, mixture, True)),
    ),
)
