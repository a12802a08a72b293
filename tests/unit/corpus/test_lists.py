"""Feature lists in all their forms, and one report of all their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

from gmmcore.cli.main import main
from gmmcore.config.keys import FeatureSettings
from gmmcore.data import check
from gmmcore.data.check import check_list, fingerprint, recipe_digests
from gmmcore.data.lists import LabelSource, read_list
from gmmcore.data.shards import Shard, pack_shard
from gmmcore.data.shows import ShowReader, ShowTable
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.interfaces.sidekit_server import FeaturesServer


def settings(folder: Path, name: str = "shows.txt", **more: Any) -> FeatureSettings:
    return FeatureSettings.from_mapping({"list": str(folder / name), **more})


def corpus(folder: Path, count: int = 6) -> None:
    for i in range(count):
        write_hdf5(folder / f"s{i}.h5", f"s{i}", frames_of(i, 30 + i), speech_of(i, 30 + i))


def shows(table: ShowTable) -> list[tuple[str, int, int]]:
    return [(row.show, row.first, row.last) for row in table.rows]


def test_text(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "shows.txt").write_text("# mine\ns3\r\n\ns1\n")
    table = check_list(settings(tmp_path, pattern="{show}.h5")).table
    assert shows(table) == [("s3", 0, 33), ("s1", 0, 31)]
    assert [row.path for row in table.rows] == ["s3.h5", "s1.h5"]
    assert table.facts["frames"] == 64
    with pytest.raises(GmmcoreError, match="pattern"):
        check_list(settings(tmp_path))


@pytest.mark.parametrize("header", ["", "show\tpath\tstart\tstop\n"])
def test_tsv(tmp_path: Path, header: str) -> None:
    corpus(tmp_path)
    lines = "s3\ts3.h5\t5\t20\ns1\t\t\t\ns3\ts3.h5\t20\t\n"
    (tmp_path / "shows.tsv").write_text(header + lines)
    table = check_list(settings(tmp_path, "shows.tsv", pattern="{}.h5")).table
    assert shows(table) == [("s3", 5, 20), ("s1", 0, 31), ("s3", 20, 33)]


def test_tsv_with_columns_of_its_own_order(tmp_path: Path) -> None:
    corpus(tmp_path)
    (tmp_path / "shows.tsv").write_text("show\tstop\tpath\ns3\t20\ts3.h5\n")
    assert shows(check_list(settings(tmp_path, "shows.tsv")).table) == [("s3", 0, 20)]


def test_scp(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    offsets = write_ark(
        tmp_path / "data" / "x.ark", {f"s{i}": kaldi_matrix(frames_of(i)) for i in range(3)}
    )
    lines = [f"s{i} data/x.ark:{offsets[f's{i}']}" for i in range(3)]
    (tmp_path / "feats.scp").write_text("\n".join([*lines, lines[0].replace("s0", "t") + "[2:9]"]))
    table = check_list(settings(tmp_path, "feats.scp", vad=None)).table
    assert shows(table) == [("s0", 0, 40), ("s1", 0, 40), ("s2", 0, 40), ("t", 0, 8)]
    with ShowReader(settings(tmp_path, "feats.scp", vad=None)) as reader:
        assert (reader.frames(table.rows[3]) == frames_of(0)[2:10]).all()


def test_scp_of_commands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feats.scp").write_text(f"s0 touch {tmp_path}/run |\n")
    with pytest.raises(GmmcoreError, match=r"a command; .* commands are not run"):
        check_list(settings(tmp_path, "feats.scp"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["S", "vlen", "float"])
def test_idmap(tmp_path: Path, kind: str) -> None:
    corpus(tmp_path)
    with h5py.File(tmp_path / "map.h5", "w") as file:
        names = ["s3", "s1", "s3"]
        file["leftids"] = np.array(["a", "b", "a"], dtype="S")
        file["rightids"] = names if kind == "vlen" else np.array(names, dtype="S")
        empty = np.nan if kind == "float" else -1
        dtype = float if kind == "float" else np.int32
        file["start"] = np.array([0, empty, 20], dtype=dtype)
        file["stop"] = np.array([20, empty, 33], dtype=dtype)
    table = check_list(settings(tmp_path, "map.h5", pattern="{}.h5")).table
    assert shows(table) == [("s3", 0, 20), ("s1", 0, 31), ("s3", 20, 33)]


def test_folder(tmp_path: Path) -> None:
    corpus(tmp_path / "data" / "a", 2)
    write_hdf5(tmp_path / "data" / "b" / "s7.h5", "s7", frames_of(7), speech_of(7))
    (tmp_path / "data" / "readme.txt").write_text("no features")
    table = check_list(settings(tmp_path, "data")).table
    assert [row.path for row in table.rows] == ["a/s0.h5", "a/s1.h5", "b/s7.h5"]
    assert [row.show for row in table.rows] == ["a/s0", "a/s1", "b/s7"]
    one = check_list(settings(tmp_path, "data", pattern="a/{show}.h5")).table
    assert [row.show for row in one.rows] == ["s0", "s1"]
    elsewhere = settings(tmp_path, "data", pattern="a/{show}.h5", root=str(tmp_path))
    assert [row.path for row in check_list(elsewhere).table.rows] == [
        "data/a/s0.h5",
        "data/a/s1.h5",
    ]
    with pytest.raises(GmmcoreError, match=r"no file in this folder is called \{show\}\.npy;"):
        check_list(settings(tmp_path, "data", pattern="{show}.npy"))
    with pytest.raises(GmmcoreError, match="no place for the show"):
        check_list(settings(tmp_path, "data", pattern="all.h5"))


def test_feature_file_as_a_list(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        write_hdf5(tmp_path / "all.h5", f"s{i}", frames_of(i), speech_of(i), "a")
    table = check_list(settings(tmp_path, "all.h5")).table
    assert [(row.show, row.path) for row in table.rows] == [(f"s{i}", "all.h5") for i in range(3)]


def test_labels_from_everywhere_are_the_same(tmp_path: Path) -> None:
    corpus(tmp_path)
    names = [f"s{i}" for i in range(6)]
    (tmp_path / "shows.txt").write_text("\n".join(names))
    labels = {f"s{i}": speech_of(i, 30 + i) for i in range(6)}
    offsets = write_ark(tmp_path / "v.ark", {s: kaldi_vector(v) for s, v in labels.items()})
    (tmp_path / "vad.scp").write_text("".join(f"{s} v.ark:{o}\n" for s, o in offsets.items()))
    lines = []
    for show, label in labels.items():
        edges = np.flatnonzero(np.diff(np.concatenate([[0], label, [0]])))
        lines += [f"{show} {a} {b}\n" for a, b in edges.reshape(-1, 2)]
    (tmp_path / "segments").write_text("".join(lines))
    for vad in ("file", str(tmp_path / "vad.scp"), str(tmp_path / "segments")):
        mine = settings(tmp_path, pattern="{}.h5", vad=vad)
        table = check_list(mine).table
        with ShowReader(mine) as reader:
            for i, row in enumerate(table.rows):
                expected = frames_of(i, 30 + i)[labels[row.show]]
                assert (reader.frames(row) == expected).all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("s0 0\n", "two frame numbers"), ("s0\n", "a show and its labels"), ("s0 a b\n", "two frame")],
)
def test_segments_that_make_no_sense(tmp_path: Path, content: str, complaint: str) -> None:
    corpus(tmp_path, 1)
    (tmp_path / "shows.txt").write_text("s0")
    (tmp_path / "segments").write_text(content)
    with pytest.raises(GmmcoreError, match=complaint):
        check_list(settings(tmp_path, pattern="{}.h5", vad=str(tmp_path / "segments")))


def test_global_normalisation_is_of_the_whole_show(tmp_path: Path) -> None:
    corpus(tmp_path, 1)
    (tmp_path / "l.tsv").write_text("s0\ts0.h5\t3\t12\ns0\ts0.h5\t12\t30\n")
    mine = settings(tmp_path, "l.tsv", normalisation="cmvn_global")
    table = check_list(mine).table
    speech = frames_of(0, 30)[speech_of(0, 30)]
    with ShowReader(mine) as reader:
        ours = reader.frames(table.rows[0])
    expected = frames_of(0, 30)[3:12][speech_of(0, 30)[3:12]]
    np.testing.assert_allclose(
        ours, (expected - speech.mean(axis=0)) / speech.std(axis=0), rtol=1e-4, atol=1e-5
    )


def test_a_server_takes_the_statistics_of_a_whole_show_too(tmp_path: Path) -> None:
    frames, speech = frames_of(1, 60), speech_of(1, 60)
    write_hdf5(tmp_path / "s.h5", "s", frames, speech)
    write_hdf5(tmp_path / "silent.h5", "silent", frames, np.zeros(60, dtype=bool))
    (tmp_path / "l.tsv").write_text("s\ts.h5\t10\t30\n")
    mine = settings(tmp_path, "l.tsv", normalisation="cmvn_global")
    with ShowReader(mine) as reader:
        ours = reader.frames(check_list(mine).table.rows[0])
    structure = f"{tmp_path}/{{}}.h5"
    with FeaturesServer(
        feature_filename_structure=structure, feat_norm="cmvn", global_cmvn=True
    ) as server:
        loaded, label = server.load("s", start=10, stop=30)
        np.testing.assert_array_equal(loaded[label], ours)
        # Without speech there is nothing to normalise, unless other labels say so.
        np.testing.assert_array_equal(server.load("silent")[0], frames)
        with pytest.raises(GmmcoreError, match="labels select no frame of 60"):
            server.load("silent", label=speech)


def plant(folder: Path) -> dict[str, str]:
    """A list of 50 shows, 14 of them faulty; the faults, and what must be said of them."""
    for i in range(50):
        write_hdf5(folder / f"s{i:02d}.h5", f"s{i:02d}", frames_of(i), speech_of(i))
    lines = [f"s{i:02d}\ts{i:02d}.h5\t\t" for i in range(50)]
    (folder / "s03.h5").unlink()
    (folder / "s05.h5").write_bytes(b"garbage" * 100)
    whole = (folder / "s07.h5").read_bytes()
    (folder / "s07.h5").write_bytes(whole[: len(whole) // 2])
    write_hdf5(folder / "s11.h5", "s11", frames_of(11, 40, 6), speech_of(11))
    bad = frames_of(13)
    bad[17, 2] = np.nan
    write_hdf5(folder / "s13.h5", "s13", bad, speech_of(13))
    bad = frames_of(14)
    bad[1, 0] = np.inf
    write_hdf5(folder / "s14.h5", "s14", bad, speech_of(14))
    write_hdf5(folder / "s17.h5", "s17", frames_of(17), np.zeros(40))
    lines[19] = "s18\ts18.h5\t\t"
    write_hdf5(folder / "s23.h5", "s23", frames_of(23), speech_of(23, 39))
    lines[29] = "s29\ts29.h5\t10\t41"
    for i in (31, 32):
        write_hdf5(
            folder / "s31.h5", f"other{i}", frames_of(i), speech_of(i), "a" if i > 31 else "w"
        )
    (folder / "s37.h5").write_bytes(b"")
    write_hdf5(folder / "s41.h5", "s41", frames_of(41), None)
    lines[43] = "s43\ts43.h5\tten\t41"
    (folder / "list.tsv").write_text("\n".join(lines) + "\n")
    return {
        "s03": "no such file",
        "s05": "no known format",
        "s07": "damaged or truncated",
        "s11": "6 coefficients",
        "s13": "1 NaN or infinite value in the file, the first in frame 17, coefficient 2",
        "s14": "frame 1, coefficient 0",
        "s17": "its voice-activity labels select no frame of 40",
        "s18": "frames 0 to 40 when 0 to 40 are listed",
        "s23": "39 voice-activity labels",
        "s29": "the segment 10 to 41",
        "s31": "no such show",
        "s37": "an empty file",
        "s41": "no voice-activity labels",
        "line 44": "ten",
    }


def test_every_planted_fault_is_in_one_report(tmp_path: Path) -> None:
    faults = plant(tmp_path)
    with pytest.raises(GmmcoreError) as caught:
        check_list(settings(tmp_path, "list.tsv"))
    head, *lines = str(caught.value).splitlines()
    assert "14 faults" in head
    assert "skip" in head
    assert len(lines) == 14
    for show, found in faults.items():
        (line,) = [line for line in lines if f"show {show}" in line]
        assert found in line
        assert "; expected " in line


def test_skipping_leaves_out_these_and_no_others(tmp_path: Path) -> None:
    faults = plant(tmp_path)
    mine = settings(tmp_path, "list.tsv", on_error="skip", shards=3)
    checked = check_list(mine)
    checked.table.write(tmp_path / "shows.tsv")
    outputs = [tmp_path / f"{shard}.npy" for shard in checked.table.shards]
    for shard, output in zip(checked.table.shards, outputs, strict=True):
        pack_shard(mine, tmp_path / "shows.tsv", shard, output)
    later = [fault for output in outputs for fault in Shard(output).faults]
    assert sorted(f.show for f in later) == ["s13", "s14", "s17"]
    found = {f.show: f.found for f in (*checked.faults, *later)}
    assert found.keys() == faults.keys()
    assert all(faults[show] in found[show] for show in found)
    frames = np.concatenate([np.concatenate([*Shard(o).blocks()]) for o in outputs])
    bad = {show for show in faults if show != "s18"} | {"s19", "s43"}
    good = [i for i in range(50) if f"s{i:02d}" not in bad]
    expected = np.concatenate([frames_of(i)[speech_of(i)] for i in good])
    assert len(frames) == len(expected)
    assert (np.sort(frames, axis=0) == np.sort(expected, axis=0)).all()


def test_the_verb_writes_the_table_with_the_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path)
    output = tmp_path / "out" / "shows.tsv"
    arguments = ["shows", "--list", str(tmp_path / "list.tsv"), "--output", str(output)]
    assert main(arguments) == 1
    assert not output.exists()
    message = capsys.readouterr().err
    assert message.count("\n") == 15
    assert "Traceback" not in message
    assert main([*arguments, "--on-error", "skip"]) == 0
    faults = ShowTable.read(output).facts["faults"]
    assert set(faults[0]) == {"show", "path", "found", "expected", "remedy"}
    assert len(faults) == 11  # the other three are found when shards are packed
    assert "39 shows" in capsys.readouterr().out


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_list_of_nothing_but_faults(tmp_path: Path, on_error: str) -> None:
    (tmp_path / "shows.txt").write_text("a\nb\n")
    with pytest.raises(GmmcoreError, match="2 faults"):
        check_list(settings(tmp_path, pattern="{}.h5", on_error=on_error))


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\x07", "a\u202eb"])
def test_names_that_deceive_are_refused_and_shown_escaped(tmp_path: Path, name: str) -> None:
    (tmp_path / "shows.txt").write_text(name + "\n")
    with pytest.raises(GmmcoreError, match="control characters") as caught:
        check_list(settings(tmp_path, pattern="{}.h5"))
    assert all(line.isprintable() for line in str(caught.value).splitlines())


@pytest.mark.parametrize("show", ["../../evil", "/etc/x", "a/../../b", "...", "%s{show}"])
def test_names_never_lead_outside(tmp_path: Path, show: str) -> None:
    folder = tmp_path / "inner" / "run"
    write_hdf5(tmp_path / "x.h5", show.strip("/").replace("..", "dots"), frames_of(1), None)
    np.save(tmp_path / "x.npy", frames_of(1))
    (tmp_path / "l.tsv").write_text(f"{show}\tx.npy\n")
    mine = settings(tmp_path, "l.tsv", vad=None)
    before = {p for p in tmp_path.rglob("*") if folder not in p.parents}
    check_list(mine).table.write(folder / "shows.tsv")
    pack_shard(mine, folder / "shows.tsv", "000", folder / "000.npy")
    after = {p for p in tmp_path.rglob("*") if folder not in p.parents}
    assert after - before <= {folder, folder.parent}
    assert {p.name for p in folder.iterdir()} == {"shows.tsv", "000.npy"}


@pytest.mark.parametrize("name", ["missing.txt", "binary"])
def test_lists_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GmmcoreError, match="features: list"):
        read_list(settings(tmp_path, name))


def test_dimension_of_the_majority_wins(tmp_path: Path) -> None:
    for i in range(5):
        np.save(tmp_path / f"s{i}.npy", frames_of(i, 20, 3 if i < 2 else 4))
    mine = settings(tmp_path, "", on_error="skip", vad=None)
    checked = check_list(mine)
    assert [fault.show for fault in checked.faults] == ["s0", "s1"]
    assert checked.table.facts["dimension"] == 4


def test_a_mask_beyond_the_frames_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    corpus(tmp_path)
    with pytest.raises(GmmcoreError, match="mask: names coefficient 10, but the frames have 10"):
        check_list(settings(tmp_path, "", mask="[0-10]", delta=True))
    assert (
        check_list(settings(tmp_path, "", mask="[0-9]", delta=True)).table.facts["dimension"] == 10
    )


def test_table_refuses_changes(tmp_path: Path) -> None:
    corpus(tmp_path / "data")
    table = check_list(settings(tmp_path, "data")).table
    path = tmp_path / "shows.tsv"
    table.write(path)
    assert ShowTable.read(path).rows == table.rows
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole.replace(b"s3", b"s4"), b"", whole.replace(b"#", b"$", 1)):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            ShowTable.read(path)


def test_fingerprint_sees_what_matters(tmp_path: Path) -> None:
    corpus(tmp_path / "data")
    mine = settings(tmp_path, "data")
    first = fingerprint(mine)
    assert fingerprint(mine) == first
    seen = {first}

    def changed(now: FeatureSettings = mine) -> bool:
        digest = fingerprint(now)
        new = digest not in seen
        seen.add(digest)
        return new

    write_hdf5(tmp_path / "data" / "s3.h5", "s3", frames_of(9, 33), speech_of(9, 33))
    assert changed()
    (tmp_path / "data" / "s2.h5").unlink()
    assert changed()
    write_htk(tmp_path / "data" / "new.htk", frames_of(1))
    assert changed()
    assert changed(settings(tmp_path, "data", shards=3))


def test_one_changed_show_changes_one_shard(tmp_path: Path) -> None:
    corpus(tmp_path / "data", 20)
    mine = settings(tmp_path, "data", shards=5)
    path = tmp_path / "shows.tsv"

    def digests() -> dict[str, str]:
        check_list(mine).table.write(path)
        return ShowTable.read(path).facts["recipe_digests"]

    def others(other: FeatureSettings) -> dict[str, str]:
        table = ShowTable.read(path)
        labels = LabelSource(other)
        return recipe_digests(table.shards, table.rows, other, table.facts["dimension"], labels)

    before = digests()
    assert len(before) == 5
    (row,) = [row for row in ShowTable.read(path).rows if row.show == "s7"]
    write_hdf5(tmp_path / "data" / "s7.h5", "s7", frames_of(99, 38), speech_of(7, 37)[:37])
    write_hdf5(tmp_path / "data" / "s7.h5", "s7", frames_of(99, 37), speech_of(7, 37))
    after = digests()
    assert [shard for shard in before if before[shard] != after[shard]] == [row.shard]
    other = settings(tmp_path, "data", shards=5, delta=True)
    assert not set(others(other).values()) & set(after.values())
    same = settings(tmp_path, "data", shards=5, on_error="skip", format="sidekit")
    assert others(same) == after


def test_several_processes_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path)
    mine = settings(tmp_path, "list.tsv", on_error="skip")
    alone = check_list(mine)
    monkeypatch.setattr(check, "_MANY_FILES", 22)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert check_list(mine) == alone
