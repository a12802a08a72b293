"""An iteration in several jobs: statistics of parts of the frames as files, and the M-step."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from gmmcore.core.sums import Sums
from gmmcore.errors import explained
from gmmcore.formats.statistics import StatisticsFacts, read_statistics, save_statistics
from gmmcore.workflow.stage import Task, iterations_in, save_iteration, settings_digest


def make_statistics(task: Task, part: int, parts: int, output: str) -> None:
    """Write the sums of the parts of the frames that are those of one of so many jobs."""
    steps, mixture = task.e_steps, task.model.mixture
    frames = steps.parts(task.level)
    numbers = np.array_split(np.arange(len(frames)), parts)[part].tolist()
    chosen = [frames[number] for number in numbers]
    with explained(task.mixture):
        sums = steps.map(mixture, chosen)(steps.sums(mixture).over, chosen)
        found = dict(zip(numbers, sums, strict=True))
    save_statistics(output, found, _facts(task), gpu=task.gpu)


def make_next(task: Task, statistics: Sequence[str], output: str) -> None:
    """Write the mixture that the statistics of all parts make; remove later iterations."""
    task.look(task.model)
    with explained(task.mixture):
        steps, mixture = task.e_steps, task.model.mixture
        frames = steps.parts(task.level)
        # The sums of a GPU lie as those of a CPU without pruning, and adding them needs no GPU.
        sums = steps.sums(mixture) if task.device == "cpu" else Sums(mixture, steps.precision)
        found, files = read_statistics(statistics, _facts(task), len(frames), sums.size)
        count = sum(part.frames for part in frames)
        total = sums.statistics(reduce(operator.iadd, found), count)
        entry, update = next(task.iterate(task.model, lambda *_: total))
    save_iteration(task, output, task.model, entry, update, files[0].get("gpu"))
    for path in iterations_in(Path(output).parent):
        if int(path.stem) > entry.iteration:
            path.unlink(missing_ok=True)


def _facts(task: Task) -> StatisticsFacts:
    """Return what the files of the E-step after the mixture have in common."""
    settings = settings_digest("accumulate", task.settings)
    digests = task.model.digest, task.inside.digest
    return StatisticsFacts(*digests, task.level, settings, task.device)
