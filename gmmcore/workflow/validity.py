"""What is valid of a run's files, from the feature list to the final mixture: what is made again.

Snakemake knows nothing of damage, of feature files or, once its records are lost, of settings. The
functions here follow the digests that the files hold, and only read.
"""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.schedule import Stage
from gmmcore.data.check import fingerprint, shard_paths
from gmmcore.data.corpus import Corpus
from gmmcore.data.demo import recipe_of
from gmmcore.data.shards import read_facts
from gmmcore.data.shows import ShowTable
from gmmcore.errors import DamagedFileError
from gmmcore.files import read_bytes, remembered, sha256_of, sums_head
from gmmcore.workflow.chain import Chain
from gmmcore.workflow.runs import Run
from gmmcore.workflow.stage import (
    OTHER_SETTINGS,
    Walk,
    mixture_path,
    stale,
    superseded,
    walk_iterations,
)
from gmmcore.workflow.verified import checksum_of, sealed_state

__all__ = ["look_at_corpus", "run_problems"]

_facts_of_shard = remembered(read_facts)


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
        facts = ShowTable.read_facts(table)
        # If the features were removed, the frames made from them are still used.
        if os.path.exists(settings.list) and facts["fingerprint"] != fingerprint(settings):
            return "the features, or what is to be done with them, changed"
        return ""

    def judge_corpus() -> str:
        corpus.append(Corpus.read(path))
        known = [(shard.file, shard.content_digest) for shard in corpus[0].shards]
        if known != [
            (os.path.basename(p), _facts_of_shard(p)["content_digest"]) for p in shards.values()
        ]:
            return "gathered from other shards"
        skipped = f"{folder}/skipped.tsv"
        if not os.path.exists(skipped) or sha256_of(skipped) != corpus[0].skipped_digest:
            return "skipped.tsv beside it is not the one written with it"
        return ""

    if recipe:
        chain.look(settings.list, lambda: _list_fault(settings.list, recipe))
    if chain.look(table, judge_table):
        shards = shard_paths(table)
        digests = ShowTable.read_facts(table)["recipe_digests"]
        for name, shard in shards.items():
            chain.look_beside(shard, partial(_shard_fault, shard, digests[name]))
    elif chain.asked:
        chain.following += map(str, Path(folder).glob("*.npy"))
    chain.look(path, judge_corpus)
    return chain, corpus[0] if chain.whole else None


