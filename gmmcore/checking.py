"""Verification of all files and frames of a run against its configuration."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmmcore.corpus.corpus import Corpus
from gmmcore.corpus.shards import Shard
from gmmcore.errors import GmmcoreError
from gmmcore.files import REMEDY, is_temporary, read_bytes
from gmmcore.formats.hdf5 import load_model
from gmmcore.history import HistoryEntry, history_table
from gmmcore.moments import merge_moments
from gmmcore.settings import EXPORTS
from gmmcore.validity import look_at_corpus, run_problems

if TYPE_CHECKING:
    from gmmcore.formats.hdf5 import Model
    from gmmcore.runs import Run

__all__ = ["Checked", "check_run"]


@dataclass
class Checked:
    """Result of a check.

    Attributes
    ----------
    findings : dict
        Description of what is wrong, by file.
    notes : list of str
        Remarks on what is no fault.
    files, frames : int
        Number of files and frames that were verified.
    """

    findings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    frames: int = 0


def check_run(run: Run, results: str, known: dict[str, Any] | None = None) -> Checked:
    """Verify every file of a run, from the features to the final mixture.

    Parameters
    ----------
    run : Run
    results
        The folder that the workflow writes to, such as ``results``.
    known : dict, optional
        Results of earlier calls for the frames, by their folder; these frames are not read again.
        This call adds its own.
    """
    known = {} if known is None else known
    folder, corpus = f"{results}/{run.name}", f"{results}/features/{run.corpus}"
    features = run.features
    # If the workflow is a module with a prefix, the lists that it makes lie below the prefix.
    given = features.list
    beside = os.path.join(os.path.dirname(results), given)
    if not os.path.exists(given) and os.path.exists(beside):
        features = replace(features, list=beside)
    if corpus not in known:
        chain = look_at_corpus(features, corpus, run.recipe_of_list)
        known[corpus] = chain, _checked_frames(Path(corpus), chain[0].found)
    chain, frames = known[corpus]
    problems, _ = run_problems(run, folder, chain)
    checked = Checked({**frames.findings, **problems}, [], frames.files, frames.frames)
    if not os.path.exists(features.list):
        checked.notes.append(f"{features.list}: not here, so the features were not compared")
    models = [model for path in _mixtures(run, folder) if (model := _load(path, checked))]
    for before, model in zip([None, *models], models, strict=False):
        if fault := _history_fault(before, model):
            checked.findings.setdefault(f"{folder}/{_name(model)}", fault)
    _check_products(run, Path(folder), checked)
    planned = {stage.name for stage in run.plan}
    kinds = {"diag", "full", *(stage.kind for stage in run.plan)}
    for path in sorted(Path(folder).glob("*/*")):
        name = path.with_suffix("").relative_to(folder).as_posix()
        if name.partition("/")[0] in kinds and name not in planned:
            checked.notes.append(f"{path}: belongs to no stage of the configuration")
    for path in sorted(Path(folder).rglob("*")):
        if is_temporary(path.name):
            checked.notes.append(f"{path}: left over from an interrupted run")
    return checked


def _mixtures(run: Run, folder: str) -> list[Path]:
    """List the mixtures of all stages that exist, in the order in which they are made."""
    return [
        path for stage in run.plan for path in [*sorted(Path(folder, stage.name).glob("[0-9]*.h5"))]
    ]


def _name(model: Model) -> str:
    facts = model.facts
    return f"{facts['stage']}/{facts['components']}/{facts['iteration']:03d}.h5"


def _load(path: Path, checked: Checked) -> Model | None:
    try:
        model = load_model(path)
        checked.files += 1
        return model
    except GmmcoreError as error:
        text = str(error).removeprefix(f"{path}: ").removesuffix(f"; {REMEDY}")
        checked.findings.setdefault(str(path), text)
        return None


def _checked_frames(corpus: Path, problems: Mapping[str, str]) -> Checked:
    """Read and verify all frames."""
    checked = Checked()
    path = corpus / "corpus.json"
    if not path.exists() or str(path) in problems:
        return checked
    known = Corpus.read(path)
    moments = []
    for shard_file, entry in zip(known.paths(path), known.shards, strict=True):
        try:
            with Shard(shard_file) as shard:
                frames = sum(len(block) for block in shard.blocks())
                moments.append(shard.moments)
            if frames != entry.frames:
                checked.findings.setdefault(shard_file, f"{frames} frames, not {entry.frames}")
            checked.frames += frames
            checked.files += 1
        except GmmcoreError as error:
            # If only frames are damaged, Snakemake packs the shard again only if it is removed.
            text = str(error).removeprefix(f"{shard_file}: ").split("; remove it")[0]
            checked.findings.setdefault(shard_file, f"{text}; remove it")
    if len(moments) == len(known.shards):
        merged = merge_moments(moments)
        if (merged.mean.tolist(), merged.scatter.tolist()) != ([*known.mean], [*known.second]):
            checked.findings.setdefault(str(path), "its moments are not those of its shards")
    return checked


def _history_fault(before: Model | None, model: Model) -> str:
    """Say how the history of a mixture contradicts its facts; empty if it does not."""
    facts, history = model.facts, model.history
    earlier = before.history if before else ()
    if before is None or before.digest != facts.get("parent"):
        return ""  # A mixture between them is missing, which is reported elsewhere.
    if facts["iteration"] == 0:
        return "" if _same(history, earlier) else "its history is not that of its parent"
    if not history or not _same(history[:-1], earlier):
        return "its history does not continue that of its parent"
    last = history[-1]
    named = (last.stage, last.components, last.iteration, last.log_likelihood)
    if named != tuple(facts[key] for key in ("stage", "components", "iteration", "log_likelihood")):
        return "the last iteration of its history is another one"
    return ""


def _same(first: tuple[HistoryEntry, ...], second: tuple[HistoryEntry, ...]) -> bool:
    return history_table(first) == history_table(second)


def _check_products(run: Run, folder: Path, checked: Checked) -> None:
    """Make the history table and the exports again, and compare them with the files."""
    from gmmcore.formats.registry import write_mixture

    final = _load(folder / "ubm.h5", checked) if (folder / "ubm.h5").exists() else None
    if final is None:
        checked.findings.setdefault(f"{folder}/ubm.h5", "not made yet")
        return
    with tempfile.TemporaryDirectory() as place:
        for name in run.products:
            path = folder / name
            if not path.exists():
                checked.findings.setdefault(str(path), "missing")
                continue
            checked.files += 1
            expected = None
            if name == "history.tsv":
                expected = history_table(final.history).encode()
            elif name in EXPORTS.values():
                format = next(key for key, file in EXPORTS.items() if file == name)
                write_mixture(Path(place, name), final.mixture, format)
                expected = Path(place, name).read_bytes()
            if expected is not None and read_bytes(path) != expected:
                checked.findings.setdefault(str(path), f"not what {folder}/ubm.h5 gives")
