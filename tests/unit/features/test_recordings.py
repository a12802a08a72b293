"""The script for recordings in docs/features.md, against Kaldi's definition of MFCC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.check import check_list
from gmmcore.data.shows import ShowReader

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

ROOT = Path(__file__).resolve().parents[3]
RATE = 8000


def sound(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise between silences, in 16 bits."""
    rng = np.random.default_rng(seed)
    samples = 1e-3 * rng.standard_normal(int(seconds * RATE))
    middle = slice(len(samples) // 4, len(samples) // 2)
    samples[middle] += 0.2 * rng.standard_normal(len(samples[middle]))
    return np.rint(np.clip(samples, -0.99, 0.99) * 32768).astype(np.int16)


def definition(samples: np.ndarray, filters: int = 24) -> np.ndarray:
    """Kaldi's compute-mfcc-feats: no dither, raw log-energy first, cepstra liftered by 22."""
    length, shift = RATE // 40, RATE // 100
    count = 1 + (len(samples) - length) // shift
    frames = np.array([samples[i * shift : i * shift + length] for i in range(count)], dtype=float)
    frames -= frames.mean(axis=1, keepdims=True)
    energy = np.log((frames**2).sum(axis=1))
    emphasised = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    size = 1 << (length - 1).bit_length()
    power = np.abs(np.fft.rfft(emphasised * window, size)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1 + np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(100.0), mel(RATE / 2), filters + 2)
    bins = mel(np.arange(size // 2) * RATE / size)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    logs = np.log(np.maximum(power[:, : size // 2] @ triangles.T, np.finfo(np.float32).eps))
    order = np.arange(20)
    cosines = np.cos(np.pi * order[:, None] * (np.arange(filters) + 0.5) / filters)
    cepstra = logs @ (np.sqrt(2 / filters) * cosines).T * (1 + 11 * np.sin(np.pi * order / 22))
    cepstra[:, 0] = energy
    return cepstra


def test_the_script_writes_features_that_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs/features.md").read_text(encoding="utf-8").split("## From audio")[1]
    (tmp_path / "mfcc.py").write_text(text.split("```python\n")[1].split("```")[0])
    (tmp_path / "recordings").mkdir()
    for seed in (1, 2):
        soundfile.write(tmp_path / f"recordings/s{seed}.wav", sound(seed), RATE)
    subprocess.run([sys.executable, "mfcc.py", "recordings", "features"], cwd=tmp_path, check=True)
    settings = FeatureSettings.from_mapping({"list": str(tmp_path / "features")})
    rows = check_list(settings).table.rows
    assert [(row.show, row.frames) for row in rows] == [("s1", 198), ("s2", 198)]
    with ShowReader(settings) as reader:
        frames = reader.frames(rows[1])
    # Speech is from 0.5 to 1 s; a frame is 25 ms, and two on each side vote.
    expected = definition(sound(2))
    (first,) = np.flatnonzero(np.isclose(expected[:, 0], frames[0, 0], atol=1e-2))
    assert 47 <= first <= 50
    assert 96 <= first + len(frames) - 1 <= 101
    spoken = expected[first : first + len(frames)]
    np.testing.assert_allclose(frames, spoken, rtol=1e-3, atol=2e-2)
