"""Which files were read and verified, so that a file that did not change is read only once.

A file is unchanged if its inode, size, and times of modification and of status change are. The
last is set by whatever writes into the file, and by whatever sets the other times.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import digest_of, read_bytes, replace_text, sha256_of
from gmmcore.formats.hdf5 import unseal

__all__ = ["checksum_of", "fault_of", "recall", "remember", "sealed_state"]

# Of each file: its version, and what was found.
_known: dict[str, tuple[list[int], Any]] = {}
# A file that is written twice between two ticks of the clock has one version, so that versions
# count only once they are older. Nanoseconds.
_TICK = 2_000_000_000


def sealed_state(path: str, kind: str = "mixture") -> tuple[dict[str, Any], str]:
    """Return the facts of a sealed file and its fault, which is empty if there is none."""

    def read() -> tuple[dict[str, Any], str]:
        try:
            return unseal(path, kind)[0], ""
        except GmmcoreError as error:
            return {}, fault_of(error)

    try:
        facts, fault = _unchanged(f"{kind} {path}", path, read)
    except OSError as error:
        return {}, str(error.strerror)
    return facts, fault


def checksum_of(path: str) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    GmmcoreError
        If the file cannot be read.
    """
    try:
        checksum: str = _unchanged(f"file {path}", path, lambda: sha256_of(path))
    except OSError:
        return sha256_of(path)  # It says what is wrong.
    return checksum


def fault_of(error: Exception) -> str:
    """Say in short what is wrong with a file."""
    return "damaged" if isinstance(error, DamagedFileError) else f"cannot be used: {error}"


def recall(path: str) -> None:
    """Take over what `remember` wrote; nothing if the file is missing or damaged."""
    with contextlib.suppress(GmmcoreError, ValueError, KeyError, TypeError):
        values = json.loads(read_bytes(path))
        if values["check"] == digest_of(values["known"]):
            _known.update({key: (version, found) for key, version, found in values["known"]})


def remember(path: str) -> None:
    """Write what is known of the valid files, except of those that changed a moment ago.

    If the file cannot be written, they are read again.
    """
    latest = time.time_ns() - _TICK
    known = [
        [key, version, found]
        for key, (version, found) in sorted(_known.items())
        if max(version[2:]) < latest
        and (isinstance(found, str) or not found[1])
        and os.path.lexists(key.partition(" ")[2])
    ]
    text = json.dumps({"known": known, "check": digest_of(known)})
    with contextlib.suppress(GmmcoreError):
        if known and (not os.path.exists(path) or read_bytes(path) != text.encode()):
            replace_text(path, text)


def _unchanged(key: str, path: str, read: Callable[[], Any]) -> Any:
    """Return what `read` returned for this version of a file, or call it."""
    status = os.stat(path)
    version = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    if key not in _known or _known[key][0] != version:
        _known[key] = version, read()
    return _known[key][1]
