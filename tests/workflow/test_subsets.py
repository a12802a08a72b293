"""Nested subsets of the frames: the same for any jobs and cores, and after interruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flows import PLAIN, Workflow, changed

from gmmcore.data.corpus import Corpus
from gmmcore.data.shards import Shard
from gmmcore.formats.hdf5 import load_model

pytestmark = pytest.mark.slow

# The corpus has about 3,000 frames, and stages want 4 x 200.
GIVEN = changed(
    PLAIN,
    components=8,
    iterations=[2, 2, 4],
    frames_per_component=4,
    last_iterations=2,
    full={"iterations": 0},
)


@pytest.fixture(scope="module")
def large(trained: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    flow = trained.copy_to(tmp_path_factory.mktemp("large") / "made")
    flow.remove("results", "logs", ".snakemake")
    flow.configure(GIVEN)
    flow.run()
    return flow


@pytest.fixture
def copied(large: Workflow, tmp_path: Path) -> Workflow:
    return large.copy_to(tmp_path / "copy")


def test_early_stages_read_a_subset_and_the_last_one_ends_with_everything(large: Workflow) -> None:
    history = load_model(large.folder / "results/tiny/ubm.h5").history
    corpus = Corpus.read(next(large.folder.glob("results/features/*/corpus.json")))
    early = [entry for entry in history if entry.components < 8]
    assert {(entry.components, entry.level) for entry in early} == {(2, 2), (4, 2)}
    for entry in early:
        assert entry.frames == pytest.approx(corpus.frames / 4, rel=0.15)
    last = [entry for entry in history if entry.components == 8]
    assert [entry.level for entry in last] == [2, 2, 0, 0][-len(last) :]
    assert last[-1].frames == last[-2].frames == corpus.frames
    # Gains compare only the same frames.
    first = [entry for entry in history if entry.iteration == 1]
    assert all(np.isnan(entry.gain) for entry in [*first, last[-2]])
    assert not np.isnan(last[-1].gain)


@pytest.mark.parametrize(("cores", "jobs"), [(1, "auto"), (4, 2)])
def test_cores_and_jobs_do_not_change_a_byte(
    large: Workflow, copied: Workflow, cores: int, jobs: int | str
) -> None:
    copied.remove("results/tiny")
    copied.configure({**GIVEN, "jobs": jobs})
    copied.run("--cores", str(cores))
    assert copied.made() == large.made()


def test_any_iteration_may_be_lost(large: Workflow, copied: Workflow) -> None:
    whole = large.made()
    for name in ("diag/2/002.h5", "diag/8/002.h5", "diag/8/003.h5", "diag/8/004.h5"):
        copied.remove(f"results/tiny/{name}", f"results/tiny/{name.rsplit('/', 1)[0]}.h5")
        copied.run()
        assert copied.made() == whole


def test_the_frames_of_a_subset_do_not_depend_on_shards(large: Workflow, copied: Workflow) -> None:
    copied.configure(changed(GIVEN, features={"shards": 1}))
    copied.run()

    def subset(flow: Workflow, level: int) -> np.ndarray:
        (path,) = flow.folder.glob("results/features/*/corpus.json")
        parts = []
        for file in Corpus.read(path).paths(path):
            with Shard(file) as shard:
                parts.append(shard.read(0, shard.subsets[level]))
        frames = np.concatenate(parts)
        return frames[np.lexsort(frames.T)]

    for flow in (copied, large):
        for path in flow.folder.glob("results/features/*"):
            if len(list(path.glob("*.npy"))) != (1 if flow is copied else 3):
                flow.remove(str(path.relative_to(flow.folder)))
    for level in (0, 1, 2, 5):
        assert np.array_equal(subset(large, level), subset(copied, level))
    ends = [load_model(flow.folder / "results/tiny/ubm.h5").mixture for flow in (large, copied)]
    np.testing.assert_allclose(ends[0].means, ends[1].means, atol=1e-3)


def test_sidekits_method_reads_everything(copied: Workflow) -> None:
    copied.configure({**GIVEN, "run": "theirs", "method": "sidekit"})
    copied.run()
    history = load_model(copied.folder / "results/theirs/ubm.h5").history
    assert {entry.level for entry in history} == {0}
