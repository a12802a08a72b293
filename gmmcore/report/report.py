"""What is known of a finished training, and its page."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isnan, nan
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from gmmcore.config.configuration import changed
from gmmcore.config.keys import Settings
from gmmcore.config.options import mapping
from gmmcore.core.describe import Size, cautions, describe, outliers, sizes
from gmmcore.core.estep import log_likelihood
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.verification import error_rates
from gmmcore.data.corpus import Corpus
from gmmcore.data.shows import ShowTable
from gmmcore.data.trials import LABELS, error_line, read_scores
from gmmcore.errors import counted
from gmmcore.formats.hdf5 import Model, load_model
from gmmcore.report import plots
from gmmcore.workflow.status import stage_seconds

_SKIPPED = 50
# The pixels that a plot has on wide screens, and on those of phones.
_WIDTHS = {"screen": 920, "phone": 360}

Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    The log-likelihoods of `sizes`, the last mixtures of the stages, are those of `sampled` frames
    of the corpus and of `held_out` held-out ones. `seconds` are those of the jobs, by stage.
    """

    name: str
    settings: Settings
    model: Model
    corpus: Corpus
    sampled: int
    held_out: int
    sizes: tuple[Size, ...]
    seconds: dict[str, float]


def read_outcome(
    final: Path,
    mixtures: Sequence[str],
    corpus: Corpus,
    sample: Frames,
    settings: Settings,
    held_out: Frames | None = None,
    logs: Path | None = None,
    threads: int = 1,
) -> Outcome:
    """Read the final mixture, the last ones of some stages, and the seconds of their jobs."""
    model = load_model(final)
    found = {}
    for path in mixtures:
        last = load_model(path)
        training, other = (
            _log_likelihood(last.mixture, part, threads) for part in (sample, held_out)
        )
        found[last.facts["stage"], last.facts["components"]] = last.mixture, training, other
    limits = settings.limits
    known = sizes(found, model.history, corpus.frames, limits.llk_gain, limits.last_gain)
    times = {size.name: stage_seconds(logs, size.name) for size in known if logs}
    return Outcome(
        final.absolute().parent.name,
        settings,
        model,
        corpus,
        len(sample),
        0 if held_out is None else len(held_out),
        known,
        {name: seconds for name, seconds in times.items() if seconds is not None},
    )


def _log_likelihood(mixture: GaussianMixture, frames: Frames | None, threads: int) -> float:
    if frames is None:
        return nan
    return log_likelihood(mixture, frames, precision="single", threads=threads) / len(frames)


def report_page(
    outcome: Outcome,
    shows: ShowTable,
    skipped: Sequence[Sequence[str]],
    scores: str | None = None,
) -> str:
    """Write the page of a training; `skipped` has show, path and fault of shows left out.

    `scores` is the path of a table of trials.
    """
    mixture, history = outcome.model.mixture, outcome.model.history
    makers: dict[str, Callable[[int], plots.Plot]] = {}
    if scores and read_scores(scores).keys() == {*LABELS}:
        rates = error_rates(*map(read_scores(scores).__getitem__, LABELS))
        makers["det"] = partial(plots.detection_errors, *rates)
    if history:
        makers["likelihood"] = partial(plots.likelihoods, history)
    if mixture.components > 1:
        frames = outcome.corpus.frames
        makers["occupancy"] = partial(plots.occupancies, mixture.weights, frames)
    charts = {
        name: {screen: plots.drawn(make(width)) for screen, width in _WIDTHS.items()}
        for name, make in makers.items()
        if plots.CAN_DRAW
    }
    every, given = (flat(f) for f in (mapping(outcome.settings), changed(outcome.settings)))
    rest = {key: value for key, value in every.items() if key not in given}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "counted": counted}
    return environment.get_template("page.html.j2").render(
        outcome=outcome,
        facts=describe(mixture),
        shows=shows.facts,
        cautions=_cautions(outcome),
        sizes=_sizes(outcome.sizes),
        final_mixture=_final_mixture(outcome),
        skipped=Table(("show", "file", "found"), skipped[:_SKIPPED]),
        skipped_count=len(skipped),
        given=Table(("setting", "value"), [(k, setting(v)) for k, v in given.items()]),
        rest=Table(("setting", "default"), [(k, setting(v)) for k, v in rest.items()]),
        iterations=_iterations(outcome),
        provenance=Table(("provenance", "value"), [*_provenance(outcome).items()]),
        charts=charts,
        verification=error_line(scores) if scores else "",
        drawing=plots.CAN_DRAW,
    )


