"""HDF5 files with a checksum; SIDEKIT's layout of mixtures; the history of a training.

A header of 1024 bytes precedes the HDF5 content: the kind of the file, the SHA-256 of everything
after the first line, and a few facts as JSON. HDF5 allows a header (user block), so that other
programs read the files. The datasets at the root are those of SIDEKIT's ``Mixture.write``; the
group ``gmmcore`` has the history.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gmmcore.core.history import HistoryEntry, columns
from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import PathLike, read_bytes, reason_of, writing
from gmmcore.formats.base import MAX_BYTES, Array, Format, Reading, linear_constants

TITLE = "SIDEKIT HDF5"
KIND = "mixture"
GROUP = "gmmcore"
DERIVED = "gmmcore_derived"
"""Attribute of a ``cov_var_ctl`` that is written for SIDEKIT alone: the mixture has none."""
HEADER_SIZE = 1024
LIBVER = ("earliest", "v108")
_MAGIC, _VERSION = b"gmmcore ", "1"

# Exceptions that h5py raises for a damaged file.
_HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError)
# Trained parameters hardly compress, but a small damaged file may claim gigabytes of zeros.
_FREE_BYTES = 1 << 28
_LARGEST_EXPANSION = 64
_FLOATS = ("64LE", "64BE", "32LE", "32BE")
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32
_TYPES: dict[str, str] = {"str": "S16", "int": "<i8", "float": "<f8"}
HISTORY_TYPE = np.dtype([(f.name, _TYPES[str(f.type)]) for f in fields(HistoryEntry)])


def seal(path: PathLike, kind: str, content: bytes, **facts: Any) -> str:
    """Write a header with facts (JSON values), then the content; return the digest."""
    line = _facts_line(path, kind, facts, len(content))
    hasher = hashlib.sha256(line)
    hasher.update(content)
    digest = hasher.hexdigest()
    with writing(path) as stream:
        stream.write(_first_line(kind, digest, len(content)))
        stream.write(line)
        stream.write(content)
    return digest


@contextlib.contextmanager
def sealing(path: PathLike, kind: str, **facts: Any) -> Iterator[h5py.File]:
    """Open an HDF5 file that becomes as one of `seal`, but needs not fit in memory."""
    with writing(path) as stream:
        with h5py.File(stream, "w", userblock_size=HEADER_SIZE, libver=LIBVER) as file:
            yield file
        size = stream.seek(0, os.SEEK_END) - HEADER_SIZE
        line = _facts_line(path, kind, facts, size)
        # The digest is that of all after the first line, whose length does not depend on it.
        stream.seek(HEADER_SIZE - len(line))
        stream.write(line)
        stream.seek(HEADER_SIZE - len(line))
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        stream.seek(0)
        stream.write(_first_line(kind, digest, size))


@contextlib.contextmanager
def open_sealed(path: PathLike, kind: str) -> Iterator[tuple[h5py.File, dict[str, Any]]]:
    """Verify a file of `sealing` and open it, with its facts, without reading it to memory."""
    facts = header_facts(path, kind)
    with open(path, "rb") as stream:
        stream.readline()
        if hashlib.file_digest(stream, "sha256").hexdigest() != facts["digest"]:
            raise DamagedFileError(path, "damaged: its content does not match its checksum")
        with h5py.File(stream, "r") as file:
            yield file, facts


def unseal(path: PathLike, kind: str, data: bytes | None = None) -> tuple[dict[str, Any], bytes]:
    """Verify a file of `seal`, or its `data`; return facts, ``digest`` among them, and content."""
    data = read_bytes(path) if data is None else data
    facts = _facts_in(path, kind, data[:HEADER_SIZE], len(data))
    start = data.index(b"\n") + 1
    if hashlib.sha256(memoryview(data)[start:]).hexdigest() != facts["digest"]:
        raise DamagedFileError(path, "damaged: its content does not match its checksum")
    return facts, data[HEADER_SIZE:]


def header_facts(path: PathLike, kind: str = KIND) -> dict[str, Any]:
    """Return the facts that `seal` wrote, ``digest`` among them, without reading the content."""
    try:
        with open(path, "rb") as stream:
            head, length = stream.read(HEADER_SIZE), os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise GmmcoreError(f"{path}: cannot be read: {reason_of(error)}") from error
    return _facts_in(path, kind, head, length)


def _facts_in(path: PathLike, kind: str, head: bytes, length: int) -> dict[str, Any]:
    """Read the facts in the header of a file of a kind and a length."""
    found, digest, size = _parse_first_line(path, head)
    if found != kind:
        raise DamagedFileError(path, f"holds {found}, {kind} was expected")
    if length != HEADER_SIZE + size:
        what = f"damaged: {length} bytes where {HEADER_SIZE + size} were written"
        raise DamagedFileError(path, what)
    try:
        return json.loads(head.partition(b"\n")[2]) | {"digest": digest}
    except ValueError:
        raise DamagedFileError(path, "damaged") from None


def _facts_line(path: PathLike, kind: str, facts: Mapping[str, Any], size: int) -> bytes:
    """Write facts as a line that fills the header of a content of `size` bytes."""
    line = json.dumps(facts, sort_keys=True, allow_nan=False).encode() + b"\n"
    room = HEADER_SIZE - len(_first_line(kind, "0" * 64, size)) - len(line)
    if room < 0:
        raise ValueError(f"{-room} bytes too many facts for the header of {path}")
    return line + (b" " * (room - 1) + b"\n" if room else b"")


def is_sealed(head: bytes) -> bool:
    """Whether `head` is the beginning of a file of `seal`."""
    return head.startswith(_MAGIC)


def _first_line(kind: str, digest: str, size: int) -> bytes:
    return _MAGIC + f"{kind} {_VERSION} sha256:{digest} bytes:{size}\n".encode()


def _parse_first_line(path: PathLike, head: bytes) -> tuple[str, str, int]:
    if not is_sealed(head):
        raise DamagedFileError(path, "damaged, or not a file that gmmcore wrote")
    try:
        kind, version, digest, size = head.split(b"\n")[0].decode()[len(_MAGIC) :].split(" ")
        if version != _VERSION or not digest.startswith("sha256:"):
            raise ValueError
        return kind, digest[7:], int(size.removeprefix("bytes:"))
    except ValueError:
        what = "damaged: its first line is not one that this version of gmmcore writes"
        raise DamagedFileError(path, what) from None


def hdf5_image(build: Callable[[h5py.File], None], user_block: int = HEADER_SIZE) -> bytes:
    """Make the bytes of an HDF5 file, without its user block; equal content gives equal bytes."""
    with h5py.File(
        # Files in memory need names of their own too.
        uuid.uuid4().hex,
        mode="w",
        driver="core",
        backing_store=False,
        userblock_size=user_block,
        libver=LIBVER,
    ) as file:
        build(file)
        file.flush()
        return file.id.get_file_image()


@contextlib.contextmanager
def open_image(path: PathLike, content: bytes, *, writable: bool = False) -> Iterator[h5py.File]:
    """Open the bytes of an HDF5 file in memory; exceptions in the block become a `GmmcoreError`."""
    try:
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_fapl_core(backing_store=False)
        access.set_file_image(content)
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        flags = h5py.h5f.ACC_RDWR if writable else h5py.h5f.ACC_RDONLY
        with h5py.File(h5py.h5f.open(uuid.uuid4().hex.encode(), flags, fapl=access)) as file:
            yield file
    except _HDF5_ERRORS as error:
        # The messages of HDF5 may have several lines.
        reason = " ".join(str(error).split())[:200].strip("'\"")
        raise GmmcoreError(
            f"{path}: not a readable HDF5 file of the expected kind: {reason}"
        ) from error


def put_mixture(file: h5py.File, mixture: GaussianMixture, prefix: str, compress: bool) -> None:
    """Create the datasets of a mixture; SIDEKIT compresses all of them."""
    control = mixture.variance_control
    if control is None:
        variances = mixture.covariances
        control = np.diagonal(variances, axis1=1, axis2=2) if mixture.is_full else variances
    cst, det, a = linear_constants(mixture)
    values: dict[str, Array] = {
        "w": mixture.weights,
        "mu": mixture.means,
        "invcov": mixture.precisions,
        "invchol": mixture.precision_factors if mixture.is_full else np.empty(0),
        "cov_var_ctl": control,
        "cst": cst,
        "det": det,
        "a": a,
    }
    for name, value in values.items():
        shape = (None,) * value.ndim
        packing = {"maxshape": shape, "compression": "gzip", "fletcher32": True} if compress else {}
        file.create_dataset(prefix + name, data=value, **packing)
    if mixture.variance_control is None:
        file[prefix + "cov_var_ctl"].attrs[DERIVED] = np.int8(1)


class _Datasets(Reading):
    """The mixtures in an HDF5 file of any program."""

    def __init__(self, path: PathLike, file: h5py.File, size: int, sealed: bool) -> None:
        super().__init__(path, TITLE)
        self._file = file
        # Files are refused before memory is allocated for arrays that they cannot hold.
        # For files of gmmcore, the limit is the largest expansion of deflate.
        self._limit = max(_FREE_BYTES, size * (1032 if sealed else _LARGEST_EXPANSION))

    def prefixes(self) -> list[str]:
        """Return the prefixes of all mixtures in the file, sorted."""
        names: set[str] = set()
        self._file.visit(names.add)  # A prefix may have a slash; links are not followed.
        return sorted(n[:-2] for n in names if n.endswith("mu") and n[:-2] + "w" in names)

    def read(self, prefix: str) -> GaussianMixture:
        """Return the mixture with this prefix; wrong factors that SIDEKIT writes are not read."""
        if prefix + "w" not in self._file:
            others = self.prefixes()
            advice = "; the datasets w, mu and invcov were expected"
            if others:
                advice = f"; it has mixtures with the prefixes {others[:8]}"
            self.refuse(f"it has no mixture with the prefix {prefix!r}{advice}")
        weights = self._values(prefix + "w", lambda shape: len(shape) == 1, "(C,)")
        count = weights.size
        means = self._values(
            prefix + "mu", lambda shape: len(shape) == 2 and shape[0] == count, f"({count}, D)"
        )
        dimension = means.shape[1]
        self.check_size(count, dimension)
        diagonal, full = (count, dimension), (count, dimension, dimension)
        precisions = self._values(
            prefix + "invcov", lambda shape: shape in (diagonal, full), f"{diagonal} or {full}"
        )
        control = None
        # Full mixtures of SIDEKIT itself have an array of another shape here.
        if prefix + "cov_var_ctl" in self._file:
            dataset = self._dataset(prefix + "cov_var_ctl")
            if dataset.shape == diagonal and DERIVED not in dataset.attrs:
                control = dataset[()]
        self._check_distinct(prefix)
        mixture = self.mixture(weights, means, precisions, control)
        if not mixture.is_full and prefix + "a" in self._file:
            dataset = self._dataset(prefix + "a")
            if dataset.shape == (count,):
                computed = linear_constants(mixture)[2]
                terms = np.abs(computed) + np.abs(mixture.log_determinants) + dimension
                self.check_constants(dataset[()], computed, 1e-6 * terms)
        return mixture

    def history(self, size: int) -> tuple[HistoryEntry, ...]:
        """Return the history that `save_model` wrote, in a file of `size` bytes."""
        if GROUP not in self._file:
            return ()
        table = self._in_file(f"{GROUP}/history")
        # Earlier versions of gmmcore wrote other columns, or fewer.
        kept = [name for name in HISTORY_TYPE.names or () if name in (table.dtype.names or ())]
        is_known = bool(kept) and all(table.dtype[n] == HISTORY_TYPE[n] for n in kept)
        if not is_known or table.ndim != 1 or table.nbytes > size:
            self.refuse("its history is not one that this version of gmmcore writes")
        rows = np.zeros(len(table), HISTORY_TYPE)
        rows["held_out"] = np.nan
        for name in kept:
            rows[name] = table[name]
        entries: list[list[Any]] = [
            [value.decode() if isinstance(value, bytes) else value for value in row]
            for row in rows.tolist()
        ]
        return tuple(HistoryEntry(*values) for values in entries)

    def _values(self, name: str, fits: Callable[[tuple[int, ...]], bool], expected: str) -> Array:
        dataset = self._dataset(name)
        if not fits(dataset.shape):
            self.refuse(f"{name} has shape {dataset.shape}, {expected} was expected")
        return dataset[()]

    def _in_file(self, name: str) -> Any:
        """Return the object with this name, which must not be a link to another place."""
        place: Any = self._file
        for part in name.split("/"):
            if not isinstance(place.get(part, getlink=True), h5py.HardLink):
                self.refuse(f"{name} is a link to elsewhere; `h5copy` makes a copy of an array")
            place = place[part]
        return place

    def _check_distinct(self, prefix: str) -> None:
        """Refuse two names for one array: the directory of the file is damaged."""
        names = (prefix + name for name in ("w", "mu", "invcov", "cov_var_ctl", "a"))
        present = [name for name in names if name in self._file]
        places = {h5py.h5o.get_info(self._file[name].id).addr for name in present}
        if len(places) != len(present):
            self.refuse("two of its names are those of one array: damaged")

    def _dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset of floats, which must lie in the file and be no larger than possible."""
        place = self._in_file(name)
        if not isinstance(place, h5py.Dataset) or place.shape is None:
            self.refuse(f"{name} is no array")
        creation = place.id.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
            self.refuse(f"the values of {name} are elsewhere")
        found = place.id.get_type()
        if not any(found.equal(getattr(h5py.h5t, f"IEEE_F{kind}")) for kind in _FLOATS):
            self.refuse(f"{name} holds {place.dtype}, float64 was expected")
        filters = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
        if not filters <= _FILTERS:
            self.refuse(f"{name} is compressed in a way that SIDEKIT does not use")
        held = place.chunks or place.id.get_storage_size() >= place.nbytes
        if place.nbytes > self._limit or not held:
            self.refuse(f"{name} claims {place.nbytes} bytes that the file cannot hold")
        if place.chunks:
            chunk = math.prod(place.chunks) * place.dtype.itemsize
            if chunk > max(4 * place.nbytes, 1 << 20):
                self.refuse(f"{name} has chunks larger than itself")
            self._check_chunks(name, place)
        return place

    def _check_chunks(self, name: str, dataset: h5py.Dataset) -> None:
        """Refuse a dataset without one of its chunks, for which HDF5 reads zeros."""
        sides = zip(dataset.shape, dataset.chunks, strict=True)
        for offset in itertools.product(*(range(0, length, step) for length, step in sides)):
            # HDF5 may list a chunk that no read finds; this function searches as a read does.
            try:
                skipped = dataset.id.read_direct_chunk(offset)[0]
            except (ValueError, RuntimeError, OSError, MemoryError):
                skipped = -1
            if skipped:
                self.refuse(f"{name} is not complete: damaged")


