"""Accelerated trainings: fewer iterations, no accepted decrease, the same bytes after a stop."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from features_files import write_hdf5
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmcore.core.em
import gmmcore.core.train
from gmmcore.cli.main import main
from gmmcore.config.steps import MStep
from gmmcore.core.acceleration import extrapolated
from gmmcore.core.estep import accumulate
from gmmcore.core.initial import split
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import maximise
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.train import TrainingSettings, iterate, train, uniform_start
from gmmcore.data.identity import shard_paths
from gmmcore.formats.hdf5 import load_model

ACCELERATED = "--acceleration=momentum"


def drawn(seed, frames=400, dimension=3, clusters=5, spread=1.5):
    """Frames of clusters that overlap, so that EM is slow."""
    rng = np.random.default_rng(seed)
    centres = spread * rng.standard_normal((clusters, dimension))
    places = centres[rng.integers(clusters, size=frames)]
    return places + rng.standard_normal((frames, dimension))


def iterated(frames, components, limit=60, llk_gain=1e-5, level=0, **of_training):
    """History and mixtures of a stage."""
    stage = Stage("diag", components, limit, "split")
    mixtures = []
    history = iterate(
        uniform_start(frames, components),
        gmmcore.core.train.ArraySource(frames),
        Course(stage, llk_gain, level),
        TrainingSettings(
            llk_gain=llk_gain, **{"acceleration": "momentum", "diag": MStep(), **of_training}
        ),
        lambda entry, mixture: mixtures.append(mixture),
    )[1]
    return history, mixtures


def accepted(history):
    return [entry.log_likelihood for entry in history if entry.step != "rejected"]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.sampled_from(["keep", "resplit", "remove"]),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_accepted_steps_never_lower_the_likelihood(seed, components, action, scale):
    frames = scale * drawn(seed)
    # Without bounds: where they hold, EM itself may lower the likelihood.
    free = MStep(floor=1e-9, ceiling=1e9, occupancy=2.0, action=action)
    history, mixtures = iterated(frames, components, limit=40, diag=free)
    for entry, before in zip(history[1:], history, strict=False):
        if entry.step == "extrapolated":
            assert entry.gain >= 0
        elif entry.step == "rejected":
            assert not entry.gain >= 0
            assert before.step != "rejected"
        elif before.low_count == 0:
            assert entry.gain >= -1e-9
    for mixture in mixtures:
        assert abs(mixture.weights.sum() - 1) < 1e-9
        ratio = mixture.covariances / mixture.variance_control
        assert ratio.min() > 0.999e-9
        assert ratio.max() < 1.001e9


def test_slow_trainings_need_about_half_the_iterations():
    plain, fast = 0, 0
    for seed in range(4):
        frames = drawn(seed, 2000, 8, 20)
        plain += len(iterated(frames, 16, 999, acceleration="none")[0])
        fast += len(iterated(frames, 16, 999)[0])
    assert fast < 0.6 * plain


def test_a_stage_ends_with_a_step_of_em():
    """The likelihood of its last mixture is not known: it must not be an extrapolated one."""
    frames = drawn(1)
    for limit in range(1, 9):
        history, mixtures = iterated(frames, 4, limit, llk_gain=-np.inf)
        before = uniform_start(frames, 4) if limit == 1 else mixtures[-2]
        if history[-1].step != "rejected":
            update = maximise(before, accumulate(before, frames), MStep())
            assert mixtures[-1] == update.mixture
    history, mixtures = iterated(frames, 4, 500, llk_gain=1e-4)
    assert history[-1].step == "plain"
    assert 0 <= history[-1].gain < 1e-4


def test_other_frames_are_not_begun_with_an_extrapolated_mixture():
    frames = drawn(2, 2000)
    stage = Stage("diag", 4, 12, "split", final=True)
    history = iterate(
        uniform_start(frames, 4),
        gmmcore.core.train.ArraySource(frames),
        Course(stage, 1e-9, level=1, last_iterations=2),
        TrainingSettings(acceleration="momentum"),
    )[1]
    levels = [entry.level for entry in history]
    assert levels == [1] * 10 + [0] * 2
    assert [entry.step for entry in history[:3]] == ["plain", "extrapolated", "extrapolated"]
    assert history[10].step == "plain"
    assert history[11].step == "extrapolated"


def test_without_it_or_with_full_covariances_every_step_is_one_of_em():
    frames = drawn(3)
    for settings_, full in (
        (TrainingSettings(), 0),
        (TrainingSettings(acceleration="momentum"), 3),
    ):
        history = train(frames, 2, [2, 6], full, settings_)[1]
        assert {e.step for e in history if full == 0 or e.stage == "full"} == {"plain"}
    assert "extrapolated" in {entry.step for entry in history}


def far_off(mixture, plain, *_, **__):
    """An extrapolation that no frame fits."""
    return GaussianMixture(
        plain.weights, plain.means + 100, plain.precisions, plain.variance_control
    )


def test_a_rejected_mixture_costs_one_iteration_and_nothing_else(monkeypatch):
    frames = drawn(4)
    plain, wanted = iterated(frames, 4, 5, llk_gain=-np.inf, acceleration="none")
    monkeypatch.setattr(gmmcore.core.em, "extrapolated", far_off)
    history, mixtures = iterated(frames, 4, 9, llk_gain=-np.inf)
    assert [entry.step for entry in history] == ["plain", *["rejected", "plain"] * 4]
    assert mixtures[1::2] == wanted[:4]
    assert accepted(history) == [entry.log_likelihood for entry in plain]
    assert [entry.gain for entry in history[2::2]] == [entry.gain for entry in plain[1:]]


def test_a_rejected_mixture_does_not_end_a_stage(monkeypatch):
    frames = drawn(4)
    plain, _ = iterated(frames, 4, 99, llk_gain=1e-2, acceleration="none")
    monkeypatch.setattr(gmmcore.core.em, "extrapolated", far_off)
    history, _ = iterated(frames, 4, 99, llk_gain=1e-2)
    assert accepted(history) == [entry.log_likelihood for entry in plain]
    assert history[-1].step == "plain"


def test_components_of_weight_zero_and_of_low_count_stay_mixtures():
    start = split(GaussianMixture([1.0], [[0.0]], [[1.0]], [[1.0]]))
    empty = GaussianMixture([1.0, 0.0], start.means, start.precisions, start.variance_control)
    found = extrapolated(empty, start, empty, 5, MStep(), frames=100, kept=[1])
    assert found.weights.min() > 0
    assert found.means[1] == start.means[1]


def test_bounds_hold_for_extrapolated_variances():
    first, second = (
        GaussianMixture.from_covariances([1.0], [[0.0, 0.0]], [[low, 1 / low]], [[1.0, 1.0]])
        for low in (0.2, 0.02)
    )
    found = extrapolated(first, second, first, 9, MStep(floor=0.01, ceiling=60), frames=10)
    np.testing.assert_allclose(found.covariances, [[0.01, 60.0]])
    free = MStep(floor=0.0, ceiling=np.inf)
    found = extrapolated(first, second, first, 0, free, frames=10)
    np.testing.assert_allclose(found.covariances, [[0.02 / 10**0.5, 50 * 10**0.5]])


def test_what_is_not_finite_is_not_extrapolated():
    first, second = (
        GaussianMixture.from_covariances([1.0], [[0.0]], [[low]], [[1.0]]) for low in (1.0, 1e-300)
    )
    free = MStep(floor=0.0, ceiling=np.inf)
    assert extrapolated(first, second, first, 9, free, frames=10) is None
    bare = GaussianMixture([1.0], [[0.0]], [[1.0]])
    assert extrapolated(bare, bare, bare, 9, free, frames=10) is None


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames in two shards, and the first mixture of a stage of four components."""
    folder = tmp_path_factory.mktemp("started")
    for name in "ab":
        values = drawn(ord(name), 2000, 4, 6).astype("f")
        write_hdf5(folder / f"features/{name}.h5", name, values, None)
    table, corpus = f"{folder}/shows.tsv", f"{folder}/corpus.json"
    given_ = [f"--list={folder}/features", "--shards=2"]
    assert main(["shows", *given_, "--output", table]) == 0
    for digest, path in enumerate(shard_paths(table).values()):
        arguments = ["--shows", table, "--shard", f"{digest:03d}", "--output", path]
        assert main(["shard", *given_, *arguments]) == 0
    outputs = ["--output", corpus, "--skipped", f"{folder}/skipped.tsv"]
    assert main(["corpus", "--shows", table, "--on-error", "stop", *outputs]) == 0
    last = f"{folder}/1.h5"
    assert main(["initialise", "--corpus", corpus, "--output", last]) == 0
    for count in (2, 4):
        mixture, last = last, f"{folder}/run/diag/{count}/000.h5"
        arguments = ["--corpus", corpus, "--components", str(count)]
        assert main(["split", "--mixture", mixture, *arguments, "--output", last]) == 0
    return folder


