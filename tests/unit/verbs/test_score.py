"""`gmmcore score`: log-likelihoods of a list, processed as in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from gmmcore.cli.main import main
from gmmcore.core.density import log_likelihood
from gmmcore.core.train import uniform_start
from gmmcore.formats.registry import write_mixture

SHOWS = ("b", "a", "c")


@pytest.fixture
def mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A mixture in two formats, and features that are normalised with a configuration."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    for i, show in enumerate(SHOWS):
        np.save(f"{show}.npy", (7 * i + 3 * rng.standard_normal((50 + i, 4))).astype("f"))
    Path("list.txt").write_text("\n".join(SHOWS))
    configure({})
    mixture = uniform_start(rng.standard_normal((500, 4)), 5)
    write_mixture("m.h5", mixture)
    write_mixture("m.gmm", mixture)
    return mixture


def configure(values: dict[str, object]) -> None:
    features = {"list": "list.txt", "pattern": "{show}.npy", "normalisation": "cmvn", **values}
    Path("config.yaml").write_text(yaml.safe_dump({"features": features, "precision": "double"}))


def normalised(show: str) -> np.ndarray:
    frames = np.load(f"{show}.npy").astype(float)
    return (frames - frames.mean(axis=0)) / frames.std(axis=0)


def test_shows_are_processed_and_scored_one_by_one_and_in_all(mixture, capsys):
    assert main(["score", "m.h5", "m.gmm", "--list", "list.txt", "--threads", "2"]) == 0
    head, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head == ["show", "frames", "m.h5", "m.gmm"]
    values = {show: log_likelihood(mixture, normalised(show)) for show in SHOWS}
    values["all"] = np.concatenate([*values.values()])
    assert [row[0] for row in rows] == [*SHOWS, "all"]
    for show, frames, *found in rows:
        assert int(frames) == len(values[show])
        np.testing.assert_allclose(np.array(found, float), values[show].mean(), atol=2e-6)


def test_segments_of_a_show_are_one_row(mixture, capsys):
    Path("parts.tsv").write_text("a\t\t0\t20\nb\t\t\t\na\t\t30\t\n")
    assert main(["score", "m.h5", "--list", "parts.tsv", "--output", "scores.tsv"]) == 0
    assert capsys.readouterr().out == "scores.tsv: 2 shows, 91 frames\n"
    rows = [line.split("\t")[:2] for line in Path("scores.tsv").read_text().splitlines()]
    assert rows[1:] == [["a", "41"], ["b", "50"], ["all", "91"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "config.yaml: run ubm holds no shows out; give --list, or set held_out"),
        (["--run", "x"], "config.yaml: has no run x; its runs are ubm"),
        (["--list", "none"], "none: the feature list cannot be read"),
    ],
)
def test_mistakes_are_one_line(mixture, capsys, arguments, message):
    assert main(["score", "m.h5", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gmmcore score: error: {message}")
    assert error.count("\n") == 1


def test_a_faulty_show_stops_or_is_skipped(mixture, capsys):
    np.save("b.npy", np.full((9, 4), np.nan, "f"))
    assert main(["score", "m.h5", "--list", "list.txt"]) == 1
    assert "show b (b.npy): 36 NaN" in capsys.readouterr().err
    configure({"on_error": "skip"})
    assert main(["score", "m.h5", "--list", "list.txt"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("warning: skipped: show b (b.npy): 36 NaN")
    assert [line.split("\t")[0] for line in told.out.splitlines()[1:]] == ["a", "c", "all"]


def test_a_mixture_of_another_dimension_is_refused(mixture, capsys):
    configure({"delta": True})
    assert main(["score", "m.gmm", "--list", "list.txt"]) == 1
    assert "frames of dimension 8 after processing; expected 4, as" in capsys.readouterr().err
