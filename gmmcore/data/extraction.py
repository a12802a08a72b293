"""Features of all shows of a list of audio files.

They are written to SIDEKIT's HDF5 feature files, one per show, and are then used like any others.
"""

from __future__ import annotations

import os
from pathlib import Path

from gmmcore.config.features import AudioSettings, FeatureSettings
from gmmcore.data.audio import energy_vad, mfcc
from gmmcore.data.lists import Entry, read_list
from gmmcore.data.readers.faults import Fault, FaultyShowError, reading, report
from gmmcore.data.writing import write_list, write_sidekit_show
from gmmcore.errors import GmmcoreError
from gmmcore.files import PathLike

__all__ = ["extract"]

_SUFFIXES = (".wav", ".flac")


def extract(
    audio: PathLike,
    output: PathLike,
    settings: AudioSettings | None = None,
    pattern: str | None = None,
    root: str | None = None,
    recipe: str | None = None,
) -> int:
    """Write the features of every show of a list of audio files.

    Parameters
    ----------
    audio : path
        A list in one of the formats of feature lists (text, TSV, scp), or a folder of wav and
        flac files.
    output : path
        Folder for the files ``<show>.h5`` and their list ``shows.txt``, which is written last.
    settings : AudioSettings, optional
    pattern : str, optional
        File of a show, such as ``{show}.wav``.
    root : str, optional
        Folder that relative paths start from.
    recipe : str, optional
        A word for the first line of the list, by which it is recognised.

    Returns
    -------
    int
        Number of shows.

    Raises
    ------
    GmmcoreError
        If there are faulty files, after all others were written, but without their list. The
        message has one line for each.
    """
    settings = settings or AudioSettings()
    entries, faults, folder = _entries(audio, pattern, root)
    rate: int | None = None
    for entry in entries:
        try:
            target = _target(output, entry.show)
            with reading():
                found, frames = mfcc(os.path.join(folder, entry.path), settings, rate)
            rate = found
            labels = energy_vad(frames[:, 0], settings)
            write_sidekit_show(target, entry.show, frames[:, 0], frames[:, 1:], labels)
        except FaultyShowError as error:
            faults.append(error.fault(entry.show, entry.path))
    if faults:
        raise GmmcoreError(report(faults, f"{audio}"))
    write_list(Path(output) / "shows.txt", (entry.show for entry in entries), recipe)
    return len(entries)


def _entries(
    audio: PathLike, pattern: str | None, root: str | None
) -> tuple[list[Entry], list[Fault], str]:
    patterns = [pattern]
    if pattern is None and os.path.isdir(audio):
        patterns = [f"{{show}}{suffix}" for suffix in _SUFFIXES]
    entries: list[Entry] = []
    faults: list[Fault] = []
    folder = ""
    for each in patterns:
        settings = FeatureSettings(list=os.fspath(audio), pattern=each, root=root)
        folder = settings.folder
        try:
            listing = read_list(settings)
        except GmmcoreError:
            if len(patterns) == 1:
                raise
            continue  # There are no files with this suffix.
        entries += listing.entries
        faults += listing.faults
    if not entries and not faults:
        raise GmmcoreError(f"{audio}: no wav or flac files; expected some; correct --audio")
    seen: set[str] = set()
    for entry in entries:
        if entry.show in seen:
            faults.append(
                Fault(entry.show, entry.path, "a second file of this show", "one", "rename it")
            )
        seen.add(entry.show)
    return entries, faults, folder


def _target(output: PathLike, show: str) -> Path:
    """Return the file of a show; a name with folders must not lead out of `output`."""
    parts = show.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise FaultyShowError("a name that leads elsewhere", "a file name", "rename it")
    return Path(output, *parts[:-1], f"{parts[-1]}.h5")
