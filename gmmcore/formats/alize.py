"""Mixture files of ALIZE: RAW is read and written, XML only read, because ALIZE reads RAW.

A reader computes the constants ``cst`` and ``det`` anew, because ALIZE writes a ``cst`` of 0 for
full covariances. The writer writes both, because ALIZE trusts the constants in a file.
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal, NoReturn, get_args
from xml.etree import ElementTree

import numpy as np

from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.settings import MAX_COMPONENTS
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, replace_bytes
from gmmcore.formats.base import (
    MAX_DIMENSION,
    Array,
    Format,
    Reading,
    linear_constants,
    parse_numbers,
    text_begins,
)

RAW, XML = "ALIZE RAW", "ALIZE XML"
_LAYOUTS = [(False, 0), (True, 0), (True, 1)]
"""Whether the covariances are full, and the flag: 1 if a record has them beside the precisions."""
_Order = Literal["<", ">"]
_Places = dict[tuple[str | None, str | None], None]


def _raw_size(count: int, dimension: int, full: bool, flag: int) -> int:
    square = dimension * dimension if full else dimension
    return 8 + 8 * count + count * (17 + 8 * (dimension + square * (1 + flag)))


def _raw_shapes(content: bytes, order: _Order = "<") -> tuple[int, int, list[tuple[bool, int]]]:
    """Return components, dimension, and each (full, flag) whose files have this size."""
    if len(content) < 8:
        return 0, 0, []
    count, dimension = (int(value) for value in np.frombuffer(content, order + "u4", 2))
    if not (1 <= count <= MAX_COMPONENTS and 1 <= dimension <= MAX_DIMENSION):
        return count, dimension, []
    size = len(content)
    return count, dimension, [one for one in _LAYOUTS if _raw_size(count, dimension, *one) == size]


def decode_raw(path: PathLike, content: bytes) -> GaussianMixture:
    """Decode an ALIZE RAW file, diagonal or full, of either byte order."""
    file = Reading(path, RAW)
    is_big = not _raw_shapes(content)[2] and bool(_raw_shapes(content, ">")[2])
    order: _Order = ">" if is_big else "<"
    count, dimension, layouts = _raw_shapes(content, order)
    if not layouts:
        file.check_size(count, dimension)
        sizes = [_raw_size(count, dimension, *layout) for layout in _LAYOUTS]
        file.refuse(
            f"it has {len(content)} bytes; {count} components of dimension {dimension} "
            f"take {sizes[0]} (diagonal), {sizes[1]} or {sizes[2]} (full)"
        )
    full, flag = layouts[0]
    record = _record(dimension, full, flag).newbyteorder(order)
    weights = np.frombuffer(content, order + "f8", count, 8)
    records = np.frombuffer(content, record, count, 8 + 8 * count)
    if (records["flag"] != flag).any():
        bad = int(np.argmax(records["flag"] != flag))
        file.refuse(f"the flag of component {bad} is {records['flag'][bad]}, not {flag}")
    mixture = file.mixture(weights, records["mean"], records["precision"])
    _check_determinants(file, mixture, records["det"])
    return mixture


def _record(dimension: int, full: bool, flag: int) -> np.dtype[Any]:
    shape = (dimension, dimension) if full else (dimension,)
    matrices = ["covariance", "precision"] if flag else ["precision"]
    fields: list[Any] = [("cst", "<f8"), ("det", "<f8"), ("flag", "u1")]
    fields += [(name, "<f8", shape) for name in matrices]
    return np.dtype([*fields, ("mean", "<f8", (dimension,))])


def encode_raw(mixture: GaussianMixture) -> bytes:
    """Encode an ALIZE RAW file, little-endian, without covariances beside the precisions."""
    if mixture.dimension == 1 and mixture.is_full:
        # Diagonal and full files have one size here, and readers take the file for diagonal.
        precisions = mixture.precisions[:, :, 0]
        mixture = GaussianMixture(mixture.weights, mixture.means, precisions)
    records = np.zeros(mixture.components, _record(mixture.dimension, mixture.is_full, 0))
    records["cst"], records["det"], _ = linear_constants(mixture)
    records["precision"] = mixture.precisions
    records["mean"] = mixture.means
    head = np.array([mixture.components, mixture.dimension], "<u4")
    return head.tobytes() + mixture.weights.astype("<f8").tobytes() + records.tobytes()


def _check_determinants(file: Reading, mixture: GaussianMixture, det: Array) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        stated = np.log(np.where(det > 0, det, np.nan))
    computed = mixture.log_determinants
    file.check_constants(stated, computed, 1e-3 * (1 + 1e-3 * np.abs(computed)))


def decode_xml(path: PathLike, content: bytes) -> GaussianMixture:
    """Decode ALIZE XML, which never has a document type, an entity or a comment."""
    file = Reading(path, XML)
    if b"<!" in content or b"&" in content:
        file.refuse("it has a document type, comment or entity, and a mixture has none")
    text = content.decode("latin-1")  # A declaration of another encoding has no effect on text.
    try:
        root = next(ElementTree.iterparse(io.StringIO(text), ("start",)))[1]
        if root.tag not in ("MixtureGD", "MixtureGF"):
            file.refuse(f"<MixtureGD> or <MixtureGF> was expected, <{root.tag[:40]}> is there")
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        file.refuse(f"truncated or damaged: {error}")
    full, component = root.tag == "MixtureGF", root.tag.replace("Mixture", "Distrib")
    count, dimension = (int(_number(file, root, name)) for name in ("distribCount", "vectSize"))
    file.check_size(count, dimension)
    square = (dimension, dimension) if full else (dimension,)
    # Each number takes an element, and the shortest one, <mean i="0">0</mean>, has 20 bytes.
    if count * (math.prod(square) + dimension) * 20 > len(content):
        file.refuse(
            f"{count} components of dimension {dimension} are claimed, "
            f"and {len(content)} bytes cannot hold them"
        )
    weights, det = np.empty(count), np.full(count, np.nan)
    means, precisions = np.empty((count, dimension)), np.empty((count, *square))
    numbers = [str(i) for i in range(dimension)]
    columns = numbers if full else [None]
    places: _Places = dict.fromkeys((i, None) for i in numbers)
    square_places: _Places = dict.fromkeys((i, j) for i in numbers for j in columns)
    for index, element in enumerate(root):
        tags = {child.tag for child in element}
        found = element.tag == component and index < count and tags <= {"covInv", "cov", "mean"}
        if not found or _number(file, element, "i") != index:
            file.refuse(f"component {index} of {count} was expected where another element is")
        weights[index] = _number(file, element, "weight")
        if element.get("det") is not None:
            det[index] = _number(file, element, "det")
        means[index] = _values(file, element, "mean", places)
        precisions[index] = _values(file, element, "covInv", square_places).reshape(square)
    if len(root) < count:
        file.refuse(f"component {len(root)} of {count} was expected at its end")
    mixture = file.mixture(weights, means, precisions)
    _check_determinants(file, mixture, det)
    return mixture


def _number(file: Reading, element: ElementTree.Element, name: str) -> float:
    """Return an attribute, which must be a whole number unless named ``weight`` or ``det``."""
    values = parse_numbers(element.get(name, "").encode())
    whole = name not in ("weight", "det")
    if values is None or values.size != 1 or (whole and not float(values[0]).is_integer()):
        file.refuse(f"no number {name} in <{element.tag}>")
    return float(values[0])


def _values(file: Reading, element: ElementTree.Element, name: str, places: _Places) -> Array:
    """Return the numbers in all elements `name` of a component, one at each of the places."""
    elements = element.findall(name)
    found = {(one.get("i"), one.get("j")): (one.text or "").encode() for one in elements}
    where = f"in <{element.tag} i={element.get('i')}>"
    if len(elements) != len(places) or found.keys() != places.keys():
        file.refuse(
            f"{len(places)} elements <{name}> were expected {where}, {len(elements)} are there, "
            "or some twice"
        )
    values = parse_numbers([found[place] for place in places])
    if values is None:
        file.refuse(f"something that is no number {where}")
    return values


def _write_no_xml(path: PathLike, mixture: GaussianMixture) -> NoReturn:
    raise GmmcoreError(
        f"{path}: {XML} is read and not written; ALIZE reads RAW: write the format alize, .gmm"
    )


FORMATS = (
    Format(
        "alize-xml",
        XML,
        lambda content: text_begins(content, rb"<Mixture|<\?xml|<!DOCTYPE|<!--"),
        decode_xml,
        _write_no_xml,
    ),
    # The size alone tells ALIZE RAW, so that `MIXTURE_FILES` has this format last.
    Format(
        "alize",
        RAW,
        lambda content: any(_raw_shapes(content, order)[2] for order in get_args(_Order)),
        decode_raw,
        lambda path, mixture: replace_bytes(path, encode_raw(mixture)),
    ),
)
