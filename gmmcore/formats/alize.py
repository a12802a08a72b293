"""ALIZE's mixtures, RAW and XML.

A reader recomputes ``cst`` and ``det``, because ALIZE writes a ``cst`` of 0 for full mixtures. A
writer sets them, because ALIZE trusts them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.files import replace_bytes
from gmmcore.formats.base import (
    Format,
    PathLike,
    check_constants,
    checked_mixture,
    checked_size,
    parse_each,
    parse_numbers,
    refuse,
)
from gmmcore.formats.sidekit_layout import constants
from gmmcore.model import GaussianMixture

__all__ = ["FORMATS", "decode_raw", "decode_xml", "encode_raw", "encode_xml"]

Array = npt.NDArray[np.float64]

RAW = "ALIZE RAW"
XML = "ALIZE XML"


def _raw_size(count: int, dimension: int, full: bool, flag: int) -> int:
    square = dimension * dimension if full else dimension
    return 8 + 8 * count + count * (17 + 8 * (dimension + square * (1 + flag)))


def _raw_shapes(content: bytes, order: str = "<") -> tuple[int, int, list[tuple[bool, int]]]:
    """Components, dimension, and the (full, flag) that have exactly this size."""
    if len(content) < 8:
        return 0, 0, []
    count, dimension = (int(value) for value in np.frombuffer(content, order + "u4", 2))
    if not count or not dimension:
        return count, dimension, []
    kinds = [(False, 0), (True, 0), (True, 1)]
    return count, dimension, [k for k in kinds if _raw_size(count, dimension, *k) == len(content)]


def decode_raw(path: PathLike, content: bytes) -> GaussianMixture:
    """The mixture in an ALIZE RAW file, diagonal or full, little-endian.

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
    """The bytes of an ALIZE RAW file, little-endian, without covariances beside the inverses."""
    if mixture.dimension == 1 and mixture.is_full:
        # The layout cannot tell them apart, and a reader takes it for diagonal.
        precisions = mixture.precisions[:, :, 0]
        mixture = GaussianMixture(mixture.weights, mixture.means, precisions)
    records = np.zeros(mixture.components, _record(mixture.dimension, mixture.is_full, 0))
    records["cst"], records["det"], _ = constants(mixture)
    records["precision"] = mixture.precisions
    records["mean"] = mixture.means
    head = np.array([mixture.components, mixture.dimension], "<u4")
    return head.tobytes() + mixture.weights.astype("<f8").tobytes() + records.tobytes()


def _check_determinants(path: PathLike, kind: str, mixture: GaussianMixture, det: Array) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        stated = np.log(np.where(det > 0, det, np.nan))
    computed = mixture.log_determinants
    check_constants(path, kind, stated, computed, 1e-3 * (1 + 1e-3 * np.abs(computed)))


_TAG = re.compile(rb"\s*<([A-Za-z/]{1,16})((?:\s+[A-Za-z]{1,16}=\"[^\"<>]{0,4096}\")*)\s*>")
_ATTRIBUTE = re.compile(rb"([A-Za-z]+)=\"([^\"]*)\"")
_VALUE = re.compile(
    rb"\s*<(covInv|cov|mean) i=\"(\d{1,6})\"(?: j=\"(\d{1,6})\")?>([^<>]{1,64})</(covInv|cov|mean)>"
)


