"""Log-likelihoods of the shows of a list, after the processing of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.estep import log_likelihood_over, parts, sums_under
from gmmcore.core.frames import ArraySource
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import threads_map
from gmmcore.data.check import check_list
from gmmcore.data.readers import Fault, FaultyShowError, report
from gmmcore.data.shows import ShowReader
from gmmcore.errors import GmmcoreError


@dataclass(frozen=True, eq=False)
class Scores:
    """Numbers of processed `frames` (S,) of shows, and their log-likelihoods under M mixtures.

    `totals` (S, M) are sums over the frames of a show, in natural logarithms.
    """

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


def score_list(
    mixtures: Sequence[GaussianMixture],
    settings: FeatureSettings,
    *,
    precision: str = "double",
    threads: int = 1,
) -> Scores:
    """Process the shows of a list and sum the log-likelihoods of their frames."""
    checked = check_list(settings)
    facts, faults = checked.table.facts, list(checked.faults)
    for mixture in mixtures:
        if mixture.dimension != facts["dimension"]:
            raise GmmcoreError(
                f"{settings.list}: frames of dimension {facts['dimension']} after processing; "
                f"expected {mixture.dimension}, as {mixture!r} has; choose the configuration that "
                "it was trained with"
            )
    prepared = [sums_under(mixture, precision, pruning=0.0) for mixture in mixtures]
    frames: dict[str, int] = {}
    totals: dict[str, npt.NDArray[np.float64]] = {}
    with ShowReader(replace(settings, vad=facts["vad"])) as reader:
        for row in checked.table.rows:
            try:
                values = reader.frames(row)
            except FaultyShowError as error:
                faults.append(error.fault(row.show, row.path))
                continue
            try:
                of_show = parts(ArraySource(values))
                found = np.array(
                    [log_likelihood_over(sums, of_show, threads_map(threads)) for sums in prepared]
                )
            except FloatingPointError as error:
                raise GmmcoreError(f"show {row.show} ({row.path}): {error}") from error
            # A show may have several segments.
            frames[row.show] = frames.get(row.show, 0) + len(values)
            totals[row.show] = totals.get(row.show, 0.0) + found
    if faults and (settings.on_error == "stop" or not frames):
        raise GmmcoreError(report(faults, settings.list))
    return Scores([*frames], np.array([*frames.values()]), np.array([*totals.values()]), faults)
