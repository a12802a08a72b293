"""The state of a run's folder: what is done, what is stale, what comes next.

Snakemake schedules; what is up to date is decided here, by digests and not by times, so that
a copied folder, a touched file or a lost ``.snakemake`` costs nothing, and a changed
setting redoes exactly what depends on it. A mixture is *done* if its file is intact, was made
with the current settings from the current frames, and its parent is the mixture before it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmmcore.corpus import Corpus
from gmmcore.em import ARITHMETIC
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import (
    ASIDE,
    digest_of,
    is_temporary,
    make_folder,
    remove_if_stale,
    replace_text,
    sealed_facts,
    set_aside,
)
from gmmcore.schedule import Stage, iteration_name, train_stop

__all__ = ["Position", "Run", "hold_folder"]


@dataclass(frozen=True)
class Position:
    """Where a stage is.

    Attributes
    ----------
    last : int
        Iteration of its last mixture that is done; -1 before its first.
    complete : bool
        Whether the stage has nothing left to do.
    """

    last: int
    complete: bool


@dataclass
class Run:
    """One run's files.

    Attributes
    ----------
    folder : str
        Such as ``results/demo``.
    plan : sequence of Stage
    llk_gain : float
    settings : dict
        Settings of the verbs ``initialise`` and, by the kind of covariances, ``maximise``.
    mend : bool
        Whether stale and damaged files are set aside when they are met. Not in a dry run.
    say : callable
        Told of what is set aside.
    """

    folder: str
    plan: Sequence[Stage]
    llk_gain: float
    settings: Mapping[str, Mapping[str, Any]]
    mend: bool = False
    say: Callable[[str], None] = print
    _complete: dict[Stage, tuple[tuple[str, str | None], Position, str | None]] = field(
        default_factory=dict, repr=False
    )
    _corpus: tuple[tuple[int, ...], Corpus] | None = field(default=None, repr=False)
    _told: set[tuple[Path, str]] = field(default_factory=set, repr=False)
    _facts: dict[str, tuple[tuple[int, ...], dict[str, Any] | None]] = field(
        default_factory=dict, repr=False
    )

    def stage(self, kind: str, components: int | str) -> Stage:
        """The stage of this name."""
        return next(
            stage
            for stage in self.plan
            if stage.kind == kind and stage.components == int(components)
        )

    def before(self, stage: Stage) -> Stage:
        """The stage whose last mixture this one starts from."""
        return self.plan[list(self.plan).index(stage) - 1]

    def mixture(self, stage: Stage, iteration: int) -> str:
        """Path of the mixture after `iteration` iterations of a stage."""
        return f"{self.folder}/{stage.name}/{iteration_name(iteration)}.h5"

    @property
    def corpus_path(self) -> str:
        """Path of corpus.json."""
        return f"{self.folder}/corpus.json"

    @property
    def config_path(self) -> str:
        """Path of the configuration with all defaults, as the jobs read it."""
        return f"{self.folder}/config.json"

    def keep_configuration(self, config: Mapping[str, Any]) -> None:
        """Write the configuration where the jobs read it, if it is not that already."""
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        path = Path(self.config_path)
        if not path.exists() or path.read_bytes() != text.encode():
            replace_text(path, text)

    @property
    def final_path(self) -> str:
        """Path of the final mixture."""
        return f"{self.folder}/ubm.h5"

    def look_through(self) -> None:
        """Set aside what is damaged, as far as can be told without reading frames.

        To be called before Snakemake takes its inventory: what vanishes later, it misses.
        """
        for path in sorted(Path(self.folder).glob("*/*/*.h5")):
            self._peek(str(path))
        self._peek(self.final_path)
        for path in sorted(Path(self.folder).glob("shards/*.npy")):
            self.shard_is_whole(str(path))

    def corpus(self, shards: Sequence[str]) -> Corpus | None:
        """The corpus, if it has been gathered from exactly these shard files."""
        key = _identity(self.corpus_path)
        if key is None:
            return None
        if self._corpus is None or self._corpus[0] != key:
            try:
                self._corpus = key, Corpus.read(self.corpus_path)
            except DamagedFileError:
                self.set_aside(self.corpus_path, "damaged")
                return None
            except GmmcoreError:
                return None
        corpus = self._corpus[1]
        if not corpus.matches([Path(shard).name for shard in shards]):
            self.set_aside(self.corpus_path, "gathered from other shards")
            return None
        return corpus

    def shard_is_whole(self, path: str) -> bool:
        """Whether a shard is there and its end intact; frames are verified when they are read."""
        from gmmcore.features.shards import read_facts

        key = _identity(path)
        if key is None:
            return False
        if path not in self._facts or self._facts[path][0] != key:
            try:
                self._facts[path] = key, read_facts(path)[0]
            except GmmcoreError:
                self._facts[path] = key, None
                self.set_aside(path, "damaged")
        return self._facts[path][1] is not None

    def survey(self, corpus: Corpus | None) -> dict[Stage, Position]:
        """Where each stage is; stages after the first that is not complete are not looked at.

        Parameters
        ----------
        corpus
            The frames; None if they are not known yet, and then nothing is done.
        """
        positions = {stage: Position(-1, False) for stage in self.plan}
        if corpus is None:
            return positions
        parent: str | None = None
        digest = corpus.digest
        for stage in self.plan:
            # Snakemake asks often; a stage that was seen complete is not looked through again.
            key = (digest, parent)
            if stage in self._complete and self._complete[stage][0] == key:
                _, positions[stage], parent = self._complete[stage]
                continue
            position, parent = self._walk(stage, digest, parent)
            positions[stage] = position
            if position.complete:
                self._complete[stage] = key, position, parent
            if not position.complete:
                break
        return positions

    def final_is_done(self, source: str) -> bool:
        """Whether the final mixture was made from the mixture file `source`."""
        last, final = self._peek(source), self._peek(self.final_path)
        if final is None:
            return False
        if last is None or final.get("parent") != last["digest"]:
            self.set_aside(self.final_path, "made from another mixture")
            return False
        return os.path.exists(f"{self.folder}/history.tsv")

    def set_aside(self, path: str, reason: str) -> None:
        """Rename a file that must be made again, if this run may change anything."""
        if self.mend and (name := set_aside(path)) is not None:
            # A changed setting makes a whole stage stale: one line says so.
            if (Path(path).parent, reason) not in self._told:
                self.say(f"{path}: {reason}; set aside as {name}, made again")
            self._told.add((Path(path).parent, reason))

    def review_statistics(self, paths: Sequence[str], mixture: str) -> None:
        """Set aside those of these files that were not taken with this mixture as it is.

        They are of an interrupted run, which may have had other settings.
        """
        current = self._peek(mixture)
        if current is None:
            return
        wanted = current["digest"], digest_of("accumulate", self.settings["accumulate"], ARITHMETIC)
        for path in paths:
            facts = self._peek(path, "statistics")
            if facts and (facts.get("mixture"), facts.get("settings")) != wanted:
                self.set_aside(path, "taken with another mixture or other settings")

    def leftovers(self) -> Iterator[Path]:
        """Statistics that an interrupted run left behind."""
        for suffix in ("", ASIDE):
            yield from Path(self.folder).glob(f"*/*/*/*.stats.h5{suffix}")

    def tidy(self) -> None:
        """Remove leftovers, and temporary files of writers that no longer live."""
        for path in self.leftovers():
            path.unlink(missing_ok=True)
        for parent, _, names in os.walk(self.folder):
            for name in filter(is_temporary, names):
                remove_if_stale(Path(parent) / name)

    def _walk(self, stage: Stage, corpus: str, parent: str | None) -> tuple[Position, str | None]:
        position, first = Position(-1, False), True
        for iteration in range(stage.iterations + 1):
            path = self.mixture(stage, iteration)
            facts = self._peek(path)
            if facts is None:
                break
            reason = self._stale(facts, stage, iteration, corpus, parent)
            if reason:
                self.set_aside(path, reason)
                break
            parent = facts["digest"]
            gain = facts.get("gain") if iteration > 0 else None
            position = Position(
                iteration, iteration == stage.iterations or train_stop(gain, self.llk_gain)
            )
            first = False
            if position.complete:
                break
        return position, None if first else parent

    def _stale(
        self, facts: dict[str, Any], stage: Stage, iteration: int, corpus: str, parent: str | None
    ) -> str:
        """Why a mixture cannot be used; empty if it can."""
        verb = "maximise" if iteration else stage.origin
        if verb == "initialise":
            digest = digest_of(verb, self.settings["initialise"], ARITHMETIC)
        elif verb == "maximise":
            digest = digest_of(verb, self.settings[stage.kind], ARITHMETIC)
        else:
            digest = digest_of(verb, ARITHMETIC)
        if facts.get("settings") != digest:
            return "made with other settings"
        if facts.get("corpus") != corpus:
            return "made from other frames"
        if facts.get("parent") != parent:
            return "made from another mixture"
        if (facts.get("iteration"), facts.get("components")) != (iteration, stage.components):
            return "not the mixture of this name"
        return ""

    def _peek(self, path: str, kind: str = "mixture") -> dict[str, Any] | None:
        """Facts of a sealed file, verified once as long as it does not change."""
        key = _identity(path)
        if key is None:
            return None
        if path not in self._facts or self._facts[path][0] != key:
            try:
                self._facts[path] = key, sealed_facts(path, kind)
            except GmmcoreError as error:
                self._facts[path] = key, None
                self.set_aside(path, "damaged" if isinstance(error, DamagedFileError) else "unread")
        return self._facts[path][1]


def _identity(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def hold_folder(folder: str) -> int:
    """Hold a folder for the life of this process, and clear what dead ones left locked.

    The hold is a lock of the system, which ends with the process however that dies.
    Snakemake's own locks and marks do not: whoever gets the hold may remove them.

    Returns
    -------
    int
        The descriptor that holds.

    Raises
    ------
    GmmcoreError
        If another living process holds the folder.
    """
    path = f"{folder}/.snakemake/gmmcore.lock"
    make_folder(f"{folder}/.snakemake")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise GmmcoreError(
                f"another training runs in this folder (process {holder}); wait for it to end, "
                "or stop it"
            ) from None
        except OSError as error:
            # Some network file systems know no locks: better to train than to be kept out.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        state = Path(folder) / ".snakemake"
        # Besides its locks, Snakemake marks files that a killed job may have left half-written.
        # Ours are there whole or not at all, and to make one again that is done would be to ask
        # for input that is gone.
        for left in (*state.glob("locks/*.lock"), *state.glob("incomplete/**/*")):
            if not left.is_dir():
                left.unlink(missing_ok=True)
    except OSError as error:
        raise GmmcoreError(
            f"{path}: cannot be written: {error.strerror}; free space or mend the folder, then "
            "give the same command again"
        ) from error
    return descriptor