def stage_of(folder):
    return folder / "run/diag/4"


def common(folder, limit, llk_gain):
    corpus = ["--corpus", f"{folder}/corpus.json"]
    return [*corpus, f"--iterations={limit}", f"--llk-gain={llk_gain}", ACCELERATED]


def run(folder, limit=12, llk_gain=1e-7, *more):
    first = f"{stage_of(folder)}/000.h5"
    output = ["--output", f"{stage_of(folder)}.h5"]
    arguments = common(folder, limit, llk_gain)
    assert main(["iterate", "--mixture", first, *arguments, *output, *more]) == 0
    return contents(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(stage_of(folder).glob("*.h5"))}


def steps(folder):
    last = sorted(stage_of(folder).glob("*.h5"))[-1]
    history = load_model(last).history
    return [entry.step for entry in history if entry.components == 4]


def rejecting(monkeypatch):
    """Make every third extrapolation one that is rejected."""

    def some(mixture, plain, last, iterations, *rest, **more):
        make = far_off if iterations % 3 == 2 else extrapolated
        return make(mixture, plain, last, iterations, *rest, **more)

    monkeypatch.setattr(gmmcore.core.em, "extrapolated", some)


@pytest.fixture
def whole(started, tmp_path, monkeypatch):
    """The iterations of an accelerated stage without interruption, some of them rejected."""
    rejecting(monkeypatch)
    folder = shutil.copytree(started, tmp_path / "whole")
    files = run(folder)
    assert {"plain", "extrapolated", "rejected"} == set(steps(folder))
    return files


