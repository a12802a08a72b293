"""Features from audio: MFCC, log-energy and voice-activity labels.

This needs ``pip install gmmcore[audio]`` (soundfile, kaldi-native-fbank). The features are written
to SIDEKIT's HDF5 feature files, one per show, and are then used like any others.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.corpus.lists import Entry, read_list
from gmmcore.errors import GmmcoreError
from gmmcore.features.settings import AudioSettings, FeatureSettings
from gmmcore.features.writing import write_list, write_sidekit_show
from gmmcore.files import PathLike
from gmmcore.readers import need
from gmmcore.readers.faults import Fault, FaultyShowError, reading, report

__all__ = ["energy_vad", "extract", "mfcc"]

_SUFFIXES = (".wav", ".flac")
_BLOCK_SECONDS = 60


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


def mfcc(
    path: PathLike, settings: AudioSettings, rate: int | None = None
) -> tuple[int, npt.NDArray[np.float32]]:
    """Compute log-energy and MFCC of an audio file, with one minute of it in memory at a time.

    kaldi-native-fbank computes the features as Kaldi does, from samples on the scale of 16 bits
    and without dither, so that the same file always gives the same numbers.

    Parameters
    ----------
    path : path
    settings : AudioSettings
    rate : int, optional
        The expected sampling rate, in Hz.

    Returns
    -------
    rate : int
        The sampling rate, in Hz.
    frames : ndarray, shape (N, 1 + coefficients), float32
        Frames of the log-energy and the coefficients.

    Raises
    ------
    FaultyShowError
        If the file is unreadable, has another rate, lacks the channel, or is too short.
    """
    soundfile = need("soundfile", "audio")
    parts: list[npt.NDArray[np.float32]] = []
    try:
        with soundfile.SoundFile(os.fspath(path)) as sound:
            if rate is not None and sound.samplerate != rate:
                raise FaultyShowError(
                    f"{sound.samplerate} Hz", f"{rate}, as the files before it", "resample it"
                )
            if settings.channel >= sound.channels:
                raise FaultyShowError(
                    f"{sound.channels} channels",
                    f"a channel {settings.channel}, counted from 0",
                    "choose another",
                )
            rate = int(sound.samplerate)
            computer = _computer(settings, rate)
            done = 0
            for block in sound.blocks(rate * _BLOCK_SECONDS, dtype="float32", always_2d=True):
                computer.accept_waveform(rate, block[:, settings.channel] * 32768.0)
                done = _gather(computer, done, parts)
            computer.input_finished()
            _gather(computer, done, parts)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise FaultyShowError(
            f"unreadable ({error})", "a wav or flac file", "convert it again"
        ) from None
    if not parts:
        raise FaultyShowError(
            "less than a frame", f"{settings.window:g} ms of audio or more", "remove it"
        )
    return rate, np.concatenate(parts)


def energy_vad(energy: npt.NDArray[np.floating], settings: AudioSettings) -> npt.NDArray[np.bool_]:
    """Compute voice-activity labels from the log-energy, as Kaldi's compute-vad does.

    Parameters
    ----------
    energy : ndarray, shape (N,)
        Natural logarithm of the energy of samples on the scale of 16 bits.
    settings : AudioSettings

    Returns
    -------
    ndarray, shape (N,), bool
        Whether each frame is speech.
    """
    loud = energy > settings.threshold + settings.scale * energy.mean(dtype=np.float64)
    running = np.concatenate([[0], np.cumsum(loud)])
    places = np.arange(len(loud))
    first = np.maximum(places - settings.reach, 0)
    last = np.minimum(places + settings.reach + 1, len(loud))
    votes = running[last] - running[first]
    return np.asarray(votes >= settings.share * (last - first))


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


def _computer(settings: AudioSettings, rate: int) -> Any:
    native = need("kaldi_native_fbank", "audio")
    options = native.MfccOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.frame_length_ms = settings.window
    options.frame_opts.frame_shift_ms = settings.shift
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = settings.filters
    options.mel_opts.low_freq = settings.low
    options.mel_opts.high_freq = settings.high
    options.num_ceps = settings.coefficients + 1
    options.use_energy = True  # It replaces the first coefficient.
    # The floor gives digital silence a logarithm.
    options.energy_floor = 1.0
    return native.OnlineMfcc(options)


def _gather(computer: Any, done: int, parts: list[npt.NDArray[np.float32]]) -> int:
    """Append the frames that are ready to `parts`, and return the number of frames so far."""
    ready = computer.num_frames_ready
    if ready > done:
        parts.append(np.array([computer.get_frame(i) for i in range(done, ready)], np.float32))
        computer.pop(ready - done)
    return int(ready)
