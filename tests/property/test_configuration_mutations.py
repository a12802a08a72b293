"""Whatever is wrong with a configuration is told in one line, before anything runs."""

from __future__ import annotations

import copy
import json
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.cli.main import main
from gmmcore.config.configuration import REMOVED, read_configuration, resolve, resolve_runs
from gmmcore.config.keys import Settings
from gmmcore.config.options import mapping, schema
from gmmcore.errors import GmmcoreError
from gmmcore.workflow.runs import read_runs

few = settings(max_examples=60)
SCHEMA = schema(Settings)
VALID = {"run": "a", "components": 8, "features": {"list": "shows.txt", "pattern": "{show}.h5"}}


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    result = []
    for key, part in schema["properties"].items():
        result += leaves(part, (*path, key)) if "properties" in part else [(*path, key)]
    return result


LEAVES = leaves(SCHEMA)
SECTIONS = sorted({path[:-1] for path in LEAVES})


def schema_of(path: tuple[str, ...]) -> dict[str, Any]:
    part = SCHEMA
    for key in path:
        part = part["properties"][key]
    return part


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(VALID)
    section: Any = result
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
    return result


def whole_check(values: Any) -> None:
    """All that the Snakefile asks of a configuration before anything runs."""
    read_runs(values)


def taken_or_one_line(check: Callable[[Any], object], values: Any) -> bool:
    """Whether values are taken; whatever is refused is refused in one line."""
    message = ""
    try:
        check(values)
    except GmmcoreError as error:
        message = str(error)
    assert "\n" not in message
    return not message


def refused(values: Any) -> str:
    with pytest.raises(GmmcoreError) as caught:
        whole_check(values)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 2000
    return message


@few
@given(st.sampled_from(LEAVES), st.data())
def test_a_misspelt_key_is_named_with_its_neighbour(path, data):
    key = path[-1]
    kind = data.draw(st.sampled_from(["delete", "insert", "exchange"]))
    at = data.draw(st.integers(0, len(key) - 1))
    if kind == "delete":
        wrong = key[:at] + key[at + 1 :]
    elif kind == "insert":
        wrong = key[:at] + data.draw(st.sampled_from(string.ascii_lowercase)) + key[at:]
    else:
        wrong = key[: max(at - 1, 0)] + key[max(at - 1, 0) : at + 1][::-1] + key[at + 1 :]
    known = schema_of(path[:-1])["properties"]
    if wrong in known or not wrong:
        return
    message = refused(changed((*path[:-1], wrong), 1))
    assert f"unknown key {'.'.join((*path[:-1], wrong))}" in message
    assert "did you mean" in message or "known here" in message


def fits(value: Any, kinds: Any) -> bool:
    """Whether a value has one of these JSON types."""
    types = {
        "string": lambda: isinstance(value, str),
        "boolean": lambda: isinstance(value, bool),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "array": lambda: isinstance(value, list),
        "object": lambda: isinstance(value, dict),
        "null": lambda: value is None,
    }
    return any(types[kind]() for kind in ([kinds] if isinstance(kinds, str) else kinds))


ODD = [
    None,
    True,
    -1,
    0.5,
    "",
    "text",
    "1e-3",
    [],
    [None],
    ["x"],
    {},
    {"a": 1},
    float("nan"),
    10**30,
]


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_a_value_of_another_type_is_refused(path):
    schema = schema_of(path)
    for value in ODD:
        if "type" in schema and not fits(value, schema["type"]):
            message = refused(changed(path, value))
            assert path[-1] in message
        else:
            # Of the right type: taken, or refused in one line for another reason.
            taken_or_one_line(whole_check, changed(path, value))


