"""config.yaml against its schema: defaults filled in, every mistake told in one line."""

from __future__ import annotations

import copy
import difflib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gmmcore.errors import GmmcoreError

__all__ = ["load_schema", "merged", "read_configuration", "resolve", "resolve_runs"]


def load_schema() -> dict[str, Any]:
    """The schema of config.yaml."""
    return copy.deepcopy(_schema())


@functools.cache
def _schema() -> dict[str, Any]:
    text = (Path(__file__).parent / "config.schema.yaml").read_text(encoding="utf-8")
    schema: dict[str, Any] = yaml.safe_load(text)
    return schema


def read_configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a configuration file says, not yet checked.

    Raises
    ------
    GmmcoreError
        If it cannot be read, or is not a YAML mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GmmcoreError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise GmmcoreError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise GmmcoreError(f"{path}: holds no keys; `key: value` lines were expected")
    return values


def resolve_runs(
    values: Mapping[str, Any], source: str = "config.yaml"
) -> dict[str, dict[str, Any]]:
    """The configuration of every run, by its name.

    Parameters
    ----------
    values
        What the user wrote. ``runs`` maps names to overrides of the keys beside it; without it
        there is one run, whose name is ``run``.
    source
        Where, for messages.

    Raises
    ------
    GmmcoreError
        One line: the key, what was found, what was expected.
    """
    whole = {key: value for key, value in values.items() if key != "runs"}
    runs = values.get("runs")
    if runs is None or runs == {}:
        one = resolve(whole, source)
        return {one["run"]: one}
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
    """The values, with those of `overrides` in their place; mappings are merged key by key."""
    result = dict(values)
    for key, value in overrides.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def resolve(values: Mapping[str, Any], source: str = "config.yaml") -> dict[str, Any]:
    """The configuration of one run with every default filled in.

    Parameters
    ----------
    values
        What the user wrote.
    source
        Where, for messages.

    Raises
    ------
    GmmcoreError
        One line: the key, what was found, what was expected.
    """
    schema = load_schema()  # its own: defaults are handed out
    unknown = next(_unknown(values, schema, ""), None)
    if unknown is not None:
        key, known = unknown
        known = [name for name in known if name != "runs"] if "runs." in source else known
        guess = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, n=1)
        advice = f"did you mean {guess[0]}?" if guess else f"known here: {', '.join(known)}"
        shown = key if key.isprintable() else repr(key)
        raise GmmcoreError(f"{source}: unknown key {shown}; {advice}")
    result = _filled(values, schema)
    _check_types(result, schema, source)
    del result["runs"]
    _check_sense(result, source)
    # One spelling: paths are compared, and are names of files in the workflow.
    made = []
    for section, wanted in ((result["demo"], "folder"), (result["audio"], "list")):
        if section["folder"]:
            section["folder"] = os.path.normpath(section["folder"])
        made += [f"{section['folder']}/shows.txt"] if section[wanted] else []
    features = result["features"]
    if features["list"] is None and made:
        features["list"] = made[0]
        features["pattern"] = features["pattern"] or "{show}.h5"
    elif features["list"] and os.path.normpath(features["list"]) in made:
        features["list"] = os.path.normpath(features["list"])
    return result


def _unknown(
    values: Any, schema: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, list[str]]]:
    properties = schema.get("properties")
    if not isinstance(values, Mapping) or properties is None:
        return
    for key, value in values.items():
        if key not in properties:
            yield f"{prefix}{key}", sorted(properties)
        else:
            yield from _unknown(value, properties[key], f"{prefix}{key}.")


def _filled(values: Any, schema: Mapping[str, Any]) -> Any:
    properties = schema.get("properties")
    if properties is None or not isinstance(values, Mapping):
        return values
    result = {}
    for key, part in properties.items():
        value = values.get(key, part.get("default"))
        # `variance:` with nothing behind it means its defaults, as leaving it out does.
        if value is None and part.get("type") == "object":
            value = {}
        result[key] = _filled(value, part)
    return result


def _check_types(values: Any, schema: dict[str, Any], source: str) -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(values))
    if error is None:
        return
    key = ".".join(str(part) for part in error.absolute_path)
    found = f"{error.instance!r}"
    if isinstance(error.instance, str) and _is_number(error.instance):
        found += " (YAML reads this as text; write 1.0e-3 for 1e-3)"
    raise GmmcoreError(f"{source}: {key} is {found}: {_expectation(error.schema)} was expected")


def _expectation(schema: Any) -> str:
    if "oneOf" in schema:
        return " or ".join(_expectation(part) for part in schema["oneOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "another value")
    words = [" or ".join(kind) if isinstance(kind, list) else str(kind)]
    for key, word in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
        ("minItems", "entries: at least"),
        ("pattern", "matching"),
    ):
        if key in schema:
            words.append(f"{word} {schema[key]}")
    return " ".join(words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_sense(values: Mapping[str, Any], source: str) -> None:
    for section in ("variance", "full"):
        floor, ceiling = values[section]["floor"], values[section]["ceiling"]
        if floor > ceiling:
            raise GmmcoreError(
                f"{source}: {section}.floor is {floor}, above {section}.ceiling, {ceiling}"
            )
    if values["run"] == "features":
        raise GmmcoreError(f"{source}: a run cannot be called features; choose another name")
    if values["demo"]["folder"] and values["audio"]["list"]:
        raise GmmcoreError(f"{source}: demo.folder and audio.list are both set; choose one")
    for key, value in _leaves(values, ""):
        if isinstance(value, float) and value != value:
            raise GmmcoreError(f"{source}: {key} is not a number")


def _leaves(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], values
