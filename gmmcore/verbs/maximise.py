"""Statistics of all shards to the next mixture."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.verbs.accumulate import statistics_of_shards
from gmmcore.verbs.common import (
    ACCUMULATE_DEFAULTS,
    MAXIMISE_DEFAULTS,
    accumulate_digest,
    add_settings,
    explained,
    maximise_settings,
    settings_of,
)

if TYPE_CHECKING:
    from gmmcore.corpus import Corpus
    from gmmcore.em import Update
    from gmmcore.history import HistoryEntry

__all__ = ["configure", "run"]

# What rounding alone may take from a log-likelihood per frame, relative to its size.
_ROUNDING = {"double": 1e-12, "single": 1e-6}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--mixture", required=True, help="what the statistics were taken with")
    parser.add_argument("--statistics", nargs="*", default=[], help="of all shards")
    parser.add_argument(
        "--shards", nargs="*", default=[], help="instead: all shards, to take the statistics of"
    )
    parser.add_argument("--threads", type=int, default=1, help="do not change the result")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--components", type=int, required=True, help="of the stage")
    parser.add_argument("--output", required=True)
    parser.add_argument(
        "--until",
        type=int,
        default=0,
        metavar="ITERATION",
        help="with --shards: go on to this iteration, each in a file beside --output",
    )
    parser.add_argument(
        "--llk-gain",
        type=float,
        default=-math.inf,
        help="end earlier, after an iteration that gains less a frame (natural logarithm)",
    )
    add_settings(parser, ", ".join({**ACCUMULATE_DEFAULTS, **MAXIMISE_DEFAULTS}))


def run(arguments: argparse.Namespace) -> None:
    """Write the next mixture and print the iteration's line of the training log.

    Then go on, if that is asked for: a process an iteration would spend most of its time on
    starting. Each mixture is a whole file before the next is begun.
    """
    from gmmcore.corpus import Corpus
    from gmmcore.schedule import iteration_name, train_stop

    settings = settings_of(arguments, {**ACCUMULATE_DEFAULTS, **MAXIMISE_DEFAULTS})
    corpus = Corpus.read(arguments.corpus)
    output = Path(arguments.output)
    iteration, gain = _iterate(arguments, settings, corpus, arguments.mixture, str(output))
    try:
        while arguments.shards and iteration < arguments.until:
            following = output.with_name(iteration_name(iteration + 1) + output.suffix)
            if train_stop(gain, arguments.llk_gain) or following.exists():
                return
            iteration, gain = _iterate(arguments, settings, corpus, str(output), str(following))
            output = following
    # What ends it early is not the first iteration's failure: its file is whole, and must not be
    # taken for that of a failed job. The job of the iteration that fails will say why;
    except DamagedFileError as error:
        # but not what was set aside, which it does not meet again.
        print(f"warning: {error}", file=sys.stderr)
    except (GmmcoreError, MemoryError, KeyboardInterrupt):
        return


def _iterate(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    corpus: Corpus,
    source: str,
    output: str,
) -> tuple[int, float | None]:
    """One iteration, from file to file; its number, and its gain if it is not the first."""
    from gmmcore.em import ARITHMETIC, maximise
    from gmmcore.files import digest_of
    from gmmcore.formats.hdf5 import load_model, save_model
    from gmmcore.formats.statistics_file import in_order, read_statistics
    from gmmcore.schedule import Stage
    from gmmcore.training import history_entry

    model = load_model(source)
    if model.facts["corpus"] != corpus.digest:
        raise GmmcoreError(
            f"{source}: comes from other frames than {arguments.corpus}; "
            "remove the mixture and give the same command again"
        )
    if arguments.shards:
        # One process for the whole iteration: on one machine, starting a second costs more.
        found = statistics_of_shards(model.mixture, arguments.shards, settings, arguments.threads)
    else:
        found = read_statistics(
            arguments.statistics, mixture=model.digest, settings=accumulate_digest(settings)
        )
    parts = in_order(found, [(shard.shard, shard.digest) for shard in corpus.shards])
    total = next(parts).statistics
    for part in parts:
        total = total + part.statistics
    update_settings = maximise_settings(settings, model.mixture.is_full)
    with explained(source):
        update = maximise(model.mixture, total, update_settings, threads=arguments.threads)
    iteration = int(model.facts["iteration"]) + 1
    kind = "full" if model.mixture.is_full else "diag"
    stage = Stage(kind, arguments.components, 0, "")
    previous = model.history[-1] if iteration > 1 else None
    entry = history_entry(stage, iteration, total, update, update_settings, previous)
    gain = None if previous is None else entry.gain
    print(log_line(entry, update), flush=True)
    _look_at_decrease(entry, previous, settings["on_decrease"], settings["precision"])
    save_model(
        output,
        update.mixture,
        {
            **{"stage": kind, "components": arguments.components, "iteration": iteration},
            "log_likelihood": entry.log_likelihood,
            "gain": gain,
            "parent": model.digest,
            "corpus": corpus.digest,
            "settings": digest_of("maximise", settings, ARITHMETIC),
        },
        (*model.history, entry),
    )
    return iteration, gain


def log_line(entry: HistoryEntry, update: Update) -> str:
    """One line of the training log."""
    gain = "" if math.isnan(entry.gain) else f"  gain {entry.gain:+.6f}"
    line = (
        f"{entry.stage} {entry.components:>5}  iteration {entry.iteration:>2}"
        f"  log-likelihood/frame {entry.log_likelihood:.6f}{gain}"
    )
    if entry.floored or entry.ceiled:
        line += f"  floored {entry.floored}  ceiled {entry.ceiled}"
    if update.weak:
        shown = ", ".join(f"{index} ({count:.1f} frames)" for index, count in update.weak[:5])
        more = f" and {len(update.weak) - 5} more" if len(update.weak) > 5 else ""
        line += f"  weak {len(update.weak)}, {entry.action}: {shown}{more}"
    return line


def _look_at_decrease(
    entry: HistoryEntry, previous: HistoryEntry | None, action: str, precision: str
) -> None:
    if previous is None or entry.gain >= -_ROUNDING[precision] * abs(entry.log_likelihood):
        return
    if previous.floored or previous.ceiled or previous.weak:
        return  # the M-step before was not the unconstrained maximum; the history says so
    message = (
        f"{entry.stage} {entry.components}, iteration {entry.iteration}: the log-likelihood "
        f"per frame fell by {-entry.gain:.3g} although nothing bounded the last update; "
        "try precision: double and pruning: 0"
    )
    if action == "stop":
        raise GmmcoreError(message)
    print(f"warning: {message}", file=sys.stderr)
