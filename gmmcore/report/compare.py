"""The table that compares trainings."""

from __future__ import annotations

from collections.abc import Sequence

from gmmcore.config.options import mapping
from gmmcore.files import digest_of
from gmmcore.report.report import Outcome, flat, number, setting

# They decide how work is shared and how files are found, not the frames.
_NOT_FRAMES = ("shards", "on_error", "format", "seed")


def frames_key(outcome: Outcome) -> str:
    """Return a digest of what decides the frames of a run: likelihoods compare where it is one."""
    settings = mapping(outcome.settings)
    kept = {key: value for key, value in settings["features"].items() if key not in _NOT_FRAMES}
    return digest_of(kept, outcome.corpus.frames, settings.get("held_out"))


def differing(outcomes: Sequence[Outcome]) -> dict[str, list[object]]:
    """Return the settings that are not the same in all runs, each with its values by run."""
    every = [flat(mapping(outcome.settings)) for outcome in outcomes]
    return {
        key: [values[key] for values in every]
        for key in every[0]
        if key != "run" and any(values[key] != every[0][key] for values in every)
    }


def comparison_table(outcomes: Sequence[Outcome]) -> str:
    """Write tab-separated text with a header line; floats keep their digits.

    Log-likelihoods of runs in one group are of the same frames.
    """
    groups = [*dict.fromkeys(map(frames_key, outcomes))]
    differences = differing(outcomes)
    rows = [
        {
            "run": outcome.name,
            "group": groups.index(frames_key(outcome)) + 1,
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
            **{key: setting(values[at]) for key, values in differences.items()},
        }
        for at, outcome in enumerate(outcomes)
    ]
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def comparison_text(outcomes: Sequence[Outcome]) -> str:
    """Write what one looks for first in columns: rounded, and what differs from the first run."""
    groups = [*dict.fromkeys(map(frames_key, outcomes))]
    differences = {key: [*map(setting, v)] for key, v in differing(outcomes).items()}
    rows: list[tuple[object, ...]] = [("run", "group", "stage", "training", "held-out", "BIC", "")]
    for at, outcome in enumerate(outcomes):
        last = outcome.sizes[-1]
        rows.append(
            (
                *(outcome.name, groups.index(frames_key(outcome)) + 1, last.name),
                *(last.log_likelihood, last.held_out, round(last.bic)),
                ", ".join(f"{k}: {v[at]}" for k, v in differences.items() if v[at] != v[0]),
            )
        )
    columns = [[*map(number, column)] for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in zip(*columns, strict=True)
    )
