"""Shard files: numpy's to everybody, verified by us."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features_files import frames_of, speech_of, write_hdf5

from gmmcore.config.keys import FeatureSettings
from gmmcore.core.moments import Moments, merge_moments
from gmmcore.core.schedule import LARGEST_LEVEL, frame_levels
from gmmcore.data import shards
from gmmcore.data.check import check_list
from gmmcore.data.shards import BLOCK_FRAMES, Shard, ShardWriter, block_checksum, pack_shard
from gmmcore.data.shows import Row, ShowReader
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import writing


def write(path: Path, frames: np.ndarray, step: int = 1000) -> None:
    with writing(path) as stream:
        writer = ShardWriter(stream, frames.shape[1])
        for start in range(0, len(frames), step):
            writer.add(frames[start : start + step])
        writer.finish({"shard": "000", "recipe_digest": "d", "faults": []})


@pytest.mark.parametrize("dimension", [1, 3, 20])
@pytest.mark.parametrize("count", [0, 1, BLOCK_FRAMES - 1, BLOCK_FRAMES, 2 * BLOCK_FRAMES + 7])
def test_shards_are_numpys_files(tmp_path: Path, count: int, dimension: int) -> None:
    frames = frames_of(1, count, dimension)
    write(tmp_path / "x.npy", frames)
    assert (np.load(tmp_path / "x.npy") == frames).all()
    if count:
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert mapped.offset == 1024
        assert mapped.dtype == np.float32
        assert (mapped == frames).all()
    with Shard(tmp_path / "x.npy") as shard:
        assert (shard.frames, shard.dimension) == (count, dimension)
        assert (np.concatenate([np.empty((0, dimension)), *shard.blocks()]) == frames).all()
        assert (np.concatenate([np.empty((0, dimension)), *shard.blocks(999)]) == frames).all()
        for start, stop in ((0, count), (count // 3, count // 2), (count, count)):
            assert (shard.read(start, stop) == frames[start:stop]).all()
        for start, stop in ((-1, 0), (0, count + 1), (1, 0)):
            with pytest.raises(IndexError):
                shard.read(start, stop)


def test_a_subset_is_the_beginning_and_is_read_alone(tmp_path: Path) -> None:
    count, path = 5 * BLOCK_FRAMES, tmp_path / "x.npy"
    frames, levels = frames_of(1, count, 3), frame_levels(1, "s", count)
    with writing(path) as stream:
        writer = ShardWriter(stream, 3)
        for start in range(0, count, 999):
            writer.add(frames[start : start + 999], levels[start : start + 999])
        writer.finish({"shard": "000", "recipe_digest": "d", "faults": []})
    content = bytearray(path.read_bytes())
    content[1024 + 12 * 3 * BLOCK_FRAMES] ^= 1  # a frame of the fourth block
    path.write_bytes(content)
    with Shard(path) as shard:
        assert shard.subsets[0] == count
        for level in range(1, LARGEST_LEVEL + 1):
            chosen = frames[levels >= level]
            assert shard.subsets[level] == len(chosen)
            found = shard.read(0, len(chosen))
            assert np.array_equal(np.unique(found, axis=0), np.unique(chosen, axis=0))
        with pytest.raises(DamagedFileError, match="frames 12288 to 16384 were altered"):
            shard.read(0, count)
    assert [*tmp_path.iterdir()] == [path]


def test_the_same_frames_give_the_same_file_however_they_come(tmp_path: Path) -> None:
    frames = frames_of(1, 9000, 4)
    write(tmp_path / "a.npy", frames, 1000)
    write(tmp_path / "b.npy", frames, 4096)
    with Shard(tmp_path / "a.npy") as a, Shard(tmp_path / "b.npy") as b:
        assert a.content_digest == b.content_digest
        np.testing.assert_allclose(a.moments.mean, b.moments.mean, rtol=1e-12)


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    frames = frames_of(1, BLOCK_FRAMES + 50, 3)
    write(path, frames)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    places = [
        *range(0, 130),
        *rng.integers(len(whole), size=300),
        *range(len(whole) - 300, len(whole)),
    ]
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(GmmcoreError) as caught, Shard(path) as shard:
            shard.read(0, shard.frames)
        assert str(path) in str(caught.value)


def test_damage_is_told_with_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write(path, frames_of(1, 3 * BLOCK_FRAMES, 2))
    content = bytearray(path.read_bytes())
    content[1024 + 8 * (BLOCK_FRAMES + 5)] ^= 1
    path.write_bytes(content)
    with Shard(path) as shard:
        shard.read(0, BLOCK_FRAMES)
        shard.read(2 * BLOCK_FRAMES, 3 * BLOCK_FRAMES)
        with pytest.raises(DamagedFileError, match=f"frames {BLOCK_FRAMES} to {2 * BLOCK_FRAMES}"):
            shard.read(BLOCK_FRAMES + 1, BLOCK_FRAMES + 2)


@pytest.mark.parametrize("keep", [0, 100, 1024, 5000, -1])
def test_truncated_shards_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.npy"
    write(path, frames_of(1, 500, 3))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedFileError):
        Shard(path)


def test_a_shard_that_shrinks_while_it_is_open_ends_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write(path, frames_of(1, 3 * BLOCK_FRAMES, 3))
    with Shard(path) as shard:
        os.truncate(path, 20_000)
        with pytest.raises(DamagedFileError):
            shard.read(2 * BLOCK_FRAMES, 2 * BLOCK_FRAMES + 1)


def test_more_shards_than_a_process_may_open(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write(path, frames_of(1, 10, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with pytest.raises(GmmcoreError, match=r"x\.npy: cannot be read: Too many open files"):
            _ = [Shard(path) for _ in range(100)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_checksum_finds_every_change_within_a_word_and_every_exchange() -> None:
    frames = frames_of(1, 64, 3)
    expected = block_checksum(frames)
    words = frames.reshape(-1).view(np.uint64)
    for i in range(len(words)):
        for bit in range(64):
            words[i] ^= np.uint64(1 << bit)
            assert block_checksum(frames) != expected
            words[i] ^= np.uint64(1 << bit)
    swapped = frames.copy()
    swapped[[3, 9]] = frames[[9, 3]]
    assert block_checksum(swapped) != expected
    assert block_checksum(frames) == expected


def test_threads_may_read_together(tmp_path: Path) -> None:
    frames = frames_of(1, 20_000, 5)
    write(tmp_path / "x.npy", frames)
    wrong: list[int] = []
    with Shard(tmp_path / "x.npy") as shard:

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(100):
                a, b = np.sort(rng.integers(20_000, size=2))
                if not (shard.read(a, b) == frames[a:b]).all():
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_what_is_read_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / "x.npy", frames_of(1, 50, 3))
    with Shard(tmp_path / "x.npy") as shard, pytest.raises(ValueError, match="read-only"):
        shard.read(0, 10)[0, 0] = 1


def test_moments_are_stable() -> None:
    """E[x^2] - mean^2 in float64 has no digit of this variance; the sum of shows has ten."""
    frames = (3e6 + frames_of(1, 5000, 2)).astype(np.float32)
    total = merge_moments(Moments.of(frames[i : i + 7]) for i in range(0, 5000, 7))
    exact = frames.astype(np.longdouble)
    mean = exact.mean(axis=0)
    np.testing.assert_allclose(total.mean, mean.astype(float), rtol=1e-15)
    np.testing.assert_allclose(
        total.scatter, ((exact - mean) ** 2).sum(axis=0).astype(float), 1e-10
    )
    assert Moments.from_facts(total.facts()).scatter.tolist() == total.scatter.tolist()
    with pytest.raises(ValueError, match="no moments"):
        merge_moments([])
    empty = Moments.none(2)
    assert merge_moments([empty, total, empty]).mean.tolist() == total.mean.tolist()


def prepare(folder: Path, count: int = 8, **more: Any) -> FeatureSettings:
    for i in range(count):
        length = 500 + 300 * i
        write_hdf5(
            folder / "data" / f"s{i}.h5", f"s{i}", frames_of(i, length), speech_of(i, length)
        )
    settings = FeatureSettings.from_mapping(
        {"list": str(folder / "data"), "delta": True, "normalisation": "cmvn", "shards": 2, **more}
    )
    check_list(settings).table.write(folder / "shows.tsv")
    return settings


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = prepare(tmp_path)
    for name in ("a", "b"):
        pack_shard(settings, tmp_path / "shows.tsv", "001", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shows_that_grow_shrink_or_vanish_after_the_check(tmp_path: Path) -> None:
    settings = prepare(tmp_path, on_error="skip", shards=1)
    changed = {
        "s1": lambda p: write_hdf5(p, "s1", frames_of(1, 801), speech_of(1, 801)),
        "s2": lambda p: write_hdf5(p, "s2", frames_of(2, 1099), speech_of(2, 1099)),
        "s3": lambda p: p.unlink(),
        "s4": lambda p: p.write_bytes(p.read_bytes()[:3000]),
        "s5": lambda p: write_hdf5(p, "s5", frames_of(5, 2000, 4), speech_of(5, 2000)),
    }
    for show, change in changed.items():
        change(tmp_path / "data" / f"{show}.h5")
    with pytest.raises(GmmcoreError, match=r"changed since the list was checked") as caught:
        pack_shard(settings, tmp_path / "shows.tsv", "000", tmp_path / "x.npy")
    assert all(f"show {show} " in str(caught.value) for show in changed)
    assert "5 faults" in str(caught.value)
    assert not (tmp_path / "x.npy").exists()


def test_a_show_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepare(tmp_path, shards=1)

    class Meddler(ShowReader):
        def frames(self, row: Row) -> np.ndarray:
            result = super().frames(row)
            if row.show == "s3":
                new = tmp_path / "new.h5"
                write_hdf5(new, "s2", frames_of(0, 1100), speech_of(0, 1100))
                os.replace(new, tmp_path / "data" / "s2.h5")
            return result

    monkeypatch.setattr(shards, "ShowReader", Meddler)
    with pytest.raises(GmmcoreError, match=r"changed since .* was made, or while they were read"):
        pack_shard(settings, tmp_path / "shows.tsv", "000", tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()


def test_unknown_shards(tmp_path: Path) -> None:
    settings = prepare(tmp_path)
    for name in ("002", "0", "../000"):
        with pytest.raises(GmmcoreError, match="no shard"):
            pack_shard(settings, tmp_path / "shows.tsv", name, tmp_path / "x.npy")
