"""Each step against its definition, written as plain loops over frames."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from gmmcore.config.keys import NORMALISATIONS, FeatureSettings
from gmmcore.data.normalise import ShowStatistics, normalise
from gmmcore.data.process import (
    add_context,
    add_shifted_deltas,
    delta,
    output_dimension,
    process,
    rasta,
    smooth_labels,
)

RNG = np.random.default_rng(5)
FRAMES = RNG.standard_normal((50, 4)).astype(np.float32) * [1, 10, 0.1, 3] + [0, 5, -1, 100]
FRAMES = FRAMES.astype(np.float32)
LABELS = RNG.random(50) < 0.6


def clamped(frames: np.ndarray, i: int) -> np.ndarray:
    return frames[min(max(i, 0), len(frames) - 1)].astype(np.float64)


def test_delta_is_the_regression_slope() -> None:
    ours = delta(FRAMES, FeatureSettings(list="x", delta_filter="regression").delta_taps)
    for t in range(len(FRAMES)):
        window = np.array([clamped(FRAMES, t + k) for k in range(-2, 3)])
        slope = np.polyfit(np.arange(-2, 3), window, 1)[0]
        np.testing.assert_allclose(ours[t], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("edges", ["repeat", "zero"])
@pytest.mark.parametrize("taps", [(0.25, 0.5, 0.25, 0, -0.25, -0.5, -0.25), (0.5, 2.0, 3.0)])
def test_delta_is_a_convolution(edges: str, taps: tuple[float, ...]) -> None:
    mode = "edge" if edges == "repeat" else "constant"
    padded = np.pad(FRAMES.astype(np.float64), ((len(taps) // 2,) * 2, (0, 0)), mode=mode)
    expected = [np.convolve(column, taps, "valid") for column in padded.T]
    ours = delta(FRAMES, taps, edges)
    np.testing.assert_allclose(ours, np.transpose(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("p", "k"), [(3, 7), (1, 2), (5, 3)])
def test_shifted_deltas(d: int, p: int, k: int) -> None:
    ours = add_shifted_deltas(FRAMES, d, p, k)
    assert ours.shape == (50, 4 * (1 + k))
    assert (ours[:, :4] == FRAMES).all()
    for t in (0, 1, 20, 48, 49):
        for i in range(k):
            expected = clamped(FRAMES, t + i * p - d) - clamped(FRAMES, t + i * p + d)
            np.testing.assert_allclose(ours[t, 4 * (i + 1) : 4 * (i + 2)], expected, atol=1e-4)


def test_rasta_follows_its_difference_equation() -> None:
    x = FRAMES.astype(np.float64)
    y = np.zeros_like(x)
    for t in range(4, len(x)):
        taps = 0.2 * x[t] + 0.1 * x[t - 1] - 0.1 * x[t - 3] - 0.2 * x[t - 4]
        y[t] = taps + 0.94 * y[t - 1]
    np.testing.assert_allclose(rasta(FRAMES), y, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_rasta_of_a_few_frames_is_silence(count: int) -> None:
    assert (rasta(FRAMES[:count]) == np.zeros((count, 4))).all()


def test_smoothing_closes_gaps_and_drops_islands() -> None:
    labels = np.array([int(c) for c in "0001000111011110001100000111"], dtype=bool)
    smooth = "".join(str(int(b)) for b in smooth_labels(labels))
    assert smooth == "0000000111111110000000000111"


def test_context_puts_the_earliest_first() -> None:
    ours = add_context(FRAMES, 2, 1)
    for t in (0, 1, 25, 49):
        expected = np.concatenate([clamped(FRAMES, t + k) for k in (-2, -1, 0, 1)])
        assert (ours[t] == expected.astype(np.float32)).all()


def test_cmvn_of_speech() -> None:
    ours = FRAMES.copy()
    normalise(ours, LABELS, "cmvn")
    speech = FRAMES[LABELS].astype(np.float64)
    expected = (FRAMES - speech.mean(axis=0)) / speech.std(axis=0)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [7, 11])
@pytest.mark.parametrize("scale", [False, True])
def test_sliding(window: int, scale: bool) -> None:
    ours = FRAMES.copy()
    normalise(ours, LABELS, "cmvn_sliding" if scale else "cms_sliding", window)
    assert (ours[~LABELS] == FRAMES[~LABELS]).all()
    speech = FRAMES[LABELS].astype(np.float64)
    for i, frame in enumerate(speech):
        begin = min(max(i - window // 2, 0), len(speech) - window)
        part = speech[begin : begin + window]
        expected = frame - part.mean(axis=0)
        if scale:
            expected /= part.std(axis=0, ddof=1)
        np.testing.assert_allclose(ours[LABELS][i], expected, rtol=1e-5, atol=1e-4)


def test_sliding_keeps_its_precision_in_long_shows() -> None:
    """Running sums may not eat the digits of windows far from the beginning."""
    frames = (1e4 + RNG.standard_normal((100_000, 1))).astype(np.float32)
    frames[:50_000] += 1e4
    ours = frames.copy()
    normalise(ours, np.ones(len(frames), dtype=bool), "cmvn_sliding", 301)
    for i in (60_000, 99_000):
        part = frames[i - 150 : i + 151].astype(np.float64)
        expected = (frames[i] - part.mean()) / part.std(ddof=1)
        np.testing.assert_allclose(ours[i], expected, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 20, 21])
def test_warping_gives_normal_quantiles_of_ranks(count: int) -> None:
    window = 7
    ours = FRAMES[:count].copy()
    normalise(ours, np.ones(count, dtype=bool), "stg", window)
    frames = FRAMES[:count]
    if count < window and count % 2 == 0:
        frames = np.concatenate([frames, frames[-1:]])
    width = min(window, len(frames))
    for i in range(count):
        begin = min(max(i - width // 2, 0), len(frames) - width)
        part = frames[begin : begin + width]
        rank = (part < frames[i]).sum(axis=0)
        if count < window and count % 2 == 0 and i == count - 1:
            continue  # equal to its own copy: any of two ranks
        np.testing.assert_allclose(ours[i], norm.ppf((rank + 0.5) / width), atol=1e-6)


def test_global_statistics_are_those_given() -> None:
    whole = ShowStatistics(np.full(4, 2.0), np.full(4, 4.0))
    ours = FRAMES.copy()
    normalise(ours, LABELS, "cmvn_global", whole=whole)
    np.testing.assert_allclose(ours, (FRAMES - 2) / 4, rtol=1e-6)
    with pytest.raises(ValueError, match="whole show"):
        normalise(ours, LABELS, "cms_global")


@pytest.mark.parametrize("method", NORMALISATIONS)
@pytest.mark.parametrize("value", [0.0, 1e-3, 3e7])
def test_constant_coefficients_become_zero(method: str, value: float) -> None:
    frames = FRAMES.copy()
    frames[:, 2] = value
    labels = np.ones(len(frames), dtype=bool)
    normalise(frames, labels, method, 7, ShowStatistics.of(frames))
    assert np.isfinite(frames).all()
    if method != "stg":
        assert np.abs(frames[:, 2]).max() <= 1e-6 * value


@pytest.mark.parametrize("method", NORMALISATIONS)
def test_without_speech_nothing_changes(method: str) -> None:
    frames = FRAMES.copy()
    normalise(frames, np.zeros(50, dtype=bool), method, 7, ShowStatistics.of(frames))
    assert (frames == FRAMES).all()


CHAINS = [
    {},
    {"normalisation": "cmvn"},
    {"delta": True, "double_delta": True, "normalisation": "cmvn", "mask": (0, 3, 11)},
    {"sdc": (1, 3, 7), "normalisation": "cms", "label_fusion": True},
    {"rasta": True, "delta": True, "context": (2, 1), "normalisation": "stg", "window": 5},
    {"context": (0, 3), "select_speech": False},
]


@pytest.mark.parametrize("chain", CHAINS)
def test_chain_leaves_its_input_alone_and_has_the_dimension_it_says(chain: dict) -> None:
    settings = FeatureSettings(list="x", **chain)
    frames, labels = FRAMES.copy(), LABELS.copy()
    result, kept = process(frames, labels, settings)
    assert (frames == FRAMES).all()
    assert (labels == LABELS).all()
    assert result.shape == (len(kept), output_dimension(4, settings))
    assert result.flags.c_contiguous
    if settings.select_speech:
        assert kept.all()


@pytest.mark.parametrize("chain", [c for c in CHAINS if c.get("select_speech", True)])
def test_selecting_early_or_late_is_the_same(chain: dict) -> None:
    """Normalising the speech alone is a short cut, not another result."""
    short, _ = process(FRAMES, LABELS, FeatureSettings(list="x", **chain))
    every = FeatureSettings(list="x", **chain, select_speech=False)
    full, labels = process(FRAMES, LABELS, every)
    np.testing.assert_allclose(short, full[labels], rtol=1e-6, atol=1e-6)
