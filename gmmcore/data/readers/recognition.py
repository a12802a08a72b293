"""The format of a feature file, by the strongest evidence in its content."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

HTK_HEADER = 12
"""Bytes of the header of HTK's files."""
_CHECKSUM, _KINDS, _LAST_KIND = 0o10000, 0o77, 12
_LONGEST_PERIOD = 100_000_000
_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = (0, 512, 1024, 2048)  # Others may put their own header before HDF5's, as MATLAB.
_NUMPY = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
_KALDI = re.compile(rb"\s*(?:[^\s\0]+[ \t])?\0B(?:\x04|[A-Z]\w* |<)")
_KALDI_TEXT = re.compile(rb"\s*(?:[^\s\0]+\s+)?\[\s")
_FOREIGN = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"RIFF": "a waveform (RIFF)",
    b"NIST_1A": "a waveform (NIST SPHERE)",
    b"fLaC": "a waveform (FLAC)",
    b"MATLAB 5.0": "a MATLAB file of version 5",
    **dict.fromkeys((b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"), "a pickle, which is not opened"),
    b"version https://git-lfs": "a pointer of Git LFS, without the file",
}


def formats_of(head: bytes, size: int) -> list[str]:
    r"""Name the formats that a file of `size` bytes may have, the strongest evidence first.

    >>> formats_of(b"s01 \0BFM \x04\x3c\0\0\0", 1000)
    ['kaldi', 'htk']
    """
    # A header of HTK in a file of another size, which was cut short, is the weakest evidence.
    found = []
    if head.startswith(_NUMPY):
        found.append("npy")
    if any(head.startswith(_HDF5, at) for at in _USER_BLOCKS):
        found.append("sidekit")
    if _KALDI.match(head):
        found.append("kaldi")
    header = htk_header(head, size)
    if header is not None and header.end == size:
        found.append("htk")
    if _KALDI_TEXT.match(head):
        found.append("kaldi")
    if header is not None and header.end != size:
        found.append("htk")
    return found


class HtkHeader(NamedTuple):
    """A header in one byte order (``>`` or ``<``), whose period is in units of 100 ns."""

    # The lower 6 bits of the kind are the type of the parameters, the others are qualifiers.
    order: str
    frames: int
    period: int
    width: int
    kind: int

    @property
    def end(self) -> int:
        """The size of the file in bytes."""
        return HTK_HEADER + self.frames * self.width + (2 if self.kind & _CHECKSUM else 0)


def htk_header(head: bytes, size: int) -> HtkHeader | None:
    """Read the header of a file of `size` bytes; None if it is that of no HTK file."""
    # Of two byte orders, the one that agrees with the size is right. If none does, a usual period
    # tells a file that was cut short from others; if both do, the period decides.
    if len(head) < HTK_HEADER:
        return None
    found = [HtkHeader(order, *struct.unpack_from(f"{order}iihH", head)) for order in "><"]
    ranks = {}
    for one in found:
        is_usual = 0 <= one.period <= _LONGEST_PERIOD
        is_header = one.frames >= 0 and one.width > 0 and one.width % 2 == 0
        if is_header and one.kind & _KINDS <= _LAST_KIND and (one.end == size or is_usual):
            ranks[one] = one.end != size, not is_usual, one.end
    return min(ranks, key=lambda one: ranks[one], default=None)


def foreign(head: bytes) -> str | None:
    """Say what a file is, or the first object of an archive, that is known but is not read."""
    starts = head, head.partition(b" ")[2]
    found = (what for begin, what in _FOREIGN.items() if any(s.startswith(begin) for s in starts))
    return next(found, None)
