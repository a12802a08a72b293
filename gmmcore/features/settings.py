"""What the configuration says of features, checked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmmcore.errors import GmmcoreError
from gmmcore.features.masks import parse_mask
from gmmcore.features.normalisation import NORMALISATIONS
from gmmcore.features.processing import DELTA_FILTERS
from gmmcore.files import digest_of

__all__ = ["DATASETS", "FEATURES_VERSION", "FeatureSettings"]

FEATURES_VERSION = 1
"""Raised with every change of the numbers that processing gives: shards are then written anew."""

DATASETS = ("energy", "cep", "fb", "bnf")
"""SIDEKIT's datasets, in the order in which they are joined."""

_FORMATS = ("auto", "sidekit", "kaldi", "htk", "npy")
# What decides which frames exist and where they lie, or how work is shared, not their values.
_NOT_NUMBERS = ("list", "root", "pattern", "format", "vad", "on_error", "shards", "pack")


@dataclass(frozen=True)
class FeatureSettings:
    """The `features` section of the configuration.

    Attributes
    ----------
    list : str
        Path of the feature list, or of a folder of feature files.
    root : str or None
        Folder that relative paths of feature files start from; that of the list if None.
    pattern : str or None
        File name of a show, with ``{show}`` or ``{}`` for its name.
    format : str
        ``auto`` (by content), ``sidekit``, ``kaldi``, ``htk`` or ``npy``.
    datasets : tuple of str
        Which of `DATASETS` to join.
    vad : str or None
        ``file`` (labels beside the frames), path of a Kaldi scp or of a segments file, or None:
        all frames are speech.
    mask : tuple of int or None
        Coefficients to keep, after the deltas.
    rasta, delta, double_delta, label_fusion, select_speech, pack : bool
    delta_filter : str or tuple of float
        ``sidekit``, ``regression``, or the taps, the weight of the latest frame first.
    delta_edges : str
        ``repeat``, or ``zero`` to obtain what SIDEKIT computes.
    sdc : (d, p, k) or None
        Shifted deltas, instead of deltas.
    context : (left, right) or None
        Neighbouring frames to append.
    normalisation : str or None
    window : int
        Odd length of sliding windows, in frames.
    on_error : str
        ``stop`` or ``skip``, for faulty shows.
    frames : int or None
        Size of a random subset.
    seed : int
        Of the random subset.
    shards : int or None
        None chooses by the number of frames.
    """

    list: str
    root: str | None = None
    pattern: str | None = None
    format: str = "auto"
    datasets: tuple[str, ...] = ("energy", "cep")
    vad: str | None = "file"
    mask: tuple[int, ...] | None = None
    rasta: bool = False
    delta: bool = False
    double_delta: bool = False
    delta_filter: str | tuple[float, ...] = "sidekit"
    delta_edges: str = "repeat"
    sdc: tuple[int, int, int] | None = None
    context: tuple[int, int] | None = None
    label_fusion: bool = False
    normalisation: str | None = None
    window: int = 301
    select_speech: bool = True
    on_error: str = "stop"
    frames: int | None = None
    seed: int = 0
    shards: int | None = None
    pack: bool = True

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], seed: int = 0) -> FeatureSettings:
        """Settings from the `features` section of a configuration.

        Parameters
        ----------
        mapping
            Keys are the attributes' names. ``shards`` may be ``auto``, ``mask`` a text such as
            ``[0-4,7]`` or a list of numbers.
        seed
            Used where the section has none of its own.

        Raises
        ------
        GmmcoreError
            Naming the key, what it holds, and what it may hold.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {"seed": seed}
        for key, value in mapping.items():
            if key == "list" and value is None:
                continue
            if key not in known:
                raise GmmcoreError(
                    f"features: {key}: unknown key; expected one of {', '.join(sorted(known))}"
                )
            values[key] = _checked(key, value)
        if "list" not in values:
            raise GmmcoreError(
                "features.list is required: the path of a list of shows, or of a folder"
            )
        return cls(**values)

    def __post_init__(self) -> None:
        if self.double_delta and not self.delta:
            raise GmmcoreError("features: double_delta: needs delta; set delta: true")
        if self.delta and self.sdc is not None:
            raise GmmcoreError("features: sdc: excludes delta; set delta: false or sdc: null")

    @property
    def delta_taps(self) -> tuple[float, ...]:
        """The filter of the deltas, the weight of the latest frame first."""
        taps = self.delta_filter
        return DELTA_FILTERS[taps] if isinstance(taps, str) else taps

    @property
    def folder(self) -> str:
        """The folder that relative paths of feature files start from."""
        if self.root is not None:
            return self.root
        return self.list if os.path.isdir(self.list) else os.path.dirname(self.list)

    def digest(self) -> str:
        """Of everything that changes the numbers of a show's processed frames."""
        values = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in _NOT_NUMBERS
        }
        if self.frames is None:
            del values["seed"]
        values["vad"] = self.vad is not None
        return digest_of(FEATURES_VERSION, values)

    @property
    def identity(self) -> dict[str, Any]:
        """What frames the settings stand for: without the seed, unless a subset is drawn by it."""
        values = self.as_mapping()
        if self.frames is None:
            del values["seed"]
        return values

    def as_mapping(self) -> dict[str, Any]:
        """What `from_mapping` reads to the same settings; JSON values only."""
        values = dataclasses.asdict(self)
        values["shards"] = "auto" if self.shards is None else self.shards
        return {k: [*v] if isinstance(v, tuple) else v for k, v in values.items()}


