"""SIDEKIT's HDF5 feature files, with one show or several shows.

A show is a group with the datasets ``energy``, ``cep``, ``fb``, ``bnf`` and ``vad``. The dataset
``compression`` at the root is 0 for plain numbers, 1 for HTK's 16 bits, 2 for bytes between
percentiles. Links inside the file are followed. Datasets in other files, and datasets larger than
their stored bytes allow, are refused.
"""

from __future__ import annotations

import math
import os
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from h5py import h5d, h5f, h5g, h5l, h5o, h5p, h5s

from gmmcore.data import readers
from gmmcore.data.readers import Description, FaultyShowError, Frames

_NONE, _HTK, _PERCENTILE = 0, 1, 2
_LARGEST_RATIO = 1100  # Deflate compresses at most 1032:1.
_LARGEST_CHUNK = 256 << 20
_MOST_LINKS = 16  # Soft links may go in circles.
_ACCESS = h5p.create(h5p.FILE_ACCESS)
_ACCESS.set_file_locking(False, True)  # Network file systems often lack locks.
_AGAIN = "extract the show again"
_reading = partial(readers.reading, "a whole HDF5 file as SIDEKIT writes it", _AGAIN)
_wrong = partial(FaultyShowError, remedy="write the file again")


class Source(readers.Source):
    """An opened SIDEKIT feature file."""

    @_reading()
    def __init__(self, path: str, datasets: tuple[str, ...]) -> None:
        # h5py.File takes four times as long, which matters for lists of 100,000 files.
        self.file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, fapl=_ACCESS)
        self._datasets = datasets
        self._group: tuple[str, Any] | None = None

    def close(self) -> None:
        # Without references the file closes in half the time of an explicit close.
        self._group = self.file = None

    @cached_property
    @_reading()
    def shows(self) -> list[str]:
        """The names of all shows in the file, sorted; empty for a show in no group."""

        # A group with other groups and no show is a folder.
        def is_show(group: Any) -> bool:
            return any(group.links.exists(name.encode()) for name in self._datasets)

        root = h5g.open(self.file, b"/")
        found, left, folders = [], [""], set()
        while left:
            path = left.pop()
            group = _at(root, path)
            if path and is_show(group):
                found.append(path)
                continue
            inner = [
                name
                for name in group
                if group.links.get_info(name).type == h5l.TYPE_HARD
                and h5o.get_info(group, name).type == h5o.TYPE_GROUP
            ]
            if path and not inner:
                found.append(path)
            elif (place := h5o.get_info(group).addr) not in folders:  # It may be in itself.
                folders.add(place)
                names = [name.decode(errors="surrogateescape") for name in inner]
                left += [f"{path}/{name}" if path else name for name in names]
        return sorted(found) if found or not is_show(root) else [""]

    @_reading()
    def whole(self, show: str, offset: int | None) -> Description:
        frames, dimension = self._shape(show)
        labels = self._dataset(show, "vad")
        count = None if labels is None else math.prod(labels.shape)
        return Description(frames, dimension, count)

    @_reading()
    def rows(self, show: str, offset: int | None, first: int, last: int) -> Frames:
        parts = [self._decoded(show, name, first, last) for name in self._datasets]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    @_reading()
    def row_labels(self, show: str) -> npt.NDArray[Any] | None:
        dataset = self._dataset(show, "vad")
        return None if dataset is None else _values(dataset)

    @cached_property
    def _compression(self) -> int:
        dataset = _dataset_in(h5g.open(self.file, b"/"), "compression")
        value = _NONE if dataset is None else int(_values(dataset).reshape(-1)[0])
        if value not in (_NONE, _HTK, _PERCENTILE):
            raise _wrong(f"compression {value}", "0 (none), 1 (htk) or 2 (percentile)")
        return value

    def _opened_group(self, show: str) -> Any:
        if self._group is not None and self._group[0] == show:
            return self._group[1]
        root = h5g.open(self.file, b"/")
        # In a variant of SIDEKIT, the group has only the last part of the name of the show.
        places = (_at(root, name) for name in (show, show.split("/")[-1]))
        found = next((place for place in places if isinstance(place, h5g.GroupID)), None)
        if found is None:
            # The one show of a file is meant, whatever its name; it may have no group of its own.
            if len(self.shows) != 1:
                raise FaultyShowError(
                    "the file has no such show", f"a group named {show}", "correct the list"
                )
            found = _at(root, self.shows[0])
        self._group = (show, found)
        return found

    def _dataset(self, show: str, name: str) -> Any:
        return _dataset_in(self._opened_group(show), name)

    def _shape(self, show: str) -> tuple[int, int]:
        """Return the number of frames and the dimension of all datasets together."""
        lengths, dimension = {}, 0
        for name in self._datasets:
            dataset = self._dataset(show, name)
            if dataset is None:
                raise FaultyShowError(
                    f"no dataset {name}",
                    f"the datasets {', '.join(self._datasets)}",
                    "correct features: datasets, or extract the show again",
                )
            shape = dataset.shape
            if len(shape) not in (1, 2):
                wanted = "numbers of shape (frames, dimension)"
                raise FaultyShowError(f"{name} of shape {shape}", wanted, _AGAIN)
            lengths[name] = int(shape[0])
            dimension += int(shape[1]) if len(shape) == 2 else 1
        if len(set(lengths.values())) != 1:
            found = ", ".join(f"{count} frames of {name}" for name, count in lengths.items())
            raise FaultyShowError(found, "the same number of each", _AGAIN)
        return next(iter(lengths.values())), dimension

    def _decoded(self, show: str, name: str, first: int, last: int) -> npt.NDArray[Any]:
        data = _values(self._dataset(show, name), first, last)
        if data.ndim == 1:
            data = data[:, np.newaxis]
        if self._compression == _HTK:
            scale, bias = self._parameters(show, f"{name}_comp", 2)
            return (data + bias) / scale
        if self._compression == _PERCENTILE:
            least, extent = self._parameters(show, f"{name}_min_range", 2)
            header = self._parameters(show, f"{name}_header", 4 * data.shape[1])
            percentiles = least + header.reshape(-1, 4) * (extent / 65535.0)
            return _interpolated(data, percentiles)
        return data

    def _parameters(self, show: str, name: str, count: int) -> npt.NDArray[np.float64]:
        dataset = self._dataset(show, name)
        found = 0 if dataset is None else math.prod(dataset.shape)
        if found != count:
            raise _wrong(f"{found} values of {name}", f"{count} (see compression)")
        return _values(dataset).reshape(-1).astype(np.float64)


