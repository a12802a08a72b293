"""Self-check of a run: every file, the chain of parents, and the history."""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gmmcore.configuration import resolve
from gmmcore.corpus import Corpus
from gmmcore.errors import GmmcoreError
from gmmcore.features.moments import merge_moments
from gmmcore.features.settings import FeatureSettings
from gmmcore.features.table import ShowTable
from gmmcore.features.unpacked import open_shard
from gmmcore.files import ASIDE, is_temporary, read_bytes
from gmmcore.formats.hdf5 import Model, load_model
from gmmcore.history import HistoryEntry, history_table
from gmmcore.run import Run
from gmmcore.workflow import export_path, initial_mixture, plan_of, verb_settings

__all__ = ["Checked", "Finding", "check_run"]

_LARGEST = 1 << 28
Content = TypeVar("Content")
_NAME = re.compile(r"(diag|full)/(\d+)/(\d{3,})\.h5")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes
    ----------
    path, what : str
    mend : str
        The command that mends it.
    """

    path: str
    what: str
    mend: str

    def line(self) -> str:
        """One line."""
        return f"{self.path}: {self.what}; to mend it: {self.mend}"


@dataclass
class Checked:
    """What a check found.

    Attributes
    ----------
    findings : list of Finding
    notes : list of str
        What is no fault, but worth knowing.
    files, frames : int
        That were verified.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    frames: int = 0

    def wrong(self, path: object, what: str, *, remove: bool = True) -> None:
        """Add a finding; the same command mends it, after the file is removed if need be."""
        mend = f"rm '{path}' && snakemake" if remove else "snakemake"
        text = what.removeprefix(f"{path}: ").split("; remove it")[0]
        self.findings.append(Finding(str(path), text, mend))


def check_run(folder: str) -> Checked:
    """Verify every file of a run, from the final mixture back to the features.

    Parameters
    ----------
    folder
        Such as ``results/demo``, seen from where Snakemake is run.

    Raises
    ------
    GmmcoreError
        If it is no run's folder.
    """
    place = Path(folder)
    if not (place / "config.json").is_file():
        raise GmmcoreError(
            f"{folder}: holds no config.json; the folder of a run, such as results/demo, "
            "was expected"
        )
    checked = Checked()
    config = _configuration(place, checked)
    corpus = _frames(place, config, checked)
    models = _mixtures(place, corpus, checked)
    _chain(models, corpus, checked)
    if config is not None:
        _final(place, config, models, checked)
        _progress(folder, config, corpus, checked)
    for path in sorted(place.rglob("*")):
        if path.name.endswith((ASIDE, ".stats.h5")) or is_temporary(path.name):
            checked.notes.append(f"{path}: left over from an interrupted or changed run")
    return checked


def _configuration(place: Path, checked: Checked) -> dict[str, Any] | None:
    path = place / "config.json"
    try:
        values = json.loads(read_bytes(path, _LARGEST))
        checked.files += 1
        return resolve(values, str(path))
    except (GmmcoreError, ValueError, AttributeError) as error:
        checked.wrong(path, f"damaged: {error}")
        return None


def _frames(place: Path, config: dict[str, Any] | None, checked: Checked) -> Corpus | None:
    """Verify shows, shards and corpus."""
    expected: dict[str, str] = {}
    shows = place / "shows.tsv"
    if shows.exists():
        with _noting(shows, checked):
            ShowTable.read(shows)
            expected = _shards_of_features(shows, config, checked)
    path = place / "corpus.json"
    if not path.exists():
        checked.notes.append(f"{path}: not made yet")
        return None
    corpus = _read(path, checked, Corpus.read)
    if corpus is None:
        return None
    moments = []
    for known in corpus.shards:
        file = place / "shards" / known.file
        with _noting(file, checked):
            with open_shard(file) as shard:
                frames = sum(len(block) for block in shard.blocks())
                moments.append(shard.moments)
                if (frames, shard.content) != (known.frames, known.digest):
                    checked.wrong(file, "holds other frames than corpus.json says")
                elif expected and expected.get(known.shard) != shard.facts["digest"]:
                    checked.wrong(file, "the features it was made from changed since", remove=False)
            checked.frames += frames
    if len(moments) == len(corpus.shards):
        merged = merge_moments(moments)
        if (merged.mean.tolist(), merged.scatter.tolist()) != ([*corpus.mean], [*corpus.second]):
            checked.wrong(path, "its moments are not those of its shards")
    return corpus


def _shards_of_features(
    shows: Path, config: dict[str, Any] | None, checked: Checked
) -> dict[str, str]:
    """Digests that the shards would have now, by name; none if the features are not here."""
    from gmmcore.features.identity import shard_digests

    if config is None:
        return {}
    settings = FeatureSettings.from_mapping(config["features"], config["seed"])
    if not Path(settings.list).exists():
        checked.notes.append(f"{settings.list}: not here, so the features were not compared")
        return {}
    return shard_digests(shows, settings)


