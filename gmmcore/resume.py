"""Which existing files are valid, where a stage continues, and which files must be made again.

A file is valid if it is intact and was made by the current settings from files that are valid.
Every file holds digests of its content, of its settings and of what it was made from. The
functions of this module only read.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gmmcore.corpus.corpus import Corpus
from gmmcore.corpus.identity import fingerprint, shard_paths
from gmmcore.corpus.shards import read_facts
from gmmcore.corpus.table import ShowTable
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.features.settings import FeatureSettings
from gmmcore.features.writing import recipe_of
from gmmcore.files import digest_of, read_bytes, sealed_facts
from gmmcore.provenance import settings_digest
from gmmcore.runs import Run
from gmmcore.schedule import Stage, iteration_name, train_stop
from gmmcore.steps import IterationSettings

__all__ = [
    "Chain",
    "Walk",
    "checksums",
    "is_iteration",
    "look_at_corpus",
    "mixture_path",
    "run_problems",
    "superseded",
    "walk_iterations",
]

_OTHER_SETTINGS = "made with other settings"


@dataclass(frozen=True)
class Walk:
    """Valid iterations at the beginning of a stage.

    Attributes
    ----------
    last : int
        Number of the last valid iteration; 0 stands for the stage's first mixture.
    digest : str
        Digest of the file of the last valid iteration.
    complete : bool
        Whether the stage ends with this iteration.
    fault : str
        Description of what is wrong with the file of the next iteration; empty if there is no
        such file.
    """

    last: int
    digest: str
    complete: bool
    fault: str = ""


def mixture_path(folder: str | os.PathLike[str], iteration: int) -> str:
    """Return the file of an iteration in the folder of a stage."""
    return os.path.join(folder, f"{iteration_name(iteration)}.h5")


def walk_iterations(
    folder: str | os.PathLike[str],
    first: str,
    corpus: str,
    settings: str,
    iterations: int,
    llk_gain: float,
) -> Walk:
    """Follow the iterations in a stage's folder as long as they are valid.

    Parameters
    ----------
    folder
        Folder of the stage.
    first, corpus, settings
        Digests of the stage's first mixture, of the frames, and of the settings of ``maximise``.
    iterations
        Largest number of iterations.
    llk_gain
        Growth of the log-likelihood per frame below which the stage ends.
    """
    digest, last, complete = first, 0, iterations == 0
    while not complete:
        path = mixture_path(folder, last + 1)
        if not os.path.lexists(path):
            return Walk(last, digest, False)
        facts, fault = _facts(path)
        fault = fault or _stale(facts, last + 1, settings, corpus, digest)
        if fault:
            return Walk(last, digest, False, fault)
        last, digest = last + 1, facts["digest"]
        complete = last == iterations or train_stop(facts["gain"], llk_gain)
    return Walk(last, digest, complete)


def is_iteration(path: str, before: str, settings: IterationSettings) -> bool:
    """Whether a file is the mixture made from the one with digest `before` with these settings."""
    facts, fault = _facts(path)
    made = settings_digest("maximise", settings)
    return not fault and (facts.get("parent"), facts.get("settings")) == (before, made)


def superseded(folder: str | os.PathLike[str], last: int) -> Iterator[Path]:
    """Yield the files in a stage's folder that are obsolete once `last` is its last iteration."""
    for path in Path(folder).glob("*.h5"):
        if path.stem.isdigit() and int(path.stem) > last:
            yield path
    yield from Path(folder).glob("*/*.stats.h5")


def look_at_corpus(
    settings: FeatureSettings, folder: str, recipe: str | None = None
) -> tuple[Chain, Corpus | None]:
    """Look at the files from the feature list to ``corpus.json``.

    Parameters
    ----------
    settings : FeatureSettings
        Settings with the path of the list relative to the working directory.
    folder
        Folder of the frames.
    recipe
        Digest of the settings from which the workflow makes the features; None if they are given.

    Returns
    -------
    chain : Chain
        Result for `run_problems`.
    corpus : Corpus or None
        The corpus; None unless all files are valid.
    """
    chain = Chain()
    table, path = f"{folder}/shows.tsv", f"{folder}/corpus.json"
    corpus: list[Corpus] = []
    shards: dict[str, str] = {}

    def judge_table() -> str:
        facts = ShowTable.read(table).facts
        # If the features were removed, the frames made from them are still used.
        if os.path.exists(settings.list) and facts["fingerprint"] != fingerprint(settings):
            return "the features, or what is to be done with them, changed"
        return ""

    def judge_corpus() -> str:
        corpus.append(Corpus.read(path))
        known = [(shard.file, shard.digest) for shard in corpus[0].shards]
        if known != [(os.path.basename(p), read_facts(p)[0]["content"]) for p in shards.values()]:
            return "gathered from other shards"
        skipped = f"{folder}/skipped.tsv"
        if not os.path.exists(skipped) or _sha256(skipped) != corpus[0].skipped_digest:
            return "skipped.tsv beside it is not the one written with it"
        return ""

    if recipe:
        chain.look(settings.list, lambda: _list_fault(settings.list, recipe))
    if chain.look(table, judge_table):
        shards = shard_paths(table)
        for digest, shard in shards.items():
            chain.look_beside(shard, lambda d=digest, s=shard: _shard_fault(s, d))  # type: ignore[misc]
    elif chain.asked:
        chain.following += map(str, Path(folder).glob("*.npy"))
    chain.look(path, judge_corpus)
    return chain, corpus[0] if chain.whole else None


