"""Few frames for the parameters of a stage: a line warns of them, and full stages shrink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arguments import words
from features_files import write_hdf5

from gmmcore.cli.main import main
from gmmcore.config.keys import Settings
from gmmcore.core.describe import few_frames
from gmmcore.data.check import shard_paths
from gmmcore.formats.hdf5 import load_model


@pytest.mark.parametrize(
    ("full", "parameters", "needed"), [(False, 1 + 2 * 20, 11), (True, 1 + 20 + 210, 58)]
)
def test_few_are_less_than_five_numbers_for_each_parameter(full, parameters, needed):
    assert few_frames(needed * 64, 64, 20, full=full) == ""
    line = few_frames(needed * 64 - 64, 64, 20, full=full)
    kind = "full" if full else "diagonal"
    assert f"{needed - 1:.1f} for each of 64 {kind} components of {parameters} parameters" in line
    assert f"fewer than {needed} " in line
    assert ("raise full.prior" in line) == full
    assert "\n" not in line


def test_a_full_stage_warns_and_shrinks_in_either_form(tmp_path: Path, monkeypatch, capsys) -> None:
    """200 frames of 12 coefficients are enough for 8 diagonal components, not for full ones."""
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(5).standard_normal((200, 12)) @ np.triu(np.ones((12, 12)))
    write_hdf5(tmp_path / "features/s.h5", "s", frames.astype("f"), None)
    given = ["--list=features", "--shards=1"]
    assert main(["shows", *given, "--output", "shows.tsv"]) == 0
    (shard,) = shard_paths("shows.tsv").values()
    assert main(["shard", *given, "--shows=shows.tsv", "--shard=000", "--output", shard]) == 0
    outputs = ["--output=corpus.json", "--skipped=skipped.tsv"]
    assert main(["corpus", "--shows=shows.tsv", "--on-error=stop", *outputs]) == 0
    assert main(["initialise", "--corpus=corpus.json", "--components=8", "--output=1.h5"]) == 0
    for half, count in ((1, 2), (2, 4), (4, 8)):
        made = ["--mixture", f"{half}.h5", "--output", f"{count}.h5"]
        assert main(["split", "--method=sidekit", *made]) == 0
    first = "run/full/8/000.h5"
    assert main(["diag2full", "--mixture=8.h5", "--output", first]) == 0
    assert "warning" not in "".join(capsys.readouterr())
    made = ["--mixture", first, "--corpus=corpus.json", "--iterations=2", "--llk-gain=-1"]
    whole = words(Settings().iteration("full"))
    assert {"--occupancy=null", "--prior=null"} <= set(whole)
    assert main(["iterate", *made, *whole, "--output=run/full/8.h5"]) == 0
    line = "warning: 200 frames are 25.0 for each of 8 full components of 91 parameters; "
    assert capsys.readouterr().err.startswith(line)
    assert main(["iterate", *made, *whole, "--output=run/full/8.h5"]) == 0
    assert capsys.readouterr().err == ""
    statistics = ["--mixture", first, "--corpus=corpus.json", *whole, "--output=0.stats.h5"]
    assert main(["accumulate", *statistics]) == 0
    parts = ["--statistics=0.stats.h5", "--output=other/full/8/001.h5"]
    assert main(["maximise", *made, *whole, *parts]) == 0
    assert capsys.readouterr().err.startswith(line)
    own, other = (Path(f"{run}/full/8/001.h5").read_bytes() for run in ("run", "other"))
    assert own == other
    plain = [*made, *whole, "--prior=0", "--output=third/full/8/001.h5"]
    assert main(["maximise", *plain, *parts[:1]]) == 0
    shrunk, free = (load_model(f"{run}/full/8/001.h5").mixture for run in ("run", "third"))
    deviations = [np.sqrt(np.diagonal(one.covariances, axis1=1, axis2=2)) for one in (shrunk, free)]
    np.testing.assert_allclose(*deviations, rtol=1e-6)
    assert np.ptp(shrunk.log_determinants - free.log_determinants) > 0.1
