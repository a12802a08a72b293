"""Statistics files: each holds the sums of an E-step over some parts of the frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gmmcore.errors import DamagedFileError, GmmcoreError, counted
from gmmcore.files import PathLike
from gmmcore.formats.base import Array
from gmmcore.formats.hdf5 import hdf5_image, open_image, seal, unseal

KIND = "statistics"


@dataclass(frozen=True)
class StatisticsFacts:
    """Facts of an E-step; statistics are added only if their facts are equal."""

    mixture: str  # Digest of the mixture file.
    corpus: str  # Digest of all frames.
    level: int  # Level of the subset of the frames; see `gmmcore.core.schedule.Course`.
    settings: str  # Digest of the settings of the E-step.
    device: str  # cpu or cuda: a CPU and a GPU add in different orders.


def save_statistics(
    path: PathLike, sums: Mapping[int, Array], facts: StatisticsFacts, **more: str | None
) -> str:
    """Write sums by the number of their part, and facts; return the digest of the file."""

    def build(file: h5py.File) -> None:
        for part, values in sums.items():
            file[str(part)] = values

    return seal(path, KIND, hdf5_image(build), **asdict(facts), **more)


def read_statistics(
    paths: Iterable[PathLike], facts: StatisticsFacts, parts: int, size: int
) -> tuple[list[Array], list[dict[str, Any]]]:
    """Read the sums of all parts in order, and facts; files that are damaged or others' go."""
    sums: dict[int, Array] = {}
    found, strangers = [], []
    for path in paths:
        try:
            here, content = unseal(path, KIND)
            for name, wanted in asdict(facts).items():
                if (told := here.get(name)) != wanted:
                    what = f"{str(told)[:12]}, not {str(wanted)[:12]}"
                    raise DamagedFileError(path, f"statistics of another {name} ({what})")
        except DamagedFileError as error:
            Path(path).unlink(missing_ok=True)
            strangers.append(f"{path}: {error.what}")
            continue
        found.append(here)
        with open_image(path, content) as file:
            of_file = {int(name): file[name][()] for name in file}
        for part, values in of_file.items():
            if part in sums or values.shape != (size,) or not np.isfinite(values).all():
                Path(path).unlink(missing_ok=True)
                raise GmmcoreError(
                    f"{path}: part {part} is there twice, holds a number that is not finite, or "
                    "not as many as expected; removed; give the same command again"
                )
        sums |= of_file
    if strangers:
        raise GmmcoreError(
            f"{strangers[0]}; {counted(len(strangers), 'such file')} removed; give the same "
            "command again"
        )
    if sorted(sums) != [*range(parts)]:
        for path in paths:
            Path(path).unlink(missing_ok=True)
        raise GmmcoreError(
            f"the statistics files do not have each of {parts} parts of the frames; removed; "
            "give the same command again"
        )
    return [sums[part] for part in range(parts)], found
