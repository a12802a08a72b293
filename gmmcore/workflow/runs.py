"""The runs of a configuration, each with its features, its stages and its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gmmcore.config.configuration import resolve_runs
from gmmcore.config.keys import EXPORTS, FeaturePart, FeatureSettings, Init, Settings, Split
from gmmcore.config.options import Options, mapping, option, same
from gmmcore.core.schedule import Course, Stage, stages
from gmmcore.data.corpus import Corpus
from gmmcore.errors import REMEDY, GmmcoreError
from gmmcore.files import digest_of, sha256_of
from gmmcore.workflow.stage import settings_digest

if TYPE_CHECKING:
    from gmmcore.core.mixture import GaussianMixture

__all__ = ["Initialise", "Run", "corpus_id", "feature_parts", "made_lists", "read_runs"]


@dataclass(frozen=True)
class Initialise(Options):
    """Settings that decide the first mixture of a run, apart from the frames."""

    prefix: str = same(Init, "prefix")
    input_format: str = same(Init, "input_format")
    method: str = same(Split, "method")
    digest: str | None = option(
        None, "SHA-256 of the file that the mixture is read from", {"type": "string"}
    )


@dataclass(frozen=True)
class Run:
    """One training of the configuration: its settings, features to train on, and stages."""

    settings: Settings
    features: FeatureSettings
    held_out: FeatureSettings | None
    plan: tuple[Stage, ...]
    initialise: Initialise

    @property
    def name(self) -> str:
        return self.settings.run

    @property
    def corpus(self) -> str:
        """Name of the folder of the frames, which runs with the same features share."""
        return corpus_id(self.features)

    @property
    def held_out_corpus(self) -> str | None:
        """Name of the folder of the held-out frames; None if there are none."""
        return None if self.held_out is None else corpus_id(self.held_out)

    @property
    def corpora(self) -> dict[str, FeatureSettings]:
        """Settings of the features in each folder of frames that the run needs."""
        parts = (self.features, self.held_out)
        return {corpus_id(part): part for part in parts if part is not None}

    @property
    def lists(self) -> dict[str, FeatureSettings]:
        """Settings of the features of the shows whose statistics are computed, by name."""
        base = replace(self.settings.features.for_run(self.settings.seed), shards="auto")
        return {
            name: replace(base, list=os.path.normpath(shows.list))
            for name, shows in self.settings.statistics.items()
        }

    def recipe_of(self, features: FeatureSettings) -> str | None:
        """Digest of the settings from which features are made; None if they are given."""
        return made_lists(self.settings).get(features.list)

    @property
    def products(self) -> list[str]:
        """Names of the files made from the final mixture, or from one that is kept.

        Their bytes do not depend on when they are made; those of `pages` do.
        """
        exports = [EXPORTS[name] for name in self.settings.export]
        names = ["history.tsv", *exports]
        for stage in self.plan:
            if stage.components in self.settings.keep:
                names += [stage.name + name.removeprefix("ubm") for name in exports]
        names += ["recovery.txt"] * bool(self.settings.demo.folder)
        return names

    @property
    def scores(self) -> list[str]:
        """Names of the files that hold statistics, models and scores, which are verified."""
        names = [f"statistics/{name}.h5" for name in self.settings.statistics]
        verified = ["models.h5", "scores.tsv", "scores.h5"]
        return names + verified * bool(self.settings.verification.trials)

    @property
    def pages(self) -> list[str]:
        """Names of the files that tell times, so that no two trainings have the same bytes."""
        return ["report.html"] * self.settings.report

    def course(self, stage: Stage, corpus: Corpus) -> Course:
        """Choose what the iterations of a stage read of a corpus, and when the stage ends."""
        return Course.of(
            stage,
            frames=corpus.frames,
            dimension=corpus.dimension,
            **mapping(self.settings.limits),
        )

    def first(self, stage: Stage) -> dict[str, Any]:
        """Return the arguments of the verb that makes the first mixture of a stage."""
        settings = self.settings
        if stage.origin == "initialise":
            return mapping(self.initialise) | {"source": settings.init.from_}
        chosen = mapping(settings.split) if stage.origin == "split" else {}
        return {"components": stage.components, **chosen}

    def digest_of_first(self, stage: Stage) -> str:
        """Compute the digest of the settings that decide the first mixture of a stage."""
        return self.digest(stage.origin)

    def digest(self, verb: str, kind: str = "") -> str:
        """Compute the digest of a verb's settings that the verb writes into its files."""
        settings: Options | None = {
            "initialise": self.initialise,
            "split": self.settings.split,
            "accumulate": self.settings.iteration("diag"),
            "maximise": self.settings.iteration(kind),
        }.get(verb)
        return settings_digest(verb, settings)


