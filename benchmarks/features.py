"""Frames a second of preparing features on one core, beside code that works frame by frame.

    python benchmarks/features.py [--shows 1000] [--folder DIR]

The first table is processing alone: shows of 3,000 frames are in memory, 20 coefficients become
60, half of the frames are speech. "per frame" does what SIDEKIT's FeaturesServer does, the way
it does it (docs/sidekit.md): one convolution per coefficient, and the smoothing of
labels one label at a time. The second is `gmmcore shard`, from compressed HDF5 files to a shard,
with its peak memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import ndimage

from gmmcore.config.features import FeatureSettings
from gmmcore.config.options import words
from gmmcore.data.processing import process

FRAMES, DIMENSION = 3000, 20
# A child's ru_maxrss counts what its parent held when it forked; VmHWM is its own.
RUN = """
import sys
from gmmcore.cli.main import main
status = main(sys.argv[1:])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(status)
"""
DELTAS: dict[str, Any] = {"delta": True, "double_delta": True}
CHAINS: dict[str, dict[str, Any]] = {
    "deltas, cmvn, speech only": {**DELTAS, "normalisation": "cmvn"},
    "the same, labels smoothed": {**DELTAS, "normalisation": "cmvn", "label_fusion": True},
    "deltas, cmvn, all frames kept": {
        **DELTAS,
        "normalisation": "cmvn",
        "select_speech": False,
    },
    "rasta, deltas, cmvn, speech only": {**DELTAS, "normalisation": "cmvn", "rasta": True},
    "deltas, cmvn_sliding, speech only": {**DELTAS, "normalisation": "cmvn_sliding"},
    "deltas, stg, speech only": {**DELTAS, "normalisation": "stg"},
}


def per_frame(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Deltas, smoothing, cmvn and selection as SIDEKIT goes about them."""
    taps = np.array([0.25, 0.5, 0.25, 0, -0.25, -0.5, -0.25])

    def delta(x: np.ndarray) -> np.ndarray:
        result = np.zeros((len(x) + 6, x.shape[1]), dtype=np.float32)
        for column in range(x.shape[1]):
            result[:, column] = np.convolve(x[:, column], taps)
        return result[3:-3]

    first = delta(frames)
    frames = np.column_stack((frames, first, delta(first)))
    labels = labels.copy()
    for i, label in enumerate(labels):
        closed = ndimage.grey_closing(label, size=3)
        labels[i] = ndimage.grey_opening(closed, size=3)
    frames -= frames[labels].mean(axis=0)
    frames /= frames[labels].std(axis=0)
    return frames[labels]


def corpus(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shows = []
    for _ in range(count):
        frames = rng.standard_normal((FRAMES, DIMENSION)).astype(np.float32)
        labels = ndimage.uniform_filter1d(rng.standard_normal(FRAMES), 20) > 0
        shows.append((frames, labels))
    return shows


def speed(function: Callable[[np.ndarray, np.ndarray], Any], shows: list[Any], count: int) -> float:
    """Frames of input a CPU second."""
    function(*shows[0])
    begin = time.process_time()
    for i in range(count):
        function(*shows[i % len(shows)])
    return count * FRAMES / (time.process_time() - begin)


def processing(count: int) -> None:
    shows = corpus(20)
    print("processing alone, one core".ljust(44) + "million frames/s")
    for name, chain in CHAINS.items():
        settings = FeatureSettings(list="-", **chain)
        slow = chain["normalisation"] in ("stg", "cmvn_sliding") or chain.get("rasta")
        number = max(count // 10, 20) if slow else count
        value = speed(lambda x, v, s=settings: process(x, v, s), shows, number)
        print(f"  gmmcore: {name:<33} {value / 1e6:8.2f}", flush=True)
    value = speed(per_frame, shows, max(count // 250, 3))
    print(f"  per frame, as SIDEKIT: {'deltas, cmvn':<19} {value / 1e6:8.3f}", flush=True)


def packing(folder: Path, count: int) -> None:
    shows = corpus(20)
    (folder / "data").mkdir()
    for i in range(count):
        frames, labels = shows[i % len(shows)]
        with h5py.File(folder / "data" / f"s{i:04d}.h5", "w") as file:
            file["compression"] = 0
            for name, data in (("energy", frames[:, 0]), ("cep", frames[:, 1:]), ("vad", labels)):
                data = data.astype(np.int8) if name == "vad" else data
                file.create_dataset(f"s{i:04d}/{name}", data=data, compression="gzip")
    features = {"list": str(folder / "data"), **DELTAS, "normalisation": "cmvn", "shards": 1}
    print(f"{count} files of {FRAMES} frames to a shard".ljust(44) + "seconds  frames/s  peak MB")
    given = words(FeatureSettings.from_mapping(features))
    table, output = str(folder / "shows.tsv"), str(folder / "000.npy")
    verbs = {
        "shows": ["--output", table],
        "shard": ["--shows", table, "--shard", "000", "--output", output],
    }
    for verb, arguments in verbs.items():
        command = [sys.executable, "-c", RUN, verb, *given, *arguments]
        begin = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        peak = int(done.stdout.split()[-1])
        name = f"gmmcore {verb}"
        print(
            f"  {name:<41} {seconds:8.2f}  {count * FRAMES / seconds:8.0f}  {peak / 1024:7.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shows", type=int, default=1000)
    parser.add_argument("--folder", help="where to make files; a temporary folder by default")
    arguments = parser.parse_args()
    processing(arguments.shows)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        packing(Path(name), arguments.shows)


if __name__ == "__main__":
    main()
