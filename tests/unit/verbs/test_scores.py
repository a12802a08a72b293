"""`gmmcore statistics`, `adapt` and `trials`: from lists to scores, in files that stay the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from gmmcore import (
    accumulate_shows,
    adapt_means,
    equal_error_rate,
    linear_scores,
    log_ratios,
    read_mixture,
    read_shows,
    write_mixture,
)
from gmmcore.cli.main import main
from gmmcore.core.train import uniform_start
from gmmcore.formats.hdf5 import HEADER_SIZE
from gmmcore.formats.kaldi import _Items

SHOWS = [f"{speaker}-{number}" for speaker in "abc" for number in range(4)]
FEATURES = {"pattern": "{show}.npy", "normalisation": "cms"}


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """Shows of three speakers far from zero, a mixture, and lists of models and trials."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    places = rng.standard_normal((6, 4))
    for speaker, offset in zip("abc", 0.7 * rng.standard_normal((3, 6, 4)), strict=True):
        for number in range(4):
            chosen = rng.integers(0, 6, 80 + number)
            frames = (places + offset)[chosen] + 0.5 * rng.standard_normal((80 + number, 4))
            np.save(f"{speaker}-{number}.npy", (20 + frames).astype("f"))
    Path("shows.txt").write_text("\n".join(SHOWS))
    frames = np.concatenate([values for _, values in read_shows("shows.txt", features=FEATURES)])
    write_mixture("ubm.h5", uniform_start(frames, 6))
    Path("enrolment.txt").write_text("".join(f"{s} {s}-{n}\n" for s in "abc" for n in (0, 1)))
    found = {
        (model, f"{speaker}-{number}"): "target" if model == speaker else "nontarget"
        for model, speaker, number in itertools.product("abc", "cba", (2, 3))
    }
    write_trials(found)
    return found


def write_trials(pairs: dict[tuple[str, str], str]) -> None:
    lines = (f"{' '.join(pair)} {label}\n" for pair, label in pairs.items())
    Path("trials.txt").write_text("".join(lines))


def run(*arguments: str, **options: str) -> int:
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    return main([*arguments, *words])


def statistics(output: str = "all.h5", threads: str = "1") -> int:
    features = {key: str(value) for key, value in FEATURES.items()}
    return run(
        "statistics",
        list="shows.txt",
        **features,
        mixture="ubm.h5",
        precision="double",
        threads=threads,
        output=output,
    )


def adapt() -> int:
    return run(
        "adapt",
        mixture="ubm.h5",
        statistics="all.h5",
        enrolment="enrolment.txt",
        relevance="4",
        output="models.h5",
    )


def score(*more: str, threads: str = "1") -> int:
    return run(
        "trials",
        *more,
        mixture="ubm.h5",
        models="models.h5",
        statistics="all.h5",
        trials="trials.txt",
        precision="double",
        threads=threads,
        matrix="scores.h5",
        output="scores.tsv",
    )


def content(path: str) -> bytes:
    """What a file holds, without the digest of scores.tsv, whose lines are in the order given."""
    return Path(path).read_bytes()[HEADER_SIZE:]


def source() -> None:
    """Write what the workflow writes of the features of a list."""

    Path("source.json").write_text(json.dumps({"features": {**FEATURES, "list": "shows.txt"}}))


