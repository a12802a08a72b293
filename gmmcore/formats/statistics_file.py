"""Statistics files: sums of some pieces of an E-step, which other files have the rest of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmmcore.core.estep import Expectation, Statistics
from gmmcore.core.gpu.choice import kind_of, one_of
from gmmcore.core.summation import SumTree
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike
from gmmcore.formats.hdf5 import hdf5_image, open_image, seal, unseal

if TYPE_CHECKING:
    import h5py

__all__ = ["StatisticsFacts", "join_statistics", "save_statistics"]

KIND = "statistics"


@dataclass(frozen=True)
class StatisticsFacts:
    """What the statistics of an E-step must have in common to be added.

    Attributes
    ----------
    mixture : str
        Digest of the mixture file.
    corpus : str
        Digest of all frames.
    level : int
        Level of the subset of the frames; see `gmmcore.core.schedule.Course`.
    settings : str
        Digest of the E-step's settings.
    """

    mixture: str
    corpus: str
    level: int
    settings: str


def save_statistics(
    path: PathLike,
    tree: SumTree,
    facts: StatisticsFacts,
    *,
    choice: tuple[bool, bool],
    arithmetic: str | None = None,
    device: str | None = None,
) -> str:
    """Write the sums of some pieces.

    Parameters
    ----------
    path
        The file to write, whole or not at all.
    tree
        The sums; see `gmmcore.core.estep.Expectation`.
    facts
        What they belong to.
    choice
        The ``choice`` of the E-step.
    arithmetic
        What computed them, in the words of `gmmcore.core.processor.in_use`.
    device
        What device did, in the words of `gmmcore.core.gpu.device.words_of`.

    Returns
    -------
    str
        The file's digest.
    """

    def build(file: h5py.File) -> None:
        for (level, index), sums in sorted(tree.nodes.items()):
            file[f"{level}/{index}"] = sums

    more = {"choice": list(choice), "arithmetic": arithmetic, "device": device}
    return seal(path, KIND, hdf5_image(build), **asdict(facts), **more)


def join_statistics(
    paths: Iterable[PathLike],
    facts: StatisticsFacts,
    expectation_of: Callable[[tuple[bool, bool], str | None], Expectation],
) -> tuple[Statistics, list[str | None], str | None]:
    """Add the sums in some files, which together must have all pieces.

    Parameters
    ----------
    paths
        Statistics files, at least one.
    facts
        Those that the files must carry.
    expectation_of
        Function that returns the E-step with a ``choice``, which all files must share, and the
        ``device`` of one of them, of whose kind all others must be.

    Returns
    -------
    statistics : Statistics
        The sums over all frames.
    makers : list of str or None
        The ``arithmetic`` of each file.
    device : str or None
        The ``device`` of all files; of several types of one kind, one is named.

    Raises
    ------
    DamagedFileError
        If a file is truncated or altered.
    GmmcoreError
        If a file belongs to another E-step, if pieces are missing or there twice, or if a number
        is not finite.
    """
    wanted, makers, devices = asdict(facts), [], []
    paths = [*paths]
    expectation: Expectation | None = None
    for path in paths:
        found, content = unseal(path, KIND)
        if expectation is None:
            wanted["choice"] = found["choice"]
            expectation = expectation_of(tuple(found["choice"]), found.get("device"))
            tree = SumTree(len(expectation.pieces))
        devices.append(found.get("device"))
        if kind_of(devices[-1]) != kind_of(devices[0]):
            # It was changed while some parts were there already. Their pieces do not fit together.
            for one in paths:
                Path(one).unlink(missing_ok=True)
            raise GmmcoreError(
                f"{path}: the device is {devices[-1] or 'cpu'}, and that of other parts "
                f"{devices[0] or 'cpu'}; all were removed; give the same command again, which "
                "makes them anew"
            )
        for name, value in wanted.items():
            if found.get(name) != value:
                raise GmmcoreError(
                    f"{path}: statistics of another {name} "
                    f"({str(found.get(name))[:12]}, not {str(value)[:12]}); remove the file"
                )
        makers.append(found.get("arithmetic"))
        with open_image(path, content) as file:
            nodes = [((int(k), int(i)), file[k][i][()]) for k in file for i in file[k]]
        for node, sums in nodes:
            if sums.shape != (expectation.size,) or not np.isfinite(sums).all():
                raise GmmcoreError(
                    f"{path}: node {node[1]} of level {node[0]} holds a number that is not finite, "
                    "or not as many as expected; remove the file"
                )
            try:
                tree.add(node, sums)
            except ValueError as error:
                raise GmmcoreError(f"{path}: {error}; remove the file") from None
    if expectation is None or len(tree.nodes) > 1 or (tree.count and tree.total is None):
        raise GmmcoreError(
            "the statistics files do not have each piece of the frames once; remove them"
        )
    return expectation.finish(tree.total), makers, one_of(devices)
