"""Features from audio: MFCC, log-energy and voice-activity labels.

This needs ``pip install gmmcore[audio]`` (soundfile, kaldi-native-fbank).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.features import AudioSettings
from gmmcore.data.readers import need
from gmmcore.data.readers.faults import FaultyShowError
from gmmcore.files import PathLike

__all__ = ["energy_vad", "mfcc"]

_BLOCK_SECONDS = 60


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
