"""Statistics and means of shows and models in SIDEKIT's layout, the StatServer, row by row.

Rows have a model, a show, ``stat0`` (C,) and ``stat1`` (C D,), component after component, about
zero, in float32. In a file of models, the show is the model, and ``stat1`` its means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike, replace_bytes, writing
from gmmcore.formats.base import Array
from gmmcore.formats.hdf5 import header_facts, open_sealed, sealing
from gmmcore.formats.kaldi import encode_accumulator

KIND = "verification"
NamedRow = tuple[str, str, Array, Array]


def write_rows(path: PathLike, rows: Iterable[NamedRow], **facts: Any) -> list[str]:
    """Write rows of model, show, count (C,) and values (C, D) one by one; return the shows."""
    models, shows = [], []
    with sealing(path, KIND, **facts) as file:
        for index, (model, show, count, values) in enumerate(rows):
            models.append(model)
            shows.append(show)
            for name, row in (("stat0", count), ("stat1", values)):
                if not index:
                    size = {"shape": (0, row.size), "maxshape": (None, row.size)}
                    file.create_dataset(name, dtype="<f4", chunks=(1, row.size), **size)
                file[name].resize(index + 1, axis=0)
                file[name][index] = row.ravel()
        put_names(file, modelset=models, segset=shows)
        for name in ("start", "stop"):  # No limits: the shows are whole.
            file[name] = np.full(len(shows), -1, np.int32)
    return shows


def put_names(file: h5py.File, **names: list[str]) -> None:
    """Write names as SIDEKIT does."""
    for key, values in names.items():
        file[key] = np.array([value.encode() for value in values])


class Rows:
    """The rows of open files of `write_rows`, by the names of their shows."""

    def __init__(self, files: Iterable[tuple[PathLike, h5py.File]]) -> None:
        self._places: dict[str, tuple[PathLike, int, list[h5py.Dataset]]] = {}
        for path, file in files:
            # Looked up once, not for each row; a file without rows has none.
            datasets = [file[name] for name in ("stat0", "stat1") if name in file]
            for index, name in enumerate(file["segset"][()]):
                place = path, index, datasets
                other = self._places.setdefault(name.decode(), place)[0]
                if other != path:
                    raise GmmcoreError(
                        f"show {name.decode()}: in {other} and in {path}; expected each show in "
                        "one list of statistics; rename it"
                    )

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Return the names that have no row, sorted."""
        return sorted({*names} - self._places.keys())

    def read(self, names: list[str]) -> tuple[Array, Array]:
        """Return counts (S, C) and values (S, C, D) of shows in any order."""
        places = [self._places[name] for name in names]
        count, values = (
            np.array([datasets[order][index] for _, index, datasets in places], np.float64)
            for order in (0, 1)
        )
        return count, values.reshape(*count.shape, -1)


@contextmanager
def open_rows(paths: Iterable[PathLike], mixture: str) -> Iterator[Rows]:
    """Open and verify files of `write_rows`, made with the mixture of this digest."""
    with ExitStack() as stack:
        files = []
        for path in paths:
            file, facts = stack.enter_context(open_sealed(path, KIND))
            if facts["mixture"] != mixture:
                raise GmmcoreError(
                    f"{path}: made with another mixture; make it again with this one"
                )
            files.append((path, file))
        yield Rows(files)


def sealed_facts(path: PathLike) -> dict[str, Any]:
    """Verify a file of this module, and return what it was made from."""
    with open_sealed(path, KIND) as (_, facts):
        return facts


def is_rows(path: PathLike) -> bool:
    """Whether a file begins as those of this module."""
    with suppress(GmmcoreError):
        return bool(header_facts(path, KIND))
    return False


def convert_rows(path: PathLike, output: PathLike) -> list[Path]:
    """Write statistics as matrices of ALIZE (.matx), or as an accumulator of Kaldi (.acc)."""
    output = Path(output)
    with open_sealed(path, KIND) as (file, _):
        if "stat0" not in file or output.suffix not in (".matx", ".acc"):
            raise GmmcoreError(
                f"{output}: statistics are written as matrices of ALIZE, .matx, or as an "
                f"accumulator of Kaldi, .acc, and scores in neither format; read {path} with h5py"
            )
        orders = {"N": file["stat0"], "F_X": file["stat1"]}
        if output.suffix == ".acc":
            sums = [sum(row.astype(np.float64) for row in data) for data in orders.values()]
            replace_bytes(output, encode_accumulator(sums[0], sums[1].reshape(len(sums[0]), -1)))
            return [output]
        written = [output.with_suffix(f".{name}.matx") for name in orders]
        for one, data in zip(written, orders.values(), strict=True):
            with writing(one) as stream:
                stream.write(np.array(data.shape, "<u4").tobytes())
                for row in data:
                    stream.write(row.astype("<f8").tobytes())
        return written


def write_scores(
    path: PathLike,
    models: list[str],
    shows: list[str],
    mask: npt.NDArray[np.bool_],
    scores: Array,
    **facts: Any,
) -> None:
    """Write scores (M, T) as SIDEKIT's Scores file; `mask` says which are those of trials."""
    with sealing(path, KIND, **facts) as file:
        put_names(file, modelset=models, segset=shows)
        file["score_mask"] = mask.astype(np.int8)
        file["scores"] = np.where(mask, scores, 0.0)
