"""From the configuration to runs, each with its features, its stages and its settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmmcore.configuration import resolve_runs
from gmmcore.em import ARITHMETIC
from gmmcore.errors import GmmcoreError
from gmmcore.features.settings import FeatureSettings
from gmmcore.files import REMEDY, digest_of, read_bytes
from gmmcore.schedule import Stage, stages

__all__ = ["EXPORTS", "InitialMixture", "Run", "made_lists", "read_runs"]

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
        SHA-256 of the file it is read from; None for the Gaussian of all frames.
    """

    components: int = 1
    full: bool = False
    digest: str | None = None

    @classmethod
    def of(cls, path: str | None, prefix: str) -> InitialMixture:
        """The mixture in the file `path`; raises `GmmcoreError` if there is none."""
        if path is None:
            return cls()
        from gmmcore.formats import read_mixture

        try:
            mixture = read_mixture(path, prefix=prefix)
        except GmmcoreError as error:
            text = str(error).removesuffix(f"; {REMEDY}")
            raise GmmcoreError(
                f"{text}; expected a mixture, from which init.from has a run start; "
                "if another run makes it, give the command first without this run"
            ) from error
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
        return cls(mixture.components, mixture.is_full, digest)


@dataclass(frozen=True)
class Run:
    """One training of the configuration.

    Attributes
    ----------
    name : str
    config : dict
        The configuration with the overrides of this run and all defaults.
    features : FeatureSettings
    plan : tuple of Stage
    settings : dict
        Settings of ``initialise``, ``accumulate``, and of ``maximise`` for ``diag`` and ``full``.
        Only what changes numbers is in them: they are what a result is valid for.
    """

    name: str
    config: Mapping[str, Any]
    features: FeatureSettings
    plan: tuple[Stage, ...]
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def corpus(self) -> str:
        """Name of the folder of its frames: runs with the same features have the same."""
        return digest_of(self.features.identity)[:12]

    @property
    def recipe_of_list(self) -> str | None:
        """Digest of how the workflow makes its features; None if they are given."""
        return made_lists(self.config).get(self.features.list)

    @property
    def products(self) -> list[str]:
        """Names of the files made from the final mixture."""
        names = ["history.tsv", *(EXPORTS[name] for name in self.config["export"])]
        names += ["report.html"] * self.config["report"]
        names += ["recovery.txt"] * bool(self.config["demo"]["folder"])
        return names

    def stage(self, name: str) -> Stage:
        """The stage of this name, such as ``diag/64``."""
        return next(stage for stage in self.plan if stage.name == name)

    def before(self, stage: Stage) -> Stage:
        """The stage whose last mixture this one starts from."""
        return self.plan[self.plan.index(stage) - 1]

    def recipe(self, stage: Stage) -> str:
        """Digest of all that decides the mixtures of a stage, but for the frames themselves."""
        plan = self.plan[: self.plan.index(stage) + 1]
        return digest_of(
            self.corpus,
            self.settings["initialise"],
            float(self.config["llk_gain"]),
            [[part.name, part.iterations, part.origin] for part in plan],
            [self.settings[kind] for kind in sorted({part.kind for part in plan})],
        )

    def digest(self, verb: str, kind: str = "") -> str:
        """Digest of a verb's settings, as it writes it into its files."""
        section = kind if verb == "maximise" else verb
        settings = [self.settings[section]] if section in self.settings else []
        return digest_of(verb, *settings, ARITHMETIC)


def read_runs(config: Mapping[str, Any], source: str = "the configuration") -> dict[str, Run]:
    """The runs of a configuration, by their names.

    Parameters
    ----------
    config
        What the user wrote.
    source
        Where, for messages.

    Raises
    ------
    GmmcoreError
        If the configuration contradicts itself, or an initial mixture cannot be read.
    """
    runs = {
        name: _run(name, values, source) for name, values in resolve_runs(config, source).items()
    }
    makers: dict[str, Run] = {}
    for run in runs.values():
        for path, recipe in made_lists(run.config).items():
            other = makers.setdefault(path, run)
            if made_lists(other.config)[path] != recipe:
                raise GmmcoreError(
                    f"{source}: runs {other.name} and {run.name} make different features in one "
                    f"folder, {path.removesuffix('/shows.txt')}; give {run.name} another folder"
                )
    return runs


def made_lists(config: Mapping[str, Any]) -> dict[str, str]:
    """Lists of features that the workflow makes, each with a digest of how they are made."""
    result = {}
    for section, wanted in (("demo", "folder"), ("audio", "list")):
        values = dict(config[section])
        if values[wanted]:
            seed = config["seed"] if section == "demo" else None
            path = f"{values.pop('folder')}/shows.txt"
            result[path] = digest_of(section, values, seed)
    return result


def _run(name: str, config: dict[str, Any], source: str) -> Run:
    initial = InitialMixture.of(config["init"]["from"], config["init"]["prefix"])
    try:
        plan = stages(
            config["components"],
            config["iterations"],
            config["full"]["iterations"],
            start=initial.components,
            start_full=initial.full,
        )
    except ValueError as error:
        raise GmmcoreError(f"{source}: {error}") from error
    features = FeatureSettings.from_mapping(config["features"], config["seed"])
    return Run(name, config, features, plan, verb_settings(config, initial))


def verb_settings(config: Mapping[str, Any], initial: InitialMixture) -> dict[str, dict[str, Any]]:
    """See `Run.settings`."""
    e_step = {"precision": config["precision"], "pruning": float(config["pruning"])}
    weak = {
        "occupancy": float(config["weak"]["occupancy"]),
        "action": config["weak"]["action"],
        "on_decrease": config["on_decrease"],
    }

    def bounds(section: Mapping[str, Any]) -> dict[str, float]:
        return {"floor": float(section["floor"]), "ceiling": float(section["ceiling"])}

    return {
        "initialise": {"prefix": config["init"]["prefix"], "digest": initial.digest},
        "accumulate": e_step,
        "diag": {**e_step, **bounds(config["variance"]), **weak},
        "full": {**e_step, **bounds(config["full"]), **weak},
    }
