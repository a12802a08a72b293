"""What can lie among features, and what is said of it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from arguments import words
from features_files import frames_of, kaldi_vector, speech_of, write_ark, write_hdf5

from gmmcore.cli.main import main
from gmmcore.config.keys import FeatureSettings
from gmmcore.data import shows
from gmmcore.data.check import check_list, shard_paths
from gmmcore.data.readers import FaultyShowError
from gmmcore.data.shards import Shard, pack_shard
from gmmcore.errors import GmmcoreError


def settings(folder: Path, **more: Any) -> FeatureSettings:
    return FeatureSettings.from_mapping({"list": str(folder), "shards": 1, **more})


def run(folder: Path, **more: Any) -> int:
    """What the verbs return that make a corpus of `folder`/features."""
    given = words(settings(folder / "features", **more))
    table = str(folder / "shows.tsv")
    if code := main(["shows", *given, "--output", table]):
        return code
    (output,) = shard_paths(table).values()
    shard = ["--shows", table, "--shard", "000", "--output", output]
    assert main(["shard", *given, *shard]) == 0
    outputs = ["--output", str(folder / "corpus.json"), "--skipped", str(folder / "skipped.tsv")]
    return main(["corpus", "--shows", table, "--on-error", more.get("on_error", "stop"), *outputs])


def packed(folder: Path, mine: FeatureSettings) -> Shard:
    """The features of a folder as one shard, beside the folder."""
    checked = check_list(mine)
    checked.table.write(folder.parent / "shows.tsv")
    pack_shard(mine, folder.parent / "shows.tsv", "000", folder.parent / "000.npy")
    return Shard(folder.parent / "000.npy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good shows."""
    for i in range(3):
        write_hdf5(tmp_path / f"features/s{i}.h5", f"s{i}", frames_of(i), speech_of(i))
    return tmp_path / "features"


def group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


def replaced(file: h5py.File, name: str, value: Any) -> None:
    if name in file:
        del file[name]
    file[name] = value


@pytest.mark.parametrize("name", ["compression", "s1/energy", "s1/cep", "s1/vad"])
@pytest.mark.parametrize(
    "content",
    [
        np.zeros(0),
        np.zeros((0, 3)),
        np.full((2, 2, 2), 7.0),
        np.array(3 + 4j),
        np.array([b"x", b"y"], dtype="S1"),
        np.array(["text"], dtype=h5py.string_dtype()),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        h5py.Empty("f4"),
        np.array(np.inf),
        np.array(-(2**60)),
        None,
    ],
    ids=str,
)
def test_odd_content_of_an_hdf5_show_is_a_fault_of_this_show(folder, name, content):
    with h5py.File(folder / "s1.h5", "a") as file:
        if content is None:
            group(file, name)
        else:
            replaced(file, name, content)
    mine = settings(folder, on_error="skip")
    checked = check_list(mine)
    shard = packed(folder, mine)
    faults = [*checked.faults, *shard.faults]
    left = 2 if name != "s1/vad" or faults else 3
    assert [fault.show for fault in faults] == (["s1"] if left == 2 else [])
    assert shard.facts["shows"] == left


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("hdf5", np.full(40, np.nan)),
        ("hdf5", np.array([b"0", b"1"] * 20)),
        ("npz", np.full(40, np.nan)),
        ("npz", np.array(["0", "1"] * 20)),
        ("kaldi", np.full(40, np.nan)),
    ],
)
def test_labels_that_are_no_numbers_are_a_fault(folder, kind, labels):
    """The text "0" would be speech."""
    more = {}
    if kind == "hdf5":
        with h5py.File(folder / "s1.h5", "a") as file:
            replaced(file, "s1/vad", labels)
    elif kind == "npz":
        (folder / "s1.h5").unlink()
        np.savez(folder / "s1.npz", s1=frames_of(1), vad=labels)
    else:
        vectors = {"s0": speech_of(0), "s1": labels, "s2": speech_of(2)}
        offsets = write_ark(folder / "vad.ark", {s: kaldi_vector(v) for s, v in vectors.items()})
        lines = [f"{show} vad.ark:{offset}" for show, offset in offsets.items()]
        (folder / "vad.scp").write_text("\n".join(lines))
        more = {"vad": str(folder / "vad.scp")}
    (fault,) = packed(folder, settings(folder, on_error="skip", **more)).faults
    assert fault.show == "s1"
    assert "voice-activity labels that are no numbers" in fault.found


