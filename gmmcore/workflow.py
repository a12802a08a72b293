"""From a resolved configuration to what the rules need: the plan and the settings of the verbs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmmcore.errors import GmmcoreError
from gmmcore.files import read_bytes
from gmmcore.schedule import Stage, stages

__all__ = [
    "InitialMixture",
    "audio_options",
    "demo_settings",
    "divided",
    "export_path",
    "initial_mixture",
    "plan_of",
    "verb_settings",
]

EXPORTS = {
    "kaldi": "ubm.kaldi",
    "kaldi-text": "ubm.kaldi.txt",
    "alize": "ubm.gmm",
    "alize-xml": "ubm.xml",
    "htk": "ubm.mmf",
}
"""Formats of `export:` and the files they are written to."""


@dataclass(frozen=True)
class InitialMixture:
    """What a training starts from.

    Attributes
    ----------
    components : int
    full : bool
    digest : str or None
        Of the file it is read from; None for the Gaussian of all frames.
    """

    components: int = 1
    full: bool = False
    digest: str | None = None


def initial_mixture(config: Mapping[str, Any]) -> InitialMixture:
    """What ``init:`` asks for.

    Raises
    ------
    GmmcoreError
        If the file is missing or holds no mixture.
    """
    path = config["init"]["from"]
    if path is None:
        return InitialMixture()
    from gmmcore.formats import read_mixture

    mixture = read_mixture(path, prefix=config["init"]["prefix"])
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    return InitialMixture(mixture.components, mixture.is_full, digest)


def plan_of(config: Mapping[str, Any], initial: InitialMixture) -> tuple[Stage, ...]:
    """The stages of a training.

    Raises
    ------
    GmmcoreError
        If the configuration contradicts itself.
    """
    try:
        return stages(
            config["components"],
            config["iterations"],
            config["full"]["iterations"],
            start=initial.components,
            start_full=initial.full,
        )
    except ValueError as error:
        raise GmmcoreError(f"config.yaml: {error}") from error


def verb_settings(config: Mapping[str, Any], initial: InitialMixture) -> dict[str, dict[str, Any]]:
    """Settings of ``initialise``, ``accumulate``, and of ``maximise`` for ``diag`` and ``full``.

    Only what changes numbers is in them: they are what a result is valid for.
    """
    e_step = {"precision": config["precision"], "pruning": float(config["pruning"])}
    weak = {
        "occupancy": float(config["weak"]["occupancy"]),
        "action": config["weak"]["action"],
        "on_decrease": config["on_decrease"],
    }

    def bounds(section: Mapping[str, Any]) -> dict[str, float]:
        return {"floor": float(section["floor"]), "ceiling": float(section["ceiling"])}

    return {
        "initialise": {
            "prefix": config["init"]["prefix"],
            "digest": initial.digest,
        },
        "accumulate": e_step,
        "diag": {**e_step, **bounds(config["variance"]), **weak},
        "full": {**e_step, **bounds(config["full"]), **weak},
    }


def demo_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the demonstration corpus."""
    values = {key: value for key, value in config["demo"].items() if key != "folder"}
    return {**values, "seed": config["seed"]}


def audio_options(config: Mapping[str, Any]) -> list[str]:
    """Options of the verb ``extract``."""
    options = []
    for key, value in config["audio"].items():
        if key not in ("list", "folder") and value is not None:
            options += [f"--{key}", str(value)]
    return options


def divided(shards: int, jobs: int) -> list[range]:
    """Shards of each E-step job: contiguous, in order, as equal as can be."""
    count = min(shards, jobs)
    edges = [round(index * shards / count) for index in range(count + 1)]
    return [range(edges[index], edges[index + 1]) for index in range(count)]


def export_path(folder: str, name: str) -> str:
    """Where an export is written."""
    return f"{folder}/{EXPORTS[name]}"