@pytest.mark.parametrize("scoring", ["linear", "ratio"])
def test_the_files_hold_what_the_functions_return(trials, scoring, capsys):
    source()
    more = ["--features", "source.json"] if scoring == "ratio" else []
    assert statistics() == adapt() == score(*more) == 0
    printed = capsys.readouterr().out
    mixture = read_mixture("ubm.h5")
    shows = dict(read_shows("shows.txt", features=FEATURES))
    found = accumulate_shows(mixture, shows.items())
    at = {name: index for index, name in enumerate(found.names)}
    with h5py.File("all.h5") as file:
        assert [name.decode() for name in file["segset"][()]] == sorted(SHOWS)
        order = [at[name] for name in sorted(SHOWS)]
        np.testing.assert_array_equal(file["stat0"], found.count[order].astype("f"))
        np.testing.assert_array_equal(
            file["stat1"], found.first[order].reshape(len(order), -1).astype("f")
        )
        assert (file["start"][()] == -1).all()
    means = {
        model: adapt_means(
            mixture,
            sum(found.count[at[f"{model}-{n}"]] for n in (0, 1)),
            sum(found.first[at[f"{model}-{n}"]] for n in (0, 1)),
            4.0,
        )
        for model in "abc"
    }
    with h5py.File("models.h5") as file:
        assert file["modelset"][()].tolist() == [b"a", b"b", b"c"]
        expected = np.stack([*means.values()]).reshape(3, -1)
        np.testing.assert_allclose(file["stat1"], expected, atol=1e-6)
    head, *lines = Path("scores.tsv").read_text().splitlines()
    assert head == "model\tshow\tscore\tlabel"
    scores: dict[str, list[float]] = {"target": [], "nontarget": []}
    for line, ((model, show), label) in zip(lines, trials.items(), strict=True):
        expected = (
            log_ratios(mixture, means[model][None], shows[show])[0]
            if scoring == "ratio"
            else linear_scores(
                mixture, means[model][None], found.count[[at[show]]], found.first[[at[show]]]
            )[0, 0]
        )
        *names, value, told = line.split("\t")
        assert (*names, told) == (model, show, label)
        assert float(value) == pytest.approx(expected, abs=2e-6)
        scores[label].append(float(value))
    rate = 100 * equal_error_rate(scores["target"], scores["nontarget"])
    assert f"equal error rate {rate:.2f} % of 18 trials, 6 of them target trials" in printed
    with h5py.File("scores.h5") as file:
        assert file["score_mask"].dtype == np.int8
        for line in lines:
            model, show, value, _ = line.split("\t")
            place = (
                file["modelset"][()].tolist().index(model.encode()),
                file["segset"][()].tolist().index(show.encode()),
            )
            assert file["score_mask"][place] == 1
            assert float(value) == pytest.approx(file["scores"][place], rel=1e-8)


