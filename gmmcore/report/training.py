"""The page of one training."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from math import inf, isnan, nan

from gmmcore.config.configuration import changed
from gmmcore.config.options import mapping
from gmmcore.core.cautions import cautions
from gmmcore.core.describe import describe
from gmmcore.core.sizes import Size
from gmmcore.data.table import ShowTable
from gmmcore.errors import counted
from gmmcore.report import plots
from gmmcore.report.components import add_components
from gmmcore.report.outcome import Outcome
from gmmcore.report.page import Page, number, setting

__all__ = ["ended", "flat", "report_page"]

_SKIPPED = 50


def report_page(outcome: Outcome, shows: ShowTable, skipped: Sequence[Sequence[str]]) -> Page:
    """Write the page of a training.

    Parameters
    ----------
    outcome : Outcome
    shows : ShowTable
        The checked feature list.
    skipped : sequence of sequence of str
        Show, path, and what was found, of the faulty shows that were left out.
    """
    page = Page(outcome.name, plots.CAN_DRAW)
    _summary(page, outcome)
    if outcome.model.history:
        _course(page, outcome)
    _sizes(page, outcome)
    add_components(page, outcome)
    _times(page, outcome)
    _features(page, outcome, shows, skipped)
    _provenance(page, outcome)
    return page


def ended(size: Size) -> str:
    """Say in a few words how a stage ended."""
    left = "" if isnan(size.gain) else f", gain {size.gain:+.2g}"
    return size.ended + left


def flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings with keys such as ``features.list``."""
    result: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def _summary(page: Page, outcome: Outcome) -> None:
    mixture, history = outcome.model.mixture, outcome.model.history
    facts = describe(mixture)
    value = f"{outcome.sizes[-1].log_likelihood:.4f} over {_sampled(outcome)}"
    if not isnan(outcome.sizes[-1].held_out):
        value += f"; held-out: {outcome.sizes[-1].held_out:.4f}"
    page.paragraph(
        f"{counted(mixture.components, 'component')} with {facts['covariances']} covariances, "
        f"dimension {mixture.dimension}, {number(facts['parameters'])} free parameters; "
        f"{number(outcome.corpus.frames)} frames, {counted(len(history), 'iteration')}. "
        f"Log-likelihood per frame (natural logarithm): {value}. Effective number of components "
        f"(exponential of the weights' entropy): {facts['weights_effective']:.1f}."
    )
    for line in cautions(mixture, history, outcome.settings.llk_gain):
        page.paragraph(f"{line[0].upper()}{line[1:]}.", "caution")
    last, best = outcome.sizes[-1], max(outcome.sizes, key=_held_out)
    if _held_out(best) - _held_out(last) > max(outcome.settings.llk_gain, 0):
        page.paragraph(
            f"{best.name} has the highest held-out log-likelihood per frame, {best.held_out:.4f}; "
            f"that of {last.name} is {last.held_out:.4f}. Train {best.components} components, or "
            f"take the mixture of this stage, {best.name}.h5.",
            "caution",
        )


def _held_out(size: Size) -> float:
    return -inf if isnan(size.held_out) else size.held_out


def _sampled(outcome: Outcome) -> str:
    count, frames = len(outcome.sample), outcome.corpus.frames
    return "all frames" if count == frames else f"a sample of {number(count)} frames"


def _course(page: Page, outcome: Outcome) -> None:
    history, settings = outcome.model.history, outcome.settings
    page.heading("Log-likelihood")
    page.plot(plots.likelihoods, history)
    page.paragraph(
        "Each point is the mixture before the update of its iteration. The bands are the stages. "
        "Stages may read random subsets of different sizes, so that small steps between them "
        "mean nothing.",
        "note",
    )
    if any(entry.gain == entry.gain for entry in history):
        page.heading("Gains")
        page.plot(plots.gains, history, settings.llk_gain)
        page.paragraph(
            "Growth of the log-likelihood per frame in each iteration, except the first of a stage "
            f"and those on other frames. A stage ends below llk_gain, {settings.llk_gain:g}.",
            "note",
        )


