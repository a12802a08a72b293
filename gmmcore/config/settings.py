"""The keys of config.yaml: their defaults, their bounds and what they do."""

from __future__ import annotations

from dataclasses import dataclass

from gmmcore.config.demo import DemoSettings
from gmmcore.config.features import FeatureSettings, HeldOut
from gmmcore.config.options import FOLDER, Options, OptionsError, option, same, section
from gmmcore.config.steps import (
    Bounds,
    FullBounds,
    FullCounts,
    IterationSettings,
    Limits,
    LowCount,
    Memory,
    MStep,
    Split,
)
from gmmcore.core.schedule import SIDEKIT_ITERATIONS
from gmmcore.files import MIXTURE_FILES, WRITTEN

__all__ = ["COMPARISON", "EXPORTS", "Settings"]

EXPORTS = {name: f"ubm{MIXTURE_FILES[name][1][0]}" for name in WRITTEN if name != "sidekit"}
"""Formats that `export` may name, and the files they are written to."""

COMPARISON = "comparison.tsv"
"""Files that compare the runs, beside their folders."""


@dataclass(frozen=True)
class Full(FullCounts, FullBounds):
    """Full covariances after the last diagonal stage."""

    iterations: int = option(0, "how many, at most", type="integer", minimum=0, maximum=999)


@dataclass(frozen=True)
class Init(Options):
    """The start of a training: by default, the Gaussian of all frames."""

    from_: str | None = option(
        None,
        "a mixture file: SIDEKIT, Kaldi, ALIZE or HTK; diagonal ones are split further, "
        "full ones iterated",
        type="string",
    )
    prefix: str = option(
        "", "prefix of the datasets, in a SIDEKIT file with several mixtures", type="string"
    )


@dataclass(frozen=True)
class Demo(DemoSettings):
    """The demonstration corpus."""

    folder: str | None = option(None, "where it is written; null makes none", FOLDER)


@dataclass(frozen=True)
class Mpi(Options):
    """How many ranks of MPI share a stage, and how they are started."""

    ranks: int = option(
        1,
        "so many ranks, on one machine or many, make the iterations of a large stage; 1: processes "
        "of one machine do; the result does not depend on it",
        type="integer",
        minimum=1,
    )
    launcher: str = option(
        "mpiexec",
        "the command that starts them, such as srun --mpi=pmi2 --kill-on-bad-exit",
        type="string",
        minLength=1,
    )


@dataclass(frozen=True)
class Settings(Options):
    """The configuration of one run."""

    run: str = option(
        "ubm",
        "name of the run; its files are in results/NAME/",
        type="string",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z",
    )
    seed: int = option(
        1,
        "of the demonstration corpus, of random subsets of frames and of the shows to hold out",
        type="integer",
        minimum=0,
    )
    components: int = option(
        512,
        "components of the final mixture, any number; stages double, the last one divides only "
        "as many of the heaviest components as are wanted",
        type="integer",
        minimum=1,
    )
    iterations: tuple[int, ...] = option(
        SIDEKIT_ITERATIONS,
        "EM iterations after each split, at most; the last entry serves all further splits",
        type="array",
        minItems=1,
        items={"type": "integer", "minimum": 0, "maximum": 999},
    )
    llk_gain: float = same(Limits, "llk_gain")
    method: str = same(Split, "method")
    frames_per_component: int | None = same(Limits, "frames_per_component")
    last_iterations: int = same(Limits, "last_iterations")
    variance: Bounds = section(Bounds, "bounds of diagonal variances, relative to the global ones")
    full: Full = section(
        Full,
        "full covariances after the last diagonal stage; bounds of the eigenvalues, relative to "
        "the global variances, after whitening",
    )
    low_count: LowCount = section(LowCount, "components with few frames")
    init: Init = section(
        Init, "where a training starts; by default from the Gaussian of all frames"
    )
    precision: str = same(IterationSettings, "precision")
    pruning: float = same(IterationSettings, "pruning")
    device: str = option(
        "cpu",
        "what computes E-steps; cuda: a GPU of NVIDIA (needs `pip install 'gmmcore[gpu]'`) does in "
        "stages that take more than a minute on one core",
        enum=["cpu", "cuda"],
    )
    jobs: int | str = option(
        "auto",
        "auto: one job makes all iterations of a stage; a number: so many E-step jobs per "
        "iteration, with statistics as files; the result does not depend on it",
        {"type": "integer", "minimum": 1},
        {"enum": ["auto"]},
    )
    memory: int = same(Memory, "memory")
    mpi: Mpi = section(Mpi, "share stages among ranks of MPI (needs `pip install 'gmmcore[mpi]'`)")
    export: tuple[str, ...] = option(
        (),
        f"formats written beside ubm.h5: {', '.join(EXPORTS)}",
        type="array",
        items={"enum": [*EXPORTS]},
    )
    keep: tuple[int, ...] = option(
        (),
        "numbers of components, such as [64, 256], whose last mixtures get the formats of export "
        "too",
        type="array",
        items={"type": "integer", "minimum": 1},
    )
    report: bool = option(
        True,
        "write report.html, with plots; two runs or more with one are compared in "
        "results/comparison.tsv",
        type="boolean",
    )
    demo: Demo = section(Demo, "make a demonstration corpus, and compare the result with its truth")
    features: FeatureSettings = section(
        FeatureSettings, "where the frames come from and what is done to them"
    )
    held_out: HeldOut = section(
        HeldOut,
        "shows that are not trained on, whose log-likelihood stands beside that of the training",
        short="share",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run in ("features", COMPARISON):
            raise OptionsError(f"a run cannot be called {self.run}; choose another name")
        if self.keep and not self.export:
            raise OptionsError(
                f"keep is {[*self.keep]}, but export names no format; add one, such as kaldi (the "
                "last mixtures of all stages are kept as .h5 anyway)"
            )
        if len(set(self.export)) < len(self.export):
            raise OptionsError(f"export is {[*self.export]}: each format once was expected")

    @property
    def limits(self) -> Limits:
        """What decides which frames a stage reads, and when it ends."""
        return Limits(
            llk_gain=self.llk_gain,
            frames_per_component=self.frames_per_component if self.method == "principal" else None,
            last_iterations=self.last_iterations,
        )

    @property
    def split(self) -> Split:
        """How components are divided."""
        return Split(method=self.method, floor=self.variance.floor)

    def iteration(self, kind: str) -> IterationSettings:
        """Return the settings of an iteration in stages of the kind ``diag`` or ``full``."""
        bounds = self.full if kind == "full" else self.variance
        occupancy, prior = self.low_count.occupancy, MStep.prior
        if kind == "full":
            occupancy, prior = self.full.occupancy, self.full.prior
        return IterationSettings(
            precision=self.precision,
            pruning=self.pruning,
            floor=bounds.floor,
            ceiling=bounds.ceiling,
            occupancy=occupancy,
            prior=prior,
        )
