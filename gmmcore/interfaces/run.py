"""Results: of `gmmcore.train`, and of a run of the workflow, which `open_run` opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture, html_table
from gmmcore.errors import GmmcoreError
from gmmcore.formats.hdf5 import load_model

if TYPE_CHECKING:
    from altair import LayerChart

_WIDTH = 640  # Pixels: notebooks do not tell plots how wide they are.


@dataclass(frozen=True)
class Training:
    """Result of `gmmcore.train`.

    Attributes
    ----------
    mixture : GaussianMixture
        The final mixture, which `gmmcore.write_mixture` writes.
    entries : tuple of HistoryEntry
        The history, with one entry per iteration.
    held_out : float
        Log-likelihood per frame (natural logarithm) of all held-out frames under the mixture; NaN
        without held-out frames.
    """

    mixture: GaussianMixture
    entries: tuple[HistoryEntry, ...]
    held_out: float = nan

    @cached_property
    def history(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of ``history.tsv`` by name, each an array with one value per iteration.

        The names are those of `gmmcore.core.history.HistoryEntry`; ``pandas.DataFrame(history)``
        makes a table.
        """
        types = {"str": str, "int": int, "float": float}
        return {
            each.name: np.array(
                [getattr(entry, each.name) for entry in self.entries], types[str(each.type)]
            )
            for each in fields(HistoryEntry)
        }

    def plot_history(self) -> LayerChart:
        """Plot the log-likelihood per frame by iteration, of training and held-out frames.

        Returns
        -------
        altair.LayerChart
            The plot of the report; a notebook shows the plot, and its method ``save`` writes it.

        Raises
        ------
        GmmcoreError
            If Vega-Altair is not installed.

        Examples
        --------
        >>> from gmmcore import train
        >>> training = train([[-2.0], [-1.0], [1.0], [2.0]] * 10, components=2)
        >>> training.plot_history().to_dict()["description"]
        'Log-likelihood per frame by iteration'
        """
        from gmmcore.report.plots import likelihoods

        try:
            from altair import LayerChart
        except ImportError as error:
            raise GmmcoreError(
                "plot_history: Vega-Altair cannot be imported; expected for plots; install it "
                "with: pip install altair vl-convert-python"
            ) from error
        return LayerChart.from_dict(likelihoods(self.entries, _WIDTH))

    def _repr_html_(self) -> str:
        """Show the training in a notebook: its stages, and the mixture."""
        last = {(entry.stage, entry.components): entry for entry in self.entries}
        head = ["stage", "iterations", "frames read", "log-likelihood", "gain", "held out"]
        rows = [
            [f"{kind}/{size}", entry.iteration, f"{entry.frames:,}"]
            + [f"{value:.4f}" for value in (entry.log_likelihood, entry.gain, entry.held_out)]
            for (kind, size), entry in last.items()
        ]
        note = "Values are per frame, before the last update of a stage."
        return html_table(repr(self), head, rows, note) + self.mixture._repr_html_()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.entries)} iterations, {self.mixture!r}>"


class StageMixtures(Mapping[str, GaussianMixture]):
    """The last mixture of each finished stage, read when it is looked up, as in ``["diag/64"]``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = [path for path in folder.glob("*/*.h5") if path.stem.isdigit()]
        found.sort(key=lambda path: (path.parent.name, int(path.stem)))
        self._paths = {f"{path.parent.name}/{path.stem}": path for path in found}

    def __getitem__(self, stage: str) -> GaussianMixture:
        return load_model(self._paths[stage]).mixture

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._folder}: {', '.join(self) or 'none yet'}>"


@dataclass(frozen=True, repr=False, kw_only=True)
class OpenedRun(Training):
    """A run of the workflow, as returned by `open_run`.

    Attributes
    ----------
    mixture, entries, held_out
        Attributes of a `Training`: of the final mixture, or, before the run is finished, of the
        mixture of the latest iteration.
    folder : Path
        Folder of the run.
    mixtures : StageMixtures
        The last mixture of each finished stage, by the name of the stage, such as ``diag/64``.
    finished : bool
        Whether the run has a final mixture.
    """

    folder: Path
    mixtures: StageMixtures
    finished: bool


def open_run(folder: str | os.PathLike[str]) -> OpenedRun:
    """Open the results of a run of the workflow, finished or not.

    Parameters
    ----------
    folder : path
        Folder of the run, such as ``results/demo``.

    Returns
    -------
    OpenedRun
        The mixtures and the history up to the latest iteration.

    Raises
    ------
    GmmcoreError
        If the folder has no mixture of a run, or the mixture of the latest iteration is damaged.

    Examples
    --------
    >>> import gmmcore
    >>> import tempfile
    >>> from gmmcore.formats.hdf5 import save_model
    >>> training = gmmcore.train([[-2.0], [-1.0], [1.0], [2.0]] * 10, components=2)
    >>> with tempfile.TemporaryDirectory() as folder:  # In place of results/demo.
    ...     digest = save_model(folder + "/ubm.h5", training.mixture, {}, training.entries)
    ...     run = gmmcore.open_run(folder)
    >>> run.mixture == training.mixture, run.finished
    (True, True)
    >>> set(run.history["components"].tolist())
    {2}
    """
    folder = Path(folder)
    final = folder / "ubm.h5"
    finished = final.exists()
    # The last iteration of each stage; the latest one of the run has the longest history.
    iterations = sorted(folder.glob("*/*/[0-9]*.h5"))
    last = [*{path.parent: path for path in iterations if path.stem.isdigit()}.values()]
    if not finished and not last:
        raise GmmcoreError(
            f"{folder}: no mixture of a run; expected a folder such as results/demo; correct the "
            "path, or wait for the first mixture"
        )
    models = map(load_model, [final] if finished else last)
    model = max(models, key=lambda model: len(model.history))
    return OpenedRun(
        model.mixture,
        model.history,
        model.facts.get("held_out", nan),
        folder=folder,
        mixtures=StageMixtures(folder),
        finished=finished,
    )
