"""The keys of config.yaml: the default of each, its bounds, and a line that says what it does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gmmcore.config.options import (
    NAME,
    Options,
    OptionsError,
    Rule,
    build,
    mapping,
    named,
    option,
    same,
    section,
    within,
)
from gmmcore.core.schedule import LAST_STAGE, SIDEKIT_ITERATIONS
from gmmcore.core.settings import (
    MAX_COMPONENTS,
    PARTS,
    RELEVANCE,
    SIDEKIT_BOUNDS,
    MStep,
    TrainingSettings,
)
from gmmcore.files import MIXTURE_FILES, WRITTEN, digest_of

# The defaults of a training, which are the core's.
DEFAULT = TrainingSettings()
# Formats that `export` may name, and the files they are written to.
EXPORTS = {name: f"ubm{MIXTURE_FILES[name][1][0]}" for name in WRITTEN if name != "sidekit"}
# Name of the file that compares the runs, beside their folders.
COMPARISON = "comparison.tsv"
# Formats of feature files, in the order in which a file is looked at.
READERS = ("npy", "htk", "kaldi", "sidekit")
# SIDEKIT's datasets, in the order in which they are joined.
DATASETS = ("energy", "cep", "fb", "bnf")
# Names that `gmmcore.data.normalise.normalise` knows.
NORMALISATIONS = (
    *("cms", "cmvn", "stg", "cms_sliding", "cmvn_sliding", "cms_global", "cmvn_global"),
)
# Filters of the deltas, the weight of the latest frame first: that of SIDEKIT, and the slope over
# two frames on each side, as in HTK (DELTAWINDOW=2) and Kaldi.
DELTA_FILTERS: dict[str, tuple[float, ...]] = {
    "sidekit": (0.25, 0.5, 0.25, 0.0, -0.25, -0.5, -0.25),
    "regression": (0.2, 0.1, 0.0, -0.1, -0.2),
}
# Version of the processing: it is raised with every change of results, which renews all shards.
FEATURES_VERSION = 2

# Keys that decide where frames come from or how work is shared, but not the values of frames.
_NOT_NUMBERS = {
    *("list", "root", "pattern", "format", "vad", "on_error", "shards", "share", "speakers", "part")
}
# Keys of earlier versions, whose defaults remain part of digests: no frames are packed anew.
_GONE = {"frames": None}

FLAG: Rule = {"type": "boolean"}
TEXT: Rule = {"type": "string", "pattern": r"^[^\0]+\Z"}
# A name that begins with a dash would be an option of the verb that is given it.
FOLDER: Rule = {"type": "string", "pattern": r"^[A-Za-z0-9_./][A-Za-z0-9_./-]*\Z"}
AMOUNT: Rule = {"type": "number", "minimum": 0, "maximum": 1e9}
FRACTION: Rule = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
CEILING: Rule = {"type": "number", "exclusiveMinimum": 0, "infinite": True}


def whole(minimum: int, maximum: int = 1_000_000_000) -> Rule:
    """Make the rule for a whole number."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


SEED = whole(0, 2**63 - 1)


def several(rule: Rule, least: int = 1, **bounds: int) -> Rule:
    """Make the rule for a list."""
    return {"type": "array", "items": rule, "minItems": least, **bounds}


def one_of(*names: str) -> Rule:
    """Make the rule for one of some words."""
    return {"enum": [*names]}


@dataclass(frozen=True)
class EStep(Options):
    """Settings of the E-step."""

    precision: str = option(
        DEFAULT.precision, "of matrix products; sums are double", one_of("single", "double")
    )
    pruning: float = option(
        DEFAULT.pruning, "smaller posteriors may be left out; 0 is exact", FRACTION
    )


