"""No format is taken for another one, and ranges mean the same frames in all formats."""

from __future__ import annotations

import struct
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from features_files import (
    frames_of,
    kaldi_matrix,
    speech_of,
    write_ark,
    write_hdf5,
    write_htk,
)

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.check import check_list
from gmmcore.data.lists import read_list
from gmmcore.data.readers import Description, FaultyShowError, Sources, parse_place
from gmmcore.data.readers.recognition import formats_of, htk_header
from gmmcore.data.shows import ShowReader
from gmmcore.errors import GmmcoreError

FRAMES = frames_of(1, 40, 5)
KEY = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789_-.[]~\x93\xff", "u1")


def drawn_htk(rng: np.random.Generator, order: str) -> tuple[bytes, int]:
    frames = int(10 ** rng.uniform(0, 6))
    kind = int(rng.choice([1, 2, 3, 4, 6, 7, 8, 9, 11, 12])) | int(rng.integers(1024)) << 6
    width = (2 if kind & 0o2000 else 4) * int(rng.integers(1, 4096))
    period = int(rng.choice([0, 100_000, 1, 50_000, rng.integers(-(2**31), 2**31)]))
    head = struct.pack(f"{order}iihH", frames, period, width, kind)
    return head + rng.bytes(64), 12 + frames * width + (2 if kind & 0o10000 else 0)


def drawn_kaldi(rng: np.random.Generator, gap: bytes) -> tuple[bytes, int]:
    rows, columns = (int(10 ** rng.uniform(0, limit)) for limit in (6, 3))
    key = rng.choice(KEY, rng.integers(0, 13)).tobytes()
    kinds = {b"FM ": 4, b"DM ": 8, b"FV ": 4, b"CM ": 1, b"CM2 ": 2, b"CM3 ": 1, b"\4": 5}
    kind = rng.choice(list(kinds))
    head = (key + gap if key else b"") + b"\0B" + kind + struct.pack("<bibi", 4, rows, 4, columns)
    return head + rng.bytes(64), len(head) + rows * columns * kinds[kind]


def drawn_text(rng: np.random.Generator, gap: bytes) -> tuple[bytes, int]:
    key = rng.choice(KEY, rng.integers(1, 13)).tobytes()
    text = key + gap + b"[" + rng.choice([b" ", b"\n  "]) + b"%.3f" % rng.normal() + b" 1 ]\n"
    return text, int(10 ** rng.uniform(np.log10(len(text)), 9))


def drawn_npy(rng: np.random.Generator, version: bytes) -> tuple[bytes, int]:
    shape = tuple(int(n) for n in rng.integers(1, 10**4, 2))
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % str(shape).encode()
    return b"\x93NUMPY" + version + head, 128 + 4 * shape[0] * shape[1]


@pytest.mark.parametrize(
    ("format", "draw", "variant"),
    [
        *(("htk", drawn_htk, order) for order in "<>"),
        *(("kaldi", drawn_kaldi, gap) for gap in (b" ", b"\t")),
        *(("kaldi", drawn_text, gap) for gap in (b" ", b"  ", b"\t", b"\n", b" \r\n")),
        *(("npy", drawn_npy, version) for version in (b"\1\0\x76\0", b"\2\0\x74\0\0\0")),
    ],
)
def test_no_header_is_taken_for_another_format(format, draw, variant) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10_000):
        head, size = draw(rng, variant)
        assert formats_of(head, size)[:1] == [format], (head, size)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("frames", "width"), [(65792, 1028), (0, 4), (257 << 8, 2056)])
def test_the_period_decides_where_both_byte_orders_fit(order: str, frames: int, width: int) -> None:
    head = struct.pack(f"{order}iihH", frames, 100_000, width, 9)
    found = htk_header(head, 12 + frames * width)
    assert found is not None
    assert found.order == order


