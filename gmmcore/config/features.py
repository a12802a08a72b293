"""Settings of features: where they come from and how they are processed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gmmcore.config.options import Options, OptionsError, build, mapping, option, same, within
from gmmcore.files import digest_of

READERS = ("npy", "htk", "kaldi", "sidekit")
"""Formats of feature files, in the order in which a file is looked at."""

FEATURES_VERSION = 2
"""Version of the processing: it is raised with every change of results, which renews all shards."""

DATASETS = ("energy", "cep", "fb", "bnf")
"""SIDEKIT's datasets, in the order in which they are joined."""

DELTA_FILTERS: dict[str, tuple[float, ...]] = {
    "sidekit": (0.25, 0.5, 0.25, 0.0, -0.25, -0.5, -0.25),
    "regression": (0.2, 0.1, 0.0, -0.1, -0.2),
}
"""Filters of the deltas, with the weight of the latest frame first.

``sidekit`` is the filter of SIDEKIT's FeaturesServer; ``regression`` is the least-squares slope
over two frames on each side, as in HTK (DELTAWINDOW=2) and Kaldi (add-deltas, window 2).
"""

NORMALISATIONS = (
    *("cms", "cmvn", "stg", "cms_sliding", "cmvn_sliding"),
    *("cms_global", "cmvn_global"),
)
"""Names of the functions in `gmmcore.data.normalise.METHODS`."""

# Options that decide where frames come from or how work is shared, but not the values of frames.
_NOT_NUMBERS = (
    *("list", "root", "pattern", "format", "vad", "on_error", "shards"),
    *("share", "speakers", "part"),
)
# Options of earlier versions, whose defaults remain part of digests: no frames are packed anew.
_GONE = {"frames": None}
_LARGEST_MASK = 100_000
_TEXT = {"type": "string", "pattern": r"\A(?s:.)+\Z"}


def _whole(least: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least}


def _several(rule: dict[str, Any], count: int) -> dict[str, Any]:
    return {"type": "array", "items": rule, "minItems": count, "maxItems": count}


@dataclass(frozen=True)
class FeatureSettings(Options):
    """The section `features` of the configuration."""

    # The list and the seed may be None before `for_run`.
    list: str = option(None, "the shows: a text, TSV, scp or IdMap file, or a folder", _TEXT)
    root: str | None = option(
        None, "folder that relative paths start from; by default that of the list", _TEXT
    )
    pattern: str | None = option(None, 'file of a show, such as "{show}.h5"', _TEXT)
    format: str = option(
        "auto", f"{', '.join(READERS)}; auto looks into the files", enum=["auto", *READERS]
    )
    datasets: tuple[str, ...] = option(
        DATASETS[:2],
        "datasets of SIDEKIT files, joined in the order energy, cep, fb, bnf",
        type="array",
        minItems=1,
        items={"enum": [*DATASETS]},
    )
    vad: str | None = option(
        "file",
        "labels: file (beside the frames), a Kaldi vad.scp, or a segments file; null takes all "
        "frames",
        _TEXT,
        nullable=True,
    )
    select_speech: bool = option(True, "keep only the frames labelled as speech", type="boolean")
    label_fusion: bool = option(False, "smooth the labels", type="boolean")
    mask: Any = option(
        None,
        'coefficients to keep, after the deltas, such as "[0-4,7]"',
        {"type": "string"},
        {"type": "array"},
    )
    rasta: bool = option(False, "RASTA filter", type="boolean")
    delta: bool = option(False, "append deltas", type="boolean")
    double_delta: bool = option(False, "append deltas of the deltas", type="boolean")
    delta_filter: Any = option(
        "sidekit",
        "sidekit, regression, or an odd number of weights, that of the latest frame first",
        {"enum": [*DELTA_FILTERS]},
        {
            "type": "array",
            "minItems": 3,
            "items": {"type": "number", "minimum": -1e6, "maximum": 1e6},
        },
    )
    delta_edges: str = option(
        "repeat", "zero gives SIDEKIT's values at the ends of a show", enum=["repeat", "zero"]
    )
    sdc: tuple[int, ...] | None = option(
        None, "shifted deltas [d, p, k] instead of deltas", _several(_whole(1), 3)
    )
    context: tuple[int, ...] | None = option(
        None, "neighbouring frames to append, [left, right]", _several(_whole(0), 2)
    )
    normalisation: str | None = option(
        None, f"{', '.join(NORMALISATIONS)}, or null", enum=[*NORMALISATIONS]
    )
    window: int = option(
        301, "frames of the sliding normalisations, an odd number", type="integer", minimum=3
    )
    on_error: str = option(
        "stop",
        "what a faulty show does: stop, or skip (it is listed in skipped.tsv)",
        enum=["stop", "skip"],
    )
    shards: int | str = option(
        "auto",
        "how many files the frames are dealt to",
        {"type": "integer", "minimum": 1, "maximum": 100_000},
        {"enum": ["auto"]},
    )
    seed: int = option(None, "of random subsets of frames; by default that of the run", _whole(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "datasets", tuple(d for d in DATASETS if d in self.datasets))
        if self.mask is not None:
            try:
                object.__setattr__(self, "mask", parse_mask(self.mask))
            except ValueError as error:
                raise OptionsError(f"mask is {self.mask!r}: {error}") from None
        if not isinstance(self.delta_filter, str):
            taps = tuple(map(float, self.delta_filter))
            if len(taps) % 2 == 0:
                raise OptionsError(f"delta_filter is {taps}: an odd number of weights was expected")
            object.__setattr__(self, "delta_filter", taps)
        if self.window % 2 == 0:
            raise OptionsError(f"window is {self.window}: an odd number of frames was expected")
        if self.double_delta and not self.delta:
            raise OptionsError("double_delta is true, but delta is false; set delta: true")
        if self.delta and self.sdc is not None:
            raise OptionsError("sdc excludes delta; set delta: false or sdc: null")

    @property
    def delta_taps(self) -> tuple[float, ...]:
        """The filter of the deltas, the weight of the latest frame first."""
        taps = self.delta_filter
        return DELTA_FILTERS[taps] if isinstance(taps, str) else taps

    @property
    def is_global(self) -> bool:
        """Whether segments are normalised with the statistics of their whole show."""
        return (self.normalisation or "").endswith("_global")

    @property
    def folder(self) -> str:
        """The folder that relative paths of feature files start from."""
        if self.root is not None:
            return self.root
        return self.list if os.path.isdir(self.list) else os.path.dirname(self.list)

    def digest(self) -> str:
        """Compute a digest of all settings that decide the numbers of a show's processed frames."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_NUMBERS}
        return digest_of(FEATURES_VERSION, {**values, **_GONE, "vad": self.vad is not None})

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that identify the frames."""
        return {**mapping(self), **_GONE}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], seed: int | None = None) -> FeatureSettings:
        """Make settings from the keys of the section, which needs a `list`; it may have a seed."""
        return within("features", build, cls, values).for_run(seed)

    def for_run(self, seed: int | None) -> FeatureSettings:
        """Check that there is a list, and set the seed to that of the run if it is not set."""
        if not self.list:
            raise OptionsError(
                "features.list is required: the path of a list of shows, or of a folder"
            )
        return self if isinstance(self.seed, int) else replace(self, seed=seed or 0)