def run_problems(
    run: Run, folder: str, frames: tuple[Chain, Corpus | None]
) -> tuple[dict[str, str], list[str]]:
    """Find the files of a run that are not valid, though Snakemake may take them for current.

    Parameters
    ----------
    run : Run
    folder
        Folder of the run's results.
    frames
        Result of `look_at_corpus`, which is not changed.

    Returns
    -------
    problems : dict
        Description of what is wrong, by file, in the order in which the files are made. If a file
        is missing, the first one made from it is named.
    following : list of str
        Files made from these, which cannot be judged until these are made again.
    """
    chain, corpus = copy.deepcopy(frames[0]), frames[1]
    digest = corpus.digest if corpus else ""
    parent: str | None = None
    for stage in run.plan:
        parent = _look_at_stage(chain, run, stage, f"{folder}/{stage.name}", digest, parent)
    final = f"{folder}/ubm.h5"
    chain.look(final, lambda: "" if _sealed(final)["parent"] == parent else "of another mixture")
    _look_at_products(chain, run, folder, final)
    return {**chain.found, **chain.beside}, chain.following


def checksums(folder: str | os.PathLike[str], names: list[str]) -> str:
    """Write the text of ``SHA256SUMS``, for ``sha256sum -c``.

    The first line is a comment with a digest of the name of the run and the other lines.

    Raises
    ------
    GmmcoreError
        If a file cannot be read.
    """
    lines = "".join(f"{_sha256(f'{folder}/{name}')}  {name}\n" for name in names)
    return f"{_head(folder, lines)}\n{lines}"


def _head(folder: str | os.PathLike[str], lines: str) -> str:
    name = os.path.basename(os.path.normpath(folder))
    return f"# {digest_of(name, lines)}"


def _look_at_stage(
    chain: Chain, run: Run, stage: Stage, folder: str, corpus: str, parent: str | None
) -> str | None:
    """Look at the files of a stage, and return the digest of its last valid mixture."""
    first, last = mixture_path(folder, 0), f"{folder}.h5"

    def judge_first() -> str:
        facts = _sealed(first)
        fault = _stale(facts, 0, run.digest(stage.origin), corpus, parent)
        named = (facts["stage"], facts["components"]) == (stage.kind, stage.components)
        return fault or ("" if named else "not the mixture of this name")

    walk: list[Walk] = []

    def judge_last() -> str:
        if not walk[0].complete:
            fault = f"iteration {at + 1} is not valid: {walk[0].fault}" if walk[0].fault else ""
            return fault or "not the end of its stage"
        if _sealed(last)["digest"] != walk[0].digest:
            return "not the last iteration of its stage"
        return "superseded iterations lie in its folder" if any(superseded(folder, at)) else ""

    at = 0
    if chain.look(first, judge_first):
        settings = run.digest("maximise", stage.kind)
        limits = (stage.iterations, run.settings.llk_gain)
        walk.append(walk_iterations(folder, _sealed(first)["digest"], corpus, settings, *limits))
        at = walk[0].last
        if walk[0].fault:
            chain.beside[mixture_path(folder, at + 1)] = walk[0].fault
        wanted = walk[0].digest, run.digest("accumulate")
        for path in Path(folder).glob("*/*.stats.h5"):
            facts, fault = _facts(str(path), "statistics")
            if fault or (facts.get("mixture"), facts.get("settings")) != wanted:
                chain.beside[str(path)] = fault or "of another mixture or other settings"
    chain.look(last, judge_last)
    return walk[0].digest if walk else None


