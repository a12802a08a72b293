"""Which files of a run are not what its configuration makes of its features.

Every file holds what is needed to tell: digests of its content, of the settings that made it and of
what it was made from. Verbs ask here for the files that they read, and `check_run` for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gmmcore.core.moments import merge_moments
from gmmcore.data.check import fingerprint, shard_paths
from gmmcore.data.corpus import Corpus
from gmmcore.data.demo import recipe_of
from gmmcore.data.shards import Shard
from gmmcore.data.shows import ShowTable
from gmmcore.errors import REMEDY, DamagedFileError, GmmcoreError
from gmmcore.files import (
    date_back,
    holder,
    is_temporary,
    read_bytes,
    read_json,
    sha256_of,
    sums_head,
)
from gmmcore.formats.hdf5 import Model, header_facts, load_model
from gmmcore.formats.statserver import sealed_facts
from gmmcore.workflow.stage import (
    iterations_in,
    mixture_path,
    stale,
    superseded,
    walk_iterations,
)

if TYPE_CHECKING:
    from gmmcore.config.keys import FeatureSettings
    from gmmcore.core.schedule import Stage
    from gmmcore.workflow.runs import Run

T = TypeVar("T")

_NAME = ("stage", "components", "iteration")


def require_first(model: Model, path: str, stamp: str, before: str | None) -> None:
    """Raise an error if a mixture is not the first one of the stage with a stamp."""
    wanted, facts = read_json(stamp), model.facts
    parent = header_facts(before)["digest"] if before else None
    fault = stale(facts, 0, wanted["digests"]["first"], facts["corpus"], parent)
    if not fault and (facts["stage"], facts["components"]) != (
        wanted["stage"],
        wanted["components"],
    ):
        fault = "not the mixture of this name"
    if fault:
        raise DamagedFileError(path, fault)


def has_first(path: str, stamp: str, before: str | None, corpus: str) -> bool:
    """Whether the first mixture of a stage is there, intact, and made from what there is now."""
    try:
        model = load_model(path)
        require_first(model, path, stamp, before)
    except DamagedFileError:
        return False
    except GmmcoreError:
        if os.path.lexists(path):
            raise
        return False
    return bool(model.facts["corpus"] == Corpus.read(corpus).digest)


def load_last(path: str) -> Model:
    """Read the last mixture of a stage: the last iteration in the folder beside it, if any."""
    model, folder = load_model(path), path.removesuffix(".h5")
    last = max((int(found.stem) for found in iterations_in(folder)), default=0)
    beside = mixture_path(folder, last)
    if os.path.exists(beside) and header_facts(beside)["digest"] != model.digest:
        raise DamagedFileError(path, f"not the last iteration of its stage, {beside}")
    return model


def require_final(path: str, last: str) -> None:
    """Raise an error if a mixture is damaged, or was not made from the last one of its training."""
    if load_model(path).facts.get("parent") != header_facts(last)["digest"]:
        raise DamagedFileError(path, f"not made from {last}")


@dataclass
class Checked:
    """What is wrong, by file; remarks on what is no fault; how many files and frames are right.

    `remove` are the files to remove so that the workflow makes again what is wrong.
    """

    findings: dict[str, str] = field(default_factory=dict)
    remove: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    frames: int = 0

    def find(self, path: str, what: str, *also: str) -> None:
        """Note what is wrong with a file, and what is to be removed beside it."""
        self.findings.setdefault(path, what)
        self.remove |= {path, *also}

    def read(self, path: str, read: Callable[[str], T], *also: str) -> T | None:
        """Read a file; None if it cannot be read, which is noted."""
        try:
            value = read(path)
        except (GmmcoreError, KeyError) as error:
            what = str(error).removeprefix(f"{path}: ").removesuffix(f"; {REMEDY}")
            self.find(path, what if os.path.lexists(path) else "missing", *also)
            return None
        self.files += 1
        return value

    def include(self, other: Checked) -> None:
        """Take over what another check found."""
        self.findings |= other.findings
        self.remove |= other.remove
        self.notes += other.notes
        self.files += other.files
        self.frames += other.frames


def check_run(
    run: Run, results: str, known: dict[str, tuple[Checked, Corpus | None]] | None = None
) -> Checked:
    """Verify every file of a run in the folder `results`, from the features to the final mixture.

    `known` holds what earlier calls found of frames, which are not read again.
    """
    known = {} if known is None else known
    folder, checked = f"{results}/{run.name}", Checked()
    corpora = []
    for name, features in run.corpora.items():
        place = f"{results}/features/{name}"
        if place not in known:
            known[place] = _check_frames(run, features, place)
        found, corpus = known[place]
        checked.include(found)
        corpora.append(corpus)
    parent: str | None = None
    for stage in run.plan:
        parent = _check_stage(checked, run, stage, f"{folder}/{stage.name}", corpora, parent)
    _check_products(checked, run, folder, parent)
    _check_scores(checked, run, folder)
    checked.notes += _notes(run, Path(folder))
    return checked


def repair(run: Run, results: str, checked: Checked) -> None:
    """Remove the files that `check_run` found to be wrong, and date those of the future now.

    Nothing is done while a job is at work in a stage.
    """
    for stage in run.plan:
        folder = f"{results}/{run.name}/{stage.name}"
        if (number := holder(folder)) is not None:
            raise GmmcoreError(f"{folder}: process {number} works here; wait until it ends")
    for path in sorted(checked.remove):
        Path(path).unlink(missing_ok=True)
    for folder in (run.name, *(f"features/{name}" for name in run.corpora)):
        date_back(Path(results, folder).rglob("*"))


def _check_frames(run: Run, features: FeatureSettings, place: str) -> tuple[Checked, Corpus | None]:
    """Verify the files from the feature list to the last frame."""
    checked, table = Checked(), f"{place}/shows.tsv"
    recipe = run.recipe_of(features)
    # If the workflow is a module with a prefix, the lists that it makes lie below the prefix.
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(place))), features.list)
    if recipe and not os.path.exists(features.list):
        features = replace(features, list=beside)
    if not os.path.exists(features.list):
        checked.notes.append(f"{features.list}: not here, so the features were not compared")
    elif recipe and (fault := _fault_of_demo(features.list, recipe)):
        checked.find(features.list, fault)
    shows = checked.read(table, ShowTable.read_facts)
    if shows and os.path.exists(features.list) and shows["fingerprint"] != fingerprint(features):
        checked.find(table, "the features, or what is to be done with them, changed")
    there = {path.name: str(path) for path in sorted(Path(place).glob("*.npy"))}
    moments, contents = [], []
    for name, path in (shard_paths(table) if shows else there).items():
        shard = checked.read(path, _verified)
        if shard is None:
            continue
        if shows and shard.facts["recipe_digest"] != shows["recipe_digests"][name]:
            checked.find(path, "not the shard of this name")
        checked.frames += shard.frames
        moments.append(shard.moments)
        contents.append((os.path.basename(path), shard.content_digest))
    path, skipped = f"{place}/corpus.json", f"{place}/skipped.tsv"
    corpus = checked.read(path, Corpus.read)
    if corpus is None:
        return checked, None
    if checked.read(skipped, sha256_of) not in (None, corpus.skipped_digest):
        checked.find(skipped, "not the one written with corpus.json")
    if not checked.findings:
        merged = merge_moments(moments)
        if [(shard.file, shard.content_digest) for shard in corpus.shards] != contents:
            checked.find(path, "gathered from other shards")
        elif (merged.mean.tolist(), merged.scatter.tolist()) != ([*corpus.mean], [*corpus.second]):
            checked.find(path, "its moments are not those of its shards")
    return checked, None if path in checked.findings else corpus


def _verified(path: str) -> Shard:
    """Read all frames of a shard."""
    with Shard(path) as shard:
        for _ in shard.blocks():
            pass
        return shard


def _fault_of_demo(path: str, recipe: str) -> str:
    """Say what is wrong with a demonstration corpus; empty if nothing is."""
    found, shows = recipe_of(path)
    folder = os.path.dirname(path)
    if found != recipe:
        return "made with other settings"
    absent = [f"{show}.h5" for show in shows if not os.path.isfile(f"{folder}/{show}.h5")]
    if absent:
        return f"{absent[0]} beside it is missing"
    try:
        facts = load_model(f"{folder}/truth.h5").facts
    except GmmcoreError as error:
        return str(error).removesuffix(f"; {REMEDY}")
    return "" if facts.get("recipe") == recipe else "truth.h5 beside it is of another corpus"


def _check_stage(
    checked: Checked,
    run: Run,
    stage: Stage,
    folder: str,
    corpora: list[Corpus | None],
    parent: str | None,
) -> str | None:
    """Verify the mixtures of a stage; return the digest of its last one, None if it is unknown."""
    first, last, (corpus, *others) = mixture_path(folder, 0), f"{folder}.h5", corpora
    model = checked.read(first, load_model)
    facts: dict[str, Any] = model.facts if model else {}
    if facts and tuple(map(facts.get, _NAME)) != (stage.kind, stage.components, 0):
        checked.find(first, "not the mixture of this name")
    is_known = corpus is not None and (parent is not None or stage is run.plan[0])
    wanted = run.digest_of_first(stage), corpus.digest if corpus else "", parent
    if facts and is_known and (fault := stale(facts, 0, *wanted)):
        checked.find(first, fault)
    for path in iterations_in(folder):
        found = checked.read(str(path), load_model, last)
        named = stage.kind, stage.components, int(path.stem)
        if found and named != tuple(map(found.facts.get, _NAME)):
            checked.find(str(path), "not the mixture of this name", last)
    final = checked.read(last, load_model)
    is_wrong = {first, *map(str, iterations_in(folder))} & {*checked.findings}
    if is_wrong or not is_known or corpus is None or (stage.iterations and None in others):
        return None
    held_out = others[0] if others else None
    settings = run.digest("maximise", stage.kind)
    begin = model.digest if model else ""
    walk = walk_iterations(folder, begin, corpus, held_out, settings, run.course(stage, corpus))
    if not walk.complete:
        checked.find(mixture_path(folder, walk.last + 1), walk.fault or "missing", last)
        return None
    for path in superseded(folder, walk.last):
        checked.find(str(path), "left over: the stage ends before it")
    if final is not None and final.digest != walk.digest:
        checked.find(last, "not the last iteration of its stage")
    return walk.digest


def _check_products(checked: Checked, run: Run, folder: str, parent: str | None) -> None:
    """Verify the final mixture, and what is made from it."""
    final, sums = f"{folder}/ubm.h5", f"{folder}/SHA256SUMS"
    model = checked.read(final, load_model)
    if model and parent and model.facts.get("parent") != parent:
        checked.find(final, "of another mixture")
    text = (checked.read(sums, read_bytes) or b"").decode(errors="replace")
    head, _, lines = text.partition("\n")
    names = ["ubm.h5", *run.products]
    if sums not in checked.findings:
        if head != sums_head(folder, lines):
            checked.find(sums, "damaged, or of another run")
        elif [line[66:] for line in lines.splitlines()] != names:
            checked.find(sums, "names other files")
    for name in names:
        path = f"{folder}/{name}"
        digest = checked.read(path, sha256_of) if name != "ubm.h5" else model and sha256_of(path)
        if digest and sums not in checked.findings and f"{digest}  {name}\n" not in lines:
            # The final mixture vouches for itself.
            what = "of another mixture" if name == "ubm.h5" else "not what SHA256SUMS says"
            checked.find(sums if name == "ubm.h5" else path, what)
    for name in run.pages:
        page = checked.read(f"{folder}/{name}", read_bytes)
        if page is not None and not page.rstrip().endswith(b"</html>"):
            checked.find(f"{folder}/{name}", "damaged: its end is missing")


def _check_scores(checked: Checked, run: Run, folder: str) -> None:
    """Verify statistics, models and scores, each of which names the mixture that it is from."""
    final, table = f"{folder}/ubm.h5", None
    for name in run.scores:
        path = f"{folder}/{name}"
        if name.endswith(".tsv"):
            table = checked.read(path, sha256_of)
            continue
        facts = checked.read(path, sealed_facts)
        if facts and os.path.exists(final) and facts["mixture"] != sha256_of(final):
            checked.find(path, "of another mixture")
        if facts and table not in (None, facts.get("table")):
            checked.find(f"{folder}/scores.tsv", "not the one written with scores.h5")


def _notes(run: Run, folder: Path) -> Iterator[str]:
    """Remark on files that belong to no stage, and on what an interrupted run left."""
    planned = {stage.name for stage in run.plan}
    kinds = {"diag", "full", *(stage.kind for stage in run.plan)}
    for path in sorted(folder.glob("*/*")):
        name = f"{path.parent.name}/{path.name.partition('.')[0]}"
        if name.partition("/")[0] in kinds and name not in planned:
            yield f"{path}: belongs to no stage of the configuration"
    for path in sorted(folder.rglob("*")):
        if is_temporary(path.name):
            yield f"{path}: left over from an interrupted run"