def _checked(key: str, value: Any) -> Any:
    check = _CHECKS[key]
    try:
        return check(value)
    except (ValueError, TypeError) as error:
        raise GmmcoreError(f"features: {key}: {value!r}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _whole(least: int) -> Any:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"expected a whole number of at least {least}")
        return value

    return check


def _odd(value: Any) -> int:
    number: int = _whole(3)(value)
    if number % 2 == 0:
        raise ValueError("expected an odd number of frames")
    return number


def _one_of(*choices: str) -> Any:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return check


def _or_none(check: Any) -> Any:
    return lambda value: None if value is None else check(value)


def _numbers(names: str, least: int) -> Any:
    count = len(names.split(","))

    def check(value: Any) -> tuple[int, ...]:
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ValueError(f"expected {count} whole numbers: {names}")
        return tuple(_whole(least)(number) for number in value)

    return check


def _delta_filter(value: Any) -> str | tuple[float, ...]:
    if isinstance(value, str) and value in DELTA_FILTERS:
        return value
    if isinstance(value, list | tuple) and len(value) % 2 and len(value) > 1:
        taps = tuple(float(tap) for tap in value)
        if all(abs(tap) < 1e6 for tap in taps):  # false for what is no number
            return taps
    raise ValueError(f"expected {', '.join(DELTA_FILTERS)}, or an odd number of weights")


def _datasets(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not set(value) <= set(DATASETS):
        raise ValueError(f"expected a list of {', '.join(DATASETS)}")
    return tuple(name for name in DATASETS if name in value)


def _shards(value: Any) -> int | None:
    if value is None or value == "auto":
        return None
    number: int = _whole(1)(value)
    if number > 100_000:
        raise ValueError("expected at most 100000")
    return number


_CHECKS: dict[str, Any] = {
    "list": _text,
    "root": _or_none(_text),
    "pattern": _or_none(_text),
    "format": _one_of(*_FORMATS),
    "datasets": _datasets,
    "vad": _or_none(_text),
    "mask": _or_none(parse_mask),
    "rasta": _flag,
    "delta": _flag,
    "double_delta": _flag,
    "delta_filter": _delta_filter,
    "delta_edges": _one_of("repeat", "zero"),
    "sdc": _or_none(_numbers("d, p, k", 1)),
    "context": _or_none(_numbers("left, right", 0)),
    "label_fusion": _flag,
    "normalisation": _or_none(_one_of(*NORMALISATIONS)),
    "window": _odd,
    "select_speech": _flag,
    "on_error": _one_of("stop", "skip"),
    "frames": _or_none(_whole(1)),
    "seed": _whole(0),
    "shards": _shards,
    "pack": _flag,
}
