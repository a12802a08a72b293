"""Random walks among configurations of one run: after each change, the bytes of a fresh training.

    python tests/soak/walks.py --steps 70 --seed 7

Subsets, limits, methods, sizes and both forms of the iterations (`jobs: auto`, or a
number), in one folder where each training goes on from what the ones before left there.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows import PLAIN, TINY, Workflow, changed

# The corpus has about 3,000 frames, and stages want 4 x 200.
BASE: dict[str, Any] = changed(
    PLAIN,
    frames_per_component=4,
    iterations=[2, 4, 5],
    components=8,
    full={"iterations": 0},
    llk_gain=0.002,
)
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"components": 16},
    {"components": 4},
    {"last_iterations": 2},
    {"last_iterations": 9},
    {"full": {"iterations": 3}},
    {"llk_gain": 1.0e-5},
    {"frames_per_component": 2},
    {"frames_per_component": None},
    {"method": "sidekit"},
    {"iterations": [2, 4, 3]},
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Workflow(Path(folder) / "corpus")
        corpus.folder.mkdir()
        corpus.configure(TINY)
        corpus.run("corpus/shows.txt")
        expected = []
        for number, change in enumerate(CHANGES):
            fresh = corpus.copy_to(Path(folder) / f"fresh{number}")
            fresh.configure(changed(BASE, **change))
            fresh.run()
            expected.append(fresh.made())
        walk, wrong = corpus.copy_to(Path(folder) / "walk"), 0
        for step in range(given.steps):
            number, jobs = rng.randrange(len(CHANGES)), rng.choice([2, 2, "auto", 3])
            walk.configure({**changed(BASE, **CHANGES[number]), "jobs": jobs})
            walk.run()
            differ = dict(expected[number].items() ^ walk.made().items())
            wrong += bool(differ)
            said = f"differs: {', '.join(sorted(differ))}" if differ else "as a fresh training"
            print(f"{step + 1}: jobs {jobs}, {CHANGES[number]}: {said}", flush=True)
    print(f"{given.steps - wrong} of {given.steps} steps ended as a fresh training")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
