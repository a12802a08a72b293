"""Files that are there whole or not at all, and that know when they were altered."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import digest_of, holder, holding, read_bytes, replace_bytes, writing
from gmmcore.formats.hdf5 import HEADER_SIZE, seal, unseal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    replace_bytes(path, b"first")
    with writing(path) as stream:
        stream.write(b"second")
        stream.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    replace_bytes(path, b"first")
    with pytest.raises(ZeroDivisionError), writing(path) as stream:
        stream.write(b"half")
        _ = 1 / 0
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_fails_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "file"
    replace_bytes(path, b"first")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(GmmcoreError, match=r"file: cannot be written: Input/output error; free"):
        replace_bytes(path, b"second")
    monkeypatch.undo()
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*arguments, _name=name, _real=real):
            done.append(_name)
            return _real(*arguments)

        monkeypatch.setattr(os, name, noted)
    replace_bytes(tmp_path / "file", b"content")
    assert done == ["fsync", "replace", "fsync"]  # the last is the folder's


def test_the_umask_is_obeyed(tmp_path):
    before = os.umask(0o027)
    try:
        replace_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_only_temporary_files_of_dead_writers_are_removed(tmp_path):
    script = (
        "import os, sys; from gmmcore.files import writing\n"
        "with writing(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "file"], check=False)
    (dead,) = names(tmp_path)
    living = tmp_path / ".file.12345678.gmmcore-tmp"
    other = tmp_path / ".other.12345678.gmmcore-tmp"
    other.touch()
    with open(living, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        replace_bytes(tmp_path / "file", b"whole")
        assert dead not in names(tmp_path)
        assert names(tmp_path) == sorted([living.name, other.name, "file"])


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    left = tmp_path / ".file.12345678.gmmcore-tmp"
    left.touch()
    replace_bytes(tmp_path / "file", b"whole")
    # Whether its writer lives cannot be known.
    assert names(tmp_path) == [left.name, "file"]


def test_two_writers_of_one_file(tmp_path):
    """Each is whole; the last to end wins."""
    path = tmp_path / "file"
    with writing(path) as first:
        first.write(b"first")
        replace_bytes(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_sealed_files(tmp_path):
    path = tmp_path / "file"
    digest = seal(path, "kind", b"content", number=1, text="\n\u2028 is text")
    facts = {"number": 1, "text": "\n\u2028 is text", "digest": digest}
    assert unseal(path, "kind") == (facts, b"content")
    assert unseal(path, "kind")[0] == facts
    assert path.stat().st_size == HEADER_SIZE + len(b"content")
    with pytest.raises(GmmcoreError, match="holds kind, mixture was expected"):
        unseal(path, "mixture")
    with pytest.raises(ValueError, match="bytes too many facts"):
        seal(path, "kind", b"", text="x" * HEADER_SIZE)
    with pytest.raises(ValueError):
        seal(path, "kind", b"", number=float("nan"))


def test_a_flipped_bit_in_any_byte_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "file"
    seal(path, "kind", b"content", number=1)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(GmmcoreError):
            unseal(path, "kind")


def test_every_truncation_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "file"
    seal(path, "kind", b"content")
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError, match="remove it and give the same command again"):
            unseal(path, "kind")
    path.write_bytes(content + b"\0")
    with pytest.raises(DamagedFileError):
        unseal(path, "kind")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(GmmcoreError, match="cannot be read: No such file"):
        read_bytes(tmp_path / "none")
    with pytest.raises(GmmcoreError, match="cannot be read: Is a directory"):
        read_bytes(tmp_path)
    (tmp_path / "large").write_bytes(b"12345")
    assert read_bytes(tmp_path / "large", 5) == b"12345"
    with pytest.raises(GmmcoreError, match="5 bytes, at most 4 were expected"):
        read_bytes(tmp_path / "large", 4)


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GmmcoreError, match=r"this folder cannot be made: .*; remove what is in"):
        replace_bytes(tmp_path / "file" / "folder" / "x", b"")


def test_one_works_in_a_folder_at_a_time(tmp_path, capfd):
    code = (
        "import sys; from gmmcore.files import holding\n"
        "with holding(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    assert holder(tmp_path) is None
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        while not (tmp_path / ".lock").read_text():
            pass
        assert holder(tmp_path) == str(first.pid)
        waiting = subprocess.Popen(command, **pipes)
        line = waiting.stdout.readline()
        assert line == f"{tmp_path}: waiting for process {first.pid}, which works here\n"
        # A hold ends with its process, however that dies.
        first.kill()
        assert waiting.stdout.readline() == "held\n"
        waiting.communicate()
    assert holder(tmp_path) is None


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with holding(tmp_path):
        pass
    assert "this file system has no locks" in capsys.readouterr().err


def test_digests_tell_values_apart():
    different = [
        digest_of("a", "b"),
        digest_of("ab"),
        digest_of(["a", "b"]),
        digest_of(1),
        digest_of(1.0),
        digest_of("1"),
        digest_of(None),
        digest_of({"a": 1}),
    ]
    assert len(set(different)) == len(different)
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError):
        digest_of(float("nan"))
