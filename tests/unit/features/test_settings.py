"""Settings: what is refused, and what digests go by."""

from __future__ import annotations

from typing import Any

import pytest

from gmmcore.config.keys import FeatureSettings
from gmmcore.config.options import mapping
from gmmcore.errors import GmmcoreError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lists", "x"),
        ("list", ""),
        ("datasets", []),
        ("datasets", ["cep", "mfcc"]),
        ("mask", "[]"),
        ("mask", "[3-1]"),
        ("mask", "[a]"),
        ("mask", [-1]),
        ("mask", "[0-99999999999]"),
        ("delta", 1),
        ("delta_filter", "slope"),
        ("delta_filter", [1.0, 2.0]),
        ("delta_filter", [1.0, float("nan"), 2.0]),
        ("sdc", [1, 3]),
        ("sdc", [1, 3, 0]),
        ("context", [1, -1]),
        ("normalisation", "cmn"),
        ("window", 300),
        ("on_error", "ignore"),
        ("shards", 0),
        ("shards", "many"),
    ],
)
def test_mistakes_are_named(key: str, value: Any) -> None:
    with pytest.raises(GmmcoreError, match=rf"features\.{key}"):
        FeatureSettings.from_mapping({"list": "x", key: value})


def test_contradictions() -> None:
    with pytest.raises(GmmcoreError, match="double_delta"):
        FeatureSettings.from_mapping({"list": "x", "double_delta": True})
    with pytest.raises(GmmcoreError, match="sdc"):
        FeatureSettings.from_mapping({"list": "x", "delta": True, "sdc": [1, 3, 7]})
    with pytest.raises(GmmcoreError, match=r"features\.list is required"):
        FeatureSettings.from_mapping({})


def test_masks() -> None:
    for value in ("[0-4,7,10-12]", "0-4, 7 ,10-12", [12, 0, 1, 2, 3, 4, 7, 10, 11]):
        settings = FeatureSettings.from_mapping({"list": "x", "mask": value})
        assert settings.mask == (0, 1, 2, 3, 4, 7, 10, 11, 12)


def test_round_trip() -> None:
    first = FeatureSettings.from_mapping(
        {
            "list": "x",
            "mask": "[1-3]",
            "sdc": [1, 3, 7],
            "datasets": ["cep", "energy"],
        },
        seed=4,
    )
    assert first.datasets == ("energy", "cep")
    assert first.seed == 4
    assert FeatureSettings.from_mapping(mapping(first)) == first


@pytest.mark.parametrize(
    "change",
    [
        {"delta": True},
        {"delta_filter": "regression"},
        {"delta_edges": "zero"},
        {"normalisation": "cms"},
        {"window": 201},
        {"mask": "[0-3]"},
        {"vad": None},
        {"seed": 8},
        {"select_speech": False},
        {"datasets": ["cep"]},
    ],
)
def test_what_changes_numbers_changes_the_digest(change: dict[str, Any]) -> None:
    base = FeatureSettings.from_mapping({"list": "x"})
    assert FeatureSettings.from_mapping({"list": "x", **change}).digest() != base.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"list": "y"},
        {"shards": 4},
        {"on_error": "skip"},
        {"root": "z"},
    ],
)
def test_what_does_not_leaves_it(change: dict[str, Any]) -> None:
    base = FeatureSettings.from_mapping({"list": "x"})
    assert FeatureSettings.from_mapping({"list": "x", **change}).digest() == base.digest()
