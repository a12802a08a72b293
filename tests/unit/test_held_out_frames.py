"""Held-out frames: which they are, their log-likelihood, and how a stage ends by it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmmcore.config.configuration import resolve
from gmmcore.config.keys import FeaturePart, FeatureSettings
from gmmcore.config.options import mapping
from gmmcore.core.density import log_likelihood
from gmmcore.core.em import iterations
from gmmcore.core.estep import accumulate
from gmmcore.core.estep import log_likelihood as sum_of_log_likelihoods
from gmmcore.core.history import HistoryEntry, history_table
from gmmcore.core.kinds import to_kind
from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.mstep import Update, maximise
from gmmcore.core.schedule import Course, Stage
from gmmcore.core.settings import FullMStep
from gmmcore.core.train import uniform_start
from gmmcore.data.check import part_of
from gmmcore.data.shows import Row
from gmmcore.errors import GmmcoreError
from gmmcore.workflow.runs import read_runs
from gmmcore.workflow.stage import _look_at_held_out

BASE = {"features": {"list": "x", "pattern": "{show}.h5"}}


def rows(lengths: dict[str, int]) -> list[Row]:
    return [Row(show, f"{show}.h5", 0, n, n, "") for show, n in lengths.items()]


def drawn(share: float, given: list[Row], seed: int = 1, speakers: str | None = None) -> list[str]:
    """The shows held out, after a look that both parts are the whole."""
    part = FeaturePart(list="x", seed=seed, share=share, speakers=speakers)
    training = part_of(given, part)
    held = part_of(given, FeaturePart(**{**vars(part), "part": "held_out"}))
    assert sorted(training + held) == sorted(given)
    assert training
    assert held
    return [row.show for row in held]


@settings(max_examples=50)
@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers(1, 1000), min_size=3),
    st.floats(0.01, 0.3),
    st.integers(0, 5),
)
def test_a_share_is_the_same_in_any_order_and_grows(lengths, share, seed):
    given = rows(lengths)
    if sum(lengths.values()) * (1 - share) <= max(lengths.values()):
        return
    held = drawn(share, given, seed)
    assert set(held) == set(drawn(share, given[::-1], seed))
    # As few as reach the share, and the same ones for a smaller share.
    assert sum(lengths[show] for show in held) >= share * sum(lengths.values())
    assert set(drawn(share / 2, given, seed)) <= set(held)


def test_the_seed_and_the_segments_of_a_show():
    given = rows({f"s{i}": 100 for i in range(100)})
    held = drawn(0.1, given)
    assert len(held) == 10
    assert held != drawn(0.1, given, seed=2)
    halves = [row._replace(first=at, last=at + 50) for row in given for at in (0, 50)]
    assert sorted(set(drawn(0.1, halves))) == sorted(held)


def test_all_shows_of_a_speaker_are_in_one_part(tmp_path):
    given = rows({f"s {i}": 10 for i in range(60)})
    path = tmp_path / "speakers"
    path.write_text("# show speaker\n" + "".join(f"s {i} p{i % 12}\n" for i in range(60)))
    held = drawn(0.2, given, speakers=str(path))
    assert len({int(show[2:]) % 12 for show in held}) == 3
    assert len(held) == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s1 a\n", "names no speaker of 1 show, such as s2; expected a line `show speaker`"),
        ("s1 a\ns2\n", "line 2 is 's2'; expected a show and its one speaker"),
        ("s1 a\ns1 b\n", "line 2 is 's1 b'; expected a show and its one speaker"),
        ("s1 a\ns2 a\n", "a share of 0.1 of 1 speaker to hold out leaves none to train on"),
    ],
)
def test_what_is_wrong_with_speakers_is_one_line(tmp_path, text, message):
    path = tmp_path / "speakers"
    path.write_text(text)
    with pytest.raises(GmmcoreError, match=message) as caught:
        drawn(0.1, rows({"s1": 1, "s2": 1}), speakers=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"held_out": 1}, "held_out.share is 1: a number"),
        ({"held_out": "x.txt"}, "held_out.share is 'x.txt': a number"),
        ({"held_out": {"share": 0.1, "list": "y"}}, "held_out.list excludes share"),
        ({"held_out": {"speakers": "y"}}, "held_out.speakers is set, but share is not"),
    ],
)
def test_mistakes_are_told_in_one_line(values, message):
    with pytest.raises(GmmcoreError, match=message):
        resolve({**BASE, **values})


def test_a_number_alone_is_the_share_and_none_changes_nothing():
    short, long = (resolve({**BASE, "held_out": v}) for v in (0.1, {"share": 0.1}))
    assert short == long == resolve(mapping(short))
    plain, none = (read_runs({**BASE, **more})["ubm"] for more in ({}, {"held_out": 0}))
    assert plain.corpora == none.corpora
    assert len(plain.corpora) == 1
    assert FeaturePart(list="x").identity == FeatureSettings(list="x").identity


def test_parts_and_lists_have_folders_of_their_own():
    changes = [{}, {"held_out": 0.1}, {"held_out": 0.2}, {"held_out": {"list": "y"}}]
    runs = [read_runs({**BASE, **change})["ubm"] for change in changes]
    names = [tuple(run.corpora) for run in runs]
    assert [len(each) for each in names] == [1, 2, 2, 2]
    # With a list of its own, the training reads what it does without one.
    assert names[0][0] == names[3][0]
    assert len({name for each in names for name in each}) == 6


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("components", [3, 150])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_log_likelihood_is_that_of_the_densities(full, components, precision):
    rng = np.random.default_rng(3)
    frames = rng.standard_normal((20_000, 5)) * [1, 2, 3, 1e-3, 50] + [0, 0, 0, 1, 900]
    frames[::1000] *= 40  # Far from all components.
    mixture = uniform_start(frames, components)
    mixture = to_kind(mixture, "full") if full else mixture
    expected = log_likelihood(mixture, frames).sum()
    found = sum_of_log_likelihoods(mixture, frames, precision=precision)
    assert found == pytest.approx(expected, rel=1e-12 if precision == "double" else 1e-5)
    more = sum_of_log_likelihoods(mixture, frames, precision=precision, threads=3)
    assert more == found
    assert sum_of_log_likelihoods(mixture, frames[:0]) == 0


def test_frames_that_have_no_log_likelihood_are_refused():
    mixture = GaussianMixture([1.0], [[0.0]], [[1.0]])
    with pytest.raises(FloatingPointError, match="not finite"):
        sum_of_log_likelihoods(mixture, [[np.nan]])
    with pytest.raises(GmmcoreError, match="dimension 2, the mixture has 1"):
        sum_of_log_likelihoods(mixture, [[1.0, 2.0]])


def stage_of(
    training: np.ndarray, others: np.ndarray, first: int = 0, **of_course: object
) -> list[tuple[HistoryEntry, Update]]:
    """A stage of full covariances, whose iterations begin after iteration `first`."""
    mixture = to_kind(uniform_start(training, 6), "full")
    stage = Stage("full", 6, 8, "diag2full", final=True)
    course = Course(stage, -math.inf, **of_course)
    calls: list[GaussianMixture] = []

    def held_out(mixture: GaussianMixture, level: int) -> float:
        calls.append(mixture)
        return float(log_likelihood(mixture, others[: len(others) >> level]).mean())

    def run(mixture, **more):
        step = FullMStep(prior=0)
        read = {0: training, 1: training[::2]}
        return iterations(
            mixture, lambda m, level: accumulate(m, read[level]), partial(maximise, settings=step),
            course.after, held_out=held_out, **more,
        )  # fmt: skip

    done = list(run(mixture))
    if first:
        kept = done[:first]
        previous, reached = [entry for entry, _ in kept], kept[-1][1].held_out
        done = kept + list(run(kept[-1][1].mixture, history=previous, reached=reached))
    else:
        # One reading per iteration, and one more for the first mixture on a subset.
        assert len(calls) == len(done) + len({entry.level for entry, _ in done})
    return done


@pytest.fixture
def frames() -> tuple[np.ndarray, np.ndarray]:
    """Some frames, few for their dimension, and others."""
    rng = np.random.default_rng(8)
    return rng.standard_normal((150, 10)), rng.standard_normal((1000, 10))


def test_the_history_has_the_value_before_the_update_and_the_update_that_after_it(frames):
    training, others = frames
    done = stage_of(training, others)
    values = [log_likelihood(update.mixture, others).mean() for _, update in done]
    for (_, update), value in zip(done, values, strict=True):
        assert update.held_out == pytest.approx(value)
    for (entry, _), (_, before) in zip(done[1:], done, strict=False):
        assert entry.held_out == before.held_out
    assert values[-1] < values[0]  # It over-fits.


@pytest.mark.parametrize("first", [1, 2])
def test_a_stage_that_goes_on_ends_alike(frames, first):
    training, others = frames
    whole = stage_of(training, others)
    again = stage_of(training, others, first=first)
    assert [entry for entry, _ in whole][1:] == [entry for entry, _ in again][1:]
    assert whole[-1][1].held_out == again[-1][1].held_out


def entry_of(iteration: int, held_out: float, gain: float = 0.5, level: int = 0) -> HistoryEntry:
    return HistoryEntry(
        "diag", 8, iteration, level, 99, -50.0, gain, 0, 0, 0, 9.0, held_out=held_out
    )


@pytest.mark.parametrize(
    ("values", "llk_gain", "warned"),
    [
        ([-60.0, -59.0, -59.5, -59.9, -60.0], 0.01, [2]),
        ([-60.0, -59.0, -59.5, -59.0, -59.5], 0.01, [2]),
        ([-60.0, -60.004, -60.008, -60.012, -60.02], 0.01, [3]),
        ([-60.0, -59.0, -58.0, -57.0, -56.0], 0.01, []),
        ([-60.0, -60.001, -60.0, -60.001, -60.0], 0.01, []),
        ([-60.0, -60.001, -60.0, -60.001, -60.0], -1000.0, [1]),
    ],
)
def test_a_warning_tells_once_where_held_out_frames_part(capsys, values, llk_gain, warned):
    mixture = GaussianMixture([1.0], [[0.0]], [[1.0]])
    told = []
    for i, after in enumerate(values[1:], 1):
        history = [entry_of(j, values[j - 1]) for j in range(1, i + 1)]
        _look_at_held_out(history, Update(mixture, held_out=after), llk_gain)
        if message := capsys.readouterr().err:
            told.append(i)
            assert message.startswith(f"warning: diag 8, iteration {i}: the held-out ")
            assert f"to {after:.4f}, while that of the training frames rises (-50.0000" in message
            assert message.count("\n") == 1
    assert told == warned


def test_a_warning_needs_the_same_frames_and_a_training_that_rises(capsys):
    update = Update(GaussianMixture([1.0], [[0.0]], [[1.0]]), held_out=-60.0)
    _look_at_held_out([entry_of(1, -50.0, level=2), entry_of(2, -60.0)], update, 0.01)
    _look_at_held_out([entry_of(1, -50.0, gain=-0.1)], update, 0.01)
    assert capsys.readouterr().err == ""


def test_the_table_has_the_column_only_where_something_is_held_out():
    plain, held = entry_of(1, math.nan), entry_of(1, -60.0)
    assert "held_out" not in history_table([plain])
    assert history_table([plain, held]).splitlines()[0].endswith("\tsmallest_occupancy\theld_out")
    assert history_table([held]).splitlines()[1].endswith("\t-60.0")
