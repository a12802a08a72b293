"""ALIZE's mixtures, RAW and XML.

The constants ``cst`` and ``det`` are computed when a file is read, because ALIZE writes a ``cst``
of 0 for full mixtures; they are written, because ALIZE does not compute them when it reads.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

from gmmcore.core.mixture import GaussianMixture
from gmmcore.files import PathLike, replace_bytes
from gmmcore.formats.base import (
    Array,
    Format,
    check_constants,
    checked_mixture,
    checked_size,
    parse_each,
    parse_numbers,
    refuse,
)
from gmmcore.formats.sidekit_layout import plain_constants

__all__ = ["FORMATS", "decode_raw", "decode_xml", "encode_raw", "encode_xml"]


RAW = "ALIZE RAW"
XML = "ALIZE XML"
_Places = dict[tuple[str | None, str | None], None]


def _raw_size(count: int, dimension: int, full: bool, flag: int) -> int:
    square = dimension * dimension if full else dimension
    return 8 + 8 * count + count * (17 + 8 * (dimension + square * (1 + flag)))


def _raw_shapes(content: bytes, order: str = "<") -> tuple[int, int, list[tuple[bool, int]]]:
    """Components, dimension, and each (full, flag) of which a file has this size."""
    if len(content) < 8:
        return 0, 0, []
    count, dimension = (int(value) for value in np.frombuffer(content, order + "u4", 2))
    if not count or not dimension:
        return count, dimension, []
    kinds = [(False, 0), (True, 0), (True, 1)]
    return count, dimension, [k for k in kinds if _raw_size(count, dimension, *k) == len(content)]


def decode_raw(path: PathLike, content: bytes) -> GaussianMixture:
    """Decode an ALIZE RAW file, diagonal or full, little-endian.

    Raises
    ------
    GmmcoreError
        If its size is not that of the mixture it claims, or the parameters are no mixture.
    """
    count, dimension, kinds = _raw_shapes(content)
    if not kinds:
        if _raw_shapes(content, ">")[2]:
            refuse(path, RAW, "it was written by a big-endian machine")
        checked_size(path, RAW, count, dimension)
        sizes = [_raw_size(count, dimension, *k) for k in ((False, 0), (True, 0), (True, 1))]
        refuse(
            path,
            RAW,
            f"it has {len(content)} bytes; {count} components of dimension {dimension} "
            f"take {sizes[0]} (diagonal), {sizes[1]} or {sizes[2]} (full)",
        )
    checked_size(path, RAW, count, dimension)
    full, flag = kinds[0]
    record = _record(dimension, full, flag)
    weights = np.frombuffer(content, "<f8", count, 8)
    records = np.frombuffer(content, record, count, 8 + 8 * count)
    if (records["flag"] != flag).any():
        bad = int(np.argmax(records["flag"] != flag))
        refuse(path, RAW, f"the flag of component {bad} is {records['flag'][bad]}, not {flag}")
    mixture = checked_mixture(path, RAW, weights, records["mean"], records["precision"])
    _check_determinants(path, RAW, mixture, records["det"])
    return mixture


def _record(dimension: int, full: bool, flag: int) -> np.dtype[Any]:
    shape = (dimension, dimension) if full else (dimension,)
    covariance = [("covariance", "<f8", shape)] if flag else []
    return np.dtype(
        [
            ("cst", "<f8"),
            ("det", "<f8"),
            ("flag", "u1"),
            *covariance,
            ("precision", "<f8", shape),
            ("mean", "<f8", (dimension,)),
        ]
    )


def encode_raw(mixture: GaussianMixture) -> bytes:
    """Encode an ALIZE RAW file, little-endian, without covariances beside the precisions."""
    if mixture.dimension == 1 and mixture.is_full:
        # Both have the same size, and a reader takes the file for diagonal.
        precisions = mixture.precisions[:, :, 0]
        mixture = GaussianMixture(mixture.weights, mixture.means, precisions)
    records = np.zeros(mixture.components, _record(mixture.dimension, mixture.is_full, 0))
    records["cst"], records["det"], _ = plain_constants(mixture)
    records["precision"] = mixture.precisions
    records["mean"] = mixture.means
    head = np.array([mixture.components, mixture.dimension], "<u4")
    return head.tobytes() + mixture.weights.astype("<f8").tobytes() + records.tobytes()


def _check_determinants(path: PathLike, kind: str, mixture: GaussianMixture, det: Array) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        stated = np.log(np.where(det > 0, det, np.nan))
    computed = mixture.log_determinants
    check_constants(path, kind, stated, computed, 1e-3 * (1 + 1e-3 * np.abs(computed)))


def decode_xml(path: PathLike, content: bytes) -> GaussianMixture:
    """Decode an ALIZE XML file, diagonal or full.

    Raises
    ------
    GmmcoreError
        If it is not the XML that ALIZE writes, which has no document type, entity or comment.
    """
    if b"<!" in content or b"&" in content:
        refuse(path, XML, "it has a document type, comment or entity, and a mixture has none")
    events = _events(path, content)
    root = next(events)[1]
    if root.tag not in ("MixtureGD", "MixtureGF"):
        refuse(path, XML, f"<MixtureGD> or <MixtureGF> was expected, <{root.tag[:40]}> is there")
    full, component = root.tag == "MixtureGF", root.tag.replace("Mixture", "Distrib")
    sizes = [_number(path, root, name) for name in ("distribCount", "vectSize")]
    count, dimension = int(sizes[0]), int(sizes[1])
    checked_size(path, XML, count, dimension)
    square = (dimension, dimension) if full else (dimension,)
    # The shortest element, <mean i="0">0</mean>, has 20 bytes.
    if count * (math.prod(square) + dimension) * 20 > len(content):
        refuse(
            path,
            XML,
            f"{count} components of dimension {dimension} are claimed, "
            f"and {len(content)} bytes cannot hold them",
        )
    weights, det = np.empty(count), np.full(count, np.nan)
    means, precisions = np.empty((count, dimension)), np.empty((count, *square))
    numbers = [str(i) for i in range(dimension)]
    columns = numbers if full else [None]
    places: _Places = dict.fromkeys((i, None) for i in numbers)
    square_places: _Places = dict.fromkeys((i, j) for i in numbers for j in columns)
    index = 0
    for event, element in events:
        if event == "start" or element is root or element.tag in ("covInv", "cov", "mean"):
            continue
        # The components before it have been removed.
        found = element.tag == component and root[0] is element and index < count
        if not found or _number(path, element, "i") != index:
            refuse(path, XML, f"component {index} of {count} was expected where another element is")
        weights[index] = _number(path, element, "weight")
        if element.get("det") is not None:
            det[index] = _number(path, element, "det")
        means[index] = _values(path, element, "mean", places)
        precisions[index] = _values(path, element, "covInv", square_places).reshape(square)
        del root[0]
        index += 1
    if index < count or len(root):
        refuse(path, XML, f"component {index} of {count} was expected at its end")
    mixture = checked_mixture(path, XML, weights, means, precisions)
    _check_determinants(path, XML, mixture, det)
    return mixture


def _events(path: PathLike, content: bytes) -> Iterator[tuple[str, ElementTree.Element]]:
    # As text, for which no declaration of another encoding counts.
    text = io.TextIOWrapper(io.BytesIO(content), "latin-1")
    try:
        yield from ElementTree.iterparse(text, ("start", "end"))
    except ElementTree.ParseError as error:
        refuse(path, XML, f"truncated or damaged: {error}")


def _number(path: PathLike, element: ElementTree.Element, name: str) -> float:
    """The attribute `name`: a whole number, unless it is a weight or a determinant."""
    values = parse_numbers(element.get(name, "").encode())
    whole = name not in ("weight", "det")
    if values is None or values.size != 1 or (whole and not float(values[0]).is_integer()):
        refuse(path, XML, f"no number {name} in <{element.tag}>")
    return float(values[0])


def _values(path: PathLike, element: ElementTree.Element, name: str, places: _Places) -> Array:
    """The numbers of all elements `name` of a component, each of which is there once."""
    elements = element.findall(name)
    found = {(one.get("i"), one.get("j")): (one.text or "").encode() for one in elements}
    where = f"in <{element.tag} i={element.get('i')}>"
    if len(elements) != len(places) or found.keys() != places.keys():
        refuse(
            path,
            XML,
            f"{len(places)} elements <{name}> were expected {where}, {len(elements)} are there, "
            "or some twice",
        )
    values = parse_each([found[place] for place in places])
    if values is None:
        refuse(path, XML, f"something that is no number {where}")
    return values


def encode_xml(mixture: GaussianMixture) -> bytes:
    """Encode an ALIZE XML file, with 19 digits per number and no prolog."""
    kind = "F" if mixture.is_full else "D"
    cst, det, _ = plain_constants(mixture)
    count, dimension = mixture.means.shape
    lines = [f'<MixtureG{kind} version="1" id="ubm" distribCount="{count}" vectSize="{dimension}">']
    if mixture.is_full:
        places = [f' i="{i}" j="{j}"' for i in range(dimension) for j in range(dimension)]
    else:
        places = [f' i="{i}"' for i in range(dimension)]
    template = "\n".join(
        [f"\t\t<covInv{place}>%.19g</covInv>" for place in places]
        + [f'\t\t<mean i="{i}">%.19g</mean>' for i in range(dimension)]
    )
    for c in range(count):
        lines.append(
            f'\t<DistribG{kind} i="{c}" weight="{mixture.weights[c]:.19g}" '
            f'cst="{cst[c]:.19g}" det="{det[c]:.19g}">'
        )
        values = mixture.precisions[c].ravel().tolist() + mixture.means[c].tolist()
        lines.append(template % tuple(values))
        lines.append(f"\t</DistribG{kind}>")
    lines.append(f"</MixtureG{kind}>")
    return "\n".join(lines).encode()


def _is_xml(content: bytes) -> bool:
    return content[:400].lstrip().startswith((b"<Mixture", b"<?xml", b"<!"))


FORMATS = (
    Format(
        "alize-xml",
        XML,
        (".xml", ".alize-xml"),
        _is_xml,
        lambda path, content, options: decode_xml(path, content),
        lambda path, mixture: replace_bytes(path, encode_xml(mixture)),
    ),
    # It is recognised by its size alone, so other formats are asked first.
    Format(
        "alize",
        RAW,
        (".gmm", ".alize", ".raw"),
        lambda content: bool(_raw_shapes(content)[2]),
        lambda path, content, options: decode_raw(path, content),
        lambda path, mixture: replace_bytes(path, encode_raw(mixture)),
    ),
)