class _Xml:
    """The elements of an ALIZE file, in order: a small part of XML, and no entities."""

    def __init__(self, path: PathLike, content: bytes) -> None:
        self.path = path
        self.content = content
        self.at = 0
        self._heads: list[bytes] = []

    def tag(self, *names: bytes) -> tuple[bytes, dict[bytes, bytes]]:
        match = _TAG.match(self.content, self.at)
        if match is None or match[1] not in names:
            wanted = " or ".join(f"<{name.decode()}>" for name in names)
            refuse(self.path, XML, f"{wanted} was expected at byte {self.at}")
        self.at = match.end()
        return match[1], dict(_ATTRIBUTE.findall(match[2]))

    def number(self, attributes: dict[bytes, bytes], name: bytes) -> float:
        values = parse_numbers(attributes.get(name, b""))
        if values is None or values.size != 1:
            refuse(self.path, XML, f"no number {name.decode()} before byte {self.at}")
        return float(values[0])

    def size(self, attributes: dict[bytes, bytes], name: bytes) -> int:
        text = attributes.get(name, b"")
        if not re.fullmatch(rb"\d{1,12}", text):
            refuse(self.path, XML, f"no number {name.decode()} before byte {self.at}")
        return int(text)

    def values(self, dimension: int, full: bool) -> tuple[Array, Array]:
        """Precision and mean of one component: every element once, none else."""
        square = (dimension, dimension) if full else (dimension,)
        found = self._in_order(square)
        if found is not None:
            return found
        parts: dict[bytes, list[tuple[int, int, bytes]]] = {b"covInv": [], b"cov": [], b"mean": []}
        limit = dimension * (2 * dimension + 1 if full else 3)
        for _ in range(limit + 1):
            match = _VALUE.match(self.content, self.at)
            if match is None:
                break
            if match[1] != match[5]:
                refuse(self.path, XML, f"an element is not closed at byte {self.at}")
            self.at = match.end()
            parts[match[1]].append((int(match[2]), int(match[3] or -1), match[4]))
        return self._array(parts, b"covInv", square), self._array(parts, b"mean", (dimension,))

    def _in_order(self, square: tuple[int, ...]) -> tuple[Array, Array] | None:
        """The values if they are exactly as ALIZE writes them; a quick way through large files."""
        if not self._heads:
            places = [
                b"".join(b' %c="%d"' % pair for pair in zip(b"ij", index, strict=False))
                for index in np.ndindex(square)
            ]
            self._heads = [b"covInv%s>" % place for place in places]
            self._heads += [b'mean i="%d">' % i for i in range(square[0])]
        end = self.content.find(b"</Distrib", self.at)
        pieces = self.content[self.at : end].split(b"<")
        heads, tails = pieces[1::2], pieces[2::2]
        count = len(self._heads)
        precisions = int(np.prod(square))
        if end < 0 or len(heads) != count or len(tails) != count or pieces[0].strip():
            return None
        if {tail.rstrip() for tail in tails[:precisions]} != {b"/covInv>"}:
            return None
        if {tail.rstrip() for tail in tails[precisions:]} != {b"/mean>"}:
            return None
        pairs = zip(heads, self._heads, strict=True)
        numbers = [text[len(head) :] for text, head in pairs if text.startswith(head)]
        values = parse_each(numbers)
        if values is None or len(numbers) != count or values.size != count:
            return None
        self.at = end
        return values[:precisions].reshape(square), values[precisions:]

    def _array(
        self,
        parts: dict[bytes, list[tuple[int, int, bytes]]],
        name: bytes,
        shape: tuple[int, ...],
    ) -> Array:
        found = parts[name]
        dimension = shape[0]
        i = np.array([part[0] for part in found], dtype=np.int64)
        j = np.array([part[1] for part in found], dtype=np.int64)
        inside = i < dimension
        inside &= (j >= 0) & (j < dimension) if len(shape) == 2 else j == -1
        places = i * dimension + j if len(shape) == 2 else i
        total = int(np.prod(shape))
        if not inside.all() or len(found) != total or np.unique(places).size != total:
            refuse(
                self.path,
                XML,
                f"{total} elements <{name.decode()}> were expected before byte {self.at}, "
                f"{len(found)} are there, or some twice",
            )
        values = parse_each([part[2] for part in found])
        if values is None or values.size != total:
            refuse(self.path, XML, f"something that is no number before byte {self.at}")
        result = np.empty(total)
        result[places] = values
        return result.reshape(shape)


def decode_xml(path: PathLike, content: bytes) -> GaussianMixture:
    """The mixture in an ALIZE XML file, diagonal or full.

    Raises
    ------
    GmmcoreError
        If it is not the XML that ALIZE writes. Document types, entities and comments
        are refused: a mixture has none.
    """
    if b"<!" in content or b"&" in content:
        refuse(path, XML, "it has a document type, comment or entity, and a mixture has none")
    xml = _Xml(path, content)
    # ALIZE accepts no prolog; other tools cannot help writing one.
    prolog = re.match(rb"\s*<\?xml[^<>]{0,200}\?>", content)
    if prolog:
        xml.at = prolog.end()
    outer, attributes = xml.tag(b"MixtureGD", b"MixtureGF")
    full = outer == b"MixtureGF"
    inner = b"DistribGF" if full else b"DistribGD"
    count, dimension = xml.size(attributes, b"distribCount"), xml.size(attributes, b"vectSize")
    checked_size(path, XML, count, dimension)
    square = dimension * dimension if full else dimension
    # The shortest element, <mean i="0">0</mean>, has 20 bytes.
    if count * (square + dimension) * 20 > len(content):
        refuse(
            path,
            XML,
            f"{count} components of dimension {dimension} are claimed, "
            f"and {len(content)} bytes cannot hold them",
        )
    weights, det = np.empty(count), np.empty(count)
    means = np.empty((count, dimension))
    precisions = np.empty((count, dimension, dimension) if full else (count, dimension))
    for index in range(count):
        _, attributes = xml.tag(inner)
        if xml.size(attributes, b"i") != index:
            refuse(path, XML, f"component {index} was expected before byte {xml.at}")
        weights[index] = xml.number(attributes, b"weight")
        det[index] = xml.number(attributes, b"det") if b"det" in attributes else np.nan
        precisions[index], means[index] = xml.values(dimension, full)
        xml.tag(b"/" + inner)
    xml.tag(b"/" + outer)
    if content[xml.at :].strip():
        refuse(path, XML, f"something follows </{outer.decode()}>")
    mixture = checked_mixture(path, XML, weights, means, precisions)
    _check_determinants(path, XML, mixture, det)
    return mixture


def encode_xml(mixture: GaussianMixture) -> bytes:
    """The bytes of an ALIZE XML file: 19 digits, no prolog."""
    kind = "F" if mixture.is_full else "D"
    cst, det, _ = constants(mixture)
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
    # It has no magic number, only a size that fits: the last to be asked.
    Format(
        "alize",
        RAW,
        (".gmm", ".alize", ".raw"),
        lambda content: bool(_raw_shapes(content)[2]),
        lambda path, content, options: decode_raw(path, content),
        lambda path, mixture: replace_bytes(path, encode_raw(mixture)),
    ),
)