@pytest.mark.parametrize(
    "path", [p for p in LEAVES if {"minimum", "exclusiveMinimum"} & set(schema_of(p))], ids=".".join
)
def test_a_value_out_of_range_is_refused_with_the_range(path):
    schema = schema_of(path)
    for key, step in (
        ("minimum", -1),
        ("exclusiveMinimum", 0),
        ("maximum", 1),
        ("exclusiveMaximum", 0),
    ):
        if key in schema:
            message = refused(changed(path, schema[key] + step))
            assert str(schema[key]) in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variance": {"floor": 2.0, "ceiling": 1.0}}, "variance.floor is 2.0, above"),
        ({"full": {"floor": 2.0, "ceiling": 1.0}}, "full.floor is 2.0, above"),
        ({"llk_gain": float("nan")}, "llk_gain is nan: a number was"),
        ({"features": {"list": "x", "double_delta": True}}, "features.double_delta is true, but"),
        (
            {"features": {"list": "x", "delta": True, "sdc": [1, 3, 7]}},
            "sdc excludes delta",
        ),
        ({"features": {"list": None}}, "list"),
        ({"run": "../elsewhere"}, "run is '../elsewhere'"),
        ({"run": "a b"}, "run is 'a b'"),
        ({"run": "a\n"}, "run is"),
        ({"run": "$(touch x)"}, "run is"),
        ({"run": ""}, "run is ''"),
        ({"demo": {"folder": "a;b"}}, "demo.folder is 'a;b'"),
        ({"iterations": []}, "iterations is []"),
        ({"iterations": [1, -1]}, "iterations is [1, -1]"),
        ({"export": ["kaldi", "kaldi"]}, "export"),
        ({"jobs": 0}, "jobs is 0: a whole number, at least 1"),
        ({"variance": 3}, "variance is 3"),
        ({"statistics": [3]}, "statistics is [3]: names of letters"),
        ({"statistics": {"../a": {"list": "x"}}}, "statistics is {'../a'"),
        ({"statistics": {"a": "x"}}, "statistics is {'a': 'x'}: names of letters"),
        ({"statistics": {"a": {}}}, "statistics.a.list is required"),
        ({"statistics": {"a": {"lst": 1}}}, "unknown key statistics.a.lst; did you mean list?"),
        ({"verification": {"trials": "t"}}, "verification.enrolment and trials go together"),
        ({"verification": {"trials": "t", "enrolment": "e"}}, "statistics names no shows"),
        ({"features": ["list"]}, "features is"),
    ],
)
def test_contradictions_and_names_that_would_escape(values, message):
    assert message in refused({**VALID, **values})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@few
@given(st.sampled_from([*LEAVES, *SECTIONS[1:]]), json_values)
def test_anything_at_all_is_taken_or_refused_in_one_line(path, value):
    taken_or_one_line(whole_check, changed(path, value))


@few
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_a_configuration_or_one_line(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(content)
        taken_or_one_line(lambda file: resolve_runs(read_configuration(file)), path)


def values_of(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a part of the schema allows."""
    if "anyOf" in part:
        return st.one_of(*map(values_of, part["anyOf"]))
    if "enum" in part:
        return st.sampled_from(part["enum"])
    least = part.get("minimum", part.get("exclusiveMinimum", -1))
    if part["type"] == "integer":
        return st.integers(least, min(least + 40, part.get("maximum", least + 40)))
    if part["type"] == "number":
        most = part.get("maximum", part.get("exclusiveMaximum", 40))
        return st.floats(least, most, exclude_min="minimum" not in part, exclude_max=True)
    if part["type"] == "array":
        sizes = {"min_size": part.get("minItems", 0), "max_size": part.get("maxItems", 4)}
        return st.lists(values_of(part.get("items", {"type": "integer"})), **sizes)
    if part["type"] == "object":
        return st.dictionaries(st.sampled_from(["a", "b.c"]), st.just({"list": "shows.txt"}))
    return {
        "boolean": st.booleans(),
        "null": st.none(),
        "string": st.sampled_from(["a", "b.h5", "{show}.h5", "one/two"]),
    }[part["type"]]


VALUES = {path: values_of(schema_of(path)) for path in LEAVES}


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(LEAVES), max_size=6, unique=True).flatmap(
        lambda paths: st.fixed_dictionaries({path: VALUES[path] for path in paths})
    )
)
def test_any_keys_together_are_taken_and_stay_or_are_refused_in_one_line(changes):
    values = copy.deepcopy(VALID)
    for (*sections, key), value in changes.items():
        section: Any = values
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    if taken_or_one_line(resolve, values):
        settings = resolve(values)
        config = mapping(settings)
        assert resolve(config) == settings
        assert resolve(json.loads(json.dumps(config))) == settings
        assert resolve(yaml.safe_load(yaml.safe_dump(config))) == settings
        taken_or_one_line(whole_check, config)


@given(st.integers(1, 10_000), st.lists(st.integers(0, 999), min_size=1, max_size=5))
def test_stages_end_at_the_components_asked_for(components, iterations):
    (run,) = read_runs({**VALID, "components": components, "iterations": iterations}).values()
    assert max(stage.components for stage in run.plan) == components


@pytest.mark.parametrize("key", REMOVED)
def test_a_key_that_is_gone_is_told_with_what_to_do_instead(key):
    *sections, last = key.split(".")
    values: Any = {last: 1} if sections != ["export"] else [last]
    for section in reversed(sections):
        values = {section: values}
    assert refused({**VALID, **values}).endswith(f": {key} is gone: {REMOVED[key]}")


def test_the_command_exits_with_one(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("componets: 4\n")
    assert main(["validate", "--configfile", str(tmp_path / "config.yaml")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("gmmcore validate: error: ")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['touch x']", "a: &a [*a]", "{"])
def test_yaml_that_would_run_or_never_end_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(GmmcoreError) as caught:
        read_runs(read_configuration(tmp_path / "config.yaml"))
    assert "\n" not in str(caught.value)
