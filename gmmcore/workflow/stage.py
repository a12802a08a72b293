"""The iterations of a stage as files: which are valid, and how the missing ones are made.

A file is valid if it is intact and was made by the current settings from files that are valid.
Every file holds what is needed to tell: digests of its content, of its settings and of what it was
made from.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TextIO

from gmmcore.config.keys import EStep, IterationSettings, Limits
from gmmcore.config.options import Options, mapping
from gmmcore.core.describe import few_frames
from gmmcore.core.em import iterations
from gmmcore.core.estep import ESteps, lost_digits
from gmmcore.core.frames import FrameSource
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import ARITHMETIC, Update, maximise
from gmmcore.core.parallel import arithmetic, processes_map
from gmmcore.core.schedule import (
    FORK_SECONDS,
    Course,
    Stage,
    held_out_level,
    iteration_name,
    place_of,
)
from gmmcore.core.sums import Statistics
from gmmcore.data.corpus import Corpus, CorpusFrames
from gmmcore.data.shows import check_apart
from gmmcore.errors import DamagedFileError, GmmcoreError, explained
from gmmcore.files import digest_of, holding, read_bytes, replace_bytes
from gmmcore.formats.hdf5 import KIND, Model, header_facts, load_model, save_model, unseal

# A function of the path of a mixture, which returns its facts and its fault.
Look = Callable[[str], tuple[dict[str, Any], str]]
OTHER_SETTINGS = "made with other settings"
# Largest relative decrease of a log-likelihood per frame that sums in double precision can cause.
_ROUNDING = 1e-12
# An iteration that takes less has no line on a terminal, and one that takes longer has a new one
# as often.
_PATIENCE, _PERIOD = 2.0, 0.5


# What a file says of its making


def settings_digest(verb: str, settings: Options | None = None) -> str:
    """Compute the digest of the settings that decide the numbers that a verb writes."""
    if settings is None:
        return digest_of(verb, ARITHMETIC)
    chosen = mapping(settings, EStep if verb == "accumulate" else None)
    # JSON has no infinity, so it is written as text.
    infinite = (math.inf, -math.inf)
    chosen = {key: str(value) if value in infinite else value for key, value in chosen.items()}
    return digest_of(verb, chosen, ARITHMETIC)


def provenance(
    *,
    stage: str,
    components: int,
    iteration: int = 0,
    level: int = 0,
    parent: str | None = None,
    corpus: str | None = None,
    settings: str | None = None,
    device: str | None = None,
    **of_iteration: float | str | bool | None,
) -> dict[str, Any]:
    """Return the facts in the header of a mixture's file: what it is, and what it was made from.

    `parent` is the digest of the mixture that this one was made from, `corpus` that of the frames,
    and `settings` the `settings_digest` of the verb that made it. `device` is the GPU that computed
    the sums, if one did. An iteration has more facts, such as its ``gain``.
    """
    return {
        "stage": stage,
        "components": components,
        "iteration": iteration,
        "level": level,
        "parent": parent,
        "corpus": corpus,
        "settings": settings,
        "arithmetic": arithmetic(),
        **({} if device is None else {"device": device}),
        **of_iteration,
    }


def stale(
    facts: dict[str, Any], iteration: int, settings: str, corpus: str, parent: str | None
) -> str:
    """Say why a mixture cannot be used; empty if it can."""
    if facts.get("settings") != settings:
        return OTHER_SETTINGS
    if facts.get("corpus") != corpus:
        return "made from other frames"
    if facts.get("parent") != parent:
        return "made from another mixture"
    return "" if facts.get("iteration") == iteration else "not the mixture of this name"


# Which iterations are valid


@dataclass(frozen=True)
class Walk:
    """The last valid iteration of a stage, 0 for its first mixture, and the digest of its file.

    `fault` is what is wrong with the file of the next one; empty if there is no such file.
    """

    last: int
    digest: str
    complete: bool
    fault: str = ""


def mixture_path(folder: str | os.PathLike[str], iteration: int) -> str:
    """Return the file of an iteration in the folder of a stage."""
    return os.path.join(folder, f"{iteration_name(iteration)}.h5")


def sealed_state(path: str) -> tuple[dict[str, Any], str]:
    """Return the facts of a mixture's file and its fault, which is empty if there is none."""
    return _state(path, lambda path: unseal(path, KIND)[0])


def header_state(path: str) -> tuple[dict[str, Any], str]:
    """Do what `sealed_state` does without reading the mixture."""
    return _state(path, header_facts)


