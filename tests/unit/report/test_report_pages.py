"""Pages about trainings: whole, without a network, honest about what is not there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from math import nan
from pathlib import Path

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.config.configuration import resolve
from gmmcore.core.history import HistoryEntry
from gmmcore.core.moments import Moments
from gmmcore.core.sizes import sizes
from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.data.table import ShowTable
from gmmcore.formats.hdf5 import Model
from gmmcore.report import plots
from gmmcore.report.comparison import comparison_page, comparison_table, differing, frames_key
from gmmcore.report.outcome import Outcome, StageHistory
from gmmcore.report.page import Page, is_page
from gmmcore.report.plane import principal_axes
from gmmcore.report.training import report_page
from gmmcore.workflow.timing import StageTime

SHOWS = ShowTable({"shards": 1, "shows": 2, "frames": 900, "raw_dimension": 3}, [])
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks that elements are closed in their order, and gathers attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def specifications(self):
        given = [text for text in self.texts.get("script", []) if text.startswith('[["plot-')]
        return [spec for _, spec in json.loads(given[0])] if given else []


def outcome(
    name: str = "demo", *, full: bool = False, floor: float = 0.01, held_out: float = nan, **keys
) -> Outcome:
    """A training of 2 and 4 components on 800 frames."""
    rng = np.random.default_rng(5)
    frames = rng.standard_normal((800, 3)).astype("f")
    covariances = rng.uniform(0.5, 2, (4, 3))
    if full:
        covariances = covariances[:, :, np.newaxis] * np.eye(3)
    mixture = GaussianMixture.from_covariances(
        [0.4, 0.3, 0.29, 0.01], rng.standard_normal((4, 3)), covariances
    )
    rows = [(2, 1, nan), (2, 2, 0.3), (4, 1, nan), (4, 2, -0.001), (4, 3, 0.0004)]
    history = tuple(
        HistoryEntry("diag", count, number, 0, 800, -9 + count / 4, gain, 0, 0, 1, "keep", 8.0)
        for count, number, gain in rows
    )
    moments = Moments.of(frames)
    corpus = Corpus(
        (CorpusShard("000", "000.npy", (800,), "abc"),),
        3,
        tuple(moments.mean.tolist()),
        tuple(moments.scatter.tolist()),
    )
    stages = (
        StageHistory("diag/2", history[:2], StageTime(2, 0.5, 0.4, 90)),
        StageHistory("diag/4", history[2:], StageTime(3, 0.8, 0.7, 95)),
    )
    values = {"run": name, "variance": {"floor": floor}, "features": {"list": "a<b>.txt"}, **keys}
    known = sizes(
        {("diag", 2): (mixture, -8.5, held_out), ("diag", 4): (mixture, -8.1, held_out - 0.5)},
        history,
        800,
        0.01,
    )
    model = Model(mixture, {"settings": "s", "arithmetic": "numpy"}, history, "d" * 64)
    return Outcome(name, resolve(values), model, corpus, frames, stages, known)


def page_of(made: Outcome, skipped=()) -> str:
    return report_page(made, SHOWS, skipped).text("x")


def titles(text: str) -> list[str]:
    return [spec["description"] for spec in Reader(text).specifications]


@pytest.mark.parametrize("full", [False, True])
def test_a_page_is_well_formed_and_asks_for_nothing_from_elsewhere(full):
    compared = comparison_page([outcome("one"), outcome("two", llk_gain=0.1)]).text("x")
    for text in (page_of(outcome(full=full)), compared):
        assert len(text) < 5_000_000
        found = Reader(text)
        assert found.specifications
        assert not [a for a in found.attributes if a[1] in ("src", "href", "srcset", "action")]
        (policy,) = (value for _, name, value in found.attributes if "default-src" in value)
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert '"url"' not in json.dumps(found.specifications)
        assert not re.search("@import|url\\(", "".join(found.texts["style"]))
        # The library is there once, however many plots there are.
        assert sum("vegaEmbed" in script for script in found.texts["script"]) == 2


def test_names_are_escaped_and_every_setting_is_there():
    text = page_of(outcome(name="demo"), [["<show>", "s.h5", "damaged & <b>"]])
    assert "a&lt;b&gt;.txt" in text
    assert "damaged &amp; &lt;b&gt;" in text
    assert "<show>" not in text
    cells = Reader(text).texts["td"]
    for key in ("features.list", "llk_gain", "low_count.action", "full.prior", "precision"):
        assert key in cells


def test_the_same_training_has_the_same_page():
    assert page_of(outcome()) == page_of(outcome())


def test_what_has_nothing_to_tell_is_left_out_with_a_sentence():
    quiet = page_of(outcome())
    assert "Share of variances at their bounds" not in titles(quiet)
    assert "Condition numbers of the covariances" not in titles(quiet)
    assert "Left out: no variance is at its floor or ceiling; condition numbers" in quiet
    bounded = page_of(outcome(floor=0.9))
    assert "Share of variances at their bounds" in titles(bounded)
    assert "Condition numbers of the covariances" in titles(page_of(outcome(full=True)))
    untimed = outcome()
    untimed = Outcome(
        **{
            **vars(untimed),
            "stages": tuple(StageHistory(s.name, s.entries, None) for s in untimed.stages),
        }
    )
    assert "Processor time by stage" not in titles(page_of(untimed))
    assert "the logs of this run tell no times" in page_of(untimed)


def test_no_plot_is_empty_and_all_have_tooltips():
    for spec in Reader(page_of(outcome(full=True, floor=0.9))).specifications:
        layers = spec.get("layer", [spec])
        marks = [inner for layer in layers for inner in layer.get("layer", [layer])]
        assert any("tooltip" in mark.get("encoding", {}) for mark in marks)
        assert spec["datasets"]
        assert all(spec["datasets"].values())


def test_without_altair_the_page_has_all_but_plots(monkeypatch):
    monkeypatch.setattr(plots, "CAN_DRAW", False)
    text = page_of(outcome())
    assert "pip install 'gmmcore[plot]'" in Reader(text).texts["p"][0]
    assert Reader(text).specifications == []
    assert "Log-likelihood" in text


def test_a_page_knows_its_content_and_what_it_is_made_from(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    page = Page("run", drawing=False)
    path.write_text(page.text("a", ["b"]))
    assert is_page(path, "a", ["b"])
    assert not is_page(path, "a", ["c"])
    path.write_text(path.read_text().replace("run", "ran"))
    assert not is_page(path, "a", ["b"])
    path.write_bytes(b"\xff")
    assert not is_page(path, "a", ["b"])
    assert not is_page(tmp_path / "missing.html", "a")


def test_runs_with_other_frames_are_never_on_one_scale():
    runs = [
        outcome("a"),
        outcome("b", features={"list": "a<b>.txt", "normalisation": "cmvn"}),
        outcome("c", llk_gain=0.5, features={"list": "a<b>.txt", "shards": 3}),
    ]
    assert frames_key(runs[0]) == frames_key(runs[2]) != frames_key(runs[1])
    text = comparison_page(runs).text("x")
    assert "2 different sets of frames (features.normalisation)" in text
    assert "Group 1: a, c" in text
    assert "Group 2: b" in text
    plotted = [
        {row["run"] for rows in spec["datasets"].values() for row in rows}
        for spec in Reader(text).specifications
    ]
    assert plotted == [{"a", "c"}, {"a", "c"}]
    assert [*differing(runs)] == ["llk_gain", "features.normalisation", "features.shards"]


def test_the_table_of_a_comparison_has_only_what_differs():
    head, *rows = comparison_table([outcome("a"), outcome("b", llk_gain=0.5)]).splitlines()
    cells = [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert [row["run"] for row in cells] == ["a", "b"]
    assert [row["llk_gain"] for row in cells] == ["0.01", "0.5"]
    assert [row["seconds"] for row in cells] == ["1.3", "1.3"]
    assert cells[0]["components"] == "4"
    assert not [key for key in cells[0] if key.startswith("features")]


def test_a_copied_stage_has_the_time_of_the_run_that_made_it():
    made = outcome("a")
    copied = Outcome(
        **{
            **vars(made),
            "name": "b",
            "stages": tuple(StageHistory(s.name, s.entries, None) for s in made.stages),
        }
    )
    _, *rows = comparison_table([made, copied]).splitlines()
    assert [row.split("\t")[-2:] for row in rows] == [["1.3", "1.1"]] * 2


def test_principal_axes_are_those_of_the_standardised_frames():
    rng = np.random.default_rng(2)
    one = rng.standard_normal(5000)
    noise = rng.standard_normal((5000, 3))
    frames = np.column_stack([one * 100, -one, noise[:, 0] * 7]) + 0.01 * noise
    mean, axes, held = principal_axes(frames)
    np.testing.assert_allclose(mean, frames.mean(axis=0))
    plane = (frames - mean) @ axes
    assert abs(np.corrcoef(plane[:, 0], one)[0, 1]) > 0.999
    assert abs(np.corrcoef(plane.T)[0, 1]) < 1e-6
    assert held == pytest.approx(1, abs=1e-3)


def test_the_size_with_the_highest_held_out_likelihood_is_told():
    text = page_of(outcome(held_out=-8.4))
    assert "diag/2 has the highest held-out log-likelihood per frame, -8.4000" in text
    assert "<strong>-8.4000</strong>" in text
    assert "held-out: -8.9000" in text
    assert "held-out" not in " ".join(Reader(page_of(outcome())).texts["p"])
