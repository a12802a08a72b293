"""The page and the table that compare trainings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isnan, nan
from typing import Any

from gmmcore.config.options import mapping
from gmmcore.core.cautions import cautions
from gmmcore.files import digest_of
from gmmcore.report import plots
from gmmcore.report.outcome import Outcome
from gmmcore.report.page import Page, setting
from gmmcore.report.training import ended, flat
from gmmcore.workflow.timing import StageTime

__all__ = ["comparison_page", "comparison_table", "differing", "frames_key"]

# They decide how work is shared and how files are found, not the frames.
_NOT_FRAMES = ("shards", "on_error", "format", "seed")


def frames_key(outcome: Outcome) -> str:
    """Return a digest of what decides the frames of a run: likelihoods compare where it is one."""
    settings = mapping(outcome.settings)
    features = settings["features"]
    drawn = features["frames"] and (features["seed"], settings["seed"])
    kept = {key: value for key, value in features.items() if key not in _NOT_FRAMES}
    return digest_of(kept, drawn, outcome.corpus.frames, settings.get("held_out"))


def differing(outcomes: Sequence[Outcome], section: str = "") -> dict[str, list[object]]:
    """Return the settings that are not the same in all runs, each with its values by run.

    Parameters
    ----------
    outcomes : sequence of Outcome
    section : str
        What the keys begin with, such as ``features.``.
    """
    every = [flat(mapping(outcome.settings)) for outcome in outcomes]
    return {
        key: [values[key] for values in every]
        for key in every[0]
        if key.startswith(section) and key != "run"
        if any(values[key] != every[0][key] for values in every)
    }


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """Write the comparison as tab-separated text with a header line; floats keep their digits."""
    differences = differing(outcomes)
    numbers = {key: at for at, (key, _) in enumerate(_groups(outcomes), start=1)}
    rows = [
        {
            "run": outcome.name,
            "group": numbers[frames_key(outcome)],
            "stage": outcome.sizes[-1].name,
            "components": outcome.model.mixture.components,
            "parameters": outcome.sizes[-1].parameters,
            "frames": outcome.corpus.frames,
            "iterations": len(outcome.model.history),
            "ended": outcome.sizes[-1].ended,
            "log_likelihood": outcome.sizes[-1].log_likelihood,
            "held_out": outcome.sizes[-1].held_out,
            "bic": outcome.sizes[-1].bic,
            "aic": outcome.sizes[-1].aic,
            "seconds": _total(outcome, outcomes, "seconds"),
            "processor_seconds": _total(outcome, outcomes, "processor_seconds"),
            **{key: setting(values[at]) for key, values in differences.items()},
        }
        for at, outcome in enumerate(outcomes)
    ]
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def comparison_page(outcomes: Sequence[Outcome]) -> Page:
    """Write the page: a table and learning curves for the runs with the same frames."""
    page = Page("Comparison of runs", plots.CAN_DRAW)
    groups = _groups(outcomes)
    if len(groups) > 1:
        why = differing([members[0] for _, members in groups], "features.") or {"features.list": []}
        page.paragraph(
            f"The runs have {len(groups)} different sets of frames ({', '.join(why)}), and a "
            "log-likelihood is a density of the frames: dividing a coefficient by its standard "
            "deviation alone adds the logarithm of this to every log-likelihood. So only runs in "
            "one group are compared.",
            "caution",
        )
    for number, (_, members) in enumerate(groups, start=1):
        names = ", ".join(outcome.name for outcome in members)
        page.heading(f"Group {number}: {names}" if len(groups) > 1 else "Results")
        _group(page, members, outcomes)
    differences = differing(outcomes)
    page.heading("What differs in the settings")
    if differences:
        rows = [
            [outcome.name, *(setting(values[at]) for values in differences.values())]
            for at, outcome in enumerate(outcomes)
        ]
        page.table(["run", *differences], rows)
    else:
        page.paragraph("Nothing but the names of the runs.")
    return page


def _groups(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """Return the runs with the same frames, in the order of the first run of each group."""
    first: dict[str, int] = {}
    for at, outcome in enumerate(outcomes):
        first.setdefault(frames_key(outcome), at)
    ordered = sorted(outcomes, key=lambda outcome: first[frames_key(outcome)])
    return [(key, [*members]) for key, members in groupby(ordered, key=frames_key)]


def _group(page: Page, members: Sequence[Outcome], outcomes: Sequence[Outcome]) -> None:
    sizes = [outcome.sizes[-1] for outcome in members]
    columns: dict[str, list[Any]] = {
        "run": [outcome.name for outcome in members],
        "mixture": [size.name for size in sizes],
        "parameters": [size.parameters for size in sizes],
        "iterations": [len(outcome.model.history) for outcome in members],
        "ended": [ended(size) for size in sizes],
        "training": [size.log_likelihood for size in sizes],
        "held-out": [size.held_out for size in sizes],
        "BIC": [round(size.bic) for size in sizes],
        "seconds": [_total(outcome, outcomes, "seconds") for outcome in members],
        "processor seconds": [
            _total(outcome, outcomes, "processor_seconds") for outcome in members
        ],
    }
    best = {name: max(columns[name]) for name in ("training", "held-out")}
    best["BIC"] = min(columns["BIC"])
    if all(map(isnan, columns["held-out"])):
        del columns["held-out"], best["held-out"]
    head = [*columns]
    bold = [
        (columns[name].index(value), head.index(name))
        for name, value in best.items()
        if value == value and len(members) > 1
    ]
    page.table(head, zip(*columns.values(), strict=True), bold=bold)
    page.paragraph(
        "Training is the log-likelihood per frame of the final mixture, over the same frames for "
        "all of these runs. Stages that two runs have in common are trained once; their "
        "time counts for both.",
        "note",
    )
    if len(members) > 1:
        _curves(page, members, outcomes)
    for outcome in members:
        for line in cautions(
            outcome.model.mixture, outcome.model.history, outcome.settings.llk_gain
        ):
            page.paragraph(f"{outcome.name}: {line}.", "caution")


def _curves(page: Page, members: Sequence[Outcome], outcomes: Sequence[Outcome]) -> None:
    names = [outcome.name for outcome in members]
    by_iteration = [row for outcome in members for row in _curve(outcome, None)]
    if by_iteration:
        page.plot(plots.curves, by_iteration, names, "iteration of the training")
    timed = {o.name: _stage_times(o, outcomes) for o in members}
    by_time = [row for o in members if (t := timed[o.name]) for row in _curve(o, t)]
    if by_time:
        page.plot(plots.curves, by_time, names, "processor seconds")
    if left := [name for name, times in timed.items() if not times]:
        page.paragraph(
            f"Without times, which the logs do not tell of all iterations: {', '.join(left)}.",
            "note",
        )


def _stage_times(outcome: Outcome, outcomes: Sequence[Outcome]) -> list[StageTime]:
    """Return the time of each stage, of another run if that made it; empty if one is not known."""
    result = []
    for stage in outcome.stages:
        others = [s for o in outcomes for s in o.stages if repr(s.entries) == repr(stage.entries)]
        known = next((s.time for s in [stage, *others] if s.is_timed), None)
        if known is None:
            return []
        result.append(known)
    return result


def _total(outcome: Outcome, outcomes: Sequence[Outcome], name: str) -> float:
    times = _stage_times(outcome, outcomes)
    return round(sum(getattr(time, name) for time in times), 3) if times else nan


def _curve(outcome: Outcome, times: Sequence[StageTime] | None) -> list[dict[str, Any]]:
    """Return the points of a learning curve, by iterations or by processor seconds.

    The seconds of a stage are shared out to its iterations by the frames that they read.
    """
    rows: list[dict[str, Any]] = []
    done = 0.0
    for at, stage in enumerate(outcome.stages):
        read = sum(entry.frames for entry in stage.entries)
        for entry in stage.entries:
            point = {
                "run": outcome.name,
                "stage": stage.name,
                "iteration": entry.iteration,
                "x": round(done, 6),
            }
            rows.append({**point, "frames": "training", "log_likelihood": entry.log_likelihood})
            if not isnan(held_out := entry.held_out):
                rows.append({**point, "frames": "held-out", "log_likelihood": held_out})
            done += times[at].processor_seconds * entry.frames / read if times else 1
    return rows