@pytest.mark.parametrize("name", ["start", "stop"])
@pytest.mark.parametrize(
    "values",
    [
        np.array([b"x"] * 3),
        np.full(3, np.inf),
        np.array(["x"] * 3, dtype=h5py.string_dtype()),
        h5py.Empty("f4"),
        None,
    ],
    ids=str,
)
def test_odd_limits_of_an_idmap_are_told_in_lines(folder, name, values):
    with h5py.File(folder / "map.h5", "w") as file:
        file["rightids"] = np.array([b"s0", b"s1", b"s2"])
        file["start"], file["stop"] = np.zeros(3), np.full(3, 20)
        if values is None:
            group(file, name)
        else:
            replaced(file, name, values)
    with pytest.raises(GmmcoreError) as caught:
        check_list(settings(folder / "map.h5", pattern="{}.h5"))
    assert len(str(caught.value).splitlines()) in (1, 4)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "dangling"])
@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_what_is_no_regular_file_is_a_fault_and_is_not_waited_for(
    folder, kind, suffix, tmp_path, monkeypatch
):
    path = folder / f"odd{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("/nowhere")
    elif kind == "folder":
        target = tmp_path / "somewhere"
        target.mkdir()
        path.symlink_to(target)
    else:
        monkeypatch.chdir(folder)  # A socket's path may not be long.
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    checked = check_list(settings(folder, on_error="skip"))
    if kind == "folder":  # A link to a folder is no file of the folder.
        assert not checked.faults
        return
    (fault,) = checked.faults
    assert fault.show == "odd"
    assert ("no such file" if kind == "dangling" else "not a regular file") in fault.found


def test_a_pipe_as_the_list_is_refused(tmp_path):
    os.mkfifo(tmp_path / "list")
    with pytest.raises(GmmcoreError, match="not a regular file"):
        check_list(settings(tmp_path / "list"))


@pytest.mark.parametrize("name", ["vad.scp", "segments"])
def test_a_pipe_in_the_place_of_labels_is_refused(folder, name):
    os.mkfifo(folder / name)
    with pytest.raises(GmmcoreError, match=r"not a regular file.*correct features: vad"):
        check_list(settings(folder, vad=str(folder / name)))


def test_a_pipe_that_a_vad_scp_names_is_a_fault_of_its_show(folder):
    os.mkfifo(folder / "odd.ark")
    offsets = write_ark(folder / "vad.ark", {f"s{i}": kaldi_vector(speech_of(i)) for i in (0, 2)})
    lines = [f"{show} vad.ark:{offset}" for show, offset in offsets.items()]
    (folder / "vad.scp").write_text("\n".join([*lines, "s1 odd.ark:3"]))
    shard = packed(folder, settings(folder, vad=str(folder / "vad.scp"), on_error="skip"))
    (fault,) = shard.faults
    assert fault.show == "s1"
    assert "odd.ark: not a regular file" in fault.found