@dataclass(frozen=True)
class HeldOut(Options):
    """The section `held_out` of the configuration."""

    share: float = option(
        0.0,
        "share of the frames to hold out, in whole shows drawn by a hash of `features.seed` and "
        "show; `held_out: 0.05` says the same",
        type="number",
        minimum=0,
        exclusiveMaximum=1,
    )
    speakers: str | None = option(
        None,
        "a text with a line `show speaker` for each show: all shows of a speaker are held out, or "
        "none",
        _TEXT,
    )
    list: str | None = option(
        None, "the shows to hold out, a list as that of the features, instead of a share", _TEXT
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.list and (self.share or self.speakers):
            raise OptionsError("list excludes share and speakers; remove one or the other")
        if self.speakers and not self.share:
            raise OptionsError("speakers is set, but share is not; set it, such as share: 0.05")

    def __bool__(self) -> bool:
        """Whether anything is held out."""
        return bool(self.share or self.list)


@dataclass(frozen=True)
class FeaturePart(FeatureSettings):
    """Settings of one of the two parts of a list of which a share is held out."""

    share: float = same(HeldOut, "share")
    speakers: str | None = same(HeldOut, "speakers")
    part: str = option(
        "training", "training takes the shows that are not held out", enum=["training", "held_out"]
    )

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that identify the frames."""
        return {**mapping(self, None if self.share else FeatureSettings), **_GONE}


def parse_mask(value: Any) -> tuple[int, ...]:
    """Return the sorted coefficients that a list, or a text in SIDEKIT's notation, keeps.

    >>> parse_mask("[0-4,7]")
    (0, 1, 2, 3, 4, 7)
    """
    wanted = "expected numbers and ranges such as [0-4,7]"
    chosen: set[int] = set()
    if isinstance(value, str):
        for part in value.strip().removeprefix("[").removesuffix("]").split(","):
            match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)
            if match is None:
                raise ValueError(wanted)
            first = int(match[1])
            last = int(match[2]) if match[2] else first
            if last < first:
                raise ValueError(f"the range {part.strip()} ends before it begins")
            chosen.update(range(first, min(last, _LARGEST_MASK) + 1))
    elif isinstance(value, list | tuple) and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value
    ):
        chosen.update(value)
    else:
        raise ValueError(wanted)
    if not chosen:
        raise ValueError("chooses no coefficient")
    if max(chosen) >= _LARGEST_MASK:
        raise ValueError(f"coefficients are numbered from 0 to below {_LARGEST_MASK}")
    return tuple(sorted(chosen))
