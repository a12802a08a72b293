"""Time and memory of checking and dealing out a list of many shows.

    python benchmarks/lists.py [--shows 100000] [--folder DIR]

Makes the shows (an HDF5 file each, as SIDEKIT's, and one Kaldi archive with all of them), then
runs ``gmmcore shows`` as the workflow does, each time in a process of its own.
"""

from __future__ import annotations

import argparse
import io
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from gmmcore.config.features import FeatureSettings
from gmmcore.config.options import words
from gmmcore.data.identity import fingerprint, shard_paths

FRAMES, DIMENSION = 20, 20
# A child's ru_maxrss counts what its parent held when it forked; VmHWM is its own.
RUN = """
import sys
from gmmcore.cli.main import main
status = main(sys.argv[1:])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(status)
"""


def hdf5_template(name: str) -> bytes:
    """A feature file of one show, with the old layout whose names can be replaced in place."""
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    with h5py.File(stream, "w", libver="earliest") as file:
        file["compression"] = 0
        group = file.create_group(name)
        for key, shape in (("energy", (FRAMES,)), ("cep", (FRAMES, DIMENSION - 1))):
            data = rng.standard_normal(shape).astype(np.float32)
            group.create_dataset(key, data=data, compression="gzip")
        group["vad"] = np.ones(FRAMES, dtype=np.int8)
    return stream.getvalue()


def make_hdf5(folder: Path, shows: int) -> dict[str, object]:
    """One file a show, 1,000 files a folder, and a list of names."""
    template = hdf5_template("show_0000000")
    names = []
    for i in range(shows):
        name = f"show_{i:07d}"
        path = folder / "hdf5" / f"{i // 1000:04d}"
        if i % 1000 == 0:
            path.mkdir(parents=True)
        (path / f"{name}.h5").write_bytes(template.replace(b"show_0000000", name.encode()))
        names.append(f"{name}\thdf5/{i // 1000:04d}/{name}.h5\n")
    (folder / "hdf5.tsv").write_text("".join(names))
    return {"list": str(folder / "hdf5.tsv")}


def make_kaldi(folder: Path, shows: int) -> dict[str, object]:
    """One archive and its scp."""
    data = np.random.default_rng(0).standard_normal((FRAMES, DIMENSION)).astype("<f4").tobytes()
    matrix = b"\0BFM " + struct.pack("<bibi", 4, FRAMES, 4, DIMENSION) + data
    lines, position = [], 0
    with open(folder / "feats.ark", "wb") as stream:
        for i in range(shows):
            key = f"show_{i:07d} "
            stream.write(key.encode() + matrix)
            lines.append(f"{key}feats.ark:{position + len(key)}\n")
            position += len(key) + len(matrix)
    (folder / "feats.scp").write_text("".join(lines))
    return {"list": str(folder / "feats.scp"), "vad": None}


def measure(name: str, features: dict[str, object], folder: Path) -> None:
    """Run ``gmmcore shows`` and print its time and peak memory of its first process."""
    settings = FeatureSettings.from_mapping({**features, "shards": 64})
    output = folder / "out" / name / "shows.tsv"
    command = [sys.executable, "-c", RUN, "shows", *words(settings), "--output", str(output)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stdout.split()[-1])
    begin = time.perf_counter()
    fingerprint(settings)
    looked = time.perf_counter()
    shard_paths(output)
    digested = time.perf_counter()
    print(
        f"{name:12} {seconds:7.1f} s ({cpu:.1f} s of CPU)  {peak / 1024:6.0f} MB peak  "
        f"{output.stat().st_size / 1e6:5.1f} MB table;  when the workflow starts: "
        f"{looked - begin:.1f} s for changes of files, {digested - looked:.1f} s for the table",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shows", type=int, default=100_000)
    parser.add_argument("--folder", help="where to make the shows; a temporary folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for kind, make in (("kaldi scp", make_kaldi), ("hdf5 files", make_hdf5)):
            features = make(folder, arguments.shows)
            measure(kind, features, folder)
            if kind == "kaldi scp":
                measure("subset", {**features, "frames": arguments.shows}, folder)


if __name__ == "__main__":
    main()
