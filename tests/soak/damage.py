"""Damage to the files of a finished run, and changes of its configuration: the tables."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import PLAIN, Workflow

from gmmcore.config.configuration import merged

CONFIG: dict[str, Any] = {**PLAIN, "export": ["kaldi"]}
DAMAGES = ("remove", "truncate", "zero", "swap", "postdate", "flip")
RESTING = "Nothing to be done"


def damage(path: Path, how: str, other: Path) -> None:
    """Damage one file; `swap` exchanges it with another one."""
    if how != "swap" and not path.exists():
        return
    if how == "remove":
        path.unlink()
    elif how == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "zero":
        path.write_bytes(bytes(path.stat().st_size))
    elif how == "postdate":
        later = time.time() + 1e8
        os.utime(path, (later, later))
    elif how == "flip":
        # As a disk would: the time of the file does not change.
        status = path.stat()
        content = bytearray(path.read_bytes())
        content[len(content) * 2 // 3] ^= 4
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif path.exists() and other.exists():
        aside = path.with_name("aside")
        path.rename(aside)
        other.rename(path)
        aside.rename(other)


def files_of(flow: Workflow) -> list[str]:
    """All that the run made, and the stamps."""
    stamps = flow.digests("results/**/settings.json") | flow.digests("results/**/source.json")
    return sorted({**flow.made(), **stamps})


Damage = tuple[str, str, str]


def cases(files: list[str], seed: int, triples: int) -> Iterator[list[Damage]]:
    """Every file with every damage, every pair of files, and random triples of files."""
    rng = random.Random(seed)

    def one(name: str, how: str | None = None) -> Damage:
        return name, how or rng.choice(DAMAGES), rng.choice([f for f in files if f != name])

    yield from ([one(name, how)] for name in files for how in DAMAGES)
    for pair in itertools.combinations(files, 2):
        yield [one(name) for name in pair]
        yield [one(name, "remove") for name in pair]
    for _ in range(triples):
        yield [one(name) for name in rng.sample(files, 3)]


def outcome_of(flow: Workflow, expected: dict[str, str], *, twice: bool = False) -> str:
    """Give the same command and say what is wrong with what comes of it; empty if nothing is.

    The command may fail once, in one line. What it does not make right `check` finds and repairs.
    """
    differs = flow.made() != expected
    code, output = flow.verb("check")
    if "Traceback" in output or bool(code) != differs:
        return f"check before says {code}, files differ: {differs}\n{output}"
    wrong = ""
    for repairs in (False, False, True):
        if repairs:
            code, told = flow.verb("check", "--repair")
            if not code or "Traceback" in told:
                return f"{wrong}, and check finds nothing: {told}\n{output}"
        code, output = flow.attempt()
        lines = [line for line in output.splitlines() if re.match(r"gmmcore( \w+)?: error: ", line)]
        if "Traceback" in output or (code and len(lines) != 1) or (code and repairs):
            return f"exit code {code}, {len(lines)} lines of error\n{output}"
        found = flow.made()
        names = sorted({name for name, _ in set(found.items()) ^ set(expected.items())})
        wrong = f"these differ: {names}"
        if not code and RESTING not in output and any(name.endswith("ubm.h5") for name in names):
            return f"finished, and {wrong}\n{output}"
        if not code and not names:
            break
    if code or names:
        return f"exit code {code}, {wrong}\n{output}"
    code, message = flow.verb("check")
    if code:
        return f"finished, but check says: {message}\n{output}"
    if twice:
        # A job that found an input of the future has dated it.
        flow.attempt()
        code, output = flow.attempt()
        if code or RESTING not in output:
            return f"not at rest: {output}"
    return ""


def try_damage(
    finished: Workflow, expected: dict[str, str], case: list[Damage], place: Path, *, state: bool
) -> str:
    """Damage a copy of a finished run, with or without Snakemake's own records."""
    flow = finished.copy_to(place)
    for name, how, other in case:
        damage(flow.folder / name, how, flow.folder / other)
    if not state:
        shutil.rmtree(flow.folder / ".snakemake")
    wrong = outcome_of(flow, expected, twice=True)
    shutil.rmtree(place)
    return wrong


CHANGES: list[tuple[str, Any]] = [
    ("components", 3),
    ("components", 2),
    ("components", 6),
    ("iterations", [1, 3]),
    ("iterations", [3, 3]),
    ("iterations", [2, 2]),
    ("iterations", [2, 1]),
    ("iterations", [1]),
    ("iterations", [0, 2]),
    ("llk_gain", 0.5),
    ("llk_gain", 0.05),
    ("llk_gain", -1.0e9),
    ("llk_gain", 100.0),
    ("variance.floor", 0.2),
    ("variance.ceiling", 0.9),
    ("full.iterations", 0),
    ("full.iterations", 1),
    ("full.iterations", 4),
    ("full.floor", 0.3),
    ("full.ceiling", 2.0),
    ("low_count.occupancy", 900.0),
    ("precision", "double"),
    ("pruning", 0.0),
    ("pruning", 1.0e-3),
    ("method", "sidekit"),
    ("frames_per_component", 2),
    ("frames_per_component", None),
    ("last_iterations", 2),
    ("jobs", 2),
    ("jobs", 5),
    ("export", []),
    ("export", ["htk", "kaldi-text"]),
    ("report", True),
    ("seed", 2),
    ("features.normalisation", "cmvn"),
    ("features.normalisation", "cms"),
    ("features.shards", 1),
    ("features.shards", 2),
    ("features.delta", True),
    ("features.select_speech", False),
    ("features.on_error", "skip"),
    ("features.mask", "[0-2]"),
    ("init.from", "start.h5"),
]
"""Keys and other values of them; half of them decide numbers, half do not."""


def changed(changes: list[tuple[str, Any]]) -> dict[str, Any]:
    """The configuration with some keys changed."""
    config = CONFIG
    for key, value in changes:
        for name in reversed(key.split(".")):
            value = {name: value}
        config = merged(config, value)
    return config
