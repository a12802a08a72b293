"""What is remembered of files that were verified."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from gmmcore.errors import GmmcoreError
from gmmcore.files import remembered, sha256_of
from gmmcore.formats.hdf5 import seal
from gmmcore.workflow import verified
from gmmcore.workflow.verified import checksum_of, recall, remember, sealed_state


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """A file of what is remembered; nothing is known yet, and the clock's tick is short."""
    monkeypatch.setattr(verified, "_known", {})
    monkeypatch.setattr(verified, "_TICK", 0)
    return str(tmp_path / "verified.json")


@pytest.fixture
def sealed(tmp_path):
    path = str(tmp_path / "a mixture.h5")
    seal(path, "mixture", bytes(1000), gain=0.5)
    time.sleep(0.01)
    return path


def forget(monkeypatch):
    """Begin as a new process does; files may not be read."""
    monkeypatch.setattr(verified, "_known", {})
    for name in ("unseal", "sha256_of"):
        monkeypatch.setattr(verified, name, lambda *_: pytest.fail("was read again"))


def test_an_unchanged_file_is_read_once(notes, sealed, monkeypatch):
    found, checksum = sealed_state(sealed), checksum_of(sealed)
    assert found[0]["gain"] == 0.5
    assert checksum == sha256_of(sealed)
    remember(notes)
    forget(monkeypatch)
    recall(notes)
    assert (sealed_state(sealed), checksum_of(sealed)) == (found, checksum)


def test_damage_is_found_though_size_and_time_are_as_before(notes, sealed):
    sealed_state(sealed)
    remember(notes)
    status = os.stat(sealed)
    with open(sealed, "r+b") as stream:
        stream.seek(1500)
        stream.write(b"x")
    os.utime(sealed, ns=(status.st_atime_ns, status.st_mtime_ns))
    recall(notes)
    assert sealed_state(sealed) == ({}, "damaged")
    remember(notes)
    recall(notes)
    assert sealed_state(sealed) == ({}, "damaged")


def test_a_file_that_changed_a_moment_ago_is_not_remembered(notes, sealed, monkeypatch):
    monkeypatch.setattr(verified, "_TICK", 10**12)
    sealed_state(sealed)
    remember(notes)
    assert not os.path.exists(notes)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", None])
def test_notes_that_are_damaged_are_none(notes, sealed, content):
    sealed_state(sealed)
    remember(notes)
    values = json.loads(Path(notes).read_text())
    values["known"][0][2][0]["gain"] = 1.0
    with open(notes, "wb") as stream:
        stream.write(json.dumps(values).encode() if content is None else content)
    recall(notes)
    assert sealed_state(sealed)[0]["gain"] == 0.5


def test_notes_that_cannot_be_written_are_none(notes, sealed):
    sealed_state(sealed)
    remember(f"{sealed}/verified.json")


def test_missing_files(notes, tmp_path):
    path = str(tmp_path / "missing")
    assert sealed_state(path) == ({}, "No such file or directory")
    with pytest.raises(GmmcoreError, match="missing: cannot be read"):
        checksum_of(path)


def test_a_reader_reads_a_file_that_changed_again(tmp_path):
    calls = []
    path = tmp_path / "text"
    read = remembered(lambda path: calls.append(path) or path.read_text())
    with pytest.raises(FileNotFoundError):
        read(path)
    for text in ("first", "the second"):
        path.write_text(text)
        assert [read(path), read(path)] == [text, text]
    assert len(calls) == 3