def read_hdf5(path: PathLike, content: bytes, *, prefix: str = "") -> GaussianMixture:
    """Decode a mixture in SIDEKIT's layout; a checksum in the file is verified."""
    image = _image(path, content)
    with open_image(path, image) as file:
        return _Datasets(path, file, len(image), is_sealed(content)).read(prefix)


def write_hdf5(
    path: PathLike, mixture: GaussianMixture, *, prefix: str = "", mode: str = "w"
) -> None:
    """Write a mixture as SIDEKIT does; mode ``a`` adds the mixture to those in the file."""
    if mode not in ("w", "a"):
        raise GmmcoreError(f"{path}: mode {mode!r} is not possible, use 'w' or 'a'")
    if mode == "w" or not Path(path).exists():
        seal(path, KIND, hdf5_image(lambda file: put_mixture(file, mixture, prefix, True)))
        return
    content = read_bytes(path, MAX_BYTES)
    facts = unseal(path, KIND, content)[0] if is_sealed(content) else {}
    facts.pop("digest", None)
    with open_image(path, _image(path, content), writable=True) as file:
        if prefix + "w" in file:
            raise GmmcoreError(
                f"{path}: already holds a mixture with the prefix {prefix!r}; use another"
            )
        put_mixture(file, mixture, prefix, True)
        file.flush()
        image = file.id.get_file_image()
    seal(path, KIND, image, **facts)


