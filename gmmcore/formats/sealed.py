"""Files whose damage is detected.

A header of 1024 bytes stands before the content: the kind of the file, the SHA-256 of everything
after the first line, and a few facts as JSON. HDF5 allows such a header (user block), so that other
programs read a sealed HDF5 file like any other.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import REMEDY, PathLike, read_bytes, writing

__all__ = ["HEADER_SIZE", "is_sealed", "seal", "sealed_facts", "unseal", "unseal_bytes"]

HEADER_SIZE = 1024
_MAGIC = b"gmmcore "
_VERSION = b"1"


def seal(path: PathLike, kind: str, content: bytes, **facts: Any) -> str:
    """Write a sealed file: a header, then `content`.

    Parameters
    ----------
    path
        The file to write.
    kind
        Kind of the file in one word, such as ``mixture``.
    content
        The content, usually the image of an HDF5 file.
    **facts
        JSON values, which must fit into the header.

    Returns
    -------
    str
        The file's digest, 64 hexadecimal digits.
    """
    line = json.dumps(facts, sort_keys=True, allow_nan=False).encode() + b"\n"
    first = len(_first_line(kind, "0" * 64, len(content)))
    room = HEADER_SIZE - first - len(line)
    if room < 0:
        raise ValueError(f"{-room} bytes too many facts for the header of {path}")
    line += b" " * (room - 1) + b"\n" if room else b""
    hasher = hashlib.sha256(line)
    hasher.update(content)
    digest = hasher.hexdigest()
    with writing(path) as stream:
        stream.write(_first_line(kind, digest, len(content)))
        stream.write(line)
        stream.write(content)
    return digest


def unseal(path: PathLike, kind: str) -> tuple[dict[str, Any], bytes]:
    """Read a sealed file and verify it.

    Returns
    -------
    facts : dict
        The facts that `seal` was given, and ``digest``.
    content : bytes
        What the file holds behind the header.

    Raises
    ------
    DamagedFileError
        If the file is truncated or altered, or is not a sealed file.
    GmmcoreError
        If the file is missing, unreadable, or of another kind.
    """
    return unseal_bytes(path, kind, read_bytes(path))


def unseal_bytes(path: PathLike, kind: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Do what `unseal` does with a file whose bytes, `data`, were read already."""
    found, digest, size = _parse_first_line(path, data[:HEADER_SIZE])
    if found != kind:
        raise GmmcoreError(f"{path}: holds {found}, {kind} was expected")
    if len(data) != HEADER_SIZE + size:
        raise DamagedFileError(
            f"{path}: damaged: {len(data)} bytes where {HEADER_SIZE + size} were written; {REMEDY}"
        )
    start = data.index(b"\n") + 1
    view = memoryview(data)
    if hashlib.sha256(view[start:]).hexdigest() != digest:
        raise DamagedFileError(
            f"{path}: damaged: its content does not match its checksum; {REMEDY}"
        )
    facts = json.loads(data[start:HEADER_SIZE])
    facts["digest"] = digest
    return facts, data[HEADER_SIZE:]


def sealed_facts(path: PathLike, kind: str) -> dict[str, Any]:
    """Verify a sealed file, content included, and return the facts of its header."""
    return unseal(path, kind)[0]


def is_sealed(head: bytes) -> bool:
    """Whether a file that begins with the bytes `head` is a sealed file."""
    return head.startswith(_MAGIC)


def _first_line(kind: str, digest: str, size: int) -> bytes:
    return b"%s%s %s sha256:%s bytes:%d\n" % (
        _MAGIC,
        kind.encode(),
        _VERSION,
        digest.encode(),
        size,
    )


def _parse_first_line(path: PathLike, head: bytes) -> tuple[str, str, int]:
    if not is_sealed(head):
        raise DamagedFileError(f"{path}: damaged, or not a file that gmmcore wrote; {REMEDY}")
    try:
        kind, version, digest, size = head[len(_MAGIC) :].split(b"\n", 1)[0].split(b" ")
        if version != _VERSION or not digest.startswith(b"sha256:"):
            raise ValueError
        return kind.decode(), digest[7:].decode(), int(size.removeprefix(b"bytes:"))
    except ValueError:
        raise DamagedFileError(
            f"{path}: damaged: its first line is not one that this version of gmmcore writes; "
            f"{REMEDY}"
        ) from None
