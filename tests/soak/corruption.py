"""Random damage to the files between two iterations: found, or without effect.

    python tests/soak/corruption.py --count 1000 --seed 1

Every time one file that the next step reads is damaged (bits flipped, truncated, a page zeroed,
a page of another place written over it, bytes inserted), and the step is made. It must refuse the
file by name, or give the bytes that it gives from intact files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from arguments import words

from gmmcore.cli.main import main as gmmcore
from gmmcore.config.keys import DemoSettings
from gmmcore.data.check import shard_paths

DEMO = DemoSettings(components=2, dimension=3, shows=4, speakers=2, frames=9000)
DAMAGES = ("bits", "truncated", "zeroed", "overwritten", "inserted")


@dataclass
class Step:
    """A step of a training: what is read, and what is made of it."""

    read: list[str]
    command: list[str]
    made: str


def quiet(*command: str) -> tuple[int, str]:
    """Exit code and messages of a verb, in this process."""
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
        code = gmmcore([*command])
    return code, messages.getvalue()


def prepare(folder: Path) -> dict[str, Step]:
    """A training up to its second iteration; the steps from there, by what is damaged."""

    def done(*command: str) -> None:
        code, messages = quiet(*command)
        if code:
            raise SystemExit(messages)

    done("demo", *words(DEMO), "--output", f"{folder}/corpus")
    place = ["--list", f"{folder}/corpus/shows.txt", "--pattern", "{show}.h5", "--shards", "2"]
    table = f"{folder}/shows.tsv"
    done("shows", *place, "--output", table)
    shards = list(shard_paths(table).values())
    for index, shard in enumerate(shards):
        packing = ["shard", *place, "--shows", table, "--shard", f"{index:03d}"]
        done(*packing, "--output", shard)
    corpus, first, mixture = f"{folder}/corpus.json", f"{folder}/1.h5", f"{folder}/2/000.h5"
    done("corpus", "--shows", table, "--output", corpus, "--skipped", f"{folder}/skipped.tsv")
    done("initialise", "--corpus", corpus, "--output", first)
    done("split", "--mixture", first, "--corpus", corpus, "--output", mixture)
    common = ["--mixture", mixture, "--corpus", corpus]
    statistics = [f"{folder}/{part}.stats.h5" for part in range(2)]
    for part, output in enumerate(statistics):
        part_of = ["--part", str(part), "--parts", "2"]
        done("accumulate", *common, *part_of, "--output", output)
    made, last = f"{folder}/2/001.h5", f"{folder}/2.h5"
    from_statistics = ["maximise", *common, "--statistics", *statistics, "--output", made]
    from_shards = ["iterate", *common, "--iterations", "1", "--llk-gain=0"]
    from_shards += ["--output", last]
    return {
        "shard": Step(shards, from_shards, last),
        "statistics": Step(statistics, from_statistics, made),
        "mixture": Step([mixture], from_statistics, made),
        "corpus.json": Step([corpus], from_statistics, made),
        "shows.tsv": Step([table], [*packing, "--output", f"{folder}/x.npy"], f"{folder}/x.npy"),
    }


def damaged(content: bytes, how: str, rng: random.Random) -> bytes:
    """The content of a file after some accident."""
    data = bytearray(content)
    page = 2 ** rng.randint(3, 12)
    at = rng.randrange(max(1, len(data) - page + 1)) // 8 * 8
    if how == "bits":
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "truncated":
        del data[rng.randrange(len(data)) :]
    elif how == "zeroed":
        stop = min(at + page, len(data))
        data[at:stop] = bytes(stop - at)
    elif how == "overwritten":
        source = rng.randrange(max(1, len(data) - page + 1)) // 8 * 8
        piece = data[source : source + page]
        data[at : at + len(piece)] = piece
        del data[len(content) :]
    else:
        data[at:at] = rng.randbytes(rng.choice([1, 4, page]))
    return bytes(data)


def corruptions(
    folder: Path, count: int, seed: int, say: Callable[[str], object] = print
) -> Counter[tuple[str, str, str]]:
    """Damage and try `count` times; how often each damage of each kind of file ended how."""
    steps = prepare(folder)
    rng = random.Random(seed)
    expected = {}
    for kind, step in steps.items():
        code, messages = quiet(*step.command)
        if code:
            raise SystemExit(messages)
        expected[kind] = Path(step.made).read_bytes()
    result: Counter[tuple[str, str, str]] = Counter()
    for number in range(count):
        kind, how = rng.choice(sorted(steps)), rng.choice(DAMAGES)
        step = steps[kind]
        path = Path(rng.choice(step.read))
        content = path.read_bytes()
        changed = damaged(content, how, rng)
        while changed == content:  # zeros over zeros
            changed = damaged(content, how, rng)
        for left in (Path(step.made), folder / "2/001.h5"):
            left.unlink(missing_ok=True)
        path.write_bytes(changed)
        code, messages = quiet(*step.command)
        made = Path(step.made)
        if code == 1 and path.name in messages and not made.exists():
            outcome = "detected"
        elif code == 0 and made.read_bytes() == expected[kind]:
            outcome = "without effect"
        else:
            outcome = "WRONG"
            say(f"number {number}: {kind} {how}: exit code {code}: {messages}")
        result[kind, how, outcome] += 1
        path.write_bytes(content)
    return result


def main() -> int:
    """All corruptions, and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="corruption-"))
    result = corruptions(folder, arguments.count, arguments.seed)
    shutil.rmtree(folder)
    outcomes = ("detected", "without effect", "WRONG")
    print(f"{'file':12s} {'damage':12s} " + " ".join(f"{name:>14s}" for name in outcomes))
    for kind, how in sorted({key[:2] for key in result}):
        counts = " ".join(f"{result[kind, how, outcome]:14d}" for outcome in outcomes)
        print(f"{kind:12s} {how:12s} {counts}")
    total = Counter[str]()
    for key, number in result.items():
        total[key[2]] += number
    print(f"{'all':25s} " + " ".join(f"{total[outcome]:14d}" for outcome in outcomes))
    return 1 if total["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
