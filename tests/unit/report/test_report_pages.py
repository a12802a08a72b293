"""The page of a training and the table of several: whole, without a network, and honest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from math import nan

import numpy as np
import pytest

from gmmcore import GaussianMixture
from gmmcore.config.configuration import resolve
from gmmcore.core.describe import sizes
from gmmcore.core.history import HistoryEntry
from gmmcore.core.moments import Moments
from gmmcore.core.verification import error_rates
from gmmcore.data.corpus import Corpus, CorpusShard
from gmmcore.data.shows import ShowTable
from gmmcore.data.trials import LABELS, error_line
from gmmcore.formats.hdf5 import Model
from gmmcore.report import plots
from gmmcore.report.compare import comparison_table, comparison_text, differing, frames_key
from gmmcore.report.report import Outcome, report_page

SHOWS = ShowTable({"shards": 1, "shows": 2, "frames": 900, "raw_dimension": 3}, [])
# Each is drawn for wide and for narrow screens.
TITLES = ["Log-likelihood per frame by iteration"] * 2 + ["Occupancy of the components"] * 2
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
    def plots(self):
        """The titles of the drawings."""
        return [v for tag, name, v in self.attributes if (tag, name) == ("svg", "aria-label")]


def outcome(name: str = "demo", *, full: bool = False, held_out: float = nan, **keys) -> Outcome:
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
        HistoryEntry("diag", count, number, 0, 800, -9 + count / 4, gain, 0, 0, 1, 8.0)
        for count, number, gain in rows
    )
    moments = Moments.of(frames)
    corpus = Corpus(
        (CorpusShard("000", "000.npy", (800,), "abc"),),
        3,
        tuple(moments.mean.tolist()),
        tuple(moments.scatter.tolist()),
        (1.0, 1.0, 1.0),
        outliers=((2, "<odd>"),),
    )
    values = {"run": name, "features": {"list": "a<b>.txt"}, **keys}
    known = sizes(
        {("diag", 2): (mixture, -8.5, held_out), ("diag", 4): (mixture, -8.1, held_out - 0.5)},
        history,
        800,
        0.01,
    )
    model = Model(mixture, {"settings": "s", "arithmetic": "numpy"}, history, "d" * 64)
    return Outcome(
        name, resolve(values), model, corpus, 800, 0, known, {"diag/2": 0.5, "diag/4": 2.1}
    )


def page_of(made: Outcome, skipped=()) -> str:
    return report_page(made, SHOWS, skipped)


@pytest.mark.parametrize("full", [False, True])
def test_a_page_is_well_formed_and_asks_for_nothing_from_elsewhere(full):
    text = page_of(outcome(full=full))
    assert text.startswith("<!doctype html>\n")
    assert len(text) < 5_000_000
    found = Reader(text)
    assert found.plots == TITLES
    # Every point tells its values.
    told = [text for text in found.texts["title"] if "iteration" in text or "rank" in text]
    assert len(told) == 2 * (5 + 4)
    assert not [a for a in found.attributes if a[1] in ("src", "href", "srcset", "action")]
    (policy,) = (value for _, name, value in found.attributes if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.search("@import|url\\(", "".join(found.texts["style"]))
    assert "script" not in found.texts


def test_names_are_escaped_and_every_setting_is_there():
    text = page_of(replace(outcome(), name="<run>"), [["<show>", "s.h5", "damaged & <b>"]])
    assert "a&lt;b&gt;.txt" in text
    assert "damaged &amp; &lt;b&gt;" in text
    assert "1 of 800 frames makes more than half of the variance in dimension 2" in text
    assert "look at show &lt;odd&gt;, which has the farthest" in text
    assert "<show>" not in text
    assert "<run>" not in text
    cells = Reader(text).texts["td"]
    for key in ("features.list", "llk_gain", "low_count.occupancy", "full.prior", "precision"):
        assert key in cells


def test_scores_of_trials_have_their_error_rate_and_their_plot(tmp_path):
    rng = np.random.default_rng(2)
    table = tmp_path / "scores.tsv"
    rows = [(rng.normal(2), "target") for _ in range(50)]
    rows += [(rng.normal(), "nontarget") for _ in range(400)]
    lines = [f"m\ts\t{value}\t{label}" for value, label in rows]
    table.write_text("\n".join(["model\tshow\tscore\tlabel", *lines]) + "\n")
    text = report_page(outcome(), SHOWS, [], str(table))
    assert error_line(table)[1:] in text
    assert "450 trials, 50 of them target trials" in text
    assert Reader(text).plots == [*TITLES, "Detection error tradeoff", "Detection error tradeoff"]
    values = re.findall(r"<title>false alarms ([0-9.]+), misses ([0-9.]+)</title>", text)
    targets, nontargets = ([v for v, name in rows if name == one] for one in LABELS)
    rates = {
        tuple(round(float(r), 4) for r in pair)
        for pair in zip(*error_rates(targets, nontargets), strict=True)
    }
    assert len(values) > 20
    assert {(float(misses), float(alarms)) for alarms, misses in values} <= rates
    table.write_text("model\tshow\tscore\nm\ts\t1\n")
    assert Reader(report_page(outcome(), SHOWS, [], str(table))).plots == TITLES


def test_the_same_training_has_the_same_page():
    assert page_of(outcome()) == page_of(outcome())


def test_the_page_says_what_was_trained_on_what():
    text = page_of(outcome())
    assert "4 components with diagonal covariances of dimension 3, trained on 800 frames" in text
    assert "2.6 s in the jobs of 2 stages, 2.1 s of them for diag/4" in text
    assert "held-out" not in " ".join(Reader(text).texts["th"])
    assert "the jobs of" not in page_of(replace(outcome(), seconds={}))


def test_without_vl_convert_the_page_has_all_but_plots(monkeypatch):
    monkeypatch.setattr(plots, "CAN_DRAW", False)
    text = page_of(outcome())
    assert "pip install vl-convert-python" in Reader(text).texts["p"][0]
    assert Reader(text).plots == []
    assert "trained on 800 frames" in text


def test_the_size_with_the_highest_held_out_likelihood_is_told():
    text = page_of(replace(outcome(held_out=-8.4), held_out=90))
    assert "The highest held-out log-likelihood per frame is that of diag/2, -8.4000" in text
    assert "<strong>-8.4000</strong>" in text
    assert "<b>-8.9000</b><span>held-out, 90 frames" in text


def test_runs_with_other_frames_are_in_other_groups_and_the_table_has_what_differs():
    runs = [
        outcome("a"),
        outcome("b", features={"list": "a<b>.txt", "normalisation": "cmvn"}),
        outcome("c", llk_gain=0.5, features={"list": "a<b>.txt", "shards": 3}),
    ]
    assert frames_key(runs[0]) == frames_key(runs[2]) != frames_key(runs[1])
    assert [*differing(runs)] == ["llk_gain", "features.normalisation", "features.shards"]
    head, *rows = comparison_table(runs).splitlines()
    cells = [dict(zip(head.split("\t"), row.split("\t"), strict=True)) for row in rows]
    assert [row["run"] for row in cells] == ["a", "b", "c"]
    assert [row["group"] for row in cells] == ["1", "2", "1"]
    assert [row["llk_gain"] for row in cells] == ["0.01", "0.01", "0.5"]
    assert cells[0]["components"] == "4"
    assert "features.list" not in cells[0]
    lines = comparison_text(runs).splitlines()
    assert lines[0].split() == ["run", "group", "stage", "training", "held-out", "BIC"]
    assert lines[2].endswith("  features.normalisation: cmvn")
    assert [line.index("-8.1000") for line in lines[1:]] == [lines[0].index("training")] * 3


@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_without_a_network_draws_every_plot_in_the_width_there_is(tmp_path, width):
    """Where `GMMCORE_BROWSER` is ``required``, as in .ci/run, a missing browser is a failure."""
    browser = shutil.which("chromium")
    if browser is None:
        assert os.environ.get("GMMCORE_BROWSER") != "required", "chromium is not installed"
        pytest.skip("no chromium to open the page with")
    # A frame, because the windows of chromium are at least 500 pixels wide.
    (tmp_path / "report.html").write_text(page_of(outcome(held_out=-3.0)))
    page = tmp_path / "frame.html"
    page.write_text(
        f"<iframe src=report.html width={width} height=900></iframe><script>onload = () => {{"
        "const inner = frames[0].document, seen = (e) => e.checkVisibility();"
        "const wide = [inner.documentElement, ...inner.querySelectorAll('.wide')].filter(seen);"
        "const over = wide.filter((e) => e.scrollWidth > e.clientWidth).length;"
        "const drawn = [...inner.querySelectorAll('svg')].filter(seen).length;"
        "document.title = `${drawn} drawn, ${over} too wide`; }</script>"
    )
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,1000"),
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *("--allow-file-access-from-files", f"--user-data-dir={tmp_path}"),
            *("--virtual-time-budget=20000", "--dump-dom", str(page)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "<title>2 drawn, 0 too wide</title>" in done.stdout
