"""Recognition: every format reads what it writes, and nothing that is of another format."""

from __future__ import annotations

import struct
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gmmcore.cli.main import main
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.settings import MAX_COMPONENTS
from gmmcore.errors import GmmcoreError
from gmmcore.files import MIXTURE_FILES, WRITTEN
from gmmcore.formats.alize import decode_raw, encode_raw
from gmmcore.formats.registry import decode_mixture, format_of, formats, read_mixture, write_mixture

# Sizes whose first bytes in ALIZE RAW are those of HTK (``~``) and Kaldi (``\\0B``).
COLLIDING = (126, 382, 638, 894, 1150, 16896, 0x6F7E, 0x0A7E, 0x0A6F7E)
EVEN = GaussianMixture(
    np.full(2048, 1 / 2048), np.linspace(-5, 5, 2048)[:, np.newaxis], np.ones((2048, 1))
)


def of_size(count: int, dimension: int = 1) -> GaussianMixture:
    means = np.linspace(-5, 5, count * dimension).reshape(count, dimension)
    return GaussianMixture(np.full(count, 1 / count), means, np.ones((count, dimension)))


def recognised(content: bytes) -> set[str]:
    return {one.name for one in formats() if one.recognises(content)}


def test_alize_reads_every_size_that_it_writes() -> None:
    for count in range(1, 2049):
        mixture = of_size(count)
        content = encode_raw(mixture)
        assert recognised(content) == {"alize"}, count
        assert decode_raw("m", content) == mixture


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_reads_the_sizes_that_it_writes(tmp_path: Path, name: str) -> None:
    sizes = [*range(1, 9), *range(100, 2049, 487), 2048, *COLLIDING[:3]]
    if name == "alize":
        sizes += COLLIDING[3:]
    for count, dimension in product(sizes, (1, 2)):
        mixture, path = of_size(count, dimension), tmp_path / f"{count}-{dimension}"
        write_mixture(path, mixture, name)
        content = path.read_bytes()
        assert recognised(content) == {name}
        read = read_mixture(path)
        np.testing.assert_allclose(read.means, mixture.means, rtol=1e-5)


def test_no_header_is_taken_for_another_format() -> None:
    """Beginnings of files, drawn at random: each is recognised by its own format alone."""
    rng = np.random.default_rng(22)
    spaces = [b"", b" ", b"\n", b"\r\n\t ", b" " * 300]

    def any_bytes(most: int) -> bytes:
        return bytes(rng.bytes(int(rng.integers(0, most))))

    def text(*starts: bytes) -> bytes:
        start = starts[rng.integers(len(starts))]
        return spaces[rng.integers(len(spaces))] + start + any_bytes(60)

    def alize() -> bytes:
        count, dimension = int(2 ** rng.uniform(0, 14)), int(2 ** rng.uniform(0, 5))
        if rng.random() < 0.2:
            count, dimension = int(rng.choice(COLLIDING[:6])), 1
        square = dimension * dimension if rng.random() < 0.3 else dimension
        size = 8 * count + count * (17 + 8 * (dimension + square))
        return struct.pack("<>"[rng.integers(2)] + "II", count, dimension) + bytes(size)

    makers = {
        "sidekit": lambda: (
            b"gmmcore mixture " + any_bytes(99)
            if rng.random() < 0.5
            else bytes(rng.choice([0, 512, 1024, 8192])) + b"\x89HDF\r\n\x1a\n" + any_bytes(99)
        ),
        "kaldi": lambda: b"\0B<" + [b"Diag", b"Full"][rng.integers(2)] + b"GMM> " + any_bytes(99),
        "kaldi-text": lambda: text(b"<DiagGMM>", b"<FullGMM> ", b"<DiagGMMBegin>"),
        "htk": lambda: text(
            b"~o <VECSIZE>", b'~h "x"', b"~o\n<", b"~h ubm", b"~s'x'", b"<BeginHMM>", b'~t "'
        ),
        "alize-xml": lambda: text(b"<MixtureGD ", b"<MixtureGF", b"<?xml version", b"<!DOCTYPE"),
        "alize": alize,
    }
    assert {*makers} == {*MIXTURE_FILES}
    for name, make in makers.items():
        for _ in range(10_000 if name != "alize" else 3_000):
            content = make()
            assert recognised(content) == {name}, content[:40]


def test_random_bytes_are_no_mixture() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10_000):
        content = bytes(rng.bytes(int(rng.integers(0, 60))))
        assert not recognised(content), content


def test_every_first_word_of_alize_is_no_other_format() -> None:
    """The first four bytes are a number of components, at most 2^20."""
    others = [one for one in formats() if one.name != "alize"]
    for count in range(1, MAX_COMPONENTS + 1, 7):
        content = struct.pack("<II", count, 1) + b"<o \0"
        assert not any(one.recognises(content) for one in others), count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\0", "compressed; unpack"),
        (b"\x80\x04\x95", "pickle, .*from_sklearn"),
        (b"PK\3\4....", "arrays of NumPy"),
        (b"\x93NUMPY\1\0", "arrays of NumPy"),
        (b"MATLAB 5.0 MAT-file", "MATLAB"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_files_that_are_no_mixtures_are_named(content: bytes, message: str) -> None:
    for path in ("m", "m.gmm", "m.h5"):
        with pytest.raises(GmmcoreError, match=f"{path}: no mixture file: .*{message}"):
            decode_mixture(path, content)


def test_verbs_read_the_format_that_they_are_given(tmp_path: Path, capsys) -> None:
    path, other = str(tmp_path / "m.mmf"), str(tmp_path / "other.h5")
    write_mixture(path, to_kind(of_size(126, 2), "full"), "alize")
    for name in ("alize", "auto"):
        assert main(["info", path, "--input-format", name]) == 0
        assert main(["convert", path, other, "--input-format", name]) == 0
        assert main(["compare", path, path, "--input-format", name, "--tolerance", "0"]) == 0
    both = ["--input-format", "alize", "--input-format", "sidekit"]
    assert main(["compare", path, other, *both, "--tolerance", "0"]) == 0
    capsys.readouterr()
    for words in (
        ["info", path],
        ["convert", path, other],
        ["compare", path, other],
        ["compare", other, path, *both],
    ):
        assert main([*words, *(["--input-format", "kaldi"] if words[-1] != "sidekit" else [])]) == 1
        error = capsys.readouterr().err
        assert ": cannot be read as " in error or "not a readable HDF5 file" in error
        assert error.count("\n") == 1
    assert format_of("m", b"", "htk").name == "htk"