def _sizes(page: Page, outcome: Outcome) -> None:
    sizes, seconds = outcome.sizes, {s.name: s.time for s in outcome.stages if s.is_timed}
    page.heading("Sizes")
    if len(sizes) > 2:
        page.plot(plots.by_size, sizes)
    columns = {
        "stage": [size.name for size in sizes],
        "parameters": [size.parameters for size in sizes],
        "iterations": [size.iterations for size in sizes],
        "ended": [ended(size) for size in sizes],
        "last read": [size.trained_on for size in sizes],
        "training": [size.log_likelihood for size in sizes],
        "held-out": [size.held_out for size in sizes],
        "BIC": [round(size.bic) for size in sizes],
        "AIC": [round(size.aic) for size in sizes],
        "seconds": [time.seconds if (time := seconds.get(s.name)) else nan for s in sizes],
    }
    best = {
        "held-out": max(sizes, key=_held_out),
        "BIC": min(sizes, key=lambda size: size.bic),
        "AIC": min(sizes, key=lambda size: size.aic),
    }
    if isnan(best["held-out"].held_out):
        del columns["held-out"], best["held-out"]
    head = [*columns]
    bold = [(sizes.index(size), head.index(name)) for name, size in best.items()]
    rows = [*zip(*columns.values(), strict=True)]
    page.table(head, rows, bold=bold)
    held_out = ""
    if "held-out" in columns:
        held_out = " Held-out is the same over the held-out frames."
    page.paragraph(
        f"The last mixture of each stage is a finished model. Training is its log-likelihood per "
        f"frame over {_sampled(outcome)}, the same for all sizes; BIC and AIC are of this one, and "
        f"lower is better. A stage that last read fewer than {number(outcome.corpus.frames)} "
        "frames was trained on a random subset, and would gain a little by iterations on all "
        f"frames.{held_out} The best values are bold. The key keep gives a size its exports.",
        "note",
    )


def _times(page: Page, outcome: Outcome) -> None:
    page.heading("Time and memory")
    known = [(stage, stage.time) for stage in outcome.stages if stage.time]
    rows = [
        (
            stage.name,
            f"{time.iterations} of {len(stage.entries)}",
            time.seconds,
            time.processor_seconds,
            round(stage.timed_frames / time.seconds) if time.seconds else 0,
            round(time.megabytes),
            stage.device or "processor",
        )
        for stage, time in known
        if time.iterations
    ]
    if not rows:
        page.paragraph(
            "Left out: the logs of this run tell no times. They are those of jobs that make "
            "iterations; with jobs: N, and for iterations copied from another run, there are none.",
            "note",
        )
        return
    if len(rows) > 1:
        page.plot(plots.stage_times, outcome.stages)
    head = ["stage", "iterations", "seconds", "processor seconds", "frames per second", "MB", "on"]
    page.table(head, rows)
    page.paragraph(
        "Times are those of the job that last worked on a stage, and of the iterations that it "
        "made itself: after an interruption, of the rest; a copied stage has none. They differ "
        "from training to training; all else on this page does not.",
        "note",
    )


def _features(
    page: Page, outcome: Outcome, shows: ShowTable, skipped: Sequence[Sequence[str]]
) -> None:
    facts, corpus = shows.facts, outcome.corpus
    page.heading("Features")
    page.paragraph(
        f"{counted(facts['shows'], 'show')} of {outcome.settings.features.list}: "
        f"{number(corpus.frames)} of {number(facts['frames'])} frames are used, of dimension "
        f"{facts['raw_dimension']} in the files and {corpus.dimension} as processed, in "
        f"{counted(len(corpus.shards), 'shard')}."
    )
    if skipped:
        page.paragraph(f"{counted(len(skipped), 'faulty show')} left out (skipped.tsv):", "caution")
        page.table(["show", "file", "found"], skipped[:_SKIPPED])
    else:
        page.paragraph("No show was left out as faulty.", "note")


def _provenance(page: Page, outcome: Outcome) -> None:
    model, history = outcome.model, outcome.model.history
    page.heading("Settings and provenance")
    every = flat(mapping(outcome.settings))
    given = flat(changed(outcome.settings))
    page.table(["setting", "value"], [(key, setting(value)) for key, value in given.items()])
    rest = [(key, setting(value)) for key, value in every.items() if key not in given]
    page.table(["setting", "default"], rest, summary=f"{len(rest)} settings have their defaults")
    names = ("gmmcore", "numpy", "scipy", "h5py", "snakemake", "altair", "jax")
    facts = {
        "mixture (SHA-256)": model.digest,
        "frames (SHA-256)": outcome.corpus.digest,
        "settings of the iterations": model.facts.get("settings"),
        "computed by": ", ".join(
            filter(None, [model.facts.get("device"), model.facts.get("arithmetic")])
        ),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *filter(None, map(_version, names))]
        ),
    }
    page.table(["provenance", "value"], [(key, str(value)) for key, value in facts.items()])
    head = [
        "stage", "iteration", "frames", "log-likelihood", "held-out", "gain", "floored", "ceiled",
        "low count", "action", "step",
    ]  # fmt: skip
    rows = [
        (
            f"{entry.stage} {entry.components}",
            entry.iteration,
            entry.frames,
            entry.log_likelihood,
            entry.held_out,
            entry.gain,
            entry.floored,
            entry.ceiled,
            entry.low_count,
            entry.action,
            entry.step,
        )
        for entry in history
    ]
    page.table(head, rows, summary=f"All {counted(len(history), 'iteration')}")
    page.heading("How to cite")
    version = importlib.metadata.version("gmmcore")
    page.code(
        f"@software{{gmmcore,\n  author = {{{{The gmmcore developers}}}},\n"
        "  title = {gmmcore: Gaussian mixture training as a Snakemake workflow},\n"
        f"  version = {{{version}}},\n  license = {{BSD-3-Clause}}\n}}"
    )


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
