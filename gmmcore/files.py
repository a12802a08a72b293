"""Files that appear whole or not at all, digests and locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import IO, Any, TypeVar

from gmmcore.errors import DamagedFileError, GmmcoreError

_TEMPORARY = ".gmmcore-tmp"

PathLike = str | os.PathLike[str]
R = TypeVar("R")

MIXTURE_FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sidekit": ("hdf5", (".h5", ".hdf5", ".sidekit")),
    "kaldi": ("kaldi", (".kaldi", ".dubm", ".ubm", ".mdl", ".bin")),
    "kaldi-text": ("kaldi", (".kaldi.txt", ".kaldi-text", ".txt")),
    "htk": ("htk", (".mmf", ".htk", ".hmm")),
    "alize-xml": ("alize", (".xml", ".alize-xml")),
    "alize": ("alize", (".gmm", ".alize", ".raw")),
}
"""Formats of mixture files: their modules in ``gmmcore.formats`` and the extensions of their files.

The order is that in which they are asked whether content is theirs: a format without a magic
number comes after those that have one. The first extension is the one that `export` gives.
"""

WRITTEN = tuple(name for name in MIXTURE_FILES if name != "alize-xml")
"""The formats that are written, and not only read."""


def digest_of(*parts: object) -> str:
    """Compute the SHA-256 of JSON values; the order of keys in dictionaries does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: PathLike) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


@contextlib.contextmanager
def holding(folder: PathLike) -> Iterator[None]:
    """Lock `folder` for this process; wait, with a message, while another process holds it."""
    # The operating system releases the lock when the process ends, however it ends.
    path = Path(folder) / ".lock"
    _make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(path, error) from error
    with os.fdopen(descriptor, "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = stream.read(64).decode(errors="replace").strip()
            # The other process writes its number only after it has the lock.
            name = f"process {holder}" if holder else "another process"
            print(f"{folder}: waiting for {name}, which works here", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            print(f"warning: {path}: this file system has no locks: {error}", file=sys.stderr)
        stream.seek(0)
        stream.truncate()
        stream.write(f"{os.getpid()}\n".encode())
        stream.flush()
        yield


def holder(folder: PathLike) -> str | None:
    """Return the number of the process that is `holding` a folder, empty at first; or None."""
    with contextlib.suppress(OSError), open(Path(folder) / ".lock", "rb") as stream:
        try:
            # A process that begins in this moment waits for it, no longer.
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return stream.read(64).decode(errors="replace").strip()
    return None


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that is flushed and renamed to it when the block ends."""
    path = Path(path)
    _make_folder(path.parent)
    _remove_stale(path)
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=_TEMPORARY, dir=path.parent
        )
        with os.fdopen(descriptor, "w+b") as stream:
            # Without locks, temporary files of dead writers are not recognised, and remain.
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
            os.replace(temporary, path)
            temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def date_back(paths: Iterable[PathLike]) -> None:
    """Date files of the future a second ago; a clock that was set back leaves them."""
    # Snakemake refuses a file that is older than what it is made of.
    now = time.time_ns() - 1_000_000_000
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            if os.stat(path).st_mtime_ns > now + 1_000_000_000:
                os.utime(path, ns=(now, now))


def replace_bytes(path: PathLike, content: bytes) -> None:
    """Write `content` as the file `path`, whole or not at all."""
    with writing(path) as stream:
        stream.write(content)


def replace_text(path: PathLike, content: str) -> None:
    """Write `content` as the UTF-8 text file `path`, whole or not at all."""
    replace_bytes(path, content.encode())


def check_regular(path: PathLike) -> None:
    """Raise `OSError` if `path` exists and is not a regular file, such as a pipe, which blocks."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "not a regular file")


def read_bytes(path: PathLike, limit: int | None = None) -> bytes:
    """Read the content of `path`; a file larger than `limit` bytes is refused."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if limit is not None and size > limit:
                raise GmmcoreError(f"{path}: {size} bytes, at most {limit} were expected")
            return stream.read()
    except (OSError, ValueError) as error:  # ValueError: the path has a null byte
        raise GmmcoreError(f"{path}: cannot be read: {reason_of(error)}") from error


def read_json(path: PathLike) -> Any:
    """Read a JSON file that the workflow wrote."""
    try:
        return json.loads(read_bytes(path))
    except ValueError:
        raise DamagedFileError(path, "damaged") from None


def remembered(read: Callable[[PathLike], R]) -> Callable[[PathLike], R]:
    """Make a reader of a file read it again only if its inode, size or time has changed."""

    @cache
    def known(path: PathLike, *version: int) -> R:
        return read(path)

    @wraps(read)
    def read_once(path: PathLike) -> R:
        try:
            status = os.stat(path)
        except OSError:
            return read(path)  # It says what is wrong.
        return known(os.fspath(path), status.st_ino, status.st_size, status.st_mtime_ns)

    return read_once


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GmmcoreError(
            f"{folder}: this folder cannot be made: {reason_of(error)}; remove what is in the way "
            "or make its parent writable, then give the same command again"
        ) from error


def _unwritable(path: Path, error: OSError) -> GmmcoreError:
    return GmmcoreError(
        f"{path}: cannot be written: {reason_of(error)}; free space or make the folder writable, "
        "then give the same command again"
    )


def _remove_stale(path: Path) -> None:
    """Remove temporary files of `path` whose writers no longer live."""
    prefix = f".{path.name}."
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(prefix) and name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError), open(path.parent / name, "rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path.parent / name)


def is_temporary(name: str) -> bool:
    """Whether `name` is that of a temporary file of `writing`."""
    return name.startswith(".") and name.endswith(_TEMPORARY)


def _sync_folder(folder: Path) -> None:
    # Without this, the rename may be lost in a power failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def reason_of(error: Exception) -> str:
    """Return the message of an error, without the number and the path of an `OSError`."""
    return getattr(error, "strerror", None) or str(error)


def checksums(folder: PathLike, names: Sequence[str]) -> str:
    """Write the text of ``SHA256SUMS``, for ``sha256sum -c``."""
    lines = "".join(f"{sha256_of(f'{folder}/{name}')}  {name}\n" for name in names)
    return f"{sums_head(folder, lines)}\n{lines}"


def sums_head(folder: PathLike, lines: str) -> str:
    """Return the first line of ``SHA256SUMS``."""
    return f"# {digest_of(os.path.basename(os.path.normpath(folder)), lines)}"
