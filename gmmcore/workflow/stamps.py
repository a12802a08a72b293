"""Stamps: small files of what decides the results and is no file yet, as inputs of the rules.

A stamp is written while the Snakefile is read, if its content changed. So Snakemake sees a change
of a setting or of a feature file as it sees one of any file, and nothing where it is taken back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gmmcore.config.configuration import changed
from gmmcore.config.keys import FeatureSettings
from gmmcore.config.options import mapping
from gmmcore.core.schedule import Stage
from gmmcore.data.check import fingerprint
from gmmcore.data.corpus import Corpus
from gmmcore.data.demo import recipe_of
from gmmcore.data.lists import text_of
from gmmcore.errors import GmmcoreError
from gmmcore.files import date_back, read_json, replace_text, sha256_of
from gmmcore.workflow.runs import Run, corpus_id, made_lists
from gmmcore.workflow.status import is_written, unfinished

# Keys that say how the work is done, and those that the mixture and its report do not depend on.
_WORK = ("jobs", "memory", "device", "statistics", "verification")


def write_stamps(runs: Mapping[str, Run], prefix: str = "") -> None:
    """Write the stamps that changed, below `prefix`, unless a guard forbids the configuration.

    They are later than all results, whose dates count where Snakemake's own records are lost.
    """
    for run in runs.values():
        _guard(run, runs, prefix)
    found = {f"{prefix}{path}": values for path, values in _stamps(runs, prefix)}
    for path in _lacking(runs, prefix):
        # Snakemake takes no notice of a file whose content is what it was.
        found[path]["again"] = time.time()
    written = {
        path: json.dumps(values, indent=1, sort_keys=True) + "\n"
        for path, values in found.items()
        if not _is_current(path, values)
    }
    if written:
        date_back(path for folder in _folders(runs, prefix) for path in folder.rglob("*"))
    for path, text in written.items():
        replace_text(path, text)


def _stamps(runs: Mapping[str, Run], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the content of each stamp."""
    lists = {path: run for run in runs.values() for path in made_lists(run.settings)}
    corpora = {name: each for run in runs.values() for name, each in run.corpora.items()}
    corpora |= {corpus_id(each): each for run in runs.values() for each in run.lists.values()}
    for path, run in lists.items():
        recipe = made_lists(run.settings)[path]
        demo = mapping(run.settings.demo) | {"seed": run.settings.seed, "recipe": recipe}
        yield f"{os.path.dirname(path)}/settings.json", {"demo": demo}
    for name, features in corpora.items():
        path, is_made = f"results/features/{name}/source.json", features.list in lists
        yield path, _of_features(features, f"{prefix}{path}", prefix, is_made=is_made)
    for run in runs.values():
        values = {key: value for key, value in changed(run.settings).items() if key not in _WORK}
        yield f"results/{run.name}/settings.json", values
        if run.settings.verification.trials:
            yield f"results/{run.name}/models.json", _of_scores(run, "enrolment", "relevance")
            yield f"results/{run.name}/scores.json", _of_scores(run, "trials", "scoring")
        for stage in run.plan:
            yield f"results/{run.name}/{stage.name}/settings.json", _of_stage(run, stage)


def _of_stage(run: Run, stage: Stage) -> dict[str, Any]:
    """Return what decides a stage: arguments of the verbs, and what the mixtures in it tell."""
    settings = run.settings
    return {
        "stage": stage.kind,
        "components": stage.components,
        "origin": stage.origin,
        "features": run.corpus,
        "held_out": run.held_out_corpus if stage.iterations else None,
        "first": run.first(stage),
        "iterations": {
            "iterations": stage.iterations,
            "final": stage.final,
            **mapping(settings.limits),
            **mapping(settings.iteration(stage.kind)),
        },
        "digests": {
            "first": run.digest_of_first(stage),
            "iterations": run.digest("maximise", stage.kind),
        },
    }


def _of_scores(run: Run, *keys: str) -> dict[str, Any]:
    """Return keys of `verification`, and the digest of the list that the first of them names."""
    values = {key: getattr(run.settings.verification, key) for key in keys}
    path = values[keys[0]]
    text_of(path, "lines `model show`", f"verification.{keys[0]}")  # Its errors name the key.
    return {"verification": values, "list": sha256_of(path)}


def _of_features(
    features: FeatureSettings, path: str, prefix: str, *, is_made: bool
) -> dict[str, Any]:
    """Return the settings of features, and the fingerprint of the files that the user brings."""
    if is_made:
        # The list is an input of its own, and is made after this stamp.
        features = replace(features, list=f"{prefix}{features.list}")
        return {"features": mapping(features), "fingerprint": None}
    try:
        return {"features": mapping(features), "fingerprint": fingerprint(features)}
    except GmmcoreError:
        table = os.path.join(os.path.dirname(path), "shows.tsv")
        if os.path.exists(features.list) or not os.path.exists(table):
            raise
    # Features that were taken away leave the frames made of them.
    values: dict[str, Any] = read_json(path)
    return {key: value for key, value in values.items() if key != "again"}


def _guard(run: Run, runs: Mapping[str, Run], prefix: str) -> None:
    """Refuse to write over features of the user, and to start from what is to be made."""
    for path in (f"{prefix}{path}" for path in made_lists(run.settings)):
        if os.path.exists(path) and recipe_of(path)[0] is None and os.path.getsize(path):
            raise GmmcoreError(
                f"{path}: was not made by this workflow, which would write over it and the "
                "features beside it; choose another folder in demo, or remove it"
            )
    source = os.path.realpath(run.settings.init.from_ or os.devnull)
    for maker in runs:
        if source.startswith(os.path.realpath(f"{prefix}results/{maker}") + os.sep):
            raise GmmcoreError(
                f"{run.settings.init.from_}: init.from of run {run.name} is a result of run "
                f"{maker}, which this configuration may change; start from a copy of it"
            )


def _folders(runs: Mapping[str, Run], prefix: str) -> Iterator[Path]:
    """Yield the folders of all that the workflow makes."""
    yield Path(f"{prefix}results")
    for run in runs.values():
        for path in made_lists(run.settings):
            yield Path(f"{prefix}{path}").parent


def _lacking(runs: Mapping[str, Run], prefix: str) -> Iterator[str]:
    """Yield the stamps of what was made, of which files are gone, or come from other settings.

    Snakemake knows the outputs of its jobs only, and goes by their times.
    """
    results = f"{prefix}results"
    for name in {name for run in runs.values() for name in run.corpora}:
        path = f"{results}/features/{name}/corpus.json"
        with suppress(GmmcoreError):
            if not all(map(os.path.exists, Corpus.read(path).paths(path))):
                yield f"{results}/features/{name}/source.json"
    for run in runs.values():
        folder = f"{results}/{run.name}"
        rest = unfinished(run, results)
        if any(os.path.exists(f"{folder}/{stage.name}.h5") for stage in rest):
            yield f"{folder}/{rest[0].name}/settings.json"
        elif os.path.exists(f"{folder}/ubm.h5") and not is_written(run, results):
            yield f"{folder}/settings.json"


def _is_current(path: str, values: dict[str, Any]) -> bool:
    """Whether a stamp holds these values, and is not of the future."""
    try:
        known, wanted = read_json(path), json.loads(json.dumps(values))
        # A file that was to be made again may be there now.
        kept = {"again": known.get("again"), **wanted}
        return kept == {"again": None, **known} and os.stat(path).st_mtime <= time.time()
    except (GmmcoreError, AttributeError):
        return False
