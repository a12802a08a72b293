"""SIDEKIT's FeaturesServer, case by case, and the same frames in every format."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from gmmcore.config.keys import FeatureSettings
from gmmcore.data.check import check_list
from gmmcore.data.readers import Sources, parse_place
from gmmcore.data.shows import Row, ShowReader
from gmmcore.interfaces.sidekit_server import FeaturesServer

CASES = {
    "raw": {},
    "vad_only": {"keep_all_features": False},
    "cms": {"feat_norm": "cms"},
    "cmvn": {"feat_norm": "cmvn"},
    "stg": {"feat_norm": "stg"},
    "cmvn_sliding": {"feat_norm": "cmvn_sliding"},
    "cms_sliding": {"feat_norm": "cms_sliding"},
    "delta": {"delta": True},
    "delta2": {"delta": True, "double_delta": True},
    "rasta": {"rasta": True},
    "mask": {"mask": "[0-4,7,10-12]"},
    "sdc": {"sdc": True},
    "full_chain": {
        "rasta": True,
        "delta": True,
        "double_delta": True,
        "feat_norm": "cmvn",
        "keep_all_features": False,
    },
}
# SIDEKIT filters the show without the copies of its edge frames it has just made: its deltas
# there are those of a show between zeros. Ours repeat the edges.
DIFFERENT = {"delta": 3, "delta2": 6}


SHOW, FRAMES = "theo_1", 1614


@pytest.fixture(scope="session")
def reference(data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "sidekit" / "features.npz") as file:
        return dict(file)


def kept(count: int) -> np.ndarray:
    """The frames of which SIDEKIT's values are kept: 12 at each edge, and every fifth."""
    edge = np.arange(12)
    return np.union1d(np.r_[edge, count - 1 - edge], np.arange(0, count, 5))


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """To 1e-5 of each coefficient's largest value: float32 rounding of what is subtracted."""
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    scale = np.abs(theirs).max(axis=0)
    assert (np.abs(ours - theirs) <= 1e-5 * scale).all()


@pytest.mark.parametrize("case", CASES)
def test_case(data: Path, reference: dict[str, np.ndarray], case: str) -> None:
    structure = str(data / "features" / "sidekit_none" / "{}.h5")
    with FeaturesServer(
        feature_filename_structure=structure, dataset_list=["energy", "cep", "vad"], **CASES[case]
    ) as server:
        frames, label = server.load(SHOW)
    assert len(frames) == reference[case + "__frames"]
    assert (np.packbits(label) == reference[case + "__label"]).all()
    ours, theirs = frames[kept(len(frames))], reference[case]
    edge = DIFFERENT.get(case, 0)
    assert_close(ours[edge : len(ours) - edge], theirs[edge : len(ours) - edge])
    if edge:
        assert np.abs(ours[:edge, 20:] - theirs[:edge, 20:]).max() > 0.1


@pytest.mark.parametrize("case", ["stg", "cmvn_sliding"])
def test_show_shorter_than_a_window(
    data: Path, reference: dict[str, np.ndarray], case: str
) -> None:
    structure = str(data / "features" / "sidekit_none" / "{}.h5")
    with FeaturesServer(
        feature_filename_structure=structure, dataset_list=["energy", "cep", "vad"], **CASES[case]
    ) as server:
        frames, label = server.load("nicolas_6")
    assert label.sum() == 288
    rows = kept(len(frames))
    ours, theirs = frames[rows], reference[f"{case}_short"]
    if case == "stg":
        # Their number is even: SIDEKIT appends the last one again, and gives it either's rank.
        others = rows != np.flatnonzero(label)[-1]
        ours, theirs = ours[others], theirs[others]
    assert_close(ours, theirs)