def written(folder: Path) -> dict[str, str]:
    """The frames in all formats, with the places of the show `s`."""
    write_hdf5(folder / "x.h5", "s", FRAMES, speech_of(1))
    write_htk(folder / "x.htk", FRAMES)
    (folder / "le.htk").write_bytes(
        struct.pack("<iihH", 40, 0, 20, 9) + FRAMES.astype("<f4").tobytes()
    )
    np.save(folder / "x.npy", FRAMES)
    np.save(folder / "f.npy", np.asfortranarray(FRAMES))
    np.savez(folder / "x.npz", s=FRAMES, **{"s.vad": speech_of(1)})
    offsets = write_ark(folder / "x.ark", {"s01": kaldi_matrix(-FRAMES), "s": kaldi_matrix(FRAMES)})
    rows = "\n".join(" ".join(map(repr, map(float, row))) for row in FRAMES)
    (folder / "text.ark").write_text(f"s\t[ {rows} ]\n")
    names = ["x.h5", "x.htk", "le.htk", "x.npy", "f.npy", "x.npz", "x.ark", "text.ark"]
    places = {name: str(folder / name) for name in names}
    return places | {"offset": f"{folder}/x.ark:{offsets['s']}"}


def test_ranges_mean_the_same_in_all_formats(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    places = written(tmp_path)
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        for name, path in places.items():
            for _ in range(40):
                first, last = sorted(int(n) for n in rng.integers(40, size=2))
                left, right = sorted(int(n) for n in rng.integers(5, size=2))
                for text, columns in (
                    (f"[{first}:{last}]", slice(None)),
                    (f"[{first},{last}]", slice(None)),
                    (f"[{first}:{last},{left}:{right}]", slice(left, right + 1)),
                    (f"[{first}:{last},:]", slice(None)),
                ):
                    expected = FRAMES[first : last + 1, columns]
                    place = parse_place(path + text)
                    source = sources.get(place.file)
                    found = source.describe("s", place)
                    assert found[:2] == expected.shape, (name, text)
                    begin, end = sorted(int(n) for n in rng.integers(len(expected) + 1, size=2))
                    result = source.read("s", place, begin, end)
                    assert (result == expected[begin:end]).all(), (name, text)
                    assert result.flags.c_contiguous
                    if found.labels is not None:
                        assert found.labels == len(expected)
                        labels = source.labels("s", place, begin, end)
                        assert (labels == speech_of(1)[first : last + 1][begin:end]).all()
            for wrong in ("[40:41]", "[7:3]", "[39,40]", "[0:1,0:5]", "[-1:5]", "[1]"):
                place = parse_place(path + wrong)
                with pytest.raises(FaultyShowError, match="the range"):
                    sources.get(place.file).describe("s", place)
            if name not in ("x.ark", "text.ark", "offset"):
                with pytest.raises(FaultyShowError, match="the offset 3 in a file that is no"):
                    sources.get(path).describe("s", parse_place(f"{path}:3"))


def test_labels_that_do_not_fit_a_show_do_not_fit_a_part_of_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", s=FRAMES, vad=np.ones(20))
    (tmp_path / "l.tsv").write_text("s\ts.npz[0:19]\n")
    with pytest.raises(GmmcoreError, match="0 voice-activity labels; expected 20"):
        check_list(FeatureSettings.from_mapping({"list": str(tmp_path / "l.tsv")}))


def frames_in(path: Path, **more) -> dict[str, np.ndarray]:
    settings = FeatureSettings.from_mapping({"list": str(path), "vad": None, **more})
    with ShowReader(settings) as reader:
        return {row.show: reader.frames(row) for row in check_list(settings).table.rows}


@pytest.mark.parametrize("name", ["shows.txt", "feats.scp", "train", "x.lst"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_what_it_holds_whatever_its_name(tmp_path: Path, name: str, end: str) -> None:
    places = written(tmp_path)
    at = places["offset"].removeprefix(f"{tmp_path}/")
    for lines, pattern in (
        (["a x.htk[0:9]", f"b {at}[10:39]"], None),
        (["a  x.htk[0:9]", f"b {at}[10:39]"], "{show}.h5"),
        (["a x.htk[0:9] \t", f"b {at}[10:39]\t"], None),
        (["a\tx.htk[0:9]", f"b\t{at}[10:39]"], None),
        (["a\tx.htk\t0\t10", f"b\t{at}\t10\t"], None),
        (["show\tstop\tpath\tstart", "a\t10\tx.htk\t", f"b\t\t{at}\t10"], None),
        (["a.mfc=x.htk[0,9]", "b.mfc=le.htk[10,39]"], None),
        (["a.mfc=x.htk[0,9]", "b.mfc=le.htk[10,39]"], "{show}.h5"),
    ):
        (tmp_path / name).write_bytes("".join(line + end for line in lines).encode())
        found = frames_in(tmp_path / name, pattern=pattern)
        assert found.keys() == {"a", "b"}, lines
        assert (found["a"] == FRAMES[:10]).all()
        assert (found["b"] == FRAMES[10:]).all()
    for lines, pattern in (
        (["x.htk", "sub/le.htk"], None),
        (["x", "sub/le"], "{show}.htk"),
        (["x.htk\t", " sub/le.htk \t"], None),
        (["x x.htk", "sub/le sub/le.htk"], "{show}.h5"),
        (["'x.htk'", '"sub/le.htk"'], None),
    ):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / "le.htk").write_bytes((tmp_path / "le.htk").read_bytes())
        (tmp_path / name).write_bytes("".join(line + end for line in lines).encode())
        assert frames_in(tmp_path / name, pattern=pattern).keys() == {"x", "sub/le"}


def test_parts_of_a_file_have_names_of_their_own(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "l.scp").write_text("x.htk[0,9]\nx.htk[10,39]\n")
    assert [len(part) for part in frames_in(tmp_path / "l.scp").values()] == [10, 30]


@pytest.mark.parametrize("name", ["rec:10", "s_[1:2]", "a|", "a b", "x[]", "s[0,1]", "a=b"])
def test_any_name_can_be_given_with_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "x.npy", FRAMES)
    (tmp_path / "x.npy").rename(tmp_path / "data" / name)
    (tmp_path / "list").write_text(f"{name}\n")
    for path, root in ((tmp_path / "list", str(tmp_path / "data")), (tmp_path / "data", None)):
        found = frames_in(path, pattern="{show}", root=root)
        assert (found[name] == FRAMES).all()


@pytest.mark.parametrize("name", ["vad.scp", "labels.txt"])
def test_ranges_of_labels(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "x.npy", FRAMES)
    speech = speech_of(1)
    np.save(tmp_path / "v.npy", speech)
    vector = b"\0BFV " + struct.pack("<bi", 4, 40) + speech.astype("<f4").tobytes()
    at = write_ark(tmp_path / "v.ark", {"s01": vector})["s01"]
    (tmp_path / "text.ark").write_text(f"s\t[ {' '.join(str(int(v)) for v in speech)} ]\n")
    (tmp_path / "l.tsv").write_text("a\tx.npy[0:9]\nb\tx.npy[10:39]\n")
    for file in (f"v.ark:{at}", "text.ark:2", "v.npy"):
        (tmp_path / name).write_text(f"a {file}[0:9]\nb {file}[10:39]\n")
        found = frames_in(tmp_path / "l.tsv", vad=str(tmp_path / name))
        assert (found["a"] == FRAMES[:10][speech[:10]]).all()
        assert (found["b"] == FRAMES[10:][speech[10:]]).all()
        (tmp_path / name).write_text(f"a {file}[0:8]\nb {file}[10:39]\n")
        with pytest.raises(FaultyShowError, match="9 voice-activity labels; expected 10"):
            frames_in(tmp_path / "l.tsv", vad=str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s 0.5 3.0\n", "two frame numbers"),
        ("s 5\n", "two frame numbers"),
        ("s 0 9\ns v.npy\n", "two frame numbers"),
        ("s cat v.ark |\n", "line 1: a command; .* commands are not run"),
        ("s [ 1 0 ]\n", "a Kaldi archive, whose scp is wanted"),
        (None, "No such file or directory; .* correct features: vad"),
    ],
)
def test_labels_that_are_none_are_told(tmp_path: Path, text: str | None, message: str) -> None:
    np.save(tmp_path / "s.npy", FRAMES)
    if text is not None:
        (tmp_path / "vad").write_text(text)
    with pytest.raises(GmmcoreError, match=message):
        frames_in(tmp_path / "s.npy", vad=str(tmp_path / "vad"))