@dataclass(frozen=True)
class Bounds(Options):
    """Bounds of diagonal variances, relative to those of all frames without outliers."""

    floor: float | None = option(
        None, "lower bound; null: 1e-4, or 0.01 with `method: sidekit`", AMOUNT
    )
    ceiling: float | None = option(
        None, "upper bound; null: none, or 10 with `method: sidekit`", CEILING
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.floor is not None and self.ceiling is not None and self.floor > self.ceiling:
            raise OptionsError(f"floor is {self.floor}, above ceiling, {self.ceiling}")


_FEW = "a component with fewer frames has a low count"


@dataclass(frozen=True)
class LowCount(Options):
    """Components that have few frames."""

    occupancy: float | None = option(DEFAULT.diag.occupancy, _FEW, AMOUNT)


@dataclass(frozen=True)
class Full(Bounds):
    """Full covariances; the bounds are those of eigenvalues, which may be as many as dimensions."""

    floor: float | None = option(
        None, "lower bound; null: 1e-4, or 0.001 with `method: sidekit`", AMOUNT
    )
    ceiling: float | None = option(
        None, "upper bound; null: none, or 1000 with `method: sidekit`", CEILING
    )
    occupancy: float | None = option(
        DEFAULT.full.occupancy, f"{_FEW}; null: as many as dimensions", AMOUNT
    )
    prior: float | None = option(
        DEFAULT.full.prior,
        "a component of n frames keeps n / (n + prior) of its correlations, the others are those "
        "of all components together; null: twice as many as dimensions",
        AMOUNT,
    )
    iterations: int = option(0, "how many, at most", whole(0, maximum=999))


@dataclass(frozen=True)
class IterationSettings(EStep, Bounds, MStep):
    """Settings of an EM iteration, as verbs take them."""

    floor: float = option(DEFAULT.diag.floor, "lower bound of variances", AMOUNT)
    ceiling: float = option(DEFAULT.diag.ceiling, "upper bound of variances", CEILING)
    occupancy: float | None = option(
        DEFAULT.diag.occupancy, f"{_FEW}; null: as many as dimensions", AMOUNT, nullable=True
    )
    prior: float | None = option(
        DEFAULT.diag.prior, "that of full covariances; null: 2 per dimension", AMOUNT, nullable=True
    )


@dataclass(frozen=True)
class Limits(Options):
    """What decides which frames a stage reads, and when it ends."""

    llk_gain: float = option(
        DEFAULT.llk_gain,
        "a stage ends when the log-likelihood per frame (natural logarithm) grows by less",
        {"type": "number", "infinite": True},
    )
    last_gain: float = option(
        DEFAULT.last_gain,
        "the last stage ends when it grows by less than this, too, on a subset of the frames than "
        "three times this; with `method: sidekit`, llk_gain alone counts",
        {"type": "number", "infinite": True},
    )
    frames_per_component: int | None = option(
        DEFAULT.frames_per_component,
        "so many random frames per component, about, are read before the last iterations (fewer "
        "than 200 components get those of 200, full ones (D + 3) / 4 times as many); null: all",
        whole(1),
        nullable=True,
    )
    last_iterations: int = option(
        DEFAULT.last_iterations,
        "how many iterations of the last stage read all frames after those on a subset (if 2 or "
        "more: at least)",
        whole(1),
    )


@dataclass(frozen=True)
class Split(Options):
    """How components are divided."""

    method: str = option(
        DEFAULT.method,
        "principal divides components where the likelihood of a sample gains most; sidekit all "
        "of them, along their axis of largest variance, and each iteration reads all frames",
        one_of("principal", "sidekit"),
    )
    floor: float = same(IterationSettings, "floor")
    occupancy: float | None = same(IterationSettings, "occupancy")


@dataclass(frozen=True)
class Job(Options):
    """What a job that makes iterations computes with."""

    memory: int = option(
        4000, "megabytes of frames that a job keeps; others are read in each iteration", whole(0)
    )
    device: str = option(
        DEFAULT.device,
        "cuda: an NVIDIA GPU (`pip install 'jax[cuda12]'`) computes the E-steps of stages that "
        "take more than a minute on one core",
        one_of("cpu", "cuda"),
    )


@dataclass(frozen=True)
class Init(Options):
    """The start of a training: by default, the Gaussian of all frames."""

    from_: str | None = option(
        None,
        "a mixture file of any format; diagonal ones are split further, full ones iterated",
        TEXT,
    )
    prefix: str = option(
        "",
        "of the datasets, in a SIDEKIT file with several mixtures",
        {"type": "string", "pattern": r"^[^\0]*\Z"},
    )
    input_format: str = option(
        "auto",
        f"of the mixture file: {', '.join(MIXTURE_FILES)}; auto looks into it",
        one_of("auto", *MIXTURE_FILES),
    )


@dataclass(frozen=True)
class DemoSettings(Options):
    """What the demonstration corpus is like."""

    components: int = option(64, "components of the mixture", whole(1, MAX_COMPONENTS))
    dimension: int = option(20, "coefficients of a frame", whole(2, 10_000))
    shows: int = option(40, "how many shows", whole(1, 1_000_000))
    speakers: int = option(10, "how many speakers", whole(1, 1_000_000))
    frames: int = option(120_000, "frames of speech, in all shows", whole(100))
    offset: float = option(0.1, "standard deviation of the speakers' offsets", AMOUNT)
    persistence: float = option(0.8, "chance that the next frame has the same component", FRACTION)
    correlation: float = option(0.5, "correlation of neighbouring frames' noise", FRACTION)


@dataclass(frozen=True)
class Demo(DemoSettings):
    """The demonstration corpus, and where it is written."""

    folder: str | None = option(None, "where it is written; null makes none", FOLDER)


@dataclass(frozen=True)
class FeatureSettings(Options):
    """Where the frames come from and how they are processed."""

    # The list and the seed may be None before `for_run`.
    list: str = option(None, "the shows: a text, TSV, scp or IdMap file, or a folder", TEXT)
    root: str | None = option(
        None, "folder that relative paths start from; by default that of the list", TEXT
    )
    pattern: str | None = option(None, 'file of a show, such as "{show}.h5"', TEXT)
    format: str = option(
        "auto", f"{', '.join(READERS)}; auto looks into the files", one_of("auto", *READERS)
    )
    datasets: tuple[str, ...] = option(
        DATASETS[:2],
        "datasets of SIDEKIT files, joined in the order energy, cep, fb, bnf",
        several(one_of(*DATASETS)),
    )
    vad: str | None = option(
        "file",
        "labels: file (beside the frames), vad.scp of Kaldi, or segments; null takes all frames",
        TEXT,
        nullable=True,
    )
    select_speech: bool = option(True, "keep only the frames labelled as speech", FLAG)
    label_fusion: bool = option(False, "smooth the labels", FLAG)
    mask: Any = option(
        None,
        'coefficients to keep, after the deltas, such as "[0-4,7]"',
        TEXT,
        several(whole(0, maximum=99_999)),
    )
    rasta: bool = option(False, "RASTA filter", FLAG)
    delta: bool = option(False, "append deltas", FLAG)
    double_delta: bool = option(False, "append deltas of the deltas", FLAG)
    delta_filter: Any = option(
        "sidekit",
        "sidekit, regression, or an odd number of weights, that of the latest frame first",
        one_of(*DELTA_FILTERS),
        several({"type": "number", "minimum": -1e6, "maximum": 1e6}, 3),
    )
    delta_edges: str = option(
        "repeat", "zero gives SIDEKIT's values at the ends of a show", one_of("repeat", "zero")
    )
    sdc: tuple[int, ...] | None = option(
        None, "shifted deltas [d, p, k] instead of deltas", several(whole(1, 1000), 3, maxItems=3)
    )
    context: tuple[int, ...] | None = option(
        None, "neighbouring frames to append, [left, right]", several(whole(0, 1000), 2, maxItems=2)
    )
    normalisation: str | None = option(
        None, f"{', '.join(NORMALISATIONS)}, or null", one_of(*NORMALISATIONS)
    )
    window: int = option(301, "frames of the sliding normalisations, an odd number", whole(3))
    on_error: str = option(
        "stop",
        "what a faulty show does: stop, or skip (it is listed in skipped.tsv)",
        one_of("stop", "skip"),
    )
    shards: int | str = option(
        "auto", "how many files the frames are dealt to", whole(1, maximum=100_000), one_of("auto")
    )
    seed: int = option(None, "of random subsets of frames; by default that of the run", SEED)

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
    """Which shows are held out."""

    share: float = option(
        0.0,
        "share of the frames, in whole shows drawn by features.seed; `held_out: 0.05` says it too",
        FRACTION,
    )
    speakers: str | None = option(
        None, "a text with lines `show speaker`: of a speaker, all shows are held out or none", TEXT
    )
    list: str | None = option(
        None, "the shows to hold out, as features.list, instead of a share", TEXT
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.list and (self.share or self.speakers):
            raise OptionsError("list excludes share and speakers; remove one or the other")
        if self.speakers and not self.share:
            raise OptionsError("speakers is set, but share is not; set it, such as share: 0.05")


@dataclass(frozen=True)
class Shows(Options):
    """Shows whose statistics are computed under the final mixture."""

    list: str = option(None, "the shows, as features.list", TEXT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.list:
            raise OptionsError("list is required: the path of a list of shows, or of a folder")


@dataclass(frozen=True)
class Verification(Options):
    """Which models are made of the statistics, and what is scored against them."""

    enrolment: str | None = option(None, "a text with lines `model show`, of any shows above", TEXT)
    trials: str | None = option(
        None, "a text with lines `model show`, or `model show target` and nontarget", TEXT
    )
    relevance: float = option(
        RELEVANCE,
        "frames that the mean of the mixture counts for in a model",
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
    )
    scoring: str = option(
        "linear",
        "linear: of the statistics; ratio: exact log-likelihood ratios, which read the frames",
        one_of("linear", "ratio"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.enrolment is None) != (self.trials is None):
            raise OptionsError("enrolment and trials go together; set both, or none of them")


@dataclass(frozen=True)
class FeaturePart(FeatureSettings):
    """Settings of one of the two parts of a list of which a share is held out."""

    share: float = same(HeldOut, "share")
    speakers: str | None = same(HeldOut, "speakers")
    part: str = option(
        "training", "training takes the shows that are not held out", one_of("training", "held_out")
    )

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that identify the frames."""
        return {**mapping(self, None if self.share else FeatureSettings), **_GONE}


@dataclass(frozen=True)
class TrainingKeys(Options):
    """The keys that decide a training, which `gmmcore.train` takes too."""

    components: int = option(
        512,
        "components of the final mixture, any number; each stage but the last doubles them, and "
        "ends at llk_gain: with a larger number, the stage that was the last changes (another "
        "`run` keeps both)",
        whole(1, MAX_COMPONENTS),
    )
    iterations: tuple[int, ...] | None = option(
        None,
        "EM iterations after each split, at most; the last entry serves all further splits; null: "
        f"{', '.join(map(str, SIDEKIT_ITERATIONS[:8]))}, and so on, and {LAST_STAGE} in the last "
        "stage, with `method: sidekit` 8 there, too",
        several(whole(0, maximum=999)),
    )
    llk_gain: float = same(Limits, "llk_gain")
    last_gain: float = same(Limits, "last_gain")
    method: str = same(Split, "method")
    frames_per_component: int | None = same(Limits, "frames_per_component")
    last_iterations: int = same(Limits, "last_iterations")
    variance: Bounds = section(
        Bounds, "bounds of diagonal variances, relative to those of all frames, without outliers"
    )
    low_count: LowCount = section(LowCount, "diagonal components with few frames")
    full: Full = section(
        Full,
        "full covariances after the last diagonal stage, with bounds of their eigenvalues, "
        "relative to the same variances",
    )
    precision: str = same(EStep, "precision")
    pruning: float = same(EStep, "pruning")
    device: str = same(Job, "device")
    seed: int = option(
        DEFAULT.seed,
        "of the demonstration, of random subsets of frames and of the shows to hold out",
        SEED,
    )

    @property
    def limits(self) -> Limits:
        """What decides which frames a stage reads, and when it ends."""
        limits = Limits(**mapping(self, Limits))
        if self.method == "principal":
            return limits
        return replace(limits, frames_per_component=None, last_gain=self.llk_gain)

    @property
    def schedule(self) -> tuple[int, ...] | None:
        """The largest numbers of iterations after each split; None for those of the core."""
        given = self.iterations
        return SIDEKIT_ITERATIONS if given is None and self.method == "sidekit" else given

    @property
    def split(self) -> Split:
        """How components are divided."""
        step = self.iteration("diag")
        return Split(method=self.method, floor=step.floor, occupancy=step.occupancy)

    def iteration(self, kind: str) -> IterationSettings:
        """Return the settings of an iteration in stages of the kind ``diag`` or ``full``."""
        is_full, is_sidekit = kind == "full", self.method == "sidekit"
        own = mapping(self.full, MStep) if is_full else vars(self.variance) | vars(self.low_count)
        default = DEFAULT.full if is_full else DEFAULT.diag
        bounds = SIDEKIT_BOUNDS["full" if is_full else "diag"] if is_sidekit else vars(default)
        own |= {name: bounds[name] for name in ("floor", "ceiling") if own[name] is None}
        return IterationSettings(precision=self.precision, pruning=self.pruning, **own)

    def training(self, threads: int) -> TrainingSettings:
        """Return the settings of a training in one process."""
        return TrainingSettings(
            **vars(self.limits),
            precision=self.precision,
            pruning=self.pruning,
            threads=threads,
            device=self.device,
            diag=self.iteration("diag"),
            full=self.iteration("full"),
            method=self.method,
            robust=self.method != "sidekit",
            seed=self.seed,
        )


@dataclass(frozen=True)
class Settings(TrainingKeys):
    """The configuration of one run."""

    run: str = option(
        "ubm",
        "name of the run; its files are in results/NAME/",
        {"type": "string", "pattern": rf"^{NAME}\Z"},
    )
    init: Init = section(
        Init, "where a training starts; by default from the Gaussian of all frames"
    )
    jobs: int | str = option(
        "auto",
        "auto: one job makes a stage; a number: so many jobs share the E-step of each iteration, "
        "with statistics as files; the result is the same",
        whole(1, PARTS),
        one_of("auto"),
    )
    memory: int = same(Job, "memory")
    export: tuple[str, ...] = option(
        (),
        "formats written beside ubm.h5: "
        f"{', '.join(f'{name} ({file})' for name, file in EXPORTS.items())}; others are removed",
        several(one_of(*EXPORTS), 0),
    )
    keep: tuple[int, ...] = option(
        (),
        "numbers of components, such as [64, 256], that are exported too",
        several(whole(1, MAX_COMPONENTS), 0),
    )
    report: bool = option(
        True, "write report.html; results/comparison.tsv compares all runs that have one", FLAG
    )
    demo: Demo = section(Demo, "make a demonstration corpus, and compare the result with its truth")
    features: FeatureSettings = section(
        FeatureSettings, "where the frames come from and what is done to them"
    )
    held_out: HeldOut = section(
        HeldOut,
        "shows that are not trained on, whose log-likelihood is told beside the others'",
        short="share",
    )

    statistics: Mapping[str, Shows] = named(
        Shows, "Baum-Welch statistics of shows under the final mixture: `NAME: {list: FILE}`"
    )
    verification: Verification = section(
        Verification, "models adapted to some of these shows, and the scores of trials"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.verification.trials and not self.statistics:
            raise OptionsError(
                "verification has trials, but statistics names no shows; add `statistics: {NAME: "
                "{list: FILE}}`"
            )
        if self.run in ("features", COMPARISON):
            raise OptionsError(f"a run cannot be called {self.run}; choose another name")
        if self.keep and not self.export:
            raise OptionsError(
                f"keep is {[*self.keep]}, but export names no format; add one, such as kaldi (the "
                "last mixtures of all stages are kept as .h5 anyway)"
            )
        if len(set(self.export)) < len(self.export):
            raise OptionsError(f"export is {[*self.export]}: each format once was expected")


def parse_mask(value: Any) -> tuple[int, ...]:
    """Return the sorted coefficients that a list, or a text in SIDEKIT's notation, keeps.

    >>> parse_mask("[0-4,7]")
    (0, 1, 2, 3, 4, 7)
    """
    if not isinstance(value, str):
        return tuple(sorted({*value}))
    chosen: set[int] = set()
    for part in value.strip().removeprefix("[").removesuffix("]").split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        if match is None:
            raise ValueError("expected numbers and ranges such as [0-4,7]")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {part.strip()} ends before it begins")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))
