"""The audio front end, against Kaldi's definition of MFCC written out in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmmcore.cli.main import main
from gmmcore.config.features import AudioSettings
from gmmcore.data import audio
from gmmcore.data.audio import energy_vad, mfcc
from gmmcore.data.extraction import extract
from gmmcore.data.readers.faults import FaultyShowError
from gmmcore.errors import GmmcoreError
from gmmcore.interfaces.sidekit_server import FeaturesServer

soundfile = pytest.importorskip("soundfile", reason="needs gmmcore[audio]")
pytest.importorskip("kaldi_native_fbank", reason="needs gmmcore[audio]")

RATE = 8000


def sound(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise between silences, in 16 bits."""
    rng = np.random.default_rng(seed)
    samples = 1e-3 * rng.standard_normal(int(seconds * RATE))
    middle = slice(len(samples) // 4, len(samples) // 2)
    samples[middle] += 0.2 * rng.standard_normal(len(samples[middle]))
    return np.rint(np.clip(samples, -0.99, 0.99) * 32768).astype(np.int16)


def definition(samples: np.ndarray, settings: AudioSettings) -> np.ndarray:
    """Kaldi's compute-mfcc-feats: no dither, raw log-energy first, cepstra liftered by 22."""
    length, shift = int(RATE * settings.window / 1000), int(RATE * settings.shift / 1000)
    count = 1 + (len(samples) - length) // shift
    frames = np.array([samples[i * shift : i * shift + length] for i in range(count)], dtype=float)
    frames -= frames.mean(axis=1, keepdims=True)
    energy = np.log((frames**2).sum(axis=1))
    emphasised = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    points = np.arange(length)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * points / (length - 1))) ** 0.85
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(emphasised * window, size)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1 + np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(settings.low), mel(RATE / 2), settings.filters + 2)
    bins = mel(np.arange(size // 2) * RATE / size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    logs = np.log(np.maximum(power[:, : size // 2] @ filters.T, np.finfo(np.float32).eps))
    order = np.arange(settings.coefficients + 1)
    places = (np.arange(settings.filters) + 0.5) / settings.filters
    cosines = np.sqrt(2 / settings.filters) * np.cos(np.pi * order[:, None] * places)
    cepstra = logs @ cosines.T * (1 + 11 * np.sin(np.pi * order / 22))
    cepstra[:, 0] = energy
    return cepstra


def test_mfcc_is_kaldis(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(1), RATE)
    settings = AudioSettings()
    rate, frames = mfcc(tmp_path / "a.wav", settings)
    expected = definition(sound(1), settings)
    assert rate == RATE
    assert frames.shape == expected.shape == (198, 20)
    np.testing.assert_allclose(frames, expected, rtol=1e-3, atol=2e-2)


def test_long_files_come_in_pieces_to_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.flac", sound(1, 7.3), RATE)
    _, whole = mfcc(tmp_path / "a.flac", AudioSettings())
    monkeypatch.setattr(audio, "_BLOCK_SECONDS", 1)
    _, pieces = mfcc(tmp_path / "a.flac", AudioSettings())
    assert (pieces == whole).all()


def test_vad_follows_its_definition() -> None:
    rng = np.random.default_rng(3)
    energy = rng.normal(10, 4, 200)
    settings = AudioSettings(reach=3, share=0.5)
    ours = energy_vad(energy, settings)
    threshold = 5.5 + 0.5 * energy.mean()
    for i in range(200):
        near = energy[max(i - 3, 0) : i + 4] > threshold
        assert ours[i] == (near.mean() >= 0.5)


def test_extraction_feeds_the_features_server(tmp_path: Path) -> None:
    (tmp_path / "audio" / "x").mkdir(parents=True)
    soundfile.write(tmp_path / "audio" / "a.wav", sound(1), RATE)
    soundfile.write(tmp_path / "audio" / "x" / "b.flac", sound(2), RATE)
    for folder in ("out", "again"):
        arguments = ["--audio", str(tmp_path / "audio"), "--output", str(tmp_path / folder)]
        assert main(["extract", *arguments]) == 0
    out = tmp_path / "out"
    assert (out / "shows.txt").read_text() == "a\nx/b\n"
    for name in ("a.h5", "x/b.h5"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    with FeaturesServer(
        feature_filename_structure=f"{out}/{{}}.h5", dataset_list=["energy", "cep"]
    ) as server:
        frames, labels = server.load("x/b")
    np.testing.assert_allclose(frames, definition(sound(2), AudioSettings()), rtol=1e-3, atol=2e-2)
    # Speech is from 0.5 to 1 s; a frame is 25 ms, and two on each side vote.
    speech = np.flatnonzero(labels)
    assert 47 <= speech[0] <= 50
    assert 96 <= speech[-1] <= 101
    assert len(speech) == speech[-1] - speech[0] + 1


def test_all_faulty_files_are_in_one_report(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    soundfile.write(folder / "a.wav", sound(1), RATE)
    soundfile.write(folder / "b.wav", sound(2), 16000)
    soundfile.write(folder / "c.wav", sound(3)[:100], RATE)
    (folder / "d.wav").write_bytes(b"RIFF and then nothing")
    (folder / "list.tsv").write_text(
        "".join(f"{show}\t{show}.wav\n" for show in "abcde") + "../f\ta.wav\na\ta.wav\n"
    )
    with pytest.raises(GmmcoreError) as caught:
        extract(folder / "list.tsv", tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 6
    found = (
        "16000 Hz",
        "less than a frame",
        "unreadable",
        "unreadable",
        "elsewhere",
        "second file",
    )
    for text in found:
        assert any(text in line for line in lines)
    assert not (tmp_path / "out" / "shows.txt").exists()
    assert {path.name for path in tmp_path.rglob("*.h5")} == {"a.h5"}


def test_channels(tmp_path: Path) -> None:
    both = np.stack([sound(1), sound(2)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE)
    soundfile.write(tmp_path / "b.wav", sound(2), RATE)
    _, second = mfcc(tmp_path / "a.wav", AudioSettings(channel=1))
    _, alone = mfcc(tmp_path / "b.wav", AudioSettings())
    assert (second == alone).all()
    with pytest.raises(FaultyShowError, match="2 channels"):
        mfcc(tmp_path / "a.wav", AudioSettings(channel=2))


def test_without_audio_there_is_nothing_to_extract(tmp_path: Path) -> None:
    with pytest.raises(GmmcoreError, match="no wav or flac"):
        extract(tmp_path, tmp_path / "out")