@pytest.mark.parametrize("case", ["delta", "delta2"])
def test_delta_edges_zero_gives_all_of_sidekits_values(
    data: Path, reference: dict[str, np.ndarray], case: str
) -> None:
    settings = FeatureSettings(
        list=str(data / "features" / "sidekit_none"),
        delta=True,
        double_delta=case == "delta2",
        delta_edges="zero",
        select_speech=False,
    )
    with ShowReader(settings) as reader:
        frames = reader.frames(Row(SHOW, f"{SHOW}.h5", 0, FRAMES, FRAMES, "000"))
    assert_close(frames[kept(FRAMES)], reference[case])


def test_segment(data: Path, reference: dict[str, np.ndarray]) -> None:
    structure = str(data / "features" / "sidekit_none" / "{}.h5")
    with FeaturesServer(feature_filename_structure=structure, dataset_list='["energy","cep"]') as s:
        frames, _ = s.load(SHOW, start=100, stop=350)
        assert (frames == reference["segment"]).all()
        beyond, label = s.load(SHOW, start=-2, stop=FRAMES + 2)
    assert (beyond[:3] == reference["raw"][0]).all()
    assert (beyond[-3:] == reference["raw"][-1]).all()
    assert beyond.shape == (FRAMES + 4, 20)
    assert label.shape == (FRAMES + 4,)


def read(sources: Sources, path: Path | str, show: str) -> np.ndarray:
    place = parse_place(str(path))
    source = sources.get(place.file)
    frames = source.read(show, place, 0, source.describe(show, place).frames)
    assert frames.dtype == np.float32
    assert frames.flags.c_contiguous
    return frames


@pytest.mark.parametrize("show", [SHOW, "nicolas_6"])
def test_every_format_gives_the_same_frames(data: Path, show: str) -> None:
    features = data / "features"
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        # The other files hold the first two seconds of a show.
        expected = read(sources, features / "sidekit_none" / f"{show}.h5", show)[:200]
        others = [
            read(sources, features / "htk" / f"{show}.htk", show),
            read(sources, features / "npy" / f"{show}.npy", show),
            read(sources, features / "kaldi" / "feats.ark", show),
        ]
        for line in (features / "kaldi" / "feats.scp").read_text().splitlines():
            name, place = line.split()
            if name == show:
                others.append(read(sources, f"{features}/{place}", show))
        if show == SHOW:
            others.append(read(sources, features / "kaldi" / "feats_text.ark", show))
        compressed = read(sources, features / "kaldi" / "feats_compressed.ark", show)
    for other in others:
        assert (other == expected).all()
    # A byte between quartiles: the steps beyond them are 1/63 of a quarter's extent.
    extent = np.ptp(expected, axis=0)
    assert (np.abs(compressed - expected).max(axis=0) < extent / 100).all()


def test_sidekit_compressions(data: Path, reference: dict[str, np.ndarray]) -> None:
    features = data / "features"
    with closing(Sources("auto", ("energy", "cep"))) as sources:
        expected = read(sources, features / "sidekit_none" / f"{SHOW}.h5", SHOW)
        htk = read(sources, features / "sidekit_htk" / f"{SHOW}.h5", SHOW)
        percentile = read(sources, features / "sidekit_percentile" / f"{SHOW}.h5", SHOW)
    # 16 bits over the extent of a dataset, cut and not rounded: one step.
    for columns in (slice(0, 1), slice(1, 20)):
        step = np.ptp(expected[:, columns]) / (2 * 32767)
        assert np.abs(htk - expected)[:, columns].max() <= 1.01 * step
    assert_close(percentile[kept(FRAMES)], reference["sidekit_percentile"])
    assert np.abs(percentile - expected).max() < 0.15


def test_labels_select_what_the_data_say(data: Path) -> None:
    """2,578 frames of speech in 5 shows."""
    settings = FeatureSettings(list=str(data / "features" / "sidekit_none"))
    table = check_list(settings).table
    assert table.facts["shows"] == 5
    assert table.facts["frames"] == 8710
    with ShowReader(settings) as reader:
        assert sum(len(reader.frames(row)) for row in table.rows) == 2578
