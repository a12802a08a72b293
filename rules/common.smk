# Configuration and small input functions. No rule here, and no arithmetic.

import json
import os
import re
import sys
from dataclasses import replace

from gmmcore.errors import GmmcoreError
from gmmcore.features.identity import shard_paths
from gmmcore.runs import EXPORTS, read_runs

try:
    RUNS = read_runs(config)
except GmmcoreError as error:
    sys.exit(f"gmmcore: error: {error}")

CORPORA = {run.corpus: run for run in RUNS.values()}
DEMOS = {
    run.config["demo"]["folder"]: run.config
    for run in RUNS.values()
    if run.config["demo"]["folder"]
}
AUDIOS = {
    run.config["audio"]["folder"]: run.config["audio"]
    for run in RUNS.values()
    if run.config["audio"]["list"]
}
# Lists that the workflow makes.
LISTS = {f"{folder}/shows.txt" for folder in [*DEMOS, *AUDIOS]}

# The first run with a stage makes it, and the others copy its iterations.
MAKERS = {}
for run in RUNS.values():
    for stage in run.plan:
        MAKERS.setdefault(run.recipe(stage), run)


def literal(path):
    """A path from the configuration, in which Snakemake is to see no wildcards."""
    return path.replace("{", "{{").replace("}", "}}")


def alternatives(values):
    """A wildcard constraint: one of these values; without any, nothing fits."""
    return "|".join(map(re.escape, values)) or "(?!)"


def runs_with(origin=None):
    """A constraint of `run`: it has the stage that follows, with this origin if one is given."""
    return "|".join(
        rf"{re.escape(run.name)}(?=/{stage.name}\b)"
        for run in RUNS.values()
        for stage in run.plan
        if origin in (None, stage.origin)
    ) or "(?!)"


def prefix():
    """The prefix of all paths, where this workflow is a module of another one."""
    return str(rules.shows.output[0]).partition("results/")[0]


def features_of(run):
    """Settings of a run's features, with the list where it is."""
    if run.features.list not in LISTS:
        return run.features
    return replace(run.features, list=prefix() + run.features.list)


def quoted(values):
    """Settings as one word of a command line."""
    return json.dumps(values, sort_keys=True)


def maximising(wildcards):
    """Settings of E-step and M-step."""
    run = RUNS[wildcards.run]
    return quoted(run.settings[run.stage(wildcards.stage).kind])


def memory(wildcards, attempt):
    """Megabytes of a job that holds a mixture, its statistics and blocks of frames."""
    run = RUNS[wildcards.run]
    stage = run.stage(wildcards.stage)
    try:
        with open(f"{prefix()}results/features/{run.corpus}/corpus.json") as stream:
            dimension = json.load(stream)["dimension"]
    except (OSError, ValueError, KeyError, TypeError):
        dimension = 60
    numbers = stage.components * dimension * (dimension if stage.kind == "full" else 1)
    return attempt * (400 + numbers * 8 * 12 // 1_000_000)


def threads(wildcards):
    """All cores, but one each where several small stages can be made side by side."""
    small = RUNS[wildcards.run].stage(wildcards.stage).components < 64
    return max(1, (workflow.cores or 1) // (len(RUNS) if small else 1))


wildcard_constraints:
    run=alternatives(RUNS),
    corpus=alternatives(CORPORA),
    stage=r"(diag|full)/\d+",
