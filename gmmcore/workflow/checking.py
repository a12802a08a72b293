"""Verification of all files and frames of a run against its configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmmcore.core.moments import merge_moments
from gmmcore.data.corpus import Corpus
from gmmcore.data.shards import Shard
from gmmcore.errors import GmmcoreError
from gmmcore.files import REMEDY, is_temporary
from gmmcore.formats.hdf5 import load_model
from gmmcore.workflow.chain import Chain
from gmmcore.workflow.validity import look_at_corpus, run_problems

if TYPE_CHECKING:
    from gmmcore.workflow.runs import Run

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
    folder, checked = f"{results}/{run.name}", Checked()
    chains: list[tuple[Chain, Corpus | None]] = []
    for name, features in run.corpora.items():
        corpus, recipe = f"{results}/features/{name}", run.recipe_of(features)
        # If the workflow is a module with a prefix, the lists that it makes lie below the prefix.
        beside = os.path.join(os.path.dirname(results), features.list)
        if not os.path.exists(features.list) and os.path.exists(beside):
            features = replace(features, list=beside)
        if corpus not in known:
            chain = look_at_corpus(features, corpus, recipe)
            known[corpus] = chain, _checked_frames(Path(corpus), chain[0].found)
        chain, frames = known[corpus]
        chains.append(chain)
        checked.findings |= frames.findings
        checked.files += frames.files
        checked.frames += frames.frames
        if not os.path.exists(features.list):
            checked.notes.append(f"{features.list}: not here, so the features were not compared")
    checked.findings |= run_problems(run, folder, *chains)[0]
    for stage in run.plan:
        for path in sorted(Path(folder, stage.name).glob("[0-9]*.h5")):
            _load(path, checked)
    final = Path(folder, "ubm.h5")
    if final.exists():
        _load(final, checked)
        # Their content was compared with SHA256SUMS.
        for path in (Path(folder, name) for name in [*run.products, *run.pages]):
            if path.exists():
                checked.files += 1
            else:
                checked.findings.setdefault(str(path), "missing")
    else:
        checked.findings.setdefault(str(final), "not made yet")
    planned = {stage.name for stage in run.plan}
    kinds = {"diag", "full", *(stage.kind for stage in run.plan)}
    for path in sorted(Path(folder).glob("*/*")):
        name = f"{path.parent.name}/{path.name.partition('.')[0]}"
        if name.partition("/")[0] in kinds and name not in planned:
            checked.notes.append(f"{path}: belongs to no stage of the configuration")
    for path in sorted(Path(folder).rglob("*")):
        if is_temporary(path.name):
            checked.notes.append(f"{path}: left over from an interrupted run")
    return checked


def _load(path: Path, checked: Checked) -> None:
    try:
        load_model(path)
        checked.files += 1
    except GmmcoreError as error:
        text = str(error).removeprefix(f"{path}: ").removesuffix(f"; {REMEDY}")
        checked.findings.setdefault(str(path), text)


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