@pytest.mark.parametrize("key", ["list", "vad"])
@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_what_cannot_be_a_path_is_one_line(folder, key, path):
    with pytest.raises(GmmcoreError, match=r"cannot be read|text, matching") as caught:
        check_list(settings(folder, **{key: path}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\rb", "\n"])
@pytest.mark.parametrize("pattern", [None, "{show}.h5"])
def test_a_name_that_no_table_can_hold_is_a_fault(folder, name, pattern):
    write_hdf5(folder / f"{name}.h5", name, frames_of(9), speech_of(9))
    checked = check_list(settings(folder, on_error="skip", pattern=pattern))
    (fault,) = checked.faults
    assert fault.show == name
    assert fault.found == "control characters in its name or path"


@pytest.mark.parametrize("labels", [False, True])
def test_a_byte_order_mark_is_no_part_of_the_first_show(folder, labels):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfs0\r\ns1\r\n")
    more = {}
    if labels:
        (folder / "vad").write_bytes(b"\xef\xbb\xbfs0 3 9\ns1 0 4\n")
        more = {"vad": str(folder / "vad")}
    checked = check_list(settings(folder / "list.txt", pattern="{show}.h5", **more))
    assert [row.show for row in checked.table.rows] == ["s0", "s1"]


def test_a_list_in_utf_16_is_one_line(folder):
    (folder / "list.txt").write_text("s0\ns1\n", encoding="utf-16")
    with pytest.raises(GmmcoreError, match="not text in UTF-8; expected a feature list") as caught:
        check_list(settings(folder / "list.txt", pattern="{show}.h5"))
    assert "\n" not in str(caught.value)


def test_shows_without_any_labels_are_used_whole(tmp_path, capsys):
    (tmp_path / "features").mkdir()
    for i in range(3):
        np.save(tmp_path / f"features/s{i}.npy", frames_of(i))
    assert run(tmp_path) == 0
    told = capsys.readouterr().out
    assert told.count("no show has voice-activity labels: all frames are used\n") == 1
    assert "120 of " in told
    assert ", of dimension 5, in " in told


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("speech", [0, 1])
def test_a_corpus_without_speech_says_what_selected_nothing(tmp_path, on_error, speech, capsys):
    for i in range(5):
        labels = np.arange(40) < (speech if i == 0 else 0)
        write_hdf5(tmp_path / f"features/s{i}.h5", f"s{i}", frames_of(i), labels)
    assert run(tmp_path, on_error=on_error) == 1
    head, *lines = capsys.readouterr().err.splitlines()
    number, faults = ("1 frame", 4) if speech else ("0 frames", 5)
    assert head.endswith(
        f"shows.tsv: {number} left; expected 2 or more: {faults} faults; "
        "fix these shows, or add others"
    )
    assert lines[0].startswith(f"  show s{speech} (s{speech}.h5): its voice-activity labels select")
    assert "no frame of 40" in lines[0]
    assert "set features: vad to null (all frames)" in lines[0]
    assert lines[3].startswith(f"  and {faults - 3} more show")


def test_a_corpus_of_one_frame_has_no_faults_to_fix(tmp_path, capsys):
    write_hdf5(tmp_path / "features/s.h5", "s", frames_of(1), np.arange(40) == 7)
    assert run(tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 frame left; expected 2 or more; add shows" in line


def test_where_no_show_is_left_skipping_is_not_proposed(tmp_path):
    (tmp_path / "list").write_text("a\tnone.h5\n")
    with pytest.raises(GmmcoreError, match=r"no show is left: 1 fault; fix these shows\n"):
        check_list(settings(tmp_path / "list", on_error="skip"))


def test_a_show_without_labels_among_others_is_a_fault(folder):
    write_hdf5(folder / "bare.h5", "bare", frames_of(9), None)
    with pytest.raises(GmmcoreError, match=r"show bare .*no voice-activity labels"):
        check_list(settings(folder))
    checked = check_list(settings(folder, on_error="skip"))
    assert [fault.show for fault in checked.faults] == ["bare"]
    assert checked.table.facts["vad"] == "file"


def test_frames_near_zero_are_numbers(tmp_path):
    frames = frames_of(1, 200) * np.float32(1e-41)
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/s.npy", frames)
    shard = packed(tmp_path / "features", settings(tmp_path / "features"))
    packed_frames = np.concatenate(list(shard.blocks()))
    np.testing.assert_array_equal(np.sort(packed_frames, axis=0), np.sort(frames, axis=0))


def test_a_show_that_no_memory_can_hold_is_a_fault_until_it_is_listed_in_segments(tmp_path):
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/s.npy", frames_of(1))
    count = 2_400_000_000
    with (tmp_path / "features/huge.npy").open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, 5)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 20 * count)  # sparse: it takes no room
    checked = check_list(settings(tmp_path / "features", on_error="skip"))
    (fault,) = checked.faults
    assert fault.show == "huge"
    assert fault.found == "2400000000 frames of 5 coefficients"
    (tmp_path / "list").write_text("huge\tfeatures/huge.npy\t7\t19\ns\tfeatures/s.npy")
    assert packed(tmp_path / "features", settings(tmp_path / "list")).frames == 52


def test_an_endless_line_of_an_archive_is_refused(folder):
    with (folder / "s.ark").open("wb") as stream:
        stream.write(b"s [ ")
        stream.truncate(8 << 30)
    (folder / "feats.scp").write_text("s s.ark:2\n")
    with pytest.raises(GmmcoreError, match=r"show s .*: damaged.*a line of 67108864 bytes"):
        check_list(settings(folder / "feats.scp"))


def test_memory_that_cannot_be_mapped_is_no_damage(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/s.npy", frames_of(1))
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(GmmcoreError, match=r"show s \(s.npy\): memory ran out"):
        packed(tmp_path / "features", settings(tmp_path / "features", on_error="skip"))


def test_memory_that_runs_out_is_one_line_and_no_fault_of_a_show(folder, monkeypatch):
    """Else a show would be skipped or not, depending on the machine."""

    def fail(*_: object) -> None:
        raise MemoryError

    mine = settings(folder, on_error="skip")
    check_list(mine).table.write(folder.parent / "shows.tsv")
    monkeypatch.setattr(shows, "process", fail)
    with pytest.raises(GmmcoreError, match=r"show s\d \(s\d.h5\): memory ran out") as caught:
        pack_shard(mine, folder.parent / "shows.tsv", "000", folder.parent / "000.npy")
    assert not isinstance(caught.value, FaultyShowError)
    assert not (folder.parent / "000.npy").exists()