def prefixes(path: PathLike, content: bytes) -> list[str]:
    """Return the prefixes of all mixtures in a file, sorted."""
    with open_image(path, _image(path, content)) as file:
        return _Datasets(path, file, len(content), False).prefixes()


def _image(path: PathLike, content: bytes) -> bytes:
    """Return the HDF5 part of a file; if the file has a checksum, verify it."""
    return unseal(path, KIND, content)[1] if is_sealed(content) else content


@dataclass(frozen=True)
class Model:
    """A mixture with its provenance."""

    mixture: GaussianMixture  # Of kind diag or full, as from `gmmcore.read_mixture`.
    facts: dict[str, Any]  # Run, stage, iteration, digest of the parent, and more.
    history: tuple[HistoryEntry, ...]  # All iterations of the training up to the mixture.
    digest: str  # SHA-256 of the content of the file, 64 hexadecimal digits.


def save_model(
    path: PathLike,
    mixture: GaussianMixture,
    facts: Mapping[str, Any],
    history: Sequence[HistoryEntry] = (),
    *,
    compress: bool = False,
) -> str:
    """Write a mixture with its provenance, see `Model`; equal arguments give equal bytes."""

    def build(file: h5py.File) -> None:
        put_mixture(file, mixture, "", compress)
        names = columns(history)
        rows = [tuple(getattr(entry, name) for name in names) for entry in history]
        dtype = [(name, HISTORY_TYPE[name]) for name in names]
        file.create_group(GROUP)["history"] = np.array(rows, dtype=dtype)

    return seal(path, KIND, hdf5_image(build), **facts)


def load_model(path: PathLike) -> Model:
    """Read and verify a file of `save_model`."""
    facts, content = unseal(path, KIND)
    digest = facts.pop("digest")
    with open_image(path, content) as file:
        datasets = _Datasets(path, file, len(content), True)
        mixture = datasets.read("")
        return Model(mixture, facts, datasets.history(len(content)), digest)


def _recognises(content: bytes) -> bool:
    # A user block of 512 bytes, or twice as many and so on, may precede the signature of HDF5.
    return is_sealed(content) or any(
        content[at : at + 8] == b"\x89HDF\r\n\x1a\n" for at in (0, *(512 << k for k in range(22)))
    )


FORMATS = (Format("sidekit", TITLE, _recognises, read_hdf5, write_hdf5),)
