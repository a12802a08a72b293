"""The schema, its defaults and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmmcore.cli import main
from gmmcore.configuration import load_schema, read_configuration, resolve, resolve_runs
from gmmcore.em import MaximiseSettings
from gmmcore.errors import GmmcoreError
from gmmcore.features.audio import AudioSettings
from gmmcore.features.settings import FeatureSettings
from gmmcore.runs import EXPORTS, InitialMixture, read_runs, verb_settings
from gmmcore.schedule import SIDEKIT_ITERATIONS
from gmmcore.verbs.common import ACCUMULATE_DEFAULTS as ACCUMULATE
from gmmcore.verbs.common import MAXIMISE_DEFAULTS, maximise_settings
from gmmcore.verbs.demo import DEFAULTS as DEMO

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_configuration_is_valid():
    values = resolve(read_configuration(ROOT / "config.yaml"))
    assert values["components"] == 64
    assert values["features"]["shards"] == 4


def test_defaults_of_schema_and_code_are_the_same():
    values = resolve({"features": {"list": "x"}})
    settings = verb_settings(values, InitialMixture())
    assert settings["accumulate"] == ACCUMULATE
    assert settings["diag"] == {**ACCUMULATE, **MAXIMISE_DEFAULTS}
    code = MaximiseSettings()
    assert (code.floor, code.ceiling) == (
        values["variance"]["floor"],
        values["variance"]["ceiling"],
    )
    assert (code.full_floor, code.full_ceiling) == (
        values["full"]["floor"],
        values["full"]["ceiling"],
    )
    assert (code.min_occupancy, code.weak) == (
        values["weak"]["occupancy"],
        values["weak"]["action"],
    )
    assert tuple(values["iterations"]) == SIDEKIT_ITERATIONS
    assert {k: v for k, v in values["demo"].items() if k != "folder"} | {"seed": 1} == DEMO
    audio = {k: v for k, v in values["audio"].items() if k in AudioSettings.__dataclass_fields__}
    assert AudioSettings(**audio) == AudioSettings()
    assert set(audio) == set(AudioSettings.__dataclass_fields__)
    assert list(EXPORTS) == load_schema()["properties"]["export"]["items"]["enum"]
    assert FeatureSettings.from_mapping(values["features"], 0) == FeatureSettings(list="x")


def test_a_delta_filter_may_be_a_list_of_weights():
    values = {"list": "x", "delta": True, "delta_filter": [0.5, 0, -0.5]}
    features = resolve({"features": values})["features"]
    assert FeatureSettings.from_mapping(features).delta_taps == (0.5, 0.0, -0.5)


def test_every_key_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()

    def keys(schema):
        for key, part in schema["properties"].items():
            yield key
            if "properties" in part:
                yield from keys(part)

    missing = [key for key in keys(load_schema()) if f"`{key}`" not in text]
    assert not missing


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"componets": 64}, "unknown key componets; did you mean components"),
        ({"variance": {"flor": 1}}, "unknown key variance.flor; did you mean floor"),
        ({"zzz": 1}, "unknown key zzz; known here: audio, components"),
        ({"components": 0}, "components is 0: integer at least 1"),
        ({"components": "many"}, "components is 'many': integer"),
        ({"llk_gain": "1e-3"}, "write 1.0e-3"),
        ({"precision": "half"}, "precision is 'half': one of single, double"),
        ({"iterations": [1, -2]}, "iterations.1 is -2"),
        ({"variance": {"floor": 2.0, "ceiling": 1.0}}, "variance.floor is 2.0, above"),
        ({"run": "../elsewhere"}, "run is '../elsewhere'"),
        ({"llk_gain": float("nan")}, "llk_gain is not a number"),
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
    assert main(["validate", str(path)]) == 1
    assert "did you mean features" in capsys.readouterr().err
    path.write_text("components: [\n")
    assert main(["validate", str(path)]) == 1
    assert "not YAML" in capsys.readouterr().err


@pytest.mark.parametrize("full", [False, True])
def test_bounds_given_to_the_verb_itself_are_checked_in_one_line(full):
    settings = {**MAXIMISE_DEFAULTS, "floor": 5.0, "ceiling": 1.0}
    with pytest.raises(GmmcoreError, match=r"^--settings: 0 <= floor <= ceiling was expected"):
        maximise_settings(settings, full)


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
    assert a == {**resolve(BASE), "run": "a"}
    assert (b["run"], b["components"], b["features"]["normalisation"]) == ("b", 16, "cmvn")
    assert b["features"]["list"] == "x"
    assert b["variance"] == a["variance"]


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
        "d": {"seed": 2},
    }
    a, b, c, d = read_runs({**BASE, "runs": runs}).values()
    assert a.corpus == b.corpus == d.corpus != c.corpus
    e = read_runs({**BASE, "features": {"list": "x", "frames": 9}})["ubm"]
    f = read_runs({**BASE, "features": {"list": "x", "frames": 9}, "seed": 2})["ubm"]
    assert e.corpus != f.corpus


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"components": 16}, True),
        ({"full": {"iterations": 3}}, True),
        ({"export": ["htk"]}, True),
        ({"iterations": [1, 2, 9]}, True),
        ({"iterations": [2, 2]}, False),
        ({"llk_gain": 0.1}, False),
        ({"precision": "double"}, False),
        ({"weak": {"action": "remove"}}, False),
        ({"features": {"list": "y"}}, False),
    ],
)
def test_what_two_runs_have_in_common_up_to_a_stage(change, same):
    one = read_runs({**BASE, "iterations": [1, 2, 3]})["ubm"]
    other = read_runs({**BASE, "iterations": [1, 2, 3], **change})["ubm"]
    stages = [run.stage("diag/4") for run in (one, other)]
    assert (one.recipe(stages[0]) == other.recipe(stages[1])) is same


def test_an_unknown_key_with_a_line_end_is_told_in_one_line():
    with pytest.raises(GmmcoreError, match=r"unknown key 'audio\.\\n'") as caught:
        resolve({"features": {"list": "x"}, "audio": {"\n": None}})
    assert "\n" not in str(caught.value)