def read_runs(config: Mapping[str, Any], source: str = "the configuration") -> dict[str, Run]:
    """Make the runs of a configuration, by their names; `source` names it in messages."""
    runs = {name: _run(values, source) for name, values in resolve_runs(config, source).items()}
    makers: dict[str, Run] = {}
    for run in runs.values():
        for path, recipe in made_lists(run.settings).items():
            other = makers.setdefault(path, run)
            if made_lists(other.settings)[path] != recipe:
                raise GmmcoreError(
                    f"{source}: runs {other.name} and {run.name} make different features in one "
                    f"folder, {path.removesuffix('/shows.txt')}; give {run.name} another folder"
                )
    return runs


def made_lists(settings: Settings) -> dict[str, str]:
    """Return the feature list that the workflow makes, if any, with a digest of its settings."""
    demo = mapping(settings.demo)
    folder = demo.pop("folder")
    return {f"{folder}/shows.txt": digest_of("demo", demo, settings.seed)} if folder else {}


def corpus_id(features: FeatureSettings) -> str:
    """Return the name of the folder of features with these settings."""
    return digest_of(features.identity)[:12]


def feature_parts(settings: Settings) -> tuple[FeatureSettings, FeatureSettings | None]:
    """Return the settings of the features to train on, and of those that are held out, if any."""
    features, wanted = settings.features.for_run(settings.seed), settings.held_out
    if wanted.list:
        return features, replace(features, list=wanted.list, shards="auto")
    if not wanted.share:
        return features, None
    part = FeaturePart(**vars(features), share=wanted.share, speakers=wanted.speakers)
    return part, replace(part, part="held_out", shards="auto")


def _run(settings: Settings, source: str) -> Run:
    path, start = settings.init.from_, settings.init
    initial = _initial_mixture(path, start) if path is not None else None
    try:
        plan = stages(
            settings.components,
            settings.schedule,
            settings.full.iterations,
            start=initial.components if initial else 1,
            start_full=initial.is_full if initial else False,
        )
        features, held_out = feature_parts(settings)
    except ValueError as error:
        raise GmmcoreError(f"{source}: {error}") from error
    sizes = sorted({stage.components for stage in plan})
    if unknown := set(settings.keep) - {*sizes}:
        raise GmmcoreError(
            f"{source}: keep is {[*settings.keep]}, but no stage has {min(unknown)} components; "
            f"expected some of {', '.join(map(str, sizes))}"
        )
    digest = None if path is None else sha256_of(path)
    initialise = Initialise(
        prefix=start.prefix,
        input_format=start.input_format,
        method=settings.method,
        digest=digest,
    )
    return Run(settings, features, held_out, plan, initialise)


def _initial_mixture(path: str, init: Init) -> GaussianMixture:
    from gmmcore.data.readers import is_url
    from gmmcore.formats.registry import read_mixture

    if is_url(path):
        raise GmmcoreError(
            f"init.from: {path} is a URL; expected a mixture's file of this machine, because "
            "nothing is downloaded; copy it here first"
        )
    try:
        return read_mixture(path, prefix=init.prefix, format=init.input_format)
    except GmmcoreError as error:
        text = str(error).removesuffix(f"; {REMEDY}")
        raise GmmcoreError(
            f"{text}; expected a mixture to start from; correct init.from"
        ) from error