class Table:
    """Rows of cells; an empty column is left out, and `bold` has rows and names of columns."""

    def __init__(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[object]],
        bold: Iterable[tuple[int, str]] = (),
    ) -> None:
        columns = [[row[at] for row in rows] for at in range(len(head))]
        kept = [at for at, column in enumerate(columns) if not column or any(map(number, column))]
        self.head = [head[at] for at in kept]
        self.rows = [[row[at] for at in kept] for row in rows]
        self.bold = {*bold}
        # Numbers are aligned to the right.
        self.numeric = [any(isinstance(c, int | float) for c in columns[at]) for at in kept]


def _cautions(outcome: Outcome) -> list[str]:
    """Return the cautions about the mixture, and that another size has a higher likelihood."""
    gain = outcome.settings.llk_gain
    mixture, corpus = outcome.model.mixture, outcome.corpus
    floor = outcome.settings.iteration("full" if mixture.is_full else "diag").floor
    last_gain = outcome.settings.limits.last_gain
    found = cautions(mixture, outcome.model.history, gain, floor, last_gain)
    if line := outliers(corpus.outliers, corpus.frames):
        found.append(line)
    last, best = outcome.sizes[-1], max(outcome.sizes, key=_held_out)
    if _held_out(best) - _held_out(last) > max(gain, 0):
        found.append(
            f"the highest held-out log-likelihood per frame is that of {best.name}, "
            f"{best.held_out:.4f}; that of {last.name} is {last.held_out:.4f}. Train "
            f"{best.components} components, or take the mixture of this stage, {best.name}.h5"
        )
    return found


def _held_out(size: Size) -> float:
    return -inf if isnan(size.held_out) else size.held_out


def _sizes(known: Sequence[Size]) -> Table:
    """Make the table of the last mixtures of the stages; the best values are bold."""
    # What a size is chosen by comes first, because a phone shows the first columns.
    head = ["stage", "training", "held-out", "BIC", "AIC"]
    head += ["parameters", "iterations", "ended", "last read"]
    rows = [
        (
            *(size.name, size.log_likelihood, size.held_out, round(size.bic), round(size.aic)),
            *(size.parameters, size.iterations),
            size.ended + ("" if isnan(size.gain) else f", gain {size.gain:+.2g}"),
            size.trained_on,
        )
        for size in known
    ]
    best = {
        "held-out": max(known, key=_held_out),
        "BIC": min(known, key=lambda size: size.bic),
        "AIC": min(known, key=lambda size: size.aic),
    }
    bold = [(known.index(size), name) for name, size in best.items()]
    return Table(head, rows, bold)


def _final_mixture(outcome: Outcome) -> Table:
    """Make the small table of occupancies and bounded variances."""
    weights, frames = outcome.model.mixture.weights, outcome.corpus.frames
    rows: list[tuple[str, object]] = [
        ("largest occupancy, frames", round(weights.max() * frames)),
        ("smallest occupancy, frames", round(weights.min() * frames)),
    ]
    if outcome.model.history:
        last = outcome.model.history[-1]
        rows += [
            ("components with a low count", last.low_count),
            ("variances moved to their floor", last.floored),
            ("variances moved to their ceiling", last.ceiled),
        ]
    return Table(("final mixture", ""), rows)


def _iterations(outcome: Outcome) -> Table:
    """Make the table of all iterations."""
    names = ["iteration", "frames", "log_likelihood", "held_out", "gain"]
    names += ["floored", "ceiled", "low_count", "smallest_occupancy"]
    rows = [
        (f"{entry.stage} {entry.components}", *(getattr(entry, name) for name in names))
        for entry in outcome.model.history
    ]
    return Table(["stage", *(name.replace("_", " ") for name in names)], rows)


def _provenance(outcome: Outcome) -> dict[str, str]:
    facts = outcome.model.facts
    names = ("gmmcore", "numpy", "scipy", "h5py", "snakemake", "jax")
    return {
        "mixture (SHA-256)": outcome.model.digest,
        "frames (SHA-256)": outcome.corpus.digest,
        "settings of the iterations": str(facts.get("settings", "")),
        "computed by": ", ".join(filter(None, (facts.get("device"), facts.get("arithmetic")))),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *filter(None, map(_version, names))]
        ),
    }


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings with keys such as ``features.list``."""
    result: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def setting(value: object) -> str:
    """Write the value of a setting as a configuration has it."""
    return value if isinstance(value, str) else json.dumps(value)


def number(value: object) -> str:
    """Write a cell of a table; NaN is empty, and whole numbers have separators of thousands.

    Examples
    --------
    >>> from gmmcore.report.report import number
    >>> number(1234567), number(-33.71978), number(float("nan"))
    ('1,234,567', '-33.7198', '')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != value:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.1f}"
