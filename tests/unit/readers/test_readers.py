"""Readers: what is written by layout comes back; what lies about itself is refused."""

from __future__ import annotations

import contextlib
import zipfile
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from features_files import (
    frames_of,
    kaldi_matrix,
    kaldi_vector,
    speech_of,
    write_ark,
    write_hdf5,
    write_htk,
)

from gmmcore.data.readers import Description, Fault, FaultyShowError, Sources, parse_place, report
from gmmcore.errors import GmmcoreError

FRAMES = frames_of(1)


def read(path: Path | str, show: str = "s", format: str = "auto") -> np.ndarray:
    with closing(Sources(format, ("energy", "cep"))) as sources:
        place = parse_place(str(path))
        source = sources.get(place.file)
        count = source.describe(show, place).frames
        return source.read(show, place, 0, count)


def describe(path: Path | str, show: str = "s") -> Description:
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        place = parse_place(str(path))
        return sources.get(place.file).describe(show, place)


def refused(path: Path | str, show: str = "s") -> FaultyShowError:
    with pytest.raises(FaultyShowError) as caught:
        read(path, show)
    return caught.value


def test_hdf5_with_several_shows(tmp_path: Path) -> None:
    path = tmp_path / "all.h5"
    for i in range(3):
        write_hdf5(path, f"s{i}", frames_of(i), speech_of(i), "a")
    for i in range(3):
        assert (read(path, f"s{i}") == frames_of(i)).all()
    assert describe(path, "s1") == (40, 5, 40)
    with closing(Sources("auto", ("cep",))) as sources:
        source = sources.get(str(path))
        place = parse_place(str(path))
        assert (source.read("s2", place, 5, 9) == frames_of(2)[5:9, 1:]).all()
        assert (source.labels("s2", place, 5, 30) == speech_of(2)[5:30]).all()
    assert "no such show" in refused(path, "s3").found


@pytest.mark.parametrize("show", ["corpus/a/s", "corpus/../s", "/s"])
def test_show_names_with_slashes_are_only_names(tmp_path: Path, show: str) -> None:
    write_hdf5(tmp_path / "x.h5", "s", FRAMES, None)
    assert (read(tmp_path / "x.h5", show) == FRAMES).all()


def test_nested_groups(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "x.h5", "corpus/a/s", FRAMES, None)
    assert (read(tmp_path / "x.h5", "corpus/a/s") == FRAMES).all()


