"""Arguments that name a configuration and its runs, for the verbs that look at whole runs."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from gmmcore.errors import GmmcoreError

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name folders of runs, and their configuration."""
    parser.add_argument(
        "results",
        metavar="RESULTS",
        nargs="*",
        help="folders of runs, such as results/demo; by default those of all runs, in results",
    )
    parser.add_argument(
        "--configfile",
        nargs="+",
        default=["config.yaml"],
        help="what Snakemake is given; later files override earlier ones",
    )
    parser.add_argument(
        "--section",
        metavar="KEY",
        help="the part of the configuration that a module is given, whose results lie elsewhere",
    )


def runs_of(arguments: argparse.Namespace) -> tuple[dict[str, Run], str]:
    """Read the runs of the configuration; return them and how messages name it."""
    from gmmcore.config.configuration import merged, read_configuration
    from gmmcore.workflow.runs import read_runs

    config = " ".join(arguments.configfile)
    values: dict[str, Any] = {}
    for path in arguments.configfile:
        values = merged(values, read_configuration(path))
    if arguments.section is not None:
        config += f": {arguments.section}"
        values = values.get(arguments.section, {})
        if not isinstance(values, dict):
            raise GmmcoreError(f"{config}: holds no keys; the configuration of runs was expected")
    return read_runs(values, config), config


def folders_of(
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