def test_bytes_depend_on_neither_threads_nor_the_order_of_lines(trials, monkeypatch):
    source()
    statistics(), adapt()
    files = ("all.h5", "models.h5", "scores.h5")
    for more in ([], ["--features", "source.json"]):
        score(*more)
        before = [content(path) for path in files]
        lines = sorted(Path("scores.tsv").read_text().splitlines()[1:])
        for threads in ("1", "3"):
            for name in ("shows.txt", "enrolment.txt", "trials.txt"):
                path = Path(name)
                path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
            statistics(threads=threads), adapt(), score(*more, threads=threads)
            assert [content(path) for path in files] == before
            assert sorted(Path("scores.tsv").read_text().splitlines()[1:]) == lines
        # Blocks of models and shows change no more than rounding.
        monkeypatch.setattr("gmmcore.data.trials._MODELS", 2)
        monkeypatch.setattr("gmmcore.data.trials._SHOWS", 4)
        score(*more)
        for line, other in zip(
            lines, sorted(Path("scores.tsv").read_text().splitlines()[1:]), strict=True
        ):
            assert float(line.split("\t")[2]) == pytest.approx(
                float(other.split("\t")[2]), abs=1e-9
            )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("enrolment.txt", "a a-0\na a-0\n", "line 2 is 'a a-0'; expected each pair of model"),
        ("enrolment.txt", "a\n", "line 1 is 'a'; expected `model show`; correct it"),
        ("enrolment.txt", "a a-0 target\n", "line 1 is 'a a-0 target'; expected `model show`;"),
        ("enrolment.txt", "# none\n", "enrolment.txt: no lines; expected `model show`; correct"),
        ("enrolment.txt", "a x\n", "enrolment.txt: 1 show without frames, such as x; expected"),
        ("trials.txt", "a x\na y\n", "trials.txt: 2 shows without frames, such as x; expected"),
        ("trials.txt", "z a-2\n", "trials.txt: 1 model without shows, such as z; expected models"),
        ("trials.txt", "a a-2\na a-2\n", "line 2 is 'a a-2'; expected each pair of model and"),
        ("trials.txt", "a a-2 target\na a-3\n", "line 2 is 'a a-3'; expected a label in each"),
        ("trials.txt", "a a-3\na a-2 target\n", "line 2 is 'a a-2 target'; expected a label in"),
        ("trials.txt", "a a-2 yes\n", "expected `model show` or `model show target` or"),
        ("trials.txt", None, "trials.txt: cannot be read: No such file or directory"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(trials, file, text, message, capsys):
    statistics()
    if file == "trials.txt":
        adapt()
    Path(file).unlink() if text is None else Path(file).write_text(text)
    capsys.readouterr()
    before = sorted(Path().iterdir())
    assert (adapt() if file == "enrolment.txt" else score()) == 1
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert message in found
    assert sorted(Path().iterdir()) == before


def test_files_of_another_mixture_and_damaged_ones_are_refused(trials, capsys):
    statistics(), adapt()
    write_mixture("ubm.h5", uniform_start(np.random.default_rng(1).standard_normal((99, 4)), 6))
    assert adapt() == score() == 1
    assert capsys.readouterr().err.count("made with another mixture") == 2
    statistics()
    content = bytearray(Path("all.h5").read_bytes())
    content[-2000] ^= 1
    Path("all.h5").write_bytes(content)
    assert adapt() == 1
    assert "all.h5: damaged: its content does not match" in capsys.readouterr().err


def test_statistics_as_matrices_of_alize_and_as_an_accumulator_of_kaldi(trials, capsys):
    statistics(), adapt(), score()
    with h5py.File("all.h5") as file:
        rows = {"N": file["stat0"][()], "F_X": file["stat1"][()]}
    assert main(["convert", "all.h5", "all.matx"]) == main(["convert", "all.h5", "all.acc"]) == 0
    for name, expected in rows.items():
        found = Path(f"all.{name}.matx").read_bytes()
        shape = np.frombuffer(found, "<u4", 2)
        np.testing.assert_array_equal(np.frombuffer(found, "<f8", -1, 8).reshape(shape), expected)
    items = _Items("all.acc", Path("all.acc").read_bytes())
    assert items.token() == b"<GMMACCS>"
    for name, size in ((b"<VECSIZE>", 4), (b"<NUMCOMPONENTS>", 6)):
        assert (items.token(), items._int()) == (name, size)
    assert items.token() == b"<FLAGS>"
    # A byte -2 for the two bytes of an unsigned number: weights (4) and means (1).
    assert items._content[items._at :].startswith(b"\xfe\x05\x00<OCCUPANCY> ")
    items._at += 3
    for name, kind, values in (
        (b"<OCCUPANCY>", b"V", rows["N"].sum(axis=0)),
        (b"<MEANACCS>", b"M", rows["F_X"].sum(axis=0).reshape(6, 4)),
        (b"<DIAGVARACCS>", b"M", np.empty((0, 0))),
    ):
        assert items.token() == name
        np.testing.assert_allclose(items.numbers(kind), values, rtol=1e-6, atol=1e-4)
    assert (items.token(), items.at_end()) == (b"</GMMACCS>", True)
    capsys.readouterr()
    for given, output in (("all.h5", "x.gmm"), ("scores.h5", "x.matx")):
        assert main(["convert", given, output]) == 1
        assert "statistics are written as matrices of ALIZE" in capsys.readouterr().err


def test_a_show_in_two_lists_and_trials_without_labels(trials, capsys):
    statistics(), statistics("again.h5"), adapt()
    write_trials(dict.fromkeys(trials, ""))
    assert score() == 0
    assert "no equal error rate" in capsys.readouterr().out
    assert Path("scores.tsv").read_text().startswith("model\tshow\tscore\na\tc-2\t")
    assert (
        main(
            [
                "adapt",
                "--mixture",
                "ubm.h5",
                "--statistics",
                "all.h5",
                "again.h5",
                "--enrolment",
                "enrolment.txt",
                "--output",
                "m.h5",
            ]
        )
        == 1
    )
    assert "show a-0: in all.h5 and in again.h5" in capsys.readouterr().err


def test_a_frame_that_is_gone_when_ratios_are_computed(trials, capsys):
    source()
    statistics(), adapt()
    np.save("a-2.npy", np.full((90, 4), np.nan, "f"))
    assert score("--features", "source.json") == 1
    assert "a-2" in capsys.readouterr().err
