"""Damage sample files of every format in every way, and see what the readers say.

    python tests/soak/fuzz.py --count 100000 --seed 0

Each mutation is read in a child process with limited memory and time. Four outcomes are
good: one `GmmcoreError`; the same mixture; a mixture that differs in no more numbers than the
mutation touched (the formats have no checksums: a digit that became another digit is a
valid file). Everything else is a failure: another exception, a crash, a hang, too much
memory, or a mixture in which untouched numbers changed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gmmcore.core.mixture import GaussianMixture
from gmmcore.errors import GmmcoreError
from gmmcore.files import WRITTEN
from gmmcore.formats.registry import decode_mixture, format_by_name, format_of

DATA = Path(__file__).resolve().parents[1] / "reference" / "data"
SECONDS = 5.0
MEMORY = 3 << 30
GOOD = ("error", "same", "touched")
Random = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """A file to damage."""

    name: str
    content: bytes
    mixture: GaussianMixture

    @property
    def text(self) -> bool:
        """Whether numbers are written in digits."""
        return not any(byte > 127 or byte == 0 for byte in self.content[:4000])


def sample(name: str, content: bytes) -> Sample:
    """A sample of `content`, which must be readable."""
    return Sample(name, content, decode_mixture(name, content))


def own_samples(folder: Path) -> list[Sample]:
    """Small mixtures written by every writer: most of their bytes are structure."""
    rng = np.random.default_rng(7)
    spread = rng.normal(size=(3, 4, 9))
    weights = np.array([0.25, 0.25, 0.5])
    means = rng.normal(size=(3, 4))
    small = {
        "diag": GaussianMixture(weights, means, np.exp(rng.normal(size=(3, 4)))),
        "full": GaussianMixture.from_covariances(
            weights, means, spread @ spread.transpose(0, 2, 1) / 9
        ),
    }
    result = []
    for kind, mixture in small.items():
        for one in map(format_by_name, WRITTEN):
            path = folder / f"{kind}{one.extensions[0]}"
            one.write(path, mixture)
            content = path.read_bytes()
            result.append(sample(f"own {kind} {one.name}", content))
            if one.name == "sidekit":
                # Without its seal only the layout protects it, as SIDEKIT's own files.
                result.append(sample(f"own {kind} sidekit unsealed", content[1024:]))
    return result


def toolkit_samples(folder: Path = DATA) -> list[Sample]:
    """Files that the toolkits themselves wrote."""
    paths = sorted([*folder.glob("models/*"), *folder.glob("sidekit/*")])
    return [
        sample(path.name, path.read_bytes())
        for path in paths
        if path.suffix not in (".npz", ".json")
    ]


def mutate(rng: Random, content: bytes) -> tuple[bytes, int]:
    """A damaged copy, and the number of bytes that were touched."""
    names: list[Callable[[Random, bytearray], int]] = [
        _flip_bit,
        _flip_bit,
        _set_byte,
        _set_byte,
        _several_bytes,
        _delete,
        _insert,
        _truncate,
        _zero,
        _duplicate,
        _swap,
        _extreme,
        _extreme,
        _splice_word,
    ]
    data = bytearray(content)
    touched = names[int(rng.integers(len(names)))](rng, data)
    return bytes(data), touched


def _place(rng: Random, data: bytearray) -> int:
    # Half of the damage goes to the beginning, where the structure is.
    end = min(len(data), 300) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(end, 1)))


def _flip_bit(rng: Random, data: bytearray) -> int:
    data[_place(rng, data)] ^= 1 << int(rng.integers(8))
    return 1


def _set_byte(rng: Random, data: bytearray) -> int:
    common = b'0123456789 \n<>[]"-+.enif\x00\xff\x7f\x80'
    at = _place(rng, data)
    data[at] = common[int(rng.integers(len(common)))]
    return 1


def _several_bytes(rng: Random, data: bytearray) -> int:
    count = int(rng.integers(2, 9))
    for _ in range(count):
        data[_place(rng, data)] = int(rng.integers(256))
    return count


def _span(rng: Random, data: bytearray, largest: int = 64) -> tuple[int, int]:
    at = _place(rng, data)
    return at, min(len(data), at + int(rng.integers(1, largest)))


def _delete(rng: Random, data: bytearray) -> int:
    at, end = _span(rng, data)
    del data[at:end]
    return end - at


def _insert(rng: Random, data: bytearray) -> int:
    extra = rng.bytes(int(rng.integers(1, 16)))
    at = _place(rng, data)
    data[at:at] = extra
    return len(extra)


def _truncate(rng: Random, data: bytearray) -> int:
    end = int(rng.integers(len(data)))
    count = len(data) - end
    del data[end:]
    return count


def _zero(rng: Random, data: bytearray) -> int:
    at, end = _span(rng, data, 600)
    data[at:end] = bytes(end - at)
    return end - at


def _duplicate(rng: Random, data: bytearray) -> int:
    at, end = _span(rng, data, 600)
    data[end:end] = data[at:end]
    return end - at


def _swap(rng: Random, data: bytearray) -> int:
    at, end = _span(rng, data)
    other = int(rng.integers(max(1, len(data) - (end - at))))
    kept = data[at:end]
    data[at:end] = data[other : other + end - at]
    data[other : other + len(kept)] = kept
    return 2 * (end - at)


def _extreme(rng: Random, data: bytearray) -> int:
    values = (
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x80",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01",
        bytes(6) + b"\xf8\x7f",
        bytes(6) + b"\xf0\x7f",
        b"\x00\x00\xc0\x7f",
        b"\xff" * 8,
    )
    at = _place(rng, data)
    value = values[int(rng.integers(len(values)))]
    data[at : at + len(value)] = value
    return len(value)


def _splice_word(rng: Random, data: bytearray) -> int:
    words = (
        b"2147483648",
        b"4294967295",
        b"99999999999999999999",
        b"nan",
        b"-inf",
        b"1e999",
        b"-1",
        b"1e-320",
        b"<!ENTITY a 'aaaa'>",
        b"&a;",
        b"<MEAN>",
        b"]\n[",
        b"\x00" * 8,
    )
    word = words[int(rng.integers(len(words)))]
    at = _place(rng, data)
    data[at : at + int(rng.integers(0, len(word) + 1))] = word
    return 2 * len(word)


def judge(one: Sample, content: bytes, touched: int) -> str:
    """What came of reading `content`: an element of `GOOD`, or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = decode_mixture("damaged", content)
    except GmmcoreError as error:
        text = str(error)
        if "internal error" in text:
            return text[:150]
        return "error" if "\n" not in text and len(text) < 800 else "unclear error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:150]
    count = one.mixture.components
    if found.components > count and not found.weights[count:].any():
        # HTK: mixtures that are claimed and not listed have weight 0, which changes no density.
        kept = (found.weights[:count], found.means[:count], found.precisions[:count])
        found = GaussianMixture(*kept)
    if found == one.mixture:
        return "same"
    if found.means.shape != one.mixture.means.shape:
        return "other shape"
    if found.is_full != one.mixture.is_full:
        return "other kind"
    changed = numbers_changed(one.mixture, found, per_component=b"INV" in content[:20000])
    # A number has at least two bytes in digits; in binary, damage may straddle two.
    return "touched" if changed <= touched + 1 else f"{changed} numbers changed by {touched} bytes"