def run_problems(
    run: Run,
    folder: str,
    frames: tuple[Chain, Corpus | None],
    held_out: tuple[Chain, Corpus | None] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """Find the files of a run that are not valid, though Snakemake may take them for current.

    Parameters
    ----------
    run : Run
    folder
        Folder of the run's results.
    frames
        Result of `look_at_corpus`, which is not changed.
    held_out
        The same for the held-out frames; None if there are none.

    Returns
    -------
    problems : dict
        Description of what is wrong, by file, in the order in which the files are made. If a file
        is missing, the first one made from it is named.
    following : list of str
        Files made from these, which cannot be judged until these are made again; of stages whose
        iterations are jobs, the missing iterations too.
    """
    chain, corpus = copy.deepcopy(frames[0]), frames[1]
    parent: str | None = None
    for stage in run.plan:
        place = f"{folder}/{stage.name}"
        parent = _look_at_stage(chain, run, stage, place, corpus, held_out, parent)
    final = f"{folder}/ubm.h5"
    chain.look(final, lambda: "" if _sealed(final)["parent"] == parent else "of another mixture")
    _look_at_products(chain, run, folder, final)
    return {**chain.found, **chain.beside}, chain.following


def _look_at_stage(
    chain: Chain,
    run: Run,
    stage: Stage,
    folder: str,
    corpus: Corpus | None,
    held_out: tuple[Chain, Corpus | None] | None,
    parent: str | None,
) -> str | None:
    """Look at the files of a stage, and return the digest of its last valid mixture."""
    first, last = mixture_path(folder, 0), f"{folder}.h5"
    digest = corpus.digest if corpus else ""

    def judge_first() -> str:
        facts = _sealed(first)
        fault = stale(facts, 0, run.digest_of_first(stage), digest, parent)
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
    is_valid = chain.look(first, judge_first)
    if held_out is not None and stage.iterations:
        # The first mixtures of stages do not depend on them.
        chain.join(held_out[0])
    if is_valid and chain.whole and corpus is not None:
        settings = run.digest("maximise", stage.kind)
        walk.append(
            walk_iterations(
                folder,
                _sealed(first)["digest"],
                corpus,
                held_out[1] if held_out else None,
                settings,
                run.course(stage, corpus),
            )
        )
        at = walk[0].last
        if walk[0].fault:
            chain.beside[mixture_path(folder, at + 1)] = walk[0].fault
        wanted = walk[0].digest, run.digest("accumulate")
        for path in Path(folder).glob("*/*.stats.h5"):
            facts, fault = sealed_state(str(path), "statistics")
            if fault or (facts.get("mixture"), facts.get("settings")) != wanted:
                chain.beside[str(path)] = fault or "of another mixture or other settings"
    chain.look(last, judge_last)
    if chain.asked and run.settings.jobs != "auto" and os.path.lexists(last):
        # Snakemake remembers iterations that were removed since. With the same inputs as then it
        # would not make them again, and keep the last mixture that is there.
        numbers = range(1, stage.iterations + 1)
        paths = (mixture_path(folder, number) for number in numbers)
        chain.following += [path for path in paths if not os.path.lexists(path)]
    return walk[0].digest if walk else None


def _look_at_products(chain: Chain, run: Run, folder: str, final: str) -> None:
    path = f"{folder}/SHA256SUMS"
    sums: list[str] = []

    def judge_sums() -> str:
        text = read_bytes(path).decode(errors="replace")
        head, _, lines = text.partition("\n")
        if head != sums_head(folder, lines):
            return "damaged, or of another run"
        sums.extend(lines.splitlines())
        if [line[66:] for line in sums] != ["ubm.h5", *run.products]:
            return "names other files"
        return "" if f"{checksum_of(final)}  ubm.h5" in sums else "of another mixture"

    chain.look(path, judge_sums)
    for name in run.products:
        product = f"{folder}/{name}"
        if os.path.lexists(product):
            if chain.asked:
                chain.following.append(product)
            elif not sums:
                chain.found[product] = "SHA256SUMS does not vouch for it"
            elif not os.path.isfile(product) or f"{checksum_of(product)}  {name}" not in sums:
                chain.found[product] = "not what SHA256SUMS says"
    for page in (f"{folder}/{name}" for name in run.pages):
        changes = {final} & {*chain.found, *chain.following} or not os.path.lexists(final)
        if changes and os.path.lexists(page):
            chain.following.append(page)


def _list_fault(path: str, recipe: str) -> str:
    """Say what is wrong with features that the workflow made; empty if nothing is."""
    folder = os.path.dirname(path)
    found, shows = recipe_of(path)
    if found != recipe:
        return OTHER_SETTINGS
    for show in shows:
        if not os.path.isfile(f"{folder}/{show}.h5"):
            return f"{show}.h5 beside it is missing"
    truth = f"{folder}/truth.h5"
    if not os.path.exists(truth):
        return ""
    facts, fault = sealed_state(truth)
    fault = fault or ("" if facts.get("recipe") == recipe else "of another corpus")
    return f"{truth}: {fault}" if fault else ""


def _shard_fault(path: str, digest: str) -> str:
    return "" if _facts_of_shard(path)["recipe_digest"] == digest else "not the shard of this name"


def _sealed(path: str) -> dict[str, Any]:
    facts, fault = sealed_state(path)
    if fault:
        raise DamagedFileError(fault)
    return facts
