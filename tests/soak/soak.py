"""The tables in damage.py from end to end.

    python tests/soak/soak.py damage --seed 1            # every file, every pair, 300 triples
    python tests/soak/soak.py changes --seed 1 --pairs 60

Every case begins with a copy of a finished training. `damage` damages some of its files, with and
without Snakemake's own records, and gives the same command: all files must then be those of a fresh
training, or the command fails with one line; `gmmcore check` must agree before and after. `changes`
changes keys of the configuration and gives the command, then changes them back.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from damage import CHANGES, CONFIG, cases, changed, files_of, outcome_of, try_damage
from flows import TINY, Workflow


def finished_run(folder: Path) -> Workflow:
    """A finished training of the tiny corpus."""
    folder.mkdir(parents=True)
    corpus = Workflow(folder)
    corpus.configure({**CONFIG, "demo": TINY["demo"]})
    corpus.run("corpus/shows.txt")
    corpus.configure(CONFIG)
    corpus.run()
    shutil.copy(folder / "results/tiny/diag/2/001.h5", folder / "start.h5")
    return corpus


class Fresh:
    """What a fresh training of a configuration gives; made once for each."""

    def __init__(self, finished: Workflow, place: Path) -> None:
        self.finished, self.place = finished, place
        self._known: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def of(self, config: dict[str, Any]) -> dict[str, str]:
        key = json.dumps(config, sort_keys=True)
        with self._lock:
            if key not in self._known:
                place = Path(tempfile.mkdtemp(prefix="fresh", dir=self.place))
                flow = self.finished.copy_to(place / "run")
                for name in ("results", ".snakemake", "logs"):
                    shutil.rmtree(flow.folder / name)
                flow.configure(config)
                flow.run()
                self._known[key] = flow.made()
                shutil.rmtree(place)
        return self._known[key]


def try_changes(
    finished: Workflow, fresh: Fresh, changes: list[tuple[str, Any]], place: Path, *, state: bool
) -> str:
    """Change keys and give the command, then change them back and give it again."""
    flow = finished.copy_to(place)
    wrong = ""
    for config in (changed(changes), CONFIG):
        if not state:
            shutil.rmtree(flow.folder / ".snakemake")
        flow.configure(config)
        code, output = flow.attempt()
        expected = fresh.of(config)
        found = flow.made()
        if code:
            wrong = output
        elif found != expected:
            names = sorted({name for name, _ in set(found.items()) ^ set(expected.items())})
            wrong = f"these differ: {names}\n{output}"
        else:
            wrong = outcome_of(flow, expected, twice=False)
        if wrong:
            break
    shutil.rmtree(place)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["damage", "changes"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--triples", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=60, help="random pairs of changes")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--every", type=int, default=1, help="only every so many cases")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    finished = finished_run(folder / "finished")
    expected = finished.made()
    todo: list[tuple[str, Any, bool]] = []
    if given.what == "damage":
        for case in cases(files_of(finished), given.seed, given.triples):
            todo += [("damage", case, state) for state in (True, False)]
    else:
        rng = random.Random(given.seed)
        pairs = [rng.sample(CHANGES, 2) for _ in range(given.pairs)]
        for case in [*([change] for change in CHANGES), *pairs]:
            todo += [("changes", case, state) for state in (True, False)]
    todo = todo[given.first :: given.every]
    fresh = Fresh(finished, folder)
    start = time.monotonic()
    failed = 0

    def work(item: tuple[int, tuple[str, Any, bool]]) -> tuple[str, Any, bool, str]:
        number, (what, case, state) = item
        place = folder / f"case{number}"
        try:
            if what == "damage":
                wrong = try_damage(finished, expected, case, place, state=state)
            else:
                wrong = try_changes(finished, fresh, case, place, state=state)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
            shutil.rmtree(place, ignore_errors=True)
        return what, case, state, wrong

    with ThreadPoolExecutor(given.parallel) as pool:
        for done, (_, case, state, wrong) in enumerate(pool.map(work, enumerate(todo)), 1):
            if wrong:
                failed += 1
                kept = "with" if state else "without"
                print(f"\nWRONG {case}, {kept} .snakemake:\n{wrong[-4000:]}", flush=True)
            if done % 20 == 0:
                seconds = time.monotonic() - start
                print(f"{done} of {len(todo)}, {failed} wrong, {seconds:.0f} s", flush=True)
    print(f"{len(todo) - failed} of {len(todo)} cases ended as a fresh training, or in one line")
    shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