def test_a_stage_goes_on_after_any_iteration_to_the_same_bytes(started, whole, tmp_path, capsys):
    for done in range(len(whole)):
        folder = shutil.copytree(started, tmp_path / str(done))
        for name in sorted(whole)[: done + 1]:
            (stage_of(folder) / name).write_bytes(whole[name])
        capsys.readouterr()
        assert run(folder) == whole
        assert capsys.readouterr().out.count("  iteration ") == len(whole) - 1 - done


def test_jobs_make_the_same_bytes(started, whole, tmp_path):
    folder = shutil.copytree(started, tmp_path / "jobs")
    arguments = common(folder, 12, 1e-7)
    for iteration in range(1, len(whole)):
        before, after = (f"{stage_of(folder)}/{n:03d}.h5" for n in (iteration - 1, iteration))
        parts = [f"{folder}/{part}.stats.h5" for part in (0, 1)]
        mixture = ["--mixture", before, *arguments]
        for part, path in enumerate(parts):
            which = [f"--part={part}", "--parts=2", "--output", path, "--unless", after]
            assert main(["accumulate", *mixture, *which]) == 0
        assert main(["maximise", *mixture, "--statistics", *parts, "--output", after]) == 0
    assert contents(folder) == whole


@pytest.mark.parametrize("limits", [(7, 1e-7), (12, 1e-3), (40, 1e-7)])
def test_a_stage_that_ends_elsewhere_has_the_bytes_of_a_new_one(started, whole, tmp_path, limits):
    new = shutil.copytree(started, tmp_path / "new")
    wanted = run(new, *limits)
    folder = shutil.copytree(started, tmp_path / "old")
    for name, content in whole.items():
        (stage_of(folder) / name).write_bytes(content)
    assert run(folder, *limits) == wanted
    # And back again.
    assert run(folder) == whole


def test_log_and_history_say_what_was_rejected(started, tmp_path, monkeypatch, capsys):
    rejecting(monkeypatch)
    folder = shutil.copytree(started, tmp_path / "copy")
    run(folder, 12, 1e-7, "--on-decrease=stop")
    lines = [line for line in capsys.readouterr().out.splitlines() if "  iteration " in line]
    assert ["rejected" in line for line in lines] == [step == "rejected" for step in steps(folder)]
    assert lines[[*steps(folder)].index("rejected")].endswith("  rejected, back to EM")