def _mixtures(
    place: Path, corpus: Corpus | None, checked: Checked
) -> dict[str, tuple[Path, Model]]:
    """Read and verify all mixtures; by their digests."""
    models: dict[str, tuple[Path, Model]] = {}
    for path in sorted(place.glob("*/*/*.h5")):
        match = _NAME.fullmatch(path.relative_to(place).as_posix())
        if match is None:
            continue
        with _noting(path, checked):
            model = load_model(path)
            facts = model.facts
            named = (match[1], int(match[2]), int(match[3]))
            if (facts.get("stage"), facts.get("components"), facts.get("iteration")) != named:
                checked.wrong(path, "not the mixture that its name says")
            elif corpus is not None and facts.get("corpus") != corpus.digest:
                checked.wrong(path, "made from other frames than corpus.json names", remove=False)
            models[model.digest] = path, model
    return models


def _chain(models: dict[str, tuple[Path, Model]], corpus: Corpus | None, checked: Checked) -> None:
    """Verify that every mixture follows from its parent, and its history from its parent's."""
    for path, model in models.values():
        parent = model.facts.get("parent")
        if parent is None:
            if model.history or model.facts.get("iteration") != 0:
                checked.wrong(path, "has a history but no parent")
            continue
        if parent not in models:
            what = f"its parent {str(parent)[:12]} is not among the mixtures here"
            checked.wrong(path, what, remove=False)
            continue
        before = models[parent][1].history
        if model.facts["iteration"] == 0:
            if not _same(model.history, before):
                checked.wrong(path, "its history is not that of its parent")
        elif not _same(model.history[:-1], before) or not model.history:
            checked.wrong(path, "its history does not continue that of its parent")
        else:
            fault = _entry_fault(model, corpus)
            if fault:
                checked.wrong(path, fault)


def _entry_fault(model: Model, corpus: Corpus | None) -> str:
    """What contradicts the facts in the last entry of a history; empty if nothing does."""
    entry, facts = model.history[-1], model.facts
    if (entry.stage, entry.components, entry.iteration) != tuple(
        facts.get(name) for name in ("stage", "components", "iteration")
    ):
        return "the last iteration of its history is another one"
    if corpus is not None and entry.frames != corpus.frames:
        return f"its history counts {entry.frames} frames, corpus.json {corpus.frames}"
    gain = math.nan
    if entry.iteration > 1:
        gain = entry.log_likelihood - model.history[-2].log_likelihood
    if not _same((entry.gain, entry.log_likelihood), (gain, facts.get("log_likelihood"))):
        return "log-likelihood and gain of its history contradict each other"
    return ""


def _final(
    place: Path, config: dict[str, Any], models: dict[str, tuple[Path, Model]], checked: Checked
) -> None:
    """Verify what the user takes away."""
    from gmmcore.formats.registry import write_mixture

    path = place / "ubm.h5"
    if not path.exists():
        checked.notes.append(f"{path}: not made yet")
        return
    final = _read(path, checked, load_model)
    if final is None:
        return
    source = models.get(str(final.facts.get("parent")))
    if source is None:
        checked.wrong(path, "the mixture it was made from is not here")
    elif source[1].mixture != final.mixture or not _same(source[1].history, final.history):
        checked.wrong(path, f"not the same as {source[0]}")
    table = place / "history.tsv"
    with _noting(table, checked):
        if read_bytes(table, _LARGEST).decode(errors="replace") != history_table(final.history):
            checked.wrong(table, f"not the history in {path}")
    for name in config["export"]:
        export = Path(export_path(str(place), name))
        with _noting(export, checked), tempfile.TemporaryDirectory() as folder:
            again = Path(folder) / export.name
            write_mixture(again, final.mixture, name)
            if read_bytes(export) != again.read_bytes():
                checked.wrong(export, f"not what {path} is in this format")


def _progress(folder: str, config: dict[str, Any], corpus: Corpus | None, checked: Checked) -> None:
    """Say what of the plan is not done: nothing is wrong with that."""
    try:
        initial = initial_mixture(config)
    except GmmcoreError as error:
        checked.notes.append(f"the initial mixture was not compared: {error}")
        return
    plan = plan_of(config, initial)
    run = Run(folder, plan, config["llk_gain"], verb_settings(config, initial))
    for stage, position in run.survey(corpus).items():
        if not position.complete and stage.iterations:
            at = f"iteration {position.last}" if position.last > 0 else "nothing"
            checked.notes.append(f"{stage.name}: not complete, {at} is done; to go on: snakemake")
            return


def _read(path: Path, checked: Checked, reader: Callable[[Path], Content]) -> Content | None:
    """What is in a file; None, and a finding, if it is damaged."""
    content: list[Content] = []
    with _noting(path, checked):
        content.append(reader(path))
    return content[0] if content else None


@contextlib.contextmanager
def _noting(path: Path, checked: Checked) -> Iterator[None]:
    """Count a file, and turn what is wrong with it into a finding."""
    checked.files += 1
    try:
        yield
    except GmmcoreError as error:
        checked.wrong(path, str(error), remove=path.exists())


def _same(first: Any, second: Any) -> bool:
    """Equal, where NaN equals NaN."""

    def plain(values: Any) -> list[Any]:
        rows = [
            (*vars(value).values(),) if isinstance(value, HistoryEntry) else (value,)
            for value in values
        ]
        return [[None if cell != cell else cell for cell in row] for row in rows]

    return plain(first) == plain(second)