def numbers_changed(before: GaussianMixture, after: GaussianMixture, per_component: bool) -> int:
    """How many stored numbers differ; Kaldi's means all follow from one precision."""
    tolerance = {"rtol": 1e-9, "atol": 1e-12}
    weights = (~np.isclose(before.weights, after.weights, **tolerance)).sum()
    precisions = ~np.isclose(before.precisions, after.precisions, **tolerance)
    if before.is_full:
        precisions = np.tril(precisions)
    means = ~np.isclose(before.means, after.means, **tolerance)
    if per_component:
        hit = precisions.reshape(len(means), -1).any(axis=1)
        count = means[~hit].sum() if not before.is_full else means[~hit].any(axis=1).sum()
    else:
        count = means.sum()
    return int(weights + precisions.sum() + count)


def cases(samples: list[Sample], seed: int, count: int) -> Iterator[tuple[int, Sample, bytes, int]]:
    """The mutations of a run; each depends only on the seed and its number."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        one = samples[number % len(samples)]
        content, touched = mutate(rng, one.content)
        yield number, one, content, touched


def _work(
    samples: list[Sample], seed: int, start: int, stop: int, place: Any, results: Any
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found: Counter[tuple[str, str]] = Counter()
    bad: list[tuple[int, str, str]] = []
    slowest = 0.0
    for number in range(start, stop):
        place.value = number
        one = samples[number % len(samples)]
        content, touched = mutate(np.random.default_rng([seed, number]), one.content)
        begin = time.perf_counter()
        outcome = judge(one, content, touched)
        slowest = max(slowest, time.perf_counter() - begin)
        if outcome not in GOOD:
            bad.append((number, one.name, outcome))
            outcome = "FAILURE"
        found[one.name, outcome] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results.put((found, bad, slowest, peak))


def run(samples: list[Sample], seed: int, count: int, block: int = 2000) -> dict[str, Any]:
    """Judge `count` mutations in child processes that may die without harm."""
    context = multiprocessing.get_context("fork")
    total: Counter[tuple[str, str]] = Counter()
    bad: list[tuple[int, str, str]] = []
    crashes: list[tuple[int, str]] = []
    slowest, peak, start = 0.0, 0, 0
    while start < count:
        stop = min(start + block, count)
        place, results = context.Value("q", start), context.Queue()
        child = context.Process(target=_work, args=(samples, seed, start, stop, place, results))
        child.start()
        last, since, answer = start, time.monotonic(), None
        hung = False
        while answer is None:
            try:
                answer = results.get(timeout=0.2)
            except Exception:
                if place.value != last:
                    last, since = place.value, time.monotonic()
                hung = time.monotonic() - since > SECONDS
                if hung or not child.is_alive():
                    break
        if answer is None:
            child.kill()
            child.join()
            where = int(place.value)
            one = samples[where % len(samples)]
            if not hung and format_of(one.name, one.content).name == "sidekit":
                crashes.append((where, one.name))  # The HDF5 library's, a known limit.
            else:
                what = "hang" if hung else f"crash, exit code {child.exitcode}"
                bad.append((where, one.name, what))
                total[one.name, "FAILURE"] += 1
            start = where + 1  # the counts of this block up to here are lost, its failures told
            continue
        child.join()
        found, failures, slow, memory = answer
        total += found
        bad += failures
        slowest, peak = max(slowest, slow), max(peak, memory)
        start = stop
    return {"total": total, "bad": bad, "crashes": crashes, "slowest": slowest, "peak": peak}


def main() -> int:
    """Print the table of a run."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = own_samples(Path(folder)) + toolkit_samples()
    begin = time.perf_counter()
    result = run(samples, arguments.seed, arguments.count)
    columns = (*GOOD, "FAILURE")
    print(f"{'sample':32s} {'format':11s}" + "".join(f"{c:>9s}" for c in columns))
    for one in samples:
        name = format_of(one.name, one.content).name
        counts = [result["total"][one.name, column] for column in columns]
        print(f"{one.name:32s} {name:11s}" + "".join(f"{c:9d}" for c in counts))
    for number, name, outcome in result["bad"]:
        print(f"FAILURE: mutation {number} of {name}: {outcome}")
    for number, name in result["crashes"]:
        print(f"the HDF5 library crashed: mutation {number} of {name}")
    print(
        f"{arguments.count} mutations, seed {arguments.seed}: {len(result['bad'])} failures, "
        f"{time.perf_counter() - begin:.0f} s, slowest read {result['slowest']:.2f} s, "
        f"peak memory {result['peak'] / 1024:.0f} MiB"
    )
    return 1 if result["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
