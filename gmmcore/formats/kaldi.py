"""Kaldi's ``DiagGmm`` and ``FullGmm``, binary and text.

Kaldi keeps means times precision, in single precision. Both are rounded before anything
is computed from them, so that a file that is read and written again keeps its bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.density import constants
from gmmcore.errors import GmmcoreError
from gmmcore.files import replace_bytes
from gmmcore.formats.base import (
    Format,
    PathLike,
    check_constants,
    checked_mixture,
    checked_size,
    parse_numbers,
    refuse,
)
from gmmcore.formats.kaldi_items import TITLES, BinaryItems, Items, TextItems
from gmmcore.model import GaussianMixture
from gmmcore.statistics import pack, unpack

__all__ = ["FORMATS", "encode_binary", "encode_text"]

Array = npt.NDArray[np.float64]

_END = {b"<DiagGMM>": b"</DiagGMM>", b"<FullGMM>": b"</FullGMM>"}
_OLD = {b"<DiagGMMBegin>": b"<DiagGMMEnd>", b"<FullGMMBegin>": b"<FullGMMEnd>"}
_LARGEST = float(np.finfo(np.float32).max)


def _decode(items: Items) -> GaussianMixture:
    path, title = items.path, items.title
    begin = items.token()
    end = (_END | _OLD).get(begin)
    if end is None:
        refuse(path, title, f"it begins with {_shown(begin)}, a DiagGMM or FullGMM was expected")
    full = begin.startswith(b"<Full")
    stated = None
    token = items.token()
    if token == b"<GCONSTS>":
        stated = items.numbers(b"V")
        token = items.token()
    _expect(items, token, b"<WEIGHTS>")
    weights = items.numbers(b"V")
    count = weights.size
    _expect(items, items.token(), b"<MEANS_INVCOVARS>" if full else b"<MEANS_INVVARS>")
    scaled = items.numbers(b"M")
    if scaled.shape[0] != count:
        refuse(path, title, f"{scaled.shape[0]} means for {count} weights")
    dimension = scaled.shape[1]
    checked_size(path, title, count, dimension)
    _expect(items, items.token(), b"<INV_COVARS>" if full else b"<INV_VARS>")
    if full:
        rows = [items.numbers(b"P") for _ in range(count)]
        if any(row.size != dimension * (dimension + 1) // 2 for row in rows):
            refuse(path, title, f"a covariance is not of dimension {dimension}")
        precisions = unpack(np.array(rows))
    else:
        precisions = items.numbers(b"M")
        if precisions.shape != scaled.shape:
            refuse(path, title, f"variances {precisions.shape} for means {scaled.shape}")
    _expect(items, items.token(), end)
    if not items.at_end():
        refuse(path, title, f"something follows {end.decode()}")
    means = _means(scaled, precisions)
    if not np.isfinite(means).all():
        # The reason is in the precisions, if they are at fault.
        checked_mixture(path, title, weights, np.zeros_like(means), precisions)
    mixture = checked_mixture(path, title, weights, means, precisions)
    if stated is not None:
        if stated.size != count:
            refuse(path, title, f"{stated.size} constants for {count} weights")
        computed = _gconsts(mixture)
        # Kaldi sums in single precision: its error grows with the terms, not with their sum.
        terms = np.abs(mixture.log_determinants) + np.abs(computed) + dimension
        check_constants(path, title, stated, computed, 1e-4 * terms)
    return mixture


def _expect(items: Items, found: bytes, wanted: bytes) -> None:
    if found != wanted:
        refuse(items.path, items.title, f"{_shown(found)} where {wanted.decode()} was expected")


def _shown(token: bytes) -> str:
    return repr(token[:40])[1:]


def _means(scaled: Array, precisions: Array) -> Array:
    """Means from means times precision; not finite where there are none."""
    with np.errstate(all="ignore"):
        if precisions.ndim == 2:
            return scaled / precisions
        try:
            means = np.linalg.solve(precisions, scaled[:, :, np.newaxis])
            # A refined solution gives every stored number back to its own last digits.
            for _ in range(2):
                residual = scaled[:, :, np.newaxis] - precisions @ means
                means = means + np.linalg.solve(precisions, residual)
        except np.linalg.LinAlgError:
            return np.full(scaled.shape, np.nan)
    return np.asarray(means[:, :, 0], dtype=np.float64)


def _scaled(means: Array, precisions: Array) -> Array:
    """Means times precision, without the digits that are nothing but rounding."""
    if precisions.ndim == 2:
        return means * precisions
    result = (precisions @ means[:, :, np.newaxis])[:, :, 0]
    terms = (np.abs(precisions) @ np.abs(means)[:, :, np.newaxis])[:, :, 0]
    # Where the terms cancel by more than 2^20 another rounding would change what is
    # written: such numbers go to a grid of 2^-36 of their terms.
    grid = np.exp2(np.ceil(np.log2(np.maximum(terms, 1e-300))) - 36)
    cancelled = np.abs(result) < grid * 2.0**16
    return np.where(cancelled, np.round(result / grid) * grid, result)


def _gconsts(mixture: GaussianMixture) -> Array:
    return constants(mixture) - 0.5 * (
        _scaled(mixture.means, mixture.precisions) * mixture.means
    ).sum(axis=1)


def encode_binary(path: PathLike, mixture: GaussianMixture) -> bytes:
    """The bytes of a Kaldi binary file, single precision; `path` is for messages.

    Raises
    ------
    GmmcoreError
        If single precision cannot hold the mixture.
    """

    def one(kind: bytes, values: Array) -> bytes:
        sizes = b"".join(b"\x04" + size.to_bytes(4, "little") for size in values.shape)
        return b"F" + kind + b" " + sizes + values.astype("<f4").tobytes()

    def triangle(row: Array) -> bytes:
        dimension = mixture.dimension.to_bytes(4, "little")
        return b"FP \x04" + dimension + row.astype("<f4").tobytes()

    _check_range(path, False, mixture.weights, mixture.precisions)
    weights = mixture.weights.astype(np.float32).astype(np.float64)
    precisions = mixture.precisions.astype(np.float32).astype(np.float64)
    scaled = _scaled(mixture.means, precisions)
    _check_range(path, False, scaled)
    begin, end, names = _tokens(mixture.is_full)
    body = b"<WEIGHTS> " + one(b"V", weights) + names[0] + b" " + one(b"M", scaled)
    body += names[1] + b" "
    if mixture.is_full:
        body += b"".join(triangle(row) for row in pack(precisions))
    else:
        body += one(b"M", precisions)
    body += end + b" "
    head = b"\0B" + begin + b" "
    read = _reread(BinaryItems(path, head + body))
    with np.errstate(over="ignore"):
        return head + b"<GCONSTS> " + one(b"V", _gconsts(read)) + body


def encode_text(path: PathLike, mixture: GaussianMixture) -> bytes:
    """The bytes of a Kaldi text file, seven digits a number; errors as `encode_binary`."""

    def vector(values: Array) -> bytes:
        return b" [ " + _digits(values) + b"]\n"

    def matrix(values: Array) -> bytes:
        return b" [" + b"".join(b"\n  " + _digits(row) for row in values) + b"]\n"

    def triangle(row: Array) -> bytes:
        ends = np.cumsum(np.arange(1, mixture.dimension + 1))[:-1]
        return b"[" + b"".join(b"\n" + _digits(part) for part in np.split(row, ends)) + b"]\n"

    _check_range(path, True, mixture.weights, mixture.precisions)
    packed = pack(mixture.precisions) if mixture.is_full else mixture.precisions
    # The means are multiplied by the precisions that the file will hold.
    held = parse_numbers(_digits(packed.ravel()))
    assert held is not None
    held = held.reshape(packed.shape)
    scaled = _scaled(mixture.means, unpack(held) if mixture.is_full else held)
    _check_range(path, True, scaled)
    begin, end, names = _tokens(mixture.is_full)
    body = b"<WEIGHTS> " + vector(mixture.weights) + names[0] + b" " + matrix(scaled)
    body += names[1] + b" "
    body += b"".join(triangle(row) for row in held) if mixture.is_full else matrix(held)
    body += end + b" \n"
    head = begin + b" \n"
    read = _reread(TextItems(path, head + body))
    return head + b"<GCONSTS> " + vector(_gconsts(read)) + body


def _digits(values: Array) -> bytes:
    return (b"%.7g " * values.size) % tuple(values.tolist())


def _tokens(full: bool) -> tuple[bytes, bytes, tuple[bytes, bytes]]:
    if full:
        return b"<FullGMM>", _END[b"<FullGMM>"], (b"<MEANS_INVCOVARS>", b"<INV_COVARS>")
    return b"<DiagGMM>", _END[b"<DiagGMM>"], (b"<MEANS_INVVARS>", b"<INV_VARS>")


def _check_range(path: PathLike, text: bool, *arrays: Array) -> None:
    if any(np.abs(values).max() > _LARGEST for values in arrays):
        raise GmmcoreError(
            f"{path}: cannot be written as {TITLES[text]}: a number is beyond single precision; "
            "use sidekit or alize"
        )


def _reread(items: Items) -> GaussianMixture:
    try:
        return _decode(items)
    except GmmcoreError as error:
        reason = str(error).removeprefix(f"{items.path}: cannot be read as {items.title}: ")
        raise GmmcoreError(
            f"{items.path}: cannot be written as {items.title}: in single precision {reason}; "
            "use sidekit or alize"
        ) from None


def _is_text(content: bytes) -> bool:
    return content[:200].lstrip().startswith((b"<DiagGMM", b"<FullGMM"))


FORMATS = (
    Format(
        "kaldi",
        TITLES[False],
        (".kaldi", ".dubm", ".ubm", ".mdl", ".bin"),
        lambda content: content.startswith(b"\0B"),
        lambda path, content, options: _decode(BinaryItems(path, content)),
        lambda path, mixture: replace_bytes(path, encode_binary(path, mixture)),
    ),
    Format(
        "kaldi-text",
        TITLES[True],
        (".kaldi-text", ".txt"),
        _is_text,
        lambda path, content, options: _decode(TextItems(path, content)),
        lambda path, mixture: replace_bytes(path, encode_text(path, mixture)),
    ),
)