def test_links_inside_a_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data/x/cep"], file["data/x/energy"] = FRAMES[:, 1:], FRAMES[:, 0]
        file["absolute"] = h5py.SoftLink("/data/x")
        file["data/relative"] = h5py.SoftLink("x")
        file["twice"] = h5py.SoftLink("data/relative")
        file["parts/cep"] = h5py.SoftLink("/data/x/cep")
        file["parts/energy"] = h5py.SoftLink("/twice/energy")
        file["circle"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/circle")
        file["outside"] = h5py.ExternalLink("other.h5", "/")
        file["through"] = h5py.SoftLink("/outside/s")
    write_hdf5(tmp_path / "other.h5", "s", FRAMES, None)
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        source, place = sources.get(str(tmp_path / "x.h5")), parse_place("x.h5")
        for show in ("data/x", "absolute", "data/relative", "twice", "parts"):
            assert source.describe(show, place) == Description(40, 5, None)
            assert (source.read(show, place, 0, 40) == FRAMES).all()
        for show in ("circle", "other", "outside", "through", "nowhere"):
            with pytest.raises(FaultyShowError, match="no such show"):
                source.describe(show, place)


def test_the_only_show_of_a_file_is_meant_whatever_its_name(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "data" / "rec.h5", "utt_77", FRAMES, None)
    (tmp_path / "l.txt").write_text("rec\n")
    for path in (tmp_path / "data", tmp_path / "l.txt"):
        found = frames_in(path, pattern="{show}.h5", root=str(tmp_path / "data"))
        assert (found["rec"] == FRAMES).all()
    assert (frames_in(tmp_path / "data" / "rec.h5")["utt_77"] == FRAMES).all()


def test_shows_in_groups_of_groups_and_in_none(tmp_path: Path) -> None:
    for show in ("corpus/a/s", "corpus/b/t", "u"):
        write_hdf5(tmp_path / "x.h5", show, FRAMES, None, "a")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["corpus/circle"] = file["corpus"]
    assert frames_in(tmp_path / "x.h5").keys() == {"corpus/a/s", "corpus/b/t", "u"}
    with h5py.File(tmp_path / "flat.h5", "w", userblock_size=512) as file:
        file["cep"], file["energy"] = FRAMES[:, 1:], FRAMES[:, 0]
    (tmp_path / "l").write_text("s flat.h5\n")
    assert (frames_in(tmp_path / "l")["s"] == FRAMES).all()
    assert (frames_in(tmp_path / "flat.h5")["flat"] == FRAMES).all()


def test_the_only_array_of_a_file_is_meant(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", FRAMES, vad=np.ones(40))
    (tmp_path / "l").write_text("x.npz\n")
    assert (frames_in(tmp_path / "l", vad="file")["x"] == FRAMES).all()
    np.savez(tmp_path / "x.npz", FRAMES, FRAMES)
    with pytest.raises(GmmcoreError, match="no array of this show"):
        frames_in(tmp_path / "l")


def test_rows_of_text_may_end_with_a_semicolon(tmp_path: Path) -> None:
    (tmp_path / "x.ark").write_text("s [ 1 2 ; 3 4\n 5 6; ]\nt [ 7 8 ]\n")
    (tmp_path / "l").write_text("s x.ark\nt x.ark\n")
    found = frames_in(tmp_path / "l")
    assert (found["s"] == [[1, 2], [3, 4], [5, 6]]).all()
    assert (found["t"] == [[7, 8]]).all()


@pytest.mark.parametrize("name", ["x.htk", "le.htk", "x.npy", "f.npy"])
def test_a_file_of_one_show_serves_as_a_list(tmp_path: Path, name: str) -> None:
    places = written(tmp_path)
    path = Path(places[name]).rename(tmp_path / "a:1")
    for root in (None, "/"):
        assert (frames_in(path, root=root)["a:1"] == FRAMES).all()


def test_little_endian_files_may_be_compressed(tmp_path: Path) -> None:
    write_htk(tmp_path / "b", FRAMES, 9 | 0o2000 | 0o10000)
    count, period, width, kind = struct.unpack(">iihH", (tmp_path / "b").read_bytes()[:12])
    body = (tmp_path / "b").read_bytes()[12:]
    scales, values = np.frombuffer(body[:40], ">f4"), np.frombuffer(body[40:-2], ">i2")
    (tmp_path / "l").write_bytes(
        struct.pack("<iihH", count, period, width, kind)
        + scales.astype("<f4").tobytes()
        + values.astype("<i2").tobytes()
        + b"\0\0"
    )
    assert (frames_in(tmp_path / "l")["l"] == frames_in(tmp_path / "b")["b"]).all()


@pytest.mark.parametrize("gap", [" ", "\t", "\n", "\r\n", " \n "])
def test_gaps_behind_a_key_of_text(tmp_path: Path, gap: str) -> None:
    (tmp_path / "x.ark").write_bytes(f"s{gap}[ 1 2\n3 4 ]\nt{gap}[ 5 6 ]\n".encode())
    (tmp_path / "l").write_text("s x.ark\nt x.ark\nu x.ark:1\n")
    found = frames_in(tmp_path / "l")
    assert (found["s"] == [[1, 2], [3, 4]]).all()
    assert (found["t"] == [[5, 6]]).all()
    assert (found["u"] == found["s"]).all()


def test_version_3_of_npy(tmp_path: Path) -> None:
    with open(tmp_path / "x.npy", "wb") as stream:
        np.lib.format.write_array(stream, FRAMES, version=(3, 0))
    (tmp_path / "l").write_text("x.npy\n")
    assert (frames_in(tmp_path / "l")["x"] == FRAMES).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"u1 gunzip -c x.ark.gz |\n", "a command; .* commands are not run"),
        (b"u1 | cat\n", "a command; .* commands are not run"),
        (b"u1\tgunzip -c x.ark.gz |\n", "a command; .* commands are not run"),
        (b"u1 s3://bucket/x.ark:5\n", "a URL; .* nothing is downloaded"),
        (b"https://host/x.mfc\n", "a URL; .* nothing is downloaded"),
        (b"u1 x.ark.gz:5\n", "a gzip archive; .* unpack"),
        (b"u1 \0BFM \4", "a Kaldi archive, whose scp is wanted"),
        (b"u1  [\n  1 2\n  3 4 ]\n", "a Kaldi archive, whose scp is wanted"),
        (b"s x.ark:2\n", "Kaldi's object SM; expected a matrix or a vector"),
        (b"s x.wav.ark:2\n", "a waveform .RIFF."),
        (b"s x.pickle\n", "a pickle, which is not opened"),
        (b"\x1f\x8b\x08\0\xff\xff", "a gzip archive"),
        (b"s\xe9ance\n", "not text in UTF-8"),
        (b"shows\nwithout\npaths\n", "expected features: pattern"),
    ],
)
def test_messages_name_the_cause(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.ark.gz").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0")
    (tmp_path / "x.ark").write_bytes(b"s \0BSM \4\1\0\0\0")
    (tmp_path / "x.wav.ark").write_bytes(b"s RIFF\0\0\0\0WAVE")
    (tmp_path / "x.pickle").write_bytes(b"\x80\4\x95")
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(GmmcoreError, match=message):
        check_list(FeatureSettings.from_mapping({"list": str(tmp_path / "list")}))


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with open(bytes(tmp_path / "data") + b"/s\xe9.npy", "wb") as stream:
        np.save(stream, FRAMES)
    listing = read_list(FeatureSettings.from_mapping({"list": str(tmp_path / "data")}))
    assert "not UTF-8" in listing.faults[0].found
    assert listing.faults[0].line().isprintable()


def test_a_url_in_the_configuration_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", FRAMES)
    (tmp_path / "l").write_text("s\n")
    for values in (
        {"list": "s3://bucket/list.txt"},
        {"list": str(tmp_path / "l"), "pattern": "https://host/{show}.npy"},
        {"list": str(tmp_path / "l"), "pattern": "{show}.npy", "root": "gs://bucket"},
        {"list": str(tmp_path / "l"), "pattern": "{show}.npy", "vad": "s3://bucket/vad.scp"},
    ):
        with pytest.raises(GmmcoreError, match=r"a URL; .* nothing is downloaded"):
            check_list(FeatureSettings.from_mapping(values))
