"""Files that the toolkits wrote themselves read to their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmmcore.files import WRITTEN
from gmmcore.formats.registry import format_of, read_mixture, write_mixture

# File: truth, and the relative precision that the format keeps.
TRUTHS = {
    "kaldi_diag.bin": ("kaldi_diag", 1e-15),
    "kaldi_diag.txt": ("kaldi_diag", 1e-6),
    "htk_diag.mmf": ("kaldi_diag", 1e-6),
    "kaldi_full.bin": ("kaldi_full", 2e-15),
    "kaldi_full.txt": ("kaldi_full", 1e-6),
    "htk_full.mmf": ("kaldi_full", 1e-6),
    "alize_full.gmm": ("kaldi_full", 2e-15),
    "alize_full_withcov.gmm": ("kaldi_full", 2e-15),
    "alize_diag.gmm": ("alize_diag", 0.0),
    "alize_diag.xml": ("alize_diag", 0.0),
}
SIDEKIT = ("diag16.h5", "diag4.h5", "full4.h5", "diag16.gmm")


def sample(data: Path, name: str) -> Path:
    return data / ("models" if name in TRUTHS else "sidekit") / name


def closeness(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(found - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("name", TRUTHS)
def test_parameters_are_the_truth(data: Path, name: str) -> None:
    truth_name, tolerance = TRUTHS[name]
    with np.load(data / "models" / f"{truth_name}.truth.npz", allow_pickle=False) as truth:
        mixture = read_mixture(sample(data, name))
        assert closeness(mixture.weights, truth["weights"]) <= tolerance
        assert closeness(mixture.means, truth["means"]) <= tolerance
        covariances = truth["covs" if mixture.is_full else "vars"]
        assert closeness(mixture.covariances, covariances) <= tolerance


@pytest.mark.parametrize("name", [*TRUTHS, *SIDEKIT])
def test_every_file_in_every_format_with_the_same_bytes_again(
    data: Path, tmp_path: Path, name: str
) -> None:
    mixture = read_mixture(sample(data, name))
    for written in WRITTEN:
        first, second = tmp_path / "first", tmp_path / "second"
        write_mixture(first, mixture, written)
        write_mixture(second, read_mixture(first), written)
        assert second.read_bytes() == first.read_bytes(), written


@pytest.mark.parametrize("name", ["alize_diag.gmm", "diag16.gmm", "alize_full.gmm"])
def test_alize_raw_is_written_as_alize_writes_it(data: Path, tmp_path: Path, name: str) -> None:
    path = sample(data, name)
    write_mixture(tmp_path / "m", read_mixture(path), "alize")
    theirs, ours = path.read_bytes(), (tmp_path / "m").read_bytes()
    assert len(ours) == len(theirs)
    count, dimension = np.frombuffer(theirs, "<u4", 2)
    full = name == "alize_full.gmm"
    size = 17 + 8 * int(dimension) * (1 + (int(dimension) if full else 1))
    start = 8 + 8 * int(count)
    assert ours[:start] == theirs[:start]
    for c in range(int(count)):
        at = start + c * size
        # Everything but the two constants, which differ in the last digits, or are 0 there.
        assert ours[at + 16 : at + size] == theirs[at + 16 : at + size]
        if not full:
            np.testing.assert_allclose(
                np.frombuffer(ours, "<f8", 2, at), np.frombuffer(theirs, "<f8", 2, at), rtol=1e-12
            )


def test_htk_text_is_written_as_it_was(data: Path, tmp_path: Path) -> None:
    for name in ("htk_diag.mmf", "htk_full.mmf"):
        write_mixture(tmp_path / "m", read_mixture(sample(data, name)), "htk")
        theirs, ours = sample(data, name).read_text(), (tmp_path / "m").read_text()
        # Their constants were computed before their parameters were rounded.
        pairs = zip(theirs.splitlines(), ours.splitlines(), strict=True)
        different = [(a, b) for a, b in pairs if a != b]
        assert len(different) <= 8
        for a, b in different:
            assert float(a.removeprefix("<GCONST>")) == pytest.approx(
                float(b.removeprefix("<GCONST>")), rel=1e-6
            )


def test_kaldi_binary_is_written_as_kaldi_writes_it(data: Path, tmp_path: Path) -> None:
    for name in ("kaldi_diag.bin", "kaldi_full.bin"):
        write_mixture(tmp_path / "m", read_mixture(sample(data, name)), "kaldi")
        theirs, ours = sample(data, name).read_bytes(), (tmp_path / "m").read_bytes()
        at = theirs.index(b"<WEIGHTS>")
        assert ours[at:] == theirs[at:]
        constants = [np.frombuffer(x[at - 32 * 4 : at], "<f4") for x in (ours, theirs)]
        np.testing.assert_allclose(*constants, rtol=1e-6)


def test_constants_that_sidekit_wrote(data: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    for name in ("diag16.h5", "diag4.h5"):
        path = sample(data, name)
        write_mixture(tmp_path / "m.h5", read_mixture(path))
        with h5py.File(path) as theirs, h5py.File(tmp_path / "m.h5") as ours:
            assert set(ours) == set(theirs)
            for dataset in theirs:
                assert ours[dataset].shape == theirs[dataset].shape
                assert ours[dataset].dtype == theirs[dataset].dtype
                np.testing.assert_allclose(ours[dataset][()], theirs[dataset][()], rtol=1e-11)


def test_each_is_recognised_by_content_alone(data: Path) -> None:
    expected = {
        ".bin": "kaldi", ".txt": "kaldi-text", ".mmf": "htk", ".xml": "alize-xml",
        ".gmm": "alize", ".h5": "sidekit",
    }  # fmt: skip
    for name in (*TRUTHS, *SIDEKIT):
        path = sample(data, name)
        assert format_of("unknown", path.read_bytes()).name == expected[path.suffix]
