"""Reads config.yaml and makes the settings of every run; each error message is one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from gmmcore.config.keys import Settings
from gmmcore.config.options import OptionsError, build, mapping
from gmmcore.errors import GmmcoreError

REMOVED: dict[str, str] = {
    "acceleration": "a stage takes more iterations instead; remove the key",
    "export.alize-xml": "ALIZE reads RAW: use alize",
    "audio": "docs/features.md has a script that computes features from recordings; name them in "
    "features.list",
    "features.frames": "set frames_per_component, which has stages read nested random subsets",
    "mpi": "one machine shares a stage among its cores; with jobs: N, a cluster shares iterations",
    "features.pack": "a shard always holds its frames; remove the key",
    "init.jitter": "runs with several values of seed show how much depends on chance",
    "low_count.action": (
        "a component of few frames is kept, with the global variances for the frames that it "
        "lacks; remove the key"
    ),
    "on_decrease": "a likelihood that falls is always warned of; remove the key",
    "processor": "export OPENBLAS_CORETYPE=Haswell makes machines compute alike",
    "stop_on": (
        "a warning says where the held-out log-likelihood falls; lower iterations, or keep a "
        "smaller size"
    ),
    "weak": "it is called low_count",
}
"""Keys and words of earlier versions, with their sections, and what to do instead."""


def read_configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a configuration file without checking its keys."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise GmmcoreError(
            f"{path}: cannot be read: {error.strerror}; expected a configuration: change to its "
            "folder, or give --configfile FILE"
        ) from error
    except UnicodeDecodeError as error:
        raise GmmcoreError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise GmmcoreError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise GmmcoreError(f"{path}: holds no keys; `key: value` lines were expected")
    return values


def resolve_runs(values: Mapping[str, Any], source: str = "config.yaml") -> dict[str, Settings]:
    """Make the settings of every run, by its name; `source` names the configuration in messages."""
    whole = {key: value for key, value in values.items() if key != "runs"}
    runs = values.get("runs")
    if runs is None or runs == {}:
        one = resolve(whole, source)
        return {one.run: one}
    if not isinstance(runs, Mapping):
        raise GmmcoreError(
            f"{source}: runs is {runs!r}; names of runs, each with the keys it overrides, "
            "were expected, such as `runs: {small: {components: 64}}`"
        )
    if "run" in whole:
        raise GmmcoreError(f"{source}: run and runs are both given; remove run")
    result = {}
    for name, overrides in runs.items():
        where = f"{source}: runs.{name if str(name).isprintable() else repr(name)}"
        if not isinstance(overrides, Mapping | None) or "run" in (overrides or {}):
            raise GmmcoreError(f"{where}: keys to override were expected, without run")
        result[name] = resolve({**merged(whole, overrides or {}), "run": name}, where)
    return result


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values by those of `overrides`; mappings are merged key by key."""
    result = dict(values)
    for key, value in overrides.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def changed(settings: Settings) -> dict[str, Any]:
    """Return the keys and values of a configuration that are not defaults, as JSON values."""
    return _differing(mapping(settings), mapping(Settings()))


def _differing(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ from those of `base`: `merged` makes `values` of these."""
    result = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            if inner := _differing(value, base.get(key, {})):
                result[key] = inner
        elif key not in base or value != base[key]:
            result[key] = value
    return result


def resolve(values: Mapping[str, Any], source: str = "config.yaml") -> Settings:
    """Make the settings of one run, of a configuration without ``runs``.

    >>> settings = resolve({"components": 64, "features": {"list": "shows.txt"}})
    >>> settings.components, settings.llk_gain
    (64, 0.01)
    >>> resolve({"component": 64})
    Traceback (most recent call last):
    gmmcore.errors.GmmcoreError: config.yaml: unknown key component; did you mean components?
    """
    refuse_removed(values, source)
    try:
        settings = build(Settings, values)
    except OptionsError as error:
        raise GmmcoreError(f"{source}: {error}") from error
    # Paths get one spelling, because they are compared and name files in the workflow.
    demo, features = settings.demo, settings.features
    if demo.folder:
        demo = replace(demo, folder=os.path.normpath(demo.folder))
        made = f"{demo.folder}/shows.txt"
        if not features.list:
            features = replace(features, list=made, pattern=features.pattern or "{show}.h5")
        elif os.path.normpath(features.list) == made:
            features = replace(features, list=made)
    return replace(settings, demo=demo, features=features)


def refuse_removed(values: Mapping[str, Any], source: str) -> None:
    """Refuse a key or a word of an earlier version, and say what to do instead."""
    for key, remedy in REMOVED.items():
        if _has(values, key):
            raise GmmcoreError(f"{source}: {key} is gone: {remedy}")


def _has(values: Any, key: str) -> bool:
    """Whether a configuration has a key, such as ``full.prior``, or a list of it has a word."""
    for part in key.split("."):
        if not isinstance(values, Mapping | list | tuple) or part not in values:
            return False
        values = values[part] if isinstance(values, Mapping) else None
    return True
