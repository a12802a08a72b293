"""SIDEKIT's tutorial, with two imports changed, beside what SIDEKIT computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gmmcore import FeaturesServer, GaussianMixture, Mixture
from gmmcore.config.keys import FeatureSettings
from gmmcore.core.settings import MStep
from gmmcore.core.train import TrainingSettings, train
from gmmcore.data.check import check_list
from gmmcore.data.shows import ShowReader
from gmmcore.interfaces.sidekit_arguments import frame_source


@pytest.fixture(scope="module")
def sidekit(data: Path) -> dict[str, Any]:
    return json.loads((data / "sidekit" / "training.json").read_text())


def tutorial_server(data: Path, delta: bool) -> FeaturesServer:
    return FeaturesServer(
        features_extractor=None,
        feature_filename_structure=str(data / "features" / "sidekit_none" / "{}.h5"),
        sources=None,
        dataset_list=["energy", "cep", "vad"],
        mask=None,
        feat_norm="cmvn",
        global_cmvn=None,
        dct_pca=False,
        dct_pca_config=None,
        sdc=False,
        sdc_config=None,
        delta=delta,
        double_delta=delta,
        delta_filter=None,
        context=None,
        traps_dct_nb=None,
        rasta=False,
        keep_all_features=False,
    )


def train_from_its_start(
    source: Any, frames: np.ndarray, entry: dict[str, Any], control: np.ndarray
) -> tuple[GaussianMixture, np.ndarray]:
    """Train from the Gaussian that SIDEKIT began with: the mean, and E[x^2] as its variance."""
    mean = frames.mean(axis=0, dtype=np.float64)[np.newaxis]
    mixture, history = train(
        source,
        entry["components"],
        entry["iterations"],
        # SIDEKIT's stop is commented out, and it has no policy for low counts.
        settings=TrainingSettings(
            llk_gain=-np.inf,
            precision="double",
            pruning=0.0,
            method="sidekit",
            frames_per_component=None,
            diag=MStep(occupancy=0),
        ),
        start=GaussianMixture.from_covariances([1.0], mean, control[:1], control[:1]),
    )
    return mixture, np.array([one.log_likelihood for one in history])


def test_equal_to_sidekit_from_the_same_parameters(data: Path, sidekit: dict[str, Any]) -> None:
    server = tutorial_server(data, False)
    theirs = Mixture(data / "sidekit" / "diag4.h5")
    shows = sidekit["shows"]
    frames = np.concatenate([server.load(show)[0] for show in shows])
    mixture, ours = train_from_its_start(
        frame_source(server, shows), frames, sidekit["diag4"], theirs.cov_var_ctl
    )
    np.testing.assert_allclose(ours, sidekit["diag4"]["EM_split_llk_per_frame"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(mixture.means, theirs.mu, atol=1e-6)
    np.testing.assert_allclose(mixture.precisions, theirs.invcov, rtol=1e-5)


def test_equal_to_sidekit_with_deltas(data: Path, sidekit: dict[str, Any]) -> None:
    """The whole path to 16 components in 60 dimensions, from deltas with SIDEKIT's edges."""
    settings = FeatureSettings(
        list=str(data / "features" / "sidekit_none"),
        delta=True,
        double_delta=True,
        delta_edges="zero",
        normalisation="cmvn",
    )
    with ShowReader(settings) as reader:
        rows = check_list(settings).table.rows
        frames = np.concatenate([reader.frames(row) for row in rows])
    theirs = Mixture(data / "sidekit" / "diag16.h5")
    mixture, ours = train_from_its_start(frames, frames, sidekit["diag16"], theirs.cov_var_ctl)
    np.testing.assert_allclose(ours, sidekit["diag16"]["EM_split_llk_per_frame"], atol=5e-6, rtol=0)
    np.testing.assert_allclose(mixture.means, theirs.mu, atol=1e-5)
    np.testing.assert_allclose(mixture.precisions, theirs.invcov, rtol=1e-5)


def test_full_covariances_equal_sidekits_first_iteration(
    data: Path, sidekit: dict[str, Any]
) -> None:
    # Its first full E-step and M-step are right; the factor it goes on with is not.
    diagonal = Mixture(data / "sidekit" / "diag4.h5")
    server = tutorial_server(data, False)
    full = Mixture()
    llk = full.EM_diag2full(diagonal, server, sidekit["shows"], iterations=3)
    theirs_llk = sidekit["diag4"]["EM_diag2full_llk_per_frame"]
    np.testing.assert_allclose(llk[:1], theirs_llk, atol=1e-6, rtol=0)
    assert llk[0] < llk[1] < llk[2]
    once = Mixture()
    once.EM_diag2full(diagonal, server, sidekit["shows"], iterations=1)
    theirs = Mixture(data / "sidekit" / "full4.h5")
    np.testing.assert_allclose(once.mu, theirs.mu, atol=1e-6)
    np.testing.assert_allclose(once.invcov, theirs.invcov, rtol=1e-5, atol=1e-6)


def test_the_tutorial(data: Path, sidekit: dict[str, Any], tmp_path: Path) -> None:
    ubm = Mixture()
    llk = ubm.EM_split(
        tutorial_server(data, True),
        sidekit["shows"],
        16,
        iterations=sidekit["diag16"]["iterations"],
        num_thread=2,
        llk_gain=-np.inf,
        save_partial=True,
        output_file_name=str(tmp_path / "ubm"),
    )
    ubm.write(tmp_path / "ubm.h5")
    assert Mixture(tmp_path / "ubm.h5").distrib_nb() == 16
    assert len(list(tmp_path.iterdir())) == 5
    theirs = sidekit["diag16"]["EM_split_llk_per_frame"]
    assert len(llk) == len(theirs)
    # Behind cmvn all variances are one, so that rounding alone chooses the axis of the first
    # split, here and there. The paths differ by some tenths at first, and by a tenth at the end.
    np.testing.assert_allclose(llk, theirs, atol=0.5, rtol=0)


def test_a_training_takes_the_selected_frames_as_in_sidekit(data: Path) -> None:
    server = tutorial_server(data, False)
    server.keep_all_features = True
    everything = server.load("jackson_5")[0]
    frames = frame_source(server, ["jackson_5"])
    assert server.keep_all_features
    assert len(everything) == 2088
    assert frames.frames == 641


def test_full_covariances_where_sidekit_fails(data: Path, sidekit: dict[str, Any]) -> None:
    assert "LinAlgError" in sidekit["diag16"]["EM_diag2full_raises"]
    diagonal = Mixture(data / "sidekit" / "diag16.h5")
    full = Mixture()
    llk = full.EM_diag2full(diagonal, tutorial_server(data, True), sidekit["shows"], iterations=4)
    assert np.isfinite(llk).all()
    assert full.validate()
    assert llk[0] < llk[1] < llk[2] < llk[3]
