"""Verbs that look at whole runs, and at their configuration."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from gmmcore import files
from gmmcore.cli.verb import (
    CONFIGURATION,
    CORPUS,
    OUTPUT,
    THREADS,
    argument,
    call,
    configuration_of,
    verb,
)
from gmmcore.config.configuration import resolve, resolve_runs
from gmmcore.config.keys import EXPORTS, Settings
from gmmcore.config.options import mapping, schema
from gmmcore.data.corpus import Corpus, sample_frames
from gmmcore.data.shows import ShowTable
from gmmcore.errors import GmmcoreError
from gmmcore.files import read_bytes, read_json, replace_text
from gmmcore.workflow.check import check_run, repair, require_final
from gmmcore.workflow.runs import Run, read_runs
from gmmcore.workflow.status import status_lines

_RUNS = (
    argument(
        "results",
        metavar="RESULTS",
        nargs="*",
        help="folders of runs, such as results/demo; by default those of all runs, in results",
    ),
    *CONFIGURATION,
)


@verb(
    *_RUNS,
    argument(
        "--repair",
        action="store_true",
        help="remove what is damaged or out of date, so that snakemake makes it again",
    ),
)
def check(arguments: argparse.Namespace) -> None:
    """Verify every file of the runs of a configuration.

    Example: gmmcore check results/demo
    """
    files = faults = 0
    known: dict[str, Any] = {}
    for results, run in _folders_of(arguments, *_runs_of(arguments)):
        folder = os.path.join(results, run.name)
        if not os.path.isdir(folder):
            raise GmmcoreError(f"{folder}: no such folder; expected the results of a run")
        checked = check_run(run, results, known)
        for note in checked.notes:
            print(f"note: {note}")
        for path, what in checked.findings.items():
            print(f"{path}: {what}")
        if arguments.repair:
            repair(run, results, checked)
        print(f"{folder}: {checked.files} files and {checked.frames} frames verified")
        files += checked.files
        faults += len(checked.findings)
    if faults:
        are = "1 file is not what it" if faults == 1 else f"{faults} files are not what they"
        remedy = "; snakemake makes it again" if arguments.repair else "; gmmcore check --repair"
        raise GmmcoreError(f"{are} should be{remedy}")


@verb(
    *_RUNS,
    argument("--cores", type=int, help="what Snakemake is given; by default all of this machine"),
    argument("--frames", type=int, help="how many, where they are not packed yet"),
    argument("--dimension", type=int, help="coefficients of a frame, as trained on"),
)
def status(arguments: argparse.Namespace) -> None:
    """Say where runs are: what is done, whether a job is at work, what is to come.

    Example: gmmcore status results/demo
             gmmcore status --frames 1000000 --dimension 60 (before anything starts)
    """
    for name in ("frames", "dimension", "cores"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GmmcoreError(f"--{name} {value}: expected 1 or more")
    if (arguments.frames is None) != (arguments.dimension is None):
        raise GmmcoreError("--frames and --dimension: both were expected, or none of them")
    frames = None if arguments.frames is None else (arguments.frames, arguments.dimension)
    runs, config = _runs_of(arguments)
    given = arguments.results
    if absent := next((folder for folder in given if not os.path.isdir(folder)), None):
        raise GmmcoreError(
            f"{absent}: no such folder; expected the results of a run, or of all, such as results"
        )
    # `results` stands for the runs in it.
    arguments.results = [
        os.path.join(folder, name)
        for folder in given
        for name in ([""] if os.path.basename(os.path.normpath(folder)) in runs else runs)
    ]
    cores = arguments.cores or os.cpu_count() or 1
    for results, run in _folders_of(arguments, runs, config):
        for line in status_lines(run, results, cores, frames):
            print(line)


@verb(
    argument("--settings", required=True, help="settings.json of the last stage"),
    argument("--mixture", required=True, help="the last stage's"),
    argument("--truth", nargs="?", help="truth.h5 of the demonstration, to compare with"),
    CORPUS,
    argument("--output", required=True, help="the final mixture"),
    argument("--history", required=True, help="the table of the iterations"),
    argument("--exports", nargs="*", default=[], help="files to write, named as the mixtures"),
    argument("--recovery", help="what the comparison with the truth says"),
    argument("--checksums", required=True, help="the SHA-256 of these files"),
)
def products(arguments: argparse.Namespace) -> None:
    """Write the final files of a run, each by the verb that makes it, in one process.

    Example: gmmcore products --settings results/demo/full/64/settings.json
             --mixture results/demo/full/64.h5 --corpus corpus.json --output results/demo/ubm.h5
             --history results/demo/history.tsv --checksums results/demo/SHA256SUMS
    """
    final, history, mixture = arguments.output, arguments.history, ["--mixture", arguments.mixture]
    settings = ["--settings", arguments.settings]
    call("finish", *settings, *mixture, "--output", final, "--history", history)
    files = [final, history, *arguments.exports]
    # An export that the configuration no longer asks for would be of the mixture before.
    for name in EXPORTS.values():
        other = os.path.join(os.path.dirname(final), name)
        if other not in arguments.exports and os.path.exists(other):
            os.remove(other)
            print(f"{other}: removed, because `export` does not ask for it")
    for path in arguments.exports:
        folder, name = os.path.split(path)
        call("convert", os.path.join(folder, f"{name.partition('.')[0]}.h5"), path)
    if arguments.truth:
        words = ["--truth", arguments.truth, "--mixture", final, "--corpus", arguments.corpus]
        call("recovery", *words, "--output", arguments.recovery)
        files.append(arguments.recovery)
    call("checksums", *files, "--last", arguments.mixture, "--output", arguments.checksums)


@verb(
    argument("--mixture", required=True, help="the final mixture"),
    argument("--stages", nargs="+", required=True, help="the last mixtures of the stages"),
    CORPUS,
    argument("--held-out", nargs="?", help="corpus.json of the held-out frames"),
    argument("--settings", required=True, help="settings.json of the run"),
    argument("--scores", nargs="?", help="the table of trials"),
    argument(
        "--logs",
        default="logs",
        help="folder of the run's logs, which say how long its stages took",
    ),
    THREADS,
    OUTPUT,
)
def report(arguments: argparse.Namespace) -> None:
    """Write the report of a training: plots, sizes, cautions and provenance as one HTML page.

    Example: gmmcore report --mixture results/demo/ubm.h5 --stages results/demo/diag/64.h5
             --corpus results/features/<id>/corpus.json --settings results/demo/settings.json
             --output report.html
    """
    from gmmcore.report.plots import CAN_DRAW
    from gmmcore.report.report import read_outcome, report_page

    if not CAN_DRAW:
        print(
            "warning: without vl-convert the page has no plots: pip install vl-convert-python, "
            "then remove the page and give the same command again",
            file=sys.stderr,
        )
    outcome = read_outcome(
        Path(arguments.mixture),
        arguments.stages,
        *_sampled(arguments.corpus),
        _settings(arguments.settings),
        _sampled(arguments.held_out)[1] if arguments.held_out else None,
        Path(arguments.logs),
        arguments.threads,
    )
    folder = Path(arguments.corpus).parent
    lines = read_bytes(folder / "skipped.tsv").decode().splitlines()[1:]
    skipped = [line.split("\t")[:3] for line in lines]
    table = ShowTable.read(folder / "shows.tsv")
    page = report_page(outcome, table, skipped, arguments.scores)
    replace_text(arguments.output, page)


@verb(
    argument("--mixtures", nargs="+", required=True, help="final ones, of each run"),
    argument("--corpora", nargs="+", required=True, help="corpus.json of each run"),
    argument("--held-out", nargs="+", help="corpus.json of the held-out frames of each run, or -"),
    argument("--settings", nargs="+", required=True, help="settings.json of each run"),
    THREADS,
    argument("--output", required=True, help="tab-separated text"),
)
def comparison(arguments: argparse.Namespace) -> None:
    """Compare finished trainings in a table.

    Example: gmmcore comparison --mixtures results/a/ubm.h5 results/b/ubm.h5 --corpora a.json b.json
             --settings a/settings.json b/settings.json --output comparison.tsv
    """
    from gmmcore.report.compare import comparison_table, comparison_text
    from gmmcore.report.report import read_outcome

    sampled = cache(_sampled)
    outcomes = [
        read_outcome(
            Path(final),
            [final],
            *sampled(corpus),
            _settings(settings),
            None if held_out == "-" else sampled(held_out)[1],
            threads=arguments.threads,
        )
        for final, corpus, held_out, settings in zip(
            arguments.mixtures,
            arguments.corpora,
            arguments.held_out or ["-"] * len(arguments.mixtures),
            arguments.settings,
            strict=True,
        )
    ]
    replace_text(arguments.output, comparison_table(outcomes))
    print(f"{arguments.output}, rounded; likelihoods compare within a group, of the same frames:")
    print(comparison_text(outcomes), end="")


def _settings(path: str) -> Settings:
    """Read the settings of a run from its stamp."""

    values = read_json(path)
    values.pop("again", None)
    return resolve(values, path)


def _sampled(path: str) -> tuple[Corpus, npt.NDArray[np.float32]]:
    """Read a corpus and its frames, or a sample of them."""

    corpus = Corpus.read(path)
    return corpus, sample_frames(corpus, path)


@verb(
    argument("files", metavar="FILE", nargs="+", help="all below the folder of --output"),
    argument("--last", help="last mixture of the training, which the first file must come from"),
    OUTPUT,
)
def checksums(arguments: argparse.Namespace) -> None:
    """Write the SHA-256 of the final files of a run.

    Example: gmmcore checksums results/demo/ubm.h5 --output results/demo/SHA256SUMS
    """
    if arguments.last:
        require_final(arguments.files[0], arguments.last)
    output = Path(arguments.output)
    names = [os.path.relpath(name, output.parent) for name in arguments.files]
    replace_text(output, files.checksums(output.parent, names))


@verb(
    *CONFIGURATION,
    argument("--print", action="store_true", help="with all defaults filled in"),
    argument("--keys", action="store_true", help="print what a configuration may hold"),
    argument("--schema", action="store_true", help="the same, as JSON Schema"),
)
def validate(arguments: argparse.Namespace) -> None:
    """Check a configuration.

    Example: gmmcore validate --print
    """

    def rows(schema: dict[str, Any], indent: str = "") -> None:
        for key, part in schema["properties"].items():
            inner = "properties" in part
            default = "" if inner else yaml.safe_dump(part["default"], default_flow_style=True)
            default = default.partition("\n")[0]
            print(f"| {indent}`{key}` | {default} | {part['description']} |")
            if inner:
                rows(part, f"{indent}&nbsp; ")

    if arguments.keys:
        print("| key | default | what it does |\n|---|---|---|")
        rows(schema(Settings))
        return
    if arguments.schema:
        print(json.dumps(schema(Settings), indent=1))
        return
    values, config = configuration_of(arguments)
    runs = resolve_runs(values, config)
    if arguments.print:
        every = {name: mapping(settings) for name, settings in runs.items()}
        shown = every if len(every) > 1 else next(iter(every.values()))
        print(yaml.safe_dump(shown, sort_keys=False), end="")
    else:
        print(f"{config}: valid (the files it names are not checked)")


def _runs_of(arguments: argparse.Namespace) -> tuple[dict[str, Run], str]:
    """Read the runs of the configuration; return them and how messages name it."""

    values, config = configuration_of(arguments)
    return read_runs(values, config), config


def _folders_of(
    arguments: argparse.Namespace, runs: dict[str, Run], config: str
) -> list[tuple[str, Run]]:
    """Return the runs whose folders are named, each with the folder that holds them."""
    found = []
    for folder in arguments.results or [f"results/{name}" for name in runs]:
        results, name = os.path.split(os.path.normpath(folder))
        if name not in runs:
            raise GmmcoreError(
                f"{folder}: {config} has no run {name}; its runs are {', '.join(runs)}"
            )
        found.append((results or ".", runs[name]))
    return found
