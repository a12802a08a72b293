"""The log names the show whose frame makes most of a variance, once, and finish names floors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from features_files import write_hdf5

from gmmcore.cli.main import main
from gmmcore.data.check import shard_paths
from gmmcore.data.corpus import Corpus


@pytest.mark.parametrize(("odd", "value"), [("s3", 1e6), ("s0", -1e4)])
def test_the_log_names_the_odd_show_and_floored_dimensions(
    tmp_path: Path, monkeypatch, capsys, odd: str, value: float
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    for number in range(6):
        frames = rng.standard_normal((300, 3)) + 5.0 * rng.integers(0, 2, (300, 1))
        frames[:, 2] = frames[:, 2] > 2.5
        if f"s{number}" == odd:
            frames[17, 1] = value
        write_hdf5(tmp_path / f"features/s{number}.h5", f"s{number}", frames.astype("f"), None)
    given = ["--list=features", "--shards=2"]
    assert main(["shows", *given, "--output", "shows.tsv"]) == 0
    for name, path in shard_paths("shows.tsv").items():
        command = ["shard", *given, "--shows=shows.tsv", "--shard", name, "--output", path]
        assert main(command) == 0
    outputs = ["--output=corpus.json", "--skipped=skipped.tsv"]
    assert main(["corpus", "--shows=shows.tsv", "--on-error=stop", *outputs]) == 0
    assert Corpus.read("corpus.json").outliers == ((1, odd),)
    first = "run/diag/1/000.h5"
    assert main(["initialise", "--corpus=corpus.json", "--components=2", "--output", first]) == 0
    line = (
        "warning: 1 of 1800 frames makes more than half of the variance in dimension 1 "
        f"(counted from 0): look at show {odd}, which has the farthest, and correct it or leave"
    )
    assert capsys.readouterr().out.count(line) == 1
    second = "run/diag/2/000.h5"
    command = ["split", "--corpus=corpus.json", "--mixture", first, "--output", second]
    assert main(command) == 0
    command = ["iterate", "--corpus=corpus.json", "--mixture", second, "--output=run/diag/2.h5"]
    assert main(command) == 0
    assert "warning" not in "".join(capsys.readouterr())
    assert main(["finish", "--mixture=run/diag/2.h5", "--output=ubm.h5"]) == 0
    told = "warning: the variance is at its floor in dimension 2 (2 of 2 components), counted from"
    assert capsys.readouterr().err.count(told) == 1
    command = ["initialise", "--corpus=corpus.json", "--components=1801", "--output=none.h5"]
    assert main(command) == 1
    assert "components: 1801, but there are only 1800 frames; " in capsys.readouterr().err
    assert not Path("none.h5").exists()
