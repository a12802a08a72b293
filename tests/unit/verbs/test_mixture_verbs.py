"""``gmmcore convert``, ``info`` and ``compare``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gmmcore.cli.main import main
from gmmcore.core.describe import describe, difference
from gmmcore.core.history import HistoryEntry
from gmmcore.core.mixture import GaussianMixture
from gmmcore.files import WRITTEN
from gmmcore.formats.hdf5 import load_model, save_model
from gmmcore.formats.registry import read_mixture, write_mixture


def mixture() -> GaussianMixture:
    return GaussianMixture.from_covariances(
        [0.25, 0.25, 0.5],
        [[0.0, 0.0], [1.0, 2.0], [-3.0, 4.0]],
        [[1.0, 1.0], [0.5, 8.0], [2.0, 2.0]],
    )


def full() -> GaussianMixture:
    return GaussianMixture.from_covariances([1.0], [[0.0, 0.0]], [[[2.0, 1.0], [1.0, 2.0]]])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.h5"
    entry = HistoryEntry("diag", 3, 1, 0, 99, -5.25, float("nan"), 0, 0, 0, 12.5)
    save_model(path, mixture(), {"run": "demo", "stage": "diag"}, [entry])
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_convert_to_every_format(
    model: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert main(["convert", str(model), str(out), "--output-format", name]) == 0
    assert "3 diagonal components of dimension 2" in capsys.readouterr().out
    np.testing.assert_allclose(read_mixture(out).means, mixture().means, rtol=1e-6)


def test_convert_by_extension_and_into_a_prefix(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.h5"
    kaldi = tmp_path / "m.kaldi"
    write_mixture(kaldi, full())
    assert main(["convert", str(model), str(out)]) == 0
    assert main(["convert", str(kaldi), str(out), "--output-prefix", "full_"]) == 0
    assert read_mixture(out) == mixture()
    assert read_mixture(out, prefix="full_").is_full
    assert main(["convert", str(out), str(tmp_path / "x.mmf"), "--prefix", "full_"]) == 0
    assert read_mixture(tmp_path / "x.mmf").is_full


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "{m}", "{t}/x.doc"], "its extension tells no format"),
        (["convert", "{m}", "{t}/x.mmf", "--output-prefix", "a"], "HTK MMF text has no prefixes"),
        (["convert", "{m}", "{t}/x", "--output-format", "word"], "no such format"),
        (["convert", "{t}/none", "{t}/x.h5"], "No such file"),
        (["info", "{m}", "--prefix", "x"], "no mixture with the prefix 'x'"),
        (["info", "{t}"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    given = [a.replace("{m}", str(model)).replace("{t}", str(tmp_path)) for a in arguments]
    assert main(given) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_info(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    out = capsys.readouterr().out
    for part in (
        "SIDEKIT HDF5",
        "3 diagonal components of dimension 2, 14 free parameters",
        "trained by 1 iteration; before the last one, on 99 frames, log-likelihood per frame -5.25",
        "weights: 0.25 to 0.5, entropy 1.0397 (as 2.8 equal components)",
        "smallest variance: 0.5 (component 1)",
        "largest variance: 8 (component 1)",
        "condition number: 1 median, 16 (component 1)",
        f"digest: {load_model(model).digest} (verified)",
        "run: demo",
        "diag\t3\t1\t0\t99\t-5.25\tnan",
    ):
        assert part in out


def test_info_as_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["components"] == 3
    assert report["provenance"] == {"run": "demo", "stage": "diag"}
    assert report["history"][0]["gain"] is None
    assert report["prefixes"] == [""]


def test_info_of_a_damaged_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(model.read_bytes())
    content[3000] ^= 1
    model.write_bytes(content)
    assert main(["info", str(model)]) == 1
    assert "damaged" in capsys.readouterr().err


def test_describe_a_full_mixture() -> None:
    report = describe(full())
    assert report["variance_smallest"] == pytest.approx(1)
    assert report["variance_largest"] == pytest.approx(3)
    assert report["condition_largest"] == pytest.approx(3)
    assert report["parameters"] == 5
    assert report["weight_entropy"] == 0


def test_difference_is_in_units_of_the_first() -> None:
    first = GaussianMixture.from_covariances([0.5, 0.5], [[0.0], [0.0]], [[4.0], [1.0]])
    second = GaussianMixture.from_covariances([0.4, 0.6], [[1.0], [0.0]], [[5.0], [1.0]])
    found = difference(first, second)
    assert found.weights == pytest.approx(0.1)
    assert found.means == pytest.approx(0.5)
    assert found.covariances == pytest.approx(0.25)
    assert found.largest == pytest.approx(0.5)
    assert difference(full(), full()).largest == 0


def test_compare(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "o.mmf"
    write_mixture(other, mixture())
    frames = tmp_path / "x.npy"
    values = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    np.save(frames, values)
    files = [str(model), str(other)]
    assert main(["compare", *files, "--features", str(frames), "--tolerance", "1e-6"]) == 0
    out = capsys.readouterr().out
    logs = [
        np.log(w) - 0.5 * (np.log(2 * np.pi * v) + (values - m) ** 2 / v).sum(axis=1)
        for w, m, v in zip(
            mixture().weights, mixture().means, mixture().covariances, strict=True
        )
    ]  # fmt: skip
    expected = np.logaddexp.reduce(logs, axis=0).mean()
    assert f"log-likelihood per frame of 50: {expected:.6f} {model}" in out
    moved = GaussianMixture(mixture().weights, mixture().means + 0.01, mixture().precisions)
    write_mixture(other, moved)
    assert main(["compare", *files]) == 0
    assert main(["compare", *files, "--tolerance", "1e-6"]) == 1
    assert "differs from" in capsys.readouterr().err


def test_compare_other_sizes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, frames = tmp_path / "o.gmm", tmp_path / "x.npy"
    write_mixture(other, full())
    np.save(frames, np.zeros((5, 2), np.float32))
    assert main(["compare", str(model), str(other), "--features", str(frames)]) == 0
    assert "difference:" in capsys.readouterr().out
    assert main(["compare", str(model), str(other), "--tolerance", "1"]) == 1
    np.save(frames, np.zeros((5, 3), np.float32))
    assert main(["compare", str(model), str(model), "--features", str(frames)]) == 1
    assert "frames of dimension 3, the mixtures have 2" in capsys.readouterr().err