def _look_at_products(chain: Chain, run: Run, folder: str, final: str) -> None:
    path = f"{folder}/SHA256SUMS"
    sums: list[str] = []

    def judge_sums() -> str:
        text = read_bytes(path).decode(errors="replace")
        head, _, lines = text.partition("\n")
        if head != _head(folder, lines):
            return "damaged, or of another run"
        sums.extend(lines.splitlines())
        if [line[66:] for line in sums] != ["ubm.h5", *run.products]:
            return "names other files"
        return "" if f"{_sha256(final)}  ubm.h5" in sums else "of another mixture"

    chain.look(path, judge_sums)
    for name in run.products:
        product = f"{folder}/{name}"
        if os.path.lexists(product):
            if chain.asked:
                chain.following.append(product)
            elif not sums:
                chain.found[product] = "SHA256SUMS does not vouch for it"
            elif not os.path.isfile(product) or f"{_sha256(product)}  {name}" not in sums:
                chain.found[product] = "not what SHA256SUMS says"


@dataclass
class Chain:
    """Result of looking at files in their order, each made from the one before it.

    Attributes
    ----------
    found : dict
        Description of what is wrong, by file.
    beside : dict
        The same for files that the next files do not depend on.
    following : list of str
        Files that come after a wrong one.
    missing : str
        The first missing file; empty if there is none.
    asked : bool
        Whether a wrong file was found.
    """

    found: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    following: list[str] = field(default_factory=list)
    missing: str = ""
    asked: bool = False

    @property
    def whole(self) -> bool:
        return not self.missing and not self.asked

    def look(self, path: str, judge: Callable[[], str]) -> bool:
        """Look at the next file; return whether it and all files before it are valid."""
        if self.asked:
            self.following += [path] if os.path.lexists(path) else []
            return False
        if not os.path.lexists(path):
            self.missing = self.missing or path
            return False
        reason = f"made from {self.missing}, which is missing" if self.missing else _judged(judge)
        if reason:
            self.found[path] = reason
            self.asked = True
        return not reason

    def look_beside(self, path: str, judge: Callable[[], str]) -> None:
        """Look at one of several files that the next file is made from."""
        if not os.path.lexists(path):
            self.missing = self.missing or path
        elif reason := _judged(judge):
            self.found[path] = reason
            self.asked = True


def _judged(judge: Callable[[], str]) -> str:
    try:
        return judge()
    except (GmmcoreError, KeyError) as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    return "damaged" if isinstance(error, DamagedFileError) else f"cannot be used: {error}"


def _stale(
    facts: dict[str, Any], iteration: int, settings: str, corpus: str, parent: str | None
) -> str:
    """Say why a mixture cannot be used; empty if it can."""
    if facts.get("settings") != settings:
        return _OTHER_SETTINGS
    if facts.get("corpus") != corpus:
        return "made from other frames"
    if facts.get("parent") != parent:
        return "made from another mixture"
    return "" if facts.get("iteration") == iteration else "not the mixture of this name"


def _list_fault(path: str, recipe: str) -> str:
    """Say what is wrong with features that the workflow made; empty if nothing is."""
    folder = os.path.dirname(path)
    found, shows = recipe_of(path)
    if found != recipe:
        return _OTHER_SETTINGS
    for show in shows:
        if not os.path.isfile(f"{folder}/{show}.h5"):
            return f"{show}.h5 beside it is missing"
    truth = f"{folder}/truth.h5"
    if not os.path.exists(truth):
        return ""
    facts, fault = _facts(truth)
    fault = fault or ("" if facts.get("recipe") == recipe else "of another corpus")
    return f"{truth}: {fault}" if fault else ""


def _shard_fault(path: str, digest: str) -> str:
    return "" if read_facts(path)[0]["digest"] == digest else "not the shard of this name"


def _sealed(path: str) -> dict[str, Any]:
    facts, fault = _facts(path)
    if fault:
        raise DamagedFileError(fault)
    return facts


def _facts(path: str, kind: str = "mixture") -> tuple[dict[str, Any], str]:
    """Return the facts of a sealed file and its fault; an unchanged file is verified only once."""
    try:
        status = os.stat(path)
    except OSError as error:
        return {}, str(error.strerror)
    return _verified(path, kind, (status.st_ino, status.st_size, status.st_mtime_ns))


@cache
def _verified(path: str, kind: str, _: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    try:
        return sealed_facts(path, kind), ""
    except GmmcoreError as error:
        return {}, _reason(error)


def _sha256(path: str) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()
