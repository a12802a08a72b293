"""The shows of a list one by one, after the processing of a training, and their likelihoods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.estep import log_likelihood_over, parts, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import threads_map
from gmmcore.data.check import check_list
from gmmcore.data.lists import Listing
from gmmcore.data.readers import Fault, FaultyShowError, Frames, report
from gmmcore.data.shows import Row, ShowReader
from gmmcore.errors import GmmcoreError, warn


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of frames (S,) of shows, and their log-likelihoods (S, M) under mixtures."""

    shows: list[str]
    frames: npt.NDArray[np.int64]
    totals: npt.NDArray[np.float64]
    faults: list[Fault]

    def table(self, names: Sequence[str]) -> str:
        """Return log-likelihoods per frame as tab-separated text; the last row is for all shows."""
        shows = [*self.shows, "all"]
        frames = np.append(self.frames, self.frames.sum())
        totals = np.vstack([self.totals, self.totals.sum(axis=0)])
        lines = ["\t".join(["show", "frames", *names])]
        for show, count, row in zip(shows, frames, totals / frames[:, np.newaxis], strict=True):
            lines.append("\t".join([show, str(count), *(f"{value:.6f}" for value in row)]))
        return "\n".join(lines) + "\n"


class Shows:
    """The shows of a list, whose `faults` grow while they are read."""

    def __init__(self, settings: FeatureSettings, listing: Listing | None = None) -> None:
        checked = check_list(settings, listing)
        self.settings = replace(settings, vad=checked.table.facts["vad"])
        # That of processed frames.
        self.dimension: int = checked.table.facts["dimension"]
        self.faults = list(checked.faults)
        # The segments of each show, in the order of the list.
        self.rows: dict[str, list[Row]] = {}
        for row in checked.table.rows:
            self.rows.setdefault(row.show, []).append(row)

    def check(self, mixture: GaussianMixture) -> None:
        """Raise an error if a mixture has another dimension."""
        if mixture.dimension != self.dimension:
            raise GmmcoreError(
                f"{self.settings.list}: frames of dimension {self.dimension} after processing; "
                f"expected {mixture.dimension}, as {mixture!r} has; choose the configuration that "
                "it was trained with"
            )

    def read(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Frames]]:
        """Yield shows with the frames of their segments joined; faults are raised at the end."""
        found = False
        with ShowReader(self.settings) as reader:
            for name in self.rows if names is None else names:
                parts = []
                for row in self.rows[name]:
                    try:
                        parts.append(reader.frames(row))
                    except FaultyShowError as error:
                        self.faults.append(error.fault(row.show, row.path))
                if parts:
                    found = True
                    yield name, parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.faults and (self.settings.on_error == "stop" or not found):
            raise GmmcoreError(report(self.faults, self.settings.list))

    def read_and_warn(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Frames]]:
        """Yield shows as `read` does, and warn of those that are skipped at the end."""
        yield from self.read(names)
        if self.faults:
            warn(report(self.faults, self.settings.list))
            self.faults.clear()


def read_shows(
    list: str | os.PathLike[str], *, features: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Frames]]:
    """Read the shows of a list, with their features processed as in a training.

    Parameters
    ----------
    list : path
        List of shows, or a folder, as ``features: list`` of config.yaml.
    features : mapping, optional
        Keys of the section ``features`` of config.yaml, such as ``{"normalisation": "cmvn"}``.

    Returns
    -------
    iterator of (str, ndarray)
        Names of the shows, in the order of the list, and their frames (F, D), F > 0; a show
        that has several segments in the list has them joined. Frames are read one show at a time.

    Raises
    ------
    GmmcoreError
        If the list cannot be read, or at the end, if a show is faulty. With ``on_error: skip``,
        faulty shows are left out with a warning.

    Examples
    --------
    >>> import gmmcore, numpy, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in "ab":
    ...         numpy.save(f"{folder}/{name}.npy", numpy.ones((3, 2)))
    ...     [(name, frames.shape) for name, frames in gmmcore.read_shows(folder)]
    [('a', (3, 2)), ('b', (3, 2))]
    """
    shows = Shows(FeatureSettings.from_mapping({**(features or {}), "list": os.fspath(list)}))
    return shows.read_and_warn()


def score_list(
    mixtures: Sequence[GaussianMixture],
    settings: FeatureSettings,
    *,
    precision: str = "double",
    threads: int = 1,
) -> Scores:
    """Process the shows of a list and sum the log-likelihoods of their frames."""
    shows = Shows(settings)
    for mixture in mixtures:
        shows.check(mixture)
    prepared = [sums_under(mixture, precision, pruning=0.0) for mixture in mixtures]
    frames: dict[str, int] = {}
    totals: dict[str, npt.NDArray[np.float64]] = {}
    for name, values in shows.read():
        of_show, mapped = parts(ArraySource(values)), threads_map(threads)
        try:
            totals[name] = np.array(
                [log_likelihood_over(sums, of_show, mapped) for sums in prepared]
            )
        except FloatingPointError as error:
            path = shows.rows[name][0].path
            raise GmmcoreError(f"show {name} ({path}): {error}") from error
        frames[name] = len(values)
    return Scores(
        [*frames], np.array([*frames.values()]), np.array([*totals.values()]), shows.faults
    )