def test_htk_compression_of_sidekit(tmp_path: Path) -> None:
    """x = (data + B) / A, with A and B of the whole dataset."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["compression"] = 1
        for name, data in (("energy", [1, -3]), ("cep", [[5, 0], [7, -9]])):
            file[f"s/{name}"] = np.array(data, dtype=np.int16)
            file[f"s/{name}_comp"] = np.array([2.0, 3.0], dtype=np.float32)
    assert (read(tmp_path / "x.h5") == [[2, 4, 1.5], [0, 5, -3]]).all()


def test_percentile_compression_of_sidekit(tmp_path: Path) -> None:
    quarter = np.array([[0, 16384, 49152, 65535]])
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["compression"] = 2
        for name in ("energy", "cep"):
            data = [[0], [32], [64], [128], [192], [223], [255]]
            file[f"s/{name}"] = np.array(data, dtype=np.uint8)
            file[f"s/{name}_header"] = quarter
            file[f"s/{name}_min_range"] = np.array([-1.0, 4.0], dtype=np.float32)
    p0, p25, p75, p100 = -1.0, -1 + 4 * 16384 / 65535, -1 + 4 * 49152 / 65535, 3.0
    expected = [
        p0, p0 + (p25 - p0) * 32 / 64, p25, p25 + (p75 - p25) * 64 / 128, p75,
        p75 + (p100 - p75) * 31 / 63, p100,
    ]  # fmt: skip
    np.testing.assert_allclose(read(tmp_path / "x.h5")[:, 1], expected, rtol=1e-6)


@pytest.mark.parametrize("base", [6, 9, 11])
@pytest.mark.parametrize("checksum", [0, 0o10000])
def test_htk_kinds(tmp_path: Path, base: int, checksum: int) -> None:
    write_htk(tmp_path / "plain", FRAMES, base | checksum)
    assert (read(tmp_path / "plain") == FRAMES).all()
    write_htk(tmp_path / "packed", FRAMES, base | checksum | 0o2000)
    step = np.ptp(FRAMES, axis=0) / (2 * 32767)
    assert describe(tmp_path / "packed") == (40, 5, None)
    assert (np.abs(read(tmp_path / "packed") - FRAMES) <= 0.51 * step + 1e-6).all()


def test_htk_reflection_coefficients_in_16_bits(tmp_path: Path) -> None:
    import struct

    values = np.array([[32767, -32767], [0, 16384]], dtype=">i2")
    (tmp_path / "x").write_bytes(struct.pack(">iihh", 2, 100000, 4, 5) + values.tobytes())
    np.testing.assert_allclose(read(tmp_path / "x"), [[1, -1], [0, 16384 / 32767]], rtol=1e-6)


def test_htk_waveforms_are_no_features(tmp_path: Path) -> None:
    import struct

    (tmp_path / "x").write_bytes(struct.pack(">iihh", 2, 625, 2, 0) + b"\0" * 4)
    assert "waveform" in refused(tmp_path / "x").found


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, dtype: str, order: str) -> None:
    frames = np.asarray(np.rint(FRAMES * 100), dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", frames)
    result = read(tmp_path / "x.npy")
    assert (result == frames).all()
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"s1": FRAMES, "s1.vad": speech_of(1), "features": -FRAMES})
    assert (read(tmp_path / "x.npz", "s1") == FRAMES).all()
    assert (read(tmp_path / "x.npz", "other") == -FRAMES).all()
    assert describe(tmp_path / "x.npz", "s1").labels == 40
    assert describe(tmp_path / "x.npz", "other").labels is None


def test_kaldi_offsets_keys_and_ranges(tmp_path: Path) -> None:
    path = tmp_path / "x.ark"
    offsets = write_ark(path, {f"s{i}": kaldi_matrix(frames_of(i)) for i in range(3)})
    for i in range(3):
        assert (read(path, f"s{i}") == frames_of(i)).all()
        assert (read(f"{path}:{offsets[f's{i}']}", "any") == frames_of(i)).all()
    at = f"{path}:{offsets['s1']}"
    assert (read(at + "[3:7]") == frames_of(1)[3:8]).all()
    assert (read(at + "[3:7,1:2]") == frames_of(1)[3:8, 1:3]).all()
    assert (read(at + "[,1:2]") == frames_of(1)[:, 1:3]).all()
    # Kaldi forgives two frames too many.
    assert (read(at + "[38:42]") == frames_of(1)[38:]).all()
    for wrong in ("[38:43]", "[40:41]", "[7:3]", "[0:1,0:5]", "[0:1,0:1,0:1]"):
        assert "range" in refused(at + wrong).found
    assert "does not hold" in refused(path, "s3").found


def test_kaldi_text(tmp_path: Path) -> None:
    path = tmp_path / "x.ark"
    path.write_text("a  [\n  1 2.5\n  -3e1 4 ]\nb  [\n  7 8 ]\nv  [ 0 1 1 ]\n")
    assert (read(path, "a") == [[1, 2.5], [-30, 4]]).all()
    assert (read(path, "b") == [[7, 8]]).all()
    assert (read(f"{path}:{path.read_text().index('v') + 2}") == [0, 1, 1]).all()


def test_kaldi_vectors(tmp_path: Path) -> None:
    kaldiio = pytest.importorskip("kaldiio")

    path = tmp_path / "x.ark"
    offsets = write_ark(path, {"a": kaldi_vector(np.array([0.0, 1.0, 1.0]))})
    assert (read(f"{path}:{offsets['a']}")[:, 0] == [0, 1, 1]).all()
    kaldiio.save_ark(str(tmp_path / "i.ark"), {"k": np.array([3, 0, 5], dtype=np.int32)})
    assert (read(f"{tmp_path}/i.ark:2")[:, 0] == [3, 0, 5]).all()


@pytest.mark.parametrize("method", [1, 2, 3, 5])
def test_kaldi_compression_is_that_of_kaldiio(tmp_path: Path, method: int) -> None:
    kaldiio = pytest.importorskip("kaldiio")
    path = str(tmp_path / "x.ark")
    kaldiio.save_ark(path, {"s": FRAMES, "t": FRAMES[:3]}, compression_method=method)
    expected = dict(kaldiio.load_ark(path))
    assert (read(path, "s") == expected["s"]).all()
    assert (read(path, "t") == expected["t"]).all()


def every_format(folder: Path) -> dict[str, Path]:
    write_hdf5(folder / "x.h5", "s", FRAMES, None)
    write_htk(folder / "x.htk", FRAMES)
    write_htk(folder / "packed.htk", FRAMES, 9 | 0o2000 | 0o10000)
    np.save(folder / "x.npy", FRAMES)
    np.savez(folder / "x.npz", s=FRAMES)
    write_ark(folder / "x.ark", {"s": kaldi_matrix(FRAMES)})
    (folder / "text.ark").write_text("s  [\n  1 2\n  3 4 ]\n")
    return {path.name: path for path in folder.iterdir()}


NAMES = ["x.h5", "x.htk", "packed.htk", "x.npy", "x.npz", "x.ark", "text.ark"]


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(tmp_path: Path, name: str) -> None:
    path = every_format(tmp_path)[name]
    whole = path.read_bytes()
    expected = read(path)
    for size in {*range(0, min(len(whole), 120)), *range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:size])
        try:
            result = read(path)
        except FaultyShowError:
            continue
        # The line end behind a text matrix carries nothing.
        assert name == "text.ark"
        assert size == len(whole) - 1
        assert (result == expected).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_damage_ends_in_another_exception(tmp_path: Path, name: str) -> None:
    path = every_format(tmp_path)[name]
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(200):
        damaged = bytearray(whole)
        for at in rng.integers(min(len(whole), 900), size=rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(GmmcoreError):
            read(path)


def test_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "other.h5", "s", FRAMES, None)
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file["s"] = h5py.ExternalLink("other.h5", "/s")
    with h5py.File(tmp_path / "dataset.h5", "w") as file:
        file["s/energy"] = FRAMES[:, 0]
        file["s/cep"] = h5py.ExternalLink("other.h5", "/s/cep")
    with h5py.File(tmp_path / "soft.h5", "w") as file:
        file["s/energy"] = FRAMES[:, 0]
        file["s/cep"] = h5py.SoftLink("/nowhere")
    (tmp_path / "raw").write_bytes(FRAMES[:, 1:].tobytes())
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["s/energy"] = FRAMES[:, 0]
        file["s"].create_dataset(
            "cep", (40, 4), "<f4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        )
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file["s/energy"] = FRAMES[:, 0]
        layout = h5py.VirtualLayout((40, 4), "<f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "s/cep", (40, 4))
        file["s"].create_virtual_dataset("cep", layout)
    assert "no such show" in refused(tmp_path / "group.h5").found
    for name in ("dataset", "soft"):
        assert "no dataset cep" in refused(tmp_path / f"{name}.h5").found
    for name in ("raw", "virtual"):
        assert "another file" in refused(tmp_path / f"{name}.h5").found


def test_more_frames_claimed_than_stored_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("s")
        group.create_dataset("energy", (10**11,), "<f4", chunks=(1000,), compression="gzip")
        group.create_dataset("cep", (10**11, 4), "<f4", chunks=(1000, 4), compression="gzip")
    assert "claims" in refused(tmp_path / "x.h5").found
    (tmp_path / "x.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 5), }".ljust(117)
        + b"\n"
    )
    assert "shape" in refused(tmp_path / "x.npy").found
    write_ark(
        tmp_path / "x.ark", {"s": kaldi_matrix(FRAMES).replace(b"\x28\0\0\0", b"\xff\xff\xff\x7f")}
    )
    assert "do not fit" in refused(tmp_path / "x.ark").found
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s.npy", b"\0" * 50_000_000)
    assert refused(tmp_path / "x.npz").found.startswith("damaged")


def test_nothing_is_unpickled_or_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "objects" in refused(tmp_path / "x.npy").found
    # Other readers unpickle what follows this mark.
    write_ark(
        tmp_path / "x.ark", {"s": b"PKLcos\nsystem\n(S'touch " + bytes(tmp_path) + b"/run'\ntR."}
    )
    assert refused(tmp_path / "x.ark").found.startswith(("damaged", "in no known"))
    assert refused(f"touch {tmp_path}/run |").found == "a command"
    assert not (tmp_path / "run").exists()


def test_unknown_formats_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xffsomething else entirely")
    assert "no known format" in refused(tmp_path / "x").found
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty").found == "an empty file"
    assert refused(tmp_path / "missing").found.endswith(": no such file")
    assert refused(tmp_path).found == "not a regular file"
    assert "cannot be read" in refused("a\0b").found


def test_a_missing_file_is_told_with_its_whole_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        closing(Sources("auto", ("cep",))) as sources,
        pytest.raises(FaultyShowError) as caught,
    ):
        sources.get(parse_place("a/x.h5", "features/..").file)
    assert caught.value.found == f"{tmp_path}/a/x.h5: no such file"


def test_a_given_format_is_insisted_on(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FRAMES)
    assert (read(tmp_path / "x.npy", format="npy") == FRAMES).all()
    with pytest.raises(FaultyShowError, match="format htk"):
        read(tmp_path / "x.npy", format="htk")


def test_few_files_stay_open(tmp_path: Path) -> None:
    import os

    for i in range(30):
        write_hdf5(tmp_path / f"{i}.h5", "s", frames_of(i), None)
    before = len(os.listdir("/proc/self/fd"))
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        for i in range(30):
            place = parse_place(str(tmp_path / f"{i}.h5"))
            assert (sources.get(place.file).read("s", place, 0, 40) == frames_of(i)).all()
        assert len(os.listdir("/proc/self/fd")) <= before + 8
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_equal_faults_are_told_once():
    faults = [Fault(f"s{i}", f"s{i}.h5", f"/a/s{i}.h5: no such file", "a", "b") for i in range(40)]
    faults.insert(7, Fault("other", "other.h5", "an empty file", "a", "b"))
    lines = report(faults, "list").splitlines()
    assert lines[0].startswith("list: 41 faults; ")
    assert len(lines) == 6
    assert "and 37 more shows with this fault" in lines[4]
    assert "show other" in lines[5]