def _state(path: str, read: Callable[[str], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    try:
        return read(path), ""
    except DamagedFileError as error:
        return {}, error.what
    except GmmcoreError as error:
        return {}, str(error).removeprefix(f"{path}: ")


def walk_iterations(
    folder: str | os.PathLike[str],
    first: str,
    corpus: Corpus,
    held_out: Corpus | None,
    settings: str,
    course: Course,
    look: Look = sealed_state,
) -> Walk:
    """Follow the iterations in a stage's folder as long as they are valid.

    `first` and `settings` are the digests of the stage's first mixture and of the settings of
    ``maximise``. With `header_state` to `look` at a file, no mixture is read as a whole.
    """
    digest, last, level = first, 0, course.next_level(0, 0, None)
    while level is not None:
        path = mixture_path(folder, last + 1)
        if not os.path.lexists(path):
            return Walk(last, digest, False)
        facts, fault = look(path)
        fault = fault or stale(facts, last + 1, settings, corpus.digest, digest)
        if not fault and facts.get("held_out_frames") != _digest(held_out):
            fault = "made with other held-out frames"
        if not fault and facts["level"] != level:
            fault = OTHER_SETTINGS
        if fault:
            return Walk(last, digest, False, fault)
        last, digest = last + 1, facts["digest"]
        level = course.next_level(*place_of(facts))
    return Walk(last, digest, True)


def iterations_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of all iterations in a stage's folder, without the first mixture."""
    found = [path for path in Path(folder).glob("*.h5") if path.stem.isdigit()]
    return sorted((path for path in found if int(path.stem)), key=lambda path: int(path.stem))


def superseded(folder: str | os.PathLike[str], last: int) -> Iterator[Path]:
    """Yield the files in a stage's folder that are obsolete once `last` is its last iteration."""
    yield from (path for path in iterations_in(folder) if int(path.stem) > last)
    yield from Path(folder).glob("*/*.stats.h5")


def _digest(held_out: Corpus | None) -> str | None:
    return None if held_out is None else held_out.digest


# How iterations are made


@dataclass(frozen=True)
class Task:
    """What a job that makes iterations of a stage is given."""

    mixture: str  # The file of the first mixture of the stage, or of the iteration before.
    corpus: str  # A corpus.json, and that of the held-out frames.
    held_out: str | None
    iterations: int  # Largest number of them.
    final: bool
    settings: IterationSettings
    limits: Limits
    memory: int  # Megabytes of frames that stay in memory.
    threads: int
    device: str
    share: float = 1.0  # Of the frames that the job reads.

    @cached_property
    def inside(self) -> Corpus:
        """The frames to train on."""
        return Corpus.read(self.corpus)

    @cached_property
    def outside(self) -> Corpus | None:
        """The held-out frames."""
        return None if self.held_out is None else Corpus.read(self.held_out)

    @cached_property
    def model(self) -> Model:
        """The mixture, which must come from the frames to train on."""
        model = load_model(self.mixture)
        if model.facts["corpus"] != self.inside.digest:
            raise DamagedFileError(self.mixture, f"comes from other frames than {self.corpus}")
        return model

    @cached_property
    def course(self) -> Course:
        """What the iterations of the stage read, and when it ends."""
        facts = self.model.facts
        stage = Stage(facts["stage"], facts["components"], self.iterations, "", self.final)
        size = {"frames": self.inside.frames, "dimension": self.inside.dimension}
        return Course.of(stage, **size, **mapping(self.limits))

    @cached_property
    def level(self) -> int:
        """Level of the subset that the iteration after the mixture reads."""
        level = self.course.next_level(*place_of(self.model.facts))
        if level is None:
            raise GmmcoreError(
                f"{self.mixture}: is the last mixture of its stage; for another iteration, "
                "expected more --iterations or a lower --llk-gain"
            )
        return level

    @cached_property
    def gpu(self) -> str | None:
        """Name of the GPU that computes; None for the CPU."""
        if self.device == "cpu":
            return None
        from gmmcore.core.gpu import gpu_name

        return gpu_name()

    @cached_property
    def e_steps(self) -> ESteps:
        """The E-steps of the stage."""
        return ESteps(
            self._source(self.inside, self.corpus),
            precision=self.settings.precision,
            pruning=self.settings.pruning,
            device=self.device,
            workers=self.threads,
            map_of=processes_map,
            least=FORK_SECONDS,
            held_out=self._held_out_source(),
        )

    def _held_out_source(self) -> Callable[[int], FrameSource] | None:
        if self.outside is None or self.held_out is None:
            return None
        at = self._source(self.outside, self.held_out)
        return lambda level: at(held_out_level(level, at(0).frames))

    def _source(self, corpus: Corpus, path: str) -> Callable[[int], FrameSource]:
        """Return the function that reads the subset of a level; memory is taken when it does."""
        memory = int(1_000_000 * self.memory / self.share)
        return lambda level: _frames(corpus, path, memory, self.threads > 1).at(level)

    def iterate(
        self, model: Model, e_step: Callable[[GaussianMixture, int], Statistics]
    ) -> Iterator[tuple[HistoryEntry, Update]]:
        """Iterate EM after a mixture of the stage."""
        return iterations(
            model.mixture,
            e_step,
            partial(maximise, settings=self.settings, threads=self.threads),
            self.course.after,
            history=model.history[len(model.history) - model.facts["iteration"] :],
            held_out=self.e_steps.held_out,
            reached=model.facts.get("held_out", math.nan),
        )

    def look(self, model: Model) -> None:
        """Warn of few frames, and refuse shows that are held out too, where a stage begins."""
        if model.facts["iteration"]:
            return
        size = self.inside.frames, model.mixture.components, self.inside.dimension
        if model.mixture.is_full and (line := few_frames(*size, full=True)):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        if self.held_out is not None:
            paths = (Path(path).with_name("shows.tsv") for path in (self.corpus, self.held_out))
            check_apart(*paths)


@lru_cache(2)
def _frames(corpus: Corpus, path: str, memory: int, is_shared: bool) -> CorpusFrames:
    """Return the frames of a corpus, which the stages of one process read once."""
    return CorpusFrames(corpus, path, memory, is_shared=is_shared)


def make_iterations(task: Task, output: str) -> None:
    """Make the missing iterations of a stage beside its first mixture, and copy the last one.

    Valid files are kept, and the file of each iteration is complete before the next one begins. If
    another process works in the stage's folder, such as one left by a killed Snakemake, this one
    waits for it.
    """
    folder = Path(task.mixture).parent
    with holding(folder):
        last = _last_iteration(task, folder)
        for path in superseded(folder, last):
            path.unlink(missing_ok=True)
        content = read_bytes(mixture_path(folder, last))
        if not os.path.exists(output) or read_bytes(output) != content:
            replace_bytes(output, content)


def _last_iteration(task: Task, folder: Path) -> int:
    """Continue after the last valid iteration; return the number of the stage's last one."""
    first, settings = task.model, settings_digest("maximise", task.settings)
    stage, name = task.course.stage, folder.absolute().parents[1].name

    done = walk_iterations(folder, first.digest, task.inside, task.outside, settings, task.course)
    if done.complete:
        return done.last
    if done.fault.startswith("damaged"):
        print(f"{mixture_path(folder, done.last + 1)}: {done.fault}; it is made again", flush=True)
    last, source = done.last, mixture_path(folder, done.last)
    model = load_model(source) if last else first
    task.look(model)
    with (
        explained(source),
        # Logs have no such line: it goes to the terminal itself.
        progress_line(
            sys.__stderr__,
            lambda: f"{name}  {stage.kind} {stage.components:>5}  iteration {last + 1:>2}",
        ) as task.e_steps.report,
    ):
        start = time.perf_counter()
        for entry, update in task.iterate(model, task.e_steps.statistics):
            last, seconds = entry.iteration, time.perf_counter() - start
            path = mixture_path(folder, last)
            model = save_iteration(task, path, model, entry, update, task.gpu, seconds)
            start = time.perf_counter()
    return last


def save_iteration(
    task: Task,
    path: str,
    before: Model,
    entry: HistoryEntry,
    update: Update,
    gpu: str | None,
    seconds: float | None = None,
) -> Model:
    """Print the line of an iteration in the training log, and write its mixture.

    `before` is the mixture that the iteration started from, and `gpu` the GPU that computed it. If
    only a part of it was timed, `seconds` is None.
    """
    # The name of the run is that of a folder: results/<run>/<kind>/<components>/<iteration>.h5.
    run = Path(path).absolute().parents[2].name
    print(f"{run}  {log_line(entry, update, seconds)}", flush=True)
    _look_at_decrease(entry, before, task.settings)
    history = (*before.history, entry)
    _look_at_held_out(history, update, task.limits.llk_gain)
    facts = provenance(
        stage=entry.stage,
        components=entry.components,
        iteration=entry.iteration,
        level=entry.level,
        parent=before.digest,
        corpus=before.facts["corpus"],
        settings=settings_digest("maximise", task.settings),
        device=gpu,
        log_likelihood=entry.log_likelihood,
        gain=None if math.isnan(entry.gain) else entry.gain,
    )
    if task.outside is not None:
        facts |= {"held_out": update.held_out, "held_out_frames": task.outside.digest}
    digest = save_model(path, update.mixture, facts, history)
    return Model(update.mixture, facts, history, digest)


def log_line(entry: HistoryEntry, update: Update, seconds: float | None = None) -> str:
    """Return the line of an iteration in the training log."""
    gain = "" if math.isnan(entry.gain) else f"  gain {entry.gain:+.6f}"
    line = (
        f"{entry.stage} {entry.components:>5}  iteration {entry.iteration:>2}"
        f"  log-likelihood/frame {entry.log_likelihood:.6f}{gain}"
    )
    if entry.level:
        line += f"  on {entry.frames} frames"
    if not math.isnan(entry.held_out):
        line += f"  held-out {entry.held_out:.6f}"
    if seconds is not None:
        line += f"  {seconds:.2f} s  {entry.frames / max(seconds, 1e-9):.0f} frames/s"
    if entry.floored or entry.ceiled:
        line += f"  floored {entry.floored}  ceiled {entry.ceiled}"
    if update.low_count:
        shown = ", ".join(f"{index} ({count:.1f} frames)" for index, count in update.low_count[:5])
        more = f" and {len(update.low_count) - 5} more" if len(update.low_count) > 5 else ""
        line += f"  low count {len(update.low_count)}: {shown}{more}"
    return line


def _look_at_decrease(entry: HistoryEntry, before: Model, settings: IterationSettings) -> None:
    """Warn if the log-likelihood fell by more than precision explains."""
    previous = before.history[-1] if entry.iteration > 1 else None
    if previous is None or not entry.gain < -_ROUNDING * abs(entry.log_likelihood):
        return
    lost = lost_digits(before.mixture, settings.precision, settings.pruning)
    if entry.gain >= -lost - _ROUNDING * abs(entry.log_likelihood):
        return
    print(
        f"warning: {entry.stage} {entry.components}, iteration {entry.iteration}: the "
        f"log-likelihood per frame fell by {-entry.gain:.3g}, and rounding explains no more than "
        f"{lost:.1g}; try precision: double and pruning: 0",
        file=sys.stderr,
    )


def _look_at_held_out(history: Sequence[HistoryEntry], update: Update, llk_gain: float) -> None:
    """Warn, once per stage, that the held-out log-likelihood falls and that of the training rises.

    A fall is one by more than ``llk_gain`` below the highest of the stage, on the same frames.
    """
    entry = history[-1]
    if entry.gain < 0:
        return
    highest: dict[int, float] = {}
    slack = max(llk_gain, 0.0)
    # What each iteration started from; the last one is what the update made.
    reached = [(e.level, e.held_out) for e in history[-entry.iteration :]]
    reached.append((entry.level, update.held_out))
    falls = []
    for level, value in reached:
        highest[level] = max(value, highest.get(level, value))
        falls.append(value < highest[level] - slack)
    if not falls[-1] or any(falls[:-1]):
        return
    gain = "" if math.isnan(entry.gain) else f", {entry.gain:+.4f} in this iteration"
    prior = ", raise full.prior" if update.mixture.is_full else ""
    print(
        f"warning: {entry.stage} {entry.components}, iteration {entry.iteration}: the held-out "
        f"log-likelihood per frame falls, from {highest[entry.level]:.4f} to "
        f"{update.held_out:.4f}, while that of the training frames rises "
        f"({entry.log_likelihood:.4f}{gain}): the mixture may fit these frames only; train fewer "
        f"components{prior} or bring more shows",
        file=sys.stderr,
    )


@contextlib.contextmanager
def progress_line(
    stream: TextIO | None, label: Callable[[], str], clock: Callable[[], float] = time.perf_counter
) -> Iterator[Callable[[int, int], None] | None]:
    """Make a function that shows on a terminal how many of its frames an iteration has read.

    The cursor is left at the beginning of the line, so that whatever comes next is written over
    it, also by another job. If the stream is no terminal, there is no such function.
    """
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    start, due, shown = clock(), math.inf, False

    def write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # The terminal may be gone.
            width = os.get_terminal_size(stream.fileno()).columns or 80
            stream.write(f"\r{text[: width - 1]}\x1b[K\r")
            stream.flush()

    def report(done: int, frames: int) -> None:
        nonlocal start, due, shown
        now = clock()
        if not done:
            start, due = now, now + _PATIENCE
        elif done < frames and now >= due:
            due, shown = now + _PERIOD, True
            left = duration((now - start) * (frames - done) / done)
            write(f"{label()}  {100 * done // frames} %  {left} left")
        elif done >= frames and shown:
            shown = False
            write("")

    try:
        yield report
    finally:
        if shown:
            write("")


def duration(seconds: float) -> str:
    """Write a duration in one or two units.

    Examples
    --------
    >>> from gmmcore.workflow.stage import duration
    >>> [duration(seconds) for seconds in (0.3, 59.6, 600, 8000, 200_000)]
    ['less than 1 s', '1 min', '10 min', '2 h 13 min', '2 d 7 h']
    """
    if seconds < 1:
        return "less than 1 s"
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h" + f" {minutes} min" * (minutes > 0)
    days, hours = divmod(hours, 24)
    return f"{days} d" + f" {hours} h" * (hours > 0)
