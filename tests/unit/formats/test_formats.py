"""Readers and writers of every format, and how a format is recognised."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from gmmcore.cli.main import main
from gmmcore.config.keys import EXPORTS
from gmmcore.core.density import component_log_likelihoods
from gmmcore.core.kinds import KINDS, to_kind
from gmmcore.core.mixture import GaussianMixture, InvalidMixtureError
from gmmcore.errors import GmmcoreError
from gmmcore.files import MIXTURE_FILES, WRITTEN
from gmmcore.formats.registry import (
    decode_mixture,
    format_by_name,
    format_of,
    formats,
    read_mixture,
    write_mixture,
)
from gmmcore.formats.sklearn import from_sklearn, to_sklearn
from gmmcore.interfaces.sidekit_mixture import Mixture

EXACT = ("sidekit", "alize")


def diagonal(count: int = 3, dimension: int = 4) -> GaussianMixture:
    rng = np.random.default_rng(count)
    weights = rng.dirichlet(np.ones(count))
    variances = np.exp(rng.normal(size=(count, dimension)))
    return GaussianMixture.from_covariances(
        weights, rng.normal(size=(count, dimension)) * 5, variances
    )


def full(count: int = 3, dimension: int = 4) -> GaussianMixture:
    rng = np.random.default_rng(count)
    spread = rng.normal(size=(count, dimension, 3 * dimension))
    return GaussianMixture.from_covariances(
        rng.dirichlet(np.ones(count)),
        rng.normal(size=(count, dimension)) * 5,
        spread @ spread.transpose(0, 2, 1),
    )


MIXTURES = {
    "diagonal": diagonal(),
    "full": full(),
    "one component": diagonal(1, 5),
    "one dimension": diagonal(2, 1),
    "one of one": diagonal(1, 1),
    "one full": full(1, 2),
    "no weight": GaussianMixture([0.0, 1.0], [[1.0, 2.0], [0.0, 0.0]], np.ones((2, 2))),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("kind", MIXTURES)
def test_written_and_read_again(tmp_path: Path, name: str, kind: str) -> None:
    mixture, path, again = MIXTURES[kind], tmp_path / "a", tmp_path / "b"
    write_mixture(path, mixture, name)
    read = read_mixture(path)
    assert format_of("x", path.read_bytes()).name == name
    if name in EXACT:
        assert read == mixture
    else:
        assert read.is_full == mixture.is_full
        np.testing.assert_allclose(read.weights, mixture.weights, rtol=1e-6)
        np.testing.assert_allclose(read.means, mixture.means, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(read.covariances, mixture.covariances, rtol=1e-4, atol=1e-5)
    write_mixture(again, read, name)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_same_densities_when_read_again(tmp_path: Path, kind: str) -> None:
    mixture, frames = to_kind(full(), kind), full(3, 4).sample(50, seed=1)[0]
    expected = component_log_likelihoods(mixture, frames)
    for name in WRITTEN:
        write_mixture(tmp_path / name, mixture, name)
        read = read_mixture(tmp_path / name)
        assert read.kind == ("full" if mixture.is_full else "diag")
        if name in EXACT:
            np.testing.assert_array_equal(read.precisions, mixture.precisions)
        tolerance = 1e-12 if name in EXACT else 1e-4
        found = component_log_likelihoods(read, frames)
        np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [1, 4])
def test_scikit_learn_keeps_every_kind(kind: str, dimension: int) -> None:
    pytest.importorskip("sklearn")
    mixture = to_kind(full(3, dimension), kind)
    estimator, frames = to_sklearn(mixture), mixture.sample(50, seed=1)[0]
    assert estimator.covariance_type == kind
    expected = np.logaddexp.reduce(component_log_likelihoods(mixture, frames), axis=1)
    np.testing.assert_allclose(estimator.score_samples(frames), expected, rtol=1e-10)
    read = from_sklearn(estimator)
    assert read.kind == kind
    np.testing.assert_array_equal(read.precisions, mixture.precisions)
    # What scikit-learn computes from the parameters has the shapes that it expects.
    fitted = estimator.set_params(max_iter=2, tol=1e9).fit(frames)
    assert fitted.covariances_.shape == to_sklearn(mixture).covariances_.shape
    assert from_sklearn(fitted).kind == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", ["precisions_", "precisions_cholesky_"])
def test_parameters_that_were_set_by_hand_in_scikit_learn(kind: str, absent: str) -> None:
    pytest.importorskip("sklearn")
    mixture = to_kind(full(), kind)
    estimator = to_sklearn(mixture)
    delattr(estimator, absent)
    read = from_sklearn(estimator)
    assert read.kind == kind
    np.testing.assert_allclose(read.precisions, mixture.precisions, rtol=1e-12)
    with pytest.raises(GmmcoreError, match="not fitted, or no mixture"):
        from_sklearn([1, 2])


@pytest.mark.parametrize("mixture", [diagonal(), full()], ids=["diagonal", "full"])
@pytest.mark.parametrize("name", ["kaldi-text", "htk"])
def test_texts_that_editors_of_windows_wrote(
    tmp_path: Path, name: str, mixture: GaussianMixture
) -> None:
    write_mixture(tmp_path / "m", mixture, name)
    content = (tmp_path / "m").read_bytes()
    for text in (b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n"), b"\n " + content):
        assert format_of("m", text).name == name
        assert decode_mixture("m", text) == decode_mixture("m", content)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_extension_tells_how_to_write(tmp_path: Path, name: str) -> None:
    for extension in format_by_name(name).extensions:
        path = tmp_path / f"m{extension.upper()}"
        write_mixture(path, diagonal())
        assert format_of("x", path.read_bytes()).name == name


def test_all_formats_are_those_of_the_table(tmp_path: Path) -> None:
    assert {one.name for one in formats()} == {*MIXTURE_FILES}
    for one in formats():
        if one.name not in WRITTEN:
            with pytest.raises(GmmcoreError, match=r"is read and not written; .*alize"):
                write_mixture(tmp_path / f"m{one.extensions[0]}", diagonal())
    assert EXPORTS == {
        "kaldi": "ubm.kaldi", "kaldi-text": "ubm.kaldi.txt", "htk": "ubm.mmf", "alize": "ubm.gmm",
    }  # fmt: skip


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    path = tmp_path / "kaldi.gmm"
    write_mixture(path, diagonal(), "kaldi")
    assert read_mixture(path).components == 3
    with pytest.raises(GmmcoreError, match=r"kaldi\.gmm.*ALIZE RAW"):
        read_mixture(path, format="alize")


def test_the_name_decides_where_the_content_does_not() -> None:
    with pytest.raises(GmmcoreError, match=r"m\.gmm: cannot be read as ALIZE RAW"):
        decode_mixture("m.gmm", b"nonsense")
    with pytest.raises(GmmcoreError, match=r"m\.mmf: cannot be read as HTK"):
        decode_mixture("m.mmf", b"nonsense")
    with pytest.raises(GmmcoreError, match="neither its content nor its name"):
        decode_mixture("m.doc", b"nonsense")
    with pytest.raises(GmmcoreError, match="tells no format") as told:
        write_mixture("m.doc", diagonal())
    assert ".xml" not in str(told.value)
    with pytest.raises(GmmcoreError, match="no such format"):
        write_mixture("m.h5", diagonal(), "matlab")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(GmmcoreError, match="No such file"):
        read_mixture(tmp_path / "none.h5")
    for extension in (".h5", ".gmm", ".xml", ".mmf", ".txt", ".kaldi"):
        path = tmp_path / f"m{extension}"
        path.write_bytes(b"")
        with pytest.raises(GmmcoreError, match=f"m{extension}"):
            read_mixture(path)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mixture", [diagonal(), full()], ids=["diagonal", "full"])
def test_every_truncation_is_an_error(tmp_path: Path, name: str, mixture: GaussianMixture) -> None:
    path = tmp_path / "m"
    write_mixture(path, mixture, name)
    content = path.read_bytes()
    # White space at the end of a text means nothing.
    end = len(content.rstrip())
    for size in range(0, end, max(1, end // 150)):
        with pytest.raises(GmmcoreError):
            decode_mixture("m", content[:size], format=name)


# Kaldi


def kaldi_binary(weights: bytes, means: bytes, precisions: bytes) -> bytes:
    return (
        b"\0B<DiagGMM> <WEIGHTS> " + weights + b"<MEANS_INVVARS> " + means
        + b"<INV_VARS> " + precisions + b"</DiagGMM> "
    )  # fmt: skip


def vector(*values: float, code: str = "f") -> bytes:
    kind = b"FV " if code == "f" else b"DV "
    return kind + struct.pack(f"<bi{len(values)}{code}", 4, len(values), *values)


def matrix(*values: float, rows: int = 1, code: str = "f") -> bytes:
    kind = b"FM " if code == "f" else b"DM "
    sizes = struct.pack("<bibi", 4, rows, 4, len(values) // rows)
    return kind + sizes + struct.pack(f"<{len(values)}{code}", *values)


def test_kaldi_without_constants_and_in_double_precision() -> None:
    content = kaldi_binary(vector(1.0), matrix(4.0, 9.0, code="d"), matrix(2.0, 3.0, code="d"))
    mixture = decode_mixture("m", content)
    assert mixture.means.tolist() == [[2.0, 3.0]]
    assert mixture.covariances.tolist() == [[1 / 2, 1 / 3]]


def test_kaldi_old_tags() -> None:
    content = kaldi_binary(vector(1.0), matrix(4.0), matrix(2.0))
    content = content.replace(b"<DiagGMM>", b"<DiagGMMBegin>")
    content = content.replace(b"</DiagGMM>", b"<DiagGMMEnd>")
    assert decode_mixture("m", content).means.tolist() == [[2.0]]
    text = (
        b"<FullGMMBegin> \n<WEIGHTS>  [ 1 ]\n<MEANS_INVCOVARS>  [\n  2 0 ]\n"
        b"<INV_COVARS> [\n2 \n1 2 ]\n<FullGMMEnd> \n"
    )
    mixture = decode_mixture("m", text)
    np.testing.assert_allclose(mixture.means, [[4 / 3, -2 / 3]])
    assert mixture.precisions.tolist() == [[[2, 1], [1, 2]]]


def test_kaldi_constants(tmp_path: Path) -> None:
    path, mixture = tmp_path / "m", full()
    write_mixture(path, mixture, "kaldi-text")
    line = path.read_text().split("\n")[1]
    stated = np.array(line.split("[")[1].rstrip(" ]").split(), dtype=float)
    sign, log_det = np.linalg.slogdet(mixture.covariances)
    quadratic = np.einsum("ci,cij,cj->c", mixture.means, mixture.precisions, mixture.means)
    expected = np.log(mixture.weights) - 0.5 * (4 * np.log(2 * np.pi) + log_det + quadratic)
    assert (sign == 1).all()
    np.testing.assert_allclose(stated, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0B<TransitionModel> ", "a DiagGMM or FullGMM was expected"),
        (kaldi_binary(vector(1.0), matrix(4.0), matrix(-2.0)), "not positive"),
        (kaldi_binary(vector(1.0), matrix(4.0), matrix(0.0)), "not"),
        (kaldi_binary(vector(np.nan), matrix(4.0), matrix(2.0)), "not finite"),
        (kaldi_binary(vector(0.5), matrix(4.0), matrix(2.0)), "sum to 0.5"),
        (kaldi_binary(vector(1.0), matrix(4.0, 4.0, rows=2), matrix(2.0)), "2 means for 1"),
        (kaldi_binary(vector(1.0), matrix(4.0), matrix(2.0)) + b"x", "follows"),
        (kaldi_binary(matrix(1.0), matrix(4.0), matrix(2.0)), "a vector was expected"),
        (kaldi_binary(b"FV \x04\xff\xff\xff\x7f", b"", b""), "claimed"),
        (kaldi_binary(b"FV \x04\xff\xff\xff\xff", b"", b""), "claimed"),
        (kaldi_binary(b"FV \x04\0\0\0\x01" + struct.pack(">f", 1), b"", b""), "byte order"),
        (kaldi_binary(b"FM \x04\xff\xff\0\0\x04\xff\xff\0\0", b"", b""), "a vector was expected"),
    ],
)
def test_kaldi_nonsense(content: bytes, message: str) -> None:
    with pytest.raises(GmmcoreError, match=rf"m\.kaldi: cannot be read as Kaldi.*{message}"):
        decode_mixture("m.kaldi", content)


def test_kaldi_damage_that_contradicts_the_constants(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_mixture(path, diagonal(), "kaldi")
    content = bytearray(path.read_bytes())
    at = content.index(b"<INV_VARS> ") + 11 + 13  # the first float: token, sizes
    content[at + 3] ^= 1  # another exponent
    with pytest.raises(GmmcoreError, match="component 0 contradict its constant"):
        decode_mixture("m", bytes(content))


def test_what_single_precision_cannot_hold(tmp_path: Path) -> None:
    tiny = GaussianMixture([1.0], [[0.0]], [[1e60]])
    for name in ("kaldi", "kaldi-text"):
        with pytest.raises(GmmcoreError, match=r"cannot be written as Kaldi.*use sidekit or alize"):
            write_mixture(tmp_path / "m", tiny, name)
    with pytest.raises(GmmcoreError, match=r"cannot be written as HTK.*use sidekit or alize"):
        write_mixture(tmp_path / "m", GaussianMixture([1.0], [[0.0]], [[1e-60]]), "htk")
    # Positive definite in double precision only.
    edge = np.array([[[1.0, 1.0 - 1e-9], [1.0 - 1e-9, 1.0]]])
    for name in ("kaldi", "kaldi-text", "htk"):
        with pytest.raises(GmmcoreError, match="not positive definite; use sidekit"):
            write_mixture(tmp_path / "m", GaussianMixture([1.0], [[0.0, 0.0]], edge), name)
    assert not (tmp_path / "m").exists()


# ALIZE


def test_alize_sizes_and_constants(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for mixture, size in ((diagonal(), 3 * (17 + 64)), (full(), 3 * (17 + 32 + 128))):
        write_mixture(path, mixture, "alize")
        content = path.read_bytes()
        assert len(content) == 8 + 24 + size
        cst, det, flag = struct.unpack_from("<ddB", content, 8 + 24)
        _, log_det = np.linalg.slogdet(
            read_mixture(path).covariances[0].reshape(4, -1)
            if mixture.is_full
            else np.diag(mixture.covariances[0])
        )
        assert det == pytest.approx(np.exp(log_det), rel=1e-12)
        assert cst == pytest.approx((2 * np.pi) ** -2 * np.exp(-0.5 * log_det), rel=1e-12)
        assert flag == 0


def test_alize_constants_without_meaning_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_mixture(path, full(), "alize")
    content = bytearray(path.read_bytes())
    record = 17 + 8 * 4 + 8 * 16
    for component in range(3):
        struct.pack_into("<dd", content, 32 + component * record, 0.0, 12.5)
    assert decode_mixture("m", bytes(content)) == full()


@pytest.mark.parametrize("mixture", [diagonal(), full()], ids=["diagonal", "full"])
def test_alize_of_another_byte_order(tmp_path: Path, mixture: GaussianMixture) -> None:
    path = tmp_path / "m"
    write_mixture(path, mixture, "alize")
    content = path.read_bytes()
    record = np.dtype(
        [
            ("c", "<f8", 2),
            ("flag", "u1"),
            ("x", "<f8", mixture.means[0].size + mixture.precisions[0].size),
        ]
    )
    swapped = np.frombuffer(content[:8], "<u4").astype(">u4").tobytes()
    swapped += np.frombuffer(content[8:32], "<f8").astype(">f8").tobytes()
    swapped += np.frombuffer(content[32:], record).astype(record.newbyteorder(">")).tobytes()
    assert decode_mixture("m", swapped) == mixture


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<II", 1 << 31, 60) + bytes(100), "claims 2147483648 components"),
        (struct.pack("<II", 4, 1 << 31) + bytes(100), "claims dimension"),
        (struct.pack("<II", 0, 0), "claims 0 components"),
        (struct.pack("<II", 1 << 20, 1 << 16) + bytes(100), "it has 108 bytes"),
        (struct.pack("<IIdddBdd", 1, 1, 1.0, 1, 1, 3, 1.0, 0.0), "flag of component 0 is 3"),
        (struct.pack("<IIdddBdd", 1, 1, 1.0, 1, 1, 0, -1.0, 0.0), "not positive"),
    ],
)
def test_alize_nonsense(content: bytes, message: str) -> None:
    with pytest.raises(GmmcoreError, match=rf"m\.gmm: cannot be read as ALIZE RAW.*{message}"):
        decode_mixture("m.gmm", content)


def xml(inside: str, head: str = 'distribCount="1" vectSize="1"') -> bytes:
    return f'<MixtureGD version="1" id="" {head}>{inside}</MixtureGD>'.encode()


DOCTYPE = "<!DOCTYPE x><x/>"
ONE = '<DistribGD i="0" weight="1" cst="1" det="1"><covInv i="0">2</covInv><mean i="0">3</mean>'


def test_xml_by_hand() -> None:
    for prolog in (b"", b"\xef\xbb\xbf", b'<?xml version="1.0"?>\n'):
        mixture = decode_mixture("m", prolog + xml(ONE + "</DistribGD>"))
        assert mixture.means.tolist() == [[3.0]]
        assert mixture.precisions.tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + xml(ONE + "</DistribGD>"), "document type"),
        (xml(ONE.replace(">2<", ">&a;<") + "</DistribGD>"), "entity"),
        (xml(ONE + "</DistribGD>", 'distribCount="2147483648" vectSize="60"'), "claims"),
        (xml(ONE + "</DistribGD>", 'distribCount="9999" vectSize="60"'), "cannot hold them"),
        (xml(ONE + "</DistribGD>", 'distribCount="1" vectSize="x"'), "no number vectSize"),
        (xml(ONE + '<mean i="0">3</mean></DistribGD>'), "some twice"),
        (xml(ONE.replace('covInv i="0"', 'covInv i="7"') + "</DistribGD>"), "some twice"),
        (xml(ONE.replace(">2<", ">2x<") + "</DistribGD>"), "no number"),
        (xml(ONE.replace(">2<", ">nan<") + "</DistribGD>"), "not finite"),
        (xml(ONE.replace(">2<", ">1_0<") + "</DistribGD>"), "no number"),
        (xml(ONE.replace(">2<", "> <").replace(">3<", ">2 3<") + "</DistribGD>"), "no number"),
        (xml(ONE), "mismatched tag"),
        (xml(ONE + "</DistribGD>")[:-5], "unclosed token"),
        (xml(ONE + "</DistribGD>") + b"<more/>", "junk after document element"),
        (xml(f"<x>{ONE}</DistribGD></x>"), "was expected"),
        (xml(ONE + "</DistribGD><mean/>"), "was expected"),
        (f"<?xml version='1.0' encoding='utf-16'?>{DOCTYPE}".encode("utf-16"), "not well-formed"),
        (b"<MixtureSomething>", "was expected"),
    ],
)
def test_xml_nonsense(content: bytes, message: str) -> None:
    with pytest.raises(GmmcoreError, match=rf"m\.xml: cannot be read as ALIZE XML.*{message}"):
        decode_mixture("m.xml", content)


# HTK

HMM = """~o <STREAMINFO> 1 2 <VECSIZE> 2<NULLD><USER><DIAGC>
~h "a <strange> name" <BEGINHMM> <NUMSTATES> 3 <STATE> 2 {mixtures}
<TRANSP> 3 0 1 0 0 .6 .4 0 0 0 <ENDHMM>"""


def htk(mixtures: str) -> bytes:
    return HMM.format(mixtures=mixtures).encode()


def test_htk_free_form_and_case() -> None:
    mixture = decode_mixture("m", htk("<NumMixes>1 <mixture>1 1 <Mean> 2 1\n2<VARIANCE>2\n.5 4"))
    assert mixture.means.tolist() == [[1.0, 2.0]]
    assert mixture.covariances.tolist() == [[0.5, 4.0]]


def test_htk_one_component_without_a_mixture_line() -> None:
    mixture = decode_mixture("m", htk("<MEAN> 2 1 2 <VARIANCE> 2 .5 4"))
    assert mixture.weights.tolist() == [1.0]


def test_htk_mixtures_that_are_not_listed_have_no_weight() -> None:
    text = "<NUMMIXES> 3 <MIXTURE> 2 1 <MEAN> 2 1 2 <VARIANCE> 2 .5 4"
    mixture = decode_mixture("m", htk(text))
    assert mixture.weights.tolist() == [0.0, 1.0, 0.0]
    assert mixture.means[1].tolist() == [1.0, 2.0]


def test_htk_full() -> None:
    mixture = decode_mixture("m", htk("<MEAN> 2 1 2 <INVCOVAR> 2 2 1 3"))
    assert mixture.precisions.tolist() == [[[2.0, 1.0], [1.0, 3.0]]]


def test_htk_parts_of_a_definition() -> None:
    part = b"~s <NUMMIXES> 1 <MIXTURE> 1 1 <MEAN> 2 1 2 <VARIANCE> 2 .5 4"
    for content in (part, b"~x<STATE> 2 " + part):
        with pytest.raises(GmmcoreError, match="give a whole definition"):
            decode_mixture("m", content)
    with pytest.raises(GmmcoreError, match='does not define the macro ~s ""'):
        decode_mixture("m", b"~x<BEGINHMM>" + part + b"<ENDHMM>")


@pytest.mark.parametrize(
    ("mixtures", "message"),
    [
        ("<NUMMIXES> 2147483648 <MIXTURE> 1 1 <MEAN> 2 1 2 <VARIANCE> 2 1 1", "claims 2147483648"),
        (
            "<NUMMIXES> 999999 <MIXTURE> 1 1 <MEAN> 40 " + "1 " * 40 + "<VARIANCE> 40 " + "1 " * 40,
            "VECSIZE",
        ),
        ("<NUMMIXES> 1 <MIXTURE> 2 1 <MEAN> 2 1 2 <VARIANCE> 2 1 1", "mixture 2 of 1"),
        ("<MIXTURE> 1 .5 <MEAN> 2 1 2 <VARIANCE> 2 1 1 <MIXTURE> 1 .5", "twice"),
        ("<MIXTURE> 1 1 <MEAN> 2 1 2", "no <MEAN>, <VARIANCE>"),
        ("<MEAN> 2 1 2 3 <VARIANCE> 2 1 1", "claims 2 and has 3"),
        ("<MEAN> 2 1 2 <VARIANCE> 2 1 0", "a variance of mixture 1 is 0, not positive"),
        ("<MEAN> 2 1 2 <VARIANCE> 2 1 -1", "not positive"),
        ("<MEAN> 2 1 nan <VARIANCE> 2 1 1", "not finite"),
        ("<MEAN> 3 1 2 3 <VARIANCE> 3 1 1 1", "VECSIZE"),
        ('<MEAN> 2 1 2 ~v "shared"', 'not define the macro ~v "shared"'),
        ('<MEAN> 2 1 2 ~x "shared"', 'macro ~x "shared", which is not supported'),
        ("<MEAN> 2 1 x <VARIANCE> 2 1 1", "no number"),
        ("<MEAN> 2 1 2 <LLTCOVAR> 2 1 0 1", "Choleski"),
        ("<MEAN> 2 1 2 <VARIANCE> 2 1 1 <STATE> 3 <MEAN> 2 1 2 <VARIANCE> 2 1 1", "several states"),
        ("<MEAN> 2 1 2 <VARIANCE> 2 1 1 <ENDHMM> <BEGINHMM>", "several models"),
        ("<MEAN> 2 1 2 <VARIANCE> 2 1 1 < MEAN", "neither a <KEYWORD>"),
        ("", "no mixture"),
    ],
)
def test_htk_nonsense(mixtures: str, message: str) -> None:
    with pytest.raises(GmmcoreError, match=rf"m\.mmf: cannot be read as HTK.*{message}"):
        decode_mixture("m.mmf", htk(mixtures))


def component(c: int) -> dict[str, str]:
    """The parts of a component, as text."""
    mean, variance = f"<MEAN> 2 {c} {-c}", f"<VARIANCE> 2 {c + 1} 2"
    constant = 2 * np.log(2 * np.pi) + np.log((c + 1) * 2)
    return {"~u": mean, "~v": variance, "gconst": f"<GCONST> {constant:.6e}"}


@pytest.mark.parametrize("seed", range(30))
def test_htk_macros_stand_for_what_they_define(seed: int) -> None:
    """Any part of a mixture may be a macro, quoted or not, before or behind the model."""
    rng = np.random.default_rng(seed)
    definitions, count = (
        ['~t "T" <TRANSP> 3 0 1 0 0 .6 .4 0 0 0', "~v varFloor1 <VARIANCE> 2 1 1"],
        3,
    )
    is_first = rng.random() < 0.8

    def maybe(kind: str, name: str, text: str) -> str:
        if rng.random() < 0.5:
            return text
        shown = [f'"{name} <1>"', f"'{name}'", name, rf'"{name} \"~"'][rng.integers(4)]
        definitions.append(f"{kind} {shown}\n {text}")
        return f"{kind} {shown}"

    lines = []
    for c in range(count):
        parts = component(c)
        values = [maybe(kind, f"{kind[1]}{c}", parts[kind]) for kind in ("~u", "~v")]
        body = maybe("~m", f"m{c}", " ".join([*values, parts["gconst"]]))
        lines.append(f"<MIXTURE> {c + 1} {(c + 1) / 6:.6f} {body}\n")
    state = maybe("~s", "s", f"<NUMMIXES> {count} {''.join(lines)}")
    transitions = '~t "T"' if rng.random() < 0.5 else "<TRANSP> 3 0 1 0 0 .6 .4 0 0 0"
    model = f"~h 'x' <BEGINHMM> <NUMSTATES> 3 <STATE> 2 {state} {transitions} <ENDHMM>"
    texts = [*definitions, model] if is_first else [model, *definitions]
    mixture = decode_mixture("m", "\n".join(["~o <VECSIZE> 2<DIAGC>", *texts]).encode())
    np.testing.assert_allclose(mixture.weights, [1 / 6, 2 / 6, 3 / 6], rtol=1e-5)
    assert mixture.means.tolist() == [[c, -c] for c in range(count)]
    np.testing.assert_allclose(mixture.covariances, [[c + 1, 2] for c in range(count)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('~m "a" <MEAN> 2 1 1 ~m "a" {}', "refers to|twice"),
        ('~v "a" <VARIANCE> 2 1 1 ~v "a" <VARIANCE> 2 1 1 {}', 'macro ~v "a" twice'),
        ('~u "a" <MEAN> 2 1 1 ~s "b" {}', 'not define the macro ~s "a"'),
    ],
)
def test_htk_macros_that_are_wrong(text: str, message: str) -> None:
    model = htk('~s "a"').decode()
    with pytest.raises(GmmcoreError, match=rf"cannot be read as HTK.*({message})"):
        decode_mixture("m", text.format(model).encode())


def test_htk_macros_cannot_claim_more_than_memory() -> None:
    numbers = "1 " * 20_000
    text = f'~m "a" <MEAN> 20000 {numbers} <VARIANCE> 20000 {numbers} '
    lines = "".join(f'<MIXTURE> {c + 1} .0001 ~m "a"\n' for c in range(10_000))
    with pytest.raises(
        GmmcoreError, match="10000 mixtures are claimed, 10000 are there, some as macros"
    ):
        model = HMM.replace("<VECSIZE> 2", "").format(mixtures=f"<NUMMIXES> 10000 {lines}")
        decode_mixture("m", (text + model).encode())


def test_htk_prototype_without_its_first_macros() -> None:
    text = "<BeginHMM> <NumStates> 3 <State> 2 <Mean> 1 0 <Variance> 1 1 <TransP> 3 0 1 0 <EndHMM>"
    assert decode_mixture("proto", text.encode()).components == 1
    binary = b"~o\n:\x05\0\x02"
    with pytest.raises(GmmcoreError, match="HHEd without -B"):
        decode_mixture("proto", binary)


def test_htk_claims_take_no_memory() -> None:
    numbers = "1 " * 1000
    text = (
        f"~o <STREAMINFO> 1 1000 ~h 'x' <BEGINHMM> <STATE> 2 <NUMMIXES> 1000000 "
        f"<MIXTURE> 1 1 <MEAN> 1000 {numbers} <VARIANCE> 1000 {numbers} <ENDHMM>"
    )
    with pytest.raises(GmmcoreError, match="1000000 mixtures are claimed, 1 are there"):
        decode_mixture("m", text.encode())


def test_a_mixture_of_either_kind_is_written(tmp_path: Path) -> None:
    for name in WRITTEN:
        write_mixture(tmp_path / "core", diagonal(), name)
        write_mixture(tmp_path / "face", Mixture.from_gaussian_mixture(diagonal()), name)
        assert (tmp_path / "face").read_bytes() == (tmp_path / "core").read_bytes()


def test_what_is_no_mixture_is_not_written(tmp_path: Path) -> None:
    for other in (None, "b.h5", np.zeros(3)):
        with pytest.raises(GmmcoreError, match=r"a\.h5: .*expected a Mixture"):
            write_mixture(tmp_path / "a.h5", other)
    with pytest.raises(GmmcoreError, match="it is empty"):
        write_mixture(tmp_path / "a.h5", Mixture())
    with pytest.raises(GmmcoreError, match="expected the name of a file"):
        write_mixture(diagonal(), "a.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values", [[["a"]], [[1j]], [[1], [1, 2]], np.ma.array([[1.0]], mask=True)]
)
def test_parameters_that_are_no_numbers(values: object) -> None:
    with pytest.raises(InvalidMixtureError, match="means"):
        GaussianMixture([1], values, [[1]])


@pytest.mark.parametrize("is_full", [False, True])
def test_means_at_the_end_of_the_numbers_are_one_line(
    tmp_path: Path, capsys, is_full: bool
) -> None:
    """No warning of numpy precedes the error."""
    precisions = [[50.0, 3.0], [40.0, 7.0]]
    mixture = GaussianMixture([0.5, 0.5], [[1e308, -1e308], [-1e308, 0.0]], precisions)
    mixture = to_kind(mixture, "full") if is_full else mixture
    path, frames = str(tmp_path / "m.gmm"), str(tmp_path / "f.npy")
    write_mixture(path, mixture)
    np.save(frames, np.random.default_rng(0).normal(size=(60, 2)))
    for name in EXPORTS.values():
        main(["convert", path, str(tmp_path / name)])
        assert capsys.readouterr().err.count("\n") <= 1
    assert main(["info", path]) == 0
    assert main(["compare", path, path]) == 0
    assert main(["compare", path, path, "--features", frames]) == 1
    assert "far outside the range of the mixture" in capsys.readouterr().err
