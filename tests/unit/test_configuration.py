"""The options, their defaults and what is said of mistakes."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from arguments import words

from gmmcore.cli.main import main
from gmmcore.config.configuration import read_configuration, resolve, resolve_runs
from gmmcore.config.keys import FeatureSettings, IterationSettings, Settings, Split
from gmmcore.config.options import add_options, build, mapping, options_of, schema
from gmmcore.errors import GmmcoreError
from gmmcore.workflow.runs import Initialise, read_runs

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_configuration_is_valid():
    settings = resolve(read_configuration(ROOT / "config.yaml"))
    assert settings.components == 64
    assert settings.features.shards == 4


def test_a_delta_filter_may_be_a_list_of_weights():
    values = {"list": "x", "delta": True, "delta_filter": [0.5, 0, -0.5]}
    assert resolve({"features": values}).features.delta_taps == (0.5, 0.0, -0.5)


def test_the_table_of_keys_is_the_one_that_the_program_prints(capsys):
    assert main(["validate", "--keys"]) == 0
    table = capsys.readouterr().out
    assert table.count("\n") > 60
    assert table in (ROOT / "docs" / "configuration.md").read_text()


def test_the_schema_takes_the_defaults_and_what_is_shipped(capsys):
    assert main(["validate", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    shipped = read_configuration(ROOT / "config.yaml")
    for values in ({}, shipped, mapping(Settings()), mapping(resolve(shipped))):
        validator.validate(values)
    assert not validator.is_valid({"components": 0})


def rules_of(schema: dict, name: str = "") -> Iterator[tuple[str, dict]]:
    for key, part in schema.get("properties", {}).items():
        yield from rules_of(part, f"{name}{key}.")
        for rule in part.get("anyOf", [part]):
            yield f"{name}{key}", rule
            if "items" in rule:
                yield f"{name}{key}", rule["items"]


def test_every_number_has_bounds_and_no_text_has_a_null_byte() -> None:
    found = 0
    for key, rule in rules_of(schema(Settings)):
        if rule.get("type") in ("integer", "number") and not rule.get("infinite"):
            assert rule.keys() & {"minimum", "exclusiveMinimum"}, key
            assert rule.keys() & {"maximum", "exclusiveMaximum"}, key
            found += 1
        elif rule.get("type") == "string":
            assert not re.search(rule["pattern"], "a\0b"), key
            found += 1
    assert found > 40


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"components": 10**29}, "components is 1.*at most 1048576"),
        ({"jobs": 100_000_000}, "jobs is 100000000: .*at most 64"),
        ({"memory": 10**30}, "memory is"),
        ({"features": {"list": "a\0b"}}, r"features.list is 'a\\x00b'"),
        ({"init": {"from": "a\0b"}}, r"init.from is 'a\\x00b'"),
        ({"demo": {"folder": "--help"}}, "demo.folder is '--help'"),
        ({"demo": {"folder": "-x/y"}}, "demo.folder is '-x/y'"),
    ],
)
def test_values_beyond_all_bounds_are_refused(values: dict, message: str) -> None:
    with pytest.raises(GmmcoreError, match=f"config.yaml: {message}"):
        resolve(values)


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(list="a b", pattern="{show}.h5", mask="[0-3]", vad=None, delta=True),
        FeatureSettings(list="1e3", root="null", sdc=[1, 2, 3], window=7, delta_filter=[1, 0, -1]),
        Split(method="sidekit", floor=0.5),
        IterationSettings(floor=1e-30, ceiling=float("inf"), precision="double"),
        Initialise(prefix="true", digest="12"),
    ],
)
def test_verbs_read_the_words_that_rules_write(settings):
    parser = argparse.ArgumentParser()
    add_options(parser, type(settings))
    assert options_of(parser.parse_args(words(settings)), type(settings)) == settings
    assert build(type(settings), json.loads(json.dumps(mapping(settings)))) == settings


def test_a_ceiling_may_be_infinite():
    (run,) = read_runs({**BASE, "variance": {"ceiling": float("inf")}}).values()
    assert run.digest("maximise", "diag") != run.digest("maximise", "full")
    with pytest.raises(GmmcoreError, match=r"demo\.offset is inf: a number"):
        resolve({"demo": {"offset": float("inf")}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"componets": 64}, "unknown key componets; did you mean components"),
        ({"variance": {"flor": 1}}, "unknown key variance.flor; did you mean floor"),
        ({"zzz": 1}, "unknown key zzz; known here: components, demo"),
        ({"weak": {"occupancy": 3}}, "config.yaml: weak is gone: it is called low_count"),
        ({"audio": {"list": "x"}}, "audio is gone: docs/features.md has a script"),
        ({"features": {"frames": 9}}, "features.frames is gone: set frames_per_component"),
        ({"features": {"pack": False}}, "features.pack is gone: a shard always holds its frames"),
        ({"export": ["htk", "alize-xml"]}, "export.alize-xml is gone: ALIZE reads RAW: use alize"),
        ({"components": 0}, "components is 0: a whole number, at least 1"),
        ({"components": "many"}, "components is 'many': a whole number"),
        ({"llk_gain": "1e-3"}, "write 1.0e-3"),
        ({"precision": "half"}, "precision is 'half': one of single, double"),
        ({"iterations": [1, -2]}, "iterations is [1, -2]: a list, each entry a whole number"),
        ({"variance": {"floor": 2.0, "ceiling": 1.0}}, "variance.floor is 2.0, above"),
        ({"run": "../elsewhere"}, "run is '../elsewhere'"),
        ({"llk_gain": float("nan")}, "llk_gain is nan: a number was"),
        ({"jobs": "all"}, "jobs is 'all'"),
        ({"demo": {"folder": "a{b}"}}, "demo.folder is 'a{b}'"),
    ],
)
def test_mistakes_are_told_in_one_line(values, message):
    with pytest.raises(GmmcoreError) as caught:
        resolve(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_validate_exits_with_one(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("components: 8\nfeaturs: {}\n")
    assert main(["validate", "--configfile", str(path)]) == 1
    assert "did you mean features" in capsys.readouterr().err
    path.write_text("components: [\n")
    assert main(["validate", "--configfile", str(path)]) == 1
    assert "not YAML" in capsys.readouterr().err


BASE = {
    "components": 8,
    "features": {"list": "x", "pattern": "{show}.h5"},
    "variance": {"floor": 0.1},
}


def test_without_runs_there_is_one():
    assert list(resolve_runs({**BASE, "run": "a"})) == ["a"]
    assert list(resolve_runs(BASE)) == ["ubm"]


def test_runs_override_any_key():
    runs = {"a": None, "b": {"components": 16, "features": {"normalisation": "cmvn"}}}
    a, b = resolve_runs({**BASE, "runs": runs}).values()
    assert a == replace(resolve(BASE), run="a")
    assert (b.run, b.components, b.features.normalisation) == ("b", 16, "cmvn")
    assert b.features.list == "x"
    assert b.variance == a.variance


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runs": ["a"]}, "runs is ['a']; names of runs"),
        ({"runs": {"a": 3}}, "runs.a: keys to override were expected"),
        ({"runs": {"a": {"run": "b"}}}, "runs.a: keys to override were expected, without run"),
        ({"runs": {"a": {}}, "run": "b"}, "run and runs are both given"),
        ({"runs": {"a/b": {}}}, "runs.a/b: run is 'a/b'"),
        ({"runs": {"features": {}}}, "a run cannot be called features"),
        ({"runs": {3: {}}}, "run is 3"),
        ({"runs": {"a": {"componets": 3}}}, "runs.a: unknown key componets; did you mean comp"),
        ({"runs": {"a": {"components": "x"}}}, "runs.a: components is 'x'"),
    ],
)
def test_mistakes_in_runs_are_told_in_one_line(values, message):
    with pytest.raises(GmmcoreError) as caught:
        resolve_runs({**BASE, **values})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_with_the_same_features_share_their_frames():
    runs = {
        "a": {},
        "b": {"components": 16},
        "c": {"features": {"normalisation": "cms"}},
        "d": {"features": {"shards": 2}, "seed": 2},
    }
    a, b, c, d = read_runs({**BASE, "runs": runs}).values()
    assert a.corpus == b.corpus
    assert len({a.corpus, c.corpus, d.corpus}) == 3
    e = read_runs({**BASE, "seed": 2})["ubm"]  # The seed decides which frames are in subsets.
    assert e.corpus != a.corpus


def test_an_unknown_key_with_a_line_end_is_told_in_one_line():
    with pytest.raises(GmmcoreError, match=r"unknown key demo\.'\\n'") as caught:
        resolve({"features": {"list": "x"}, "demo": {"\n": None}})
    assert "\n" not in str(caught.value)