def _interpolated(
    data: npt.NDArray[Any], percentiles: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Compute the values of bytes, linear between percentiles 0, 25, 75 and 100 of a column."""
    if data.dtype != np.uint8:
        raise _wrong(f"percentile compression of type {data.dtype}", "uint8")
    tables = np.stack(
        [np.interp(np.arange(256.0), (0.0, 64.0, 192.0, 255.0), p) for p in percentiles], axis=1
    ).astype(np.float32)
    return np.take_along_axis(tables, data.astype(np.intp), axis=0)


def _at(group: Any, name: str) -> Any:
    """Open what has a name in a group, also by soft links; None without it, or in another file."""
    parts, links = name.encode(errors="surrogateescape").split(b"/")[::-1], 0
    while parts:
        part = parts.pop()
        if part in (b"", b"."):
            continue
        if not isinstance(group, h5g.GroupID) or not group.links.exists(part):
            return None
        kind = group.links.get_info(part).type
        if kind == h5l.TYPE_HARD:
            group = h5o.open(group, part)
        elif kind == h5l.TYPE_SOFT and links < _MOST_LINKS:
            links += 1
            target = group.links.get_val(part)
            parts += target.split(b"/")[::-1]
            if target.startswith(b"/"):
                group = h5g.open(group, b"/")
        else:
            return None
    return group


def _dataset_in(group: Any, name: str) -> Any:
    """Open a dataset in a group; None without the dataset."""
    found = _at(group, name)
    if found is not None and not isinstance(found, h5d.DatasetID):
        raise _wrong(f"{name} is no dataset", "a dataset")
    return found


def _check_stored(dataset: Any) -> None:
    """Refuse a dataset with values in another file, or with fewer values than claimed."""
    creation = dataset.get_create_plist()
    layout = creation.get_layout()
    if layout == h5d.VIRTUAL or (layout == h5d.CONTIGUOUS and creation.get_external_count()):
        raise _wrong("frames that lie in another file", "frames in the file itself")
    if layout == h5d.CHUNKED:
        chunk = math.prod(creation.get_chunk()) * dataset.get_type().get_size()
        if chunk > _LARGEST_CHUNK:
            raise _wrong(f"chunks of {chunk} bytes", f"at most {_LARGEST_CHUNK}")
    claimed = math.prod(dataset.shape) * dataset.get_type().get_size()
    stored = dataset.get_storage_size()
    if claimed > stored * (_LARGEST_RATIO if creation.get_nfilters() else 1):
        found = f"a dataset that claims {claimed} bytes but stores {stored}"
        raise FaultyShowError(found, "all its values", _AGAIN)


def _values(dataset: Any, first: int = 0, last: int | None = None) -> npt.NDArray[Any]:
    """Read the rows first <= i < last of a dataset, in the byte order of this machine."""
    _check_stored(dataset)
    shape = dataset.shape
    dtype = dataset.dtype.newbyteorder("=")
    if dtype.kind not in "fiubS":
        raise FaultyShowError(f"values of type {dtype}", "numbers", _AGAIN)
    if not shape:
        result = np.empty((), dtype)
        dataset.read(h5s.ALL, h5s.ALL, result)
        return result
    last = shape[0] if last is None else min(last, shape[0])
    result = np.empty((max(last - first, 0), *shape[1:]), dtype)
    if result.size:
        chosen = dataset.get_space()
        chosen.select_hyperslab((first,) + (0,) * (len(shape) - 1), result.shape)
        dataset.read(h5s.create_simple(result.shape), chosen, result)
    return result


@_reading()
def read_dataset(source: Source, name: str) -> npt.NDArray[Any] | None:
    """Read a dataset at the root of a file; None without the dataset."""
    dataset = _dataset_in(h5g.open(source.file, b"/"), name)
    if dataset is None:
        return None
    if dataset.dtype.kind == "O" and len(dataset.shape) == 1:  # Texts of various lengths.
        _check_stored(dataset)
        texts = np.empty(dataset.shape, dataset.dtype)
        dataset.read(h5s.ALL, h5s.ALL, texts)
        return texts
    return _values(dataset)
