"""What the command line makes of failures that no verb foresees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gmmcore.cli.main import main, verbs
from gmmcore.cli.verb import Verb

RULES = Path(__file__).parents[2].glob("rules/*.smk")
VERBS = verbs()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (MemoryError(), "out of memory; give the job more"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory; give"),
        (RuntimeError("can't start new thread"), "out of memory; give"),
    ],
)
@pytest.mark.parametrize("arguments", [0, 1])
def test_memory_refused_to_python_is_one_line(monkeypatch, capsys, failure, message, arguments):
    def fail(argument):
        raise failure

    monkeypatch.setitem(VERBS, "info", Verb("What fails.", (fail,) * arguments, fail))
    assert main(["info"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gmmcore info: error: ")
    assert message in line


def test_an_error_of_the_program_is_not_hidden(monkeypatch):
    def fail(argument):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setitem(VERBS, "info", Verb("What fails.", (), fail))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        main(["info"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_told_by_its_code(tmp_path, encoding):
    done = subprocess.run(
        [sys.executable, "-m", "gmmcore.cli.main", "info", f"{tmp_path}/\u017c\u00f3\u0142w.h5"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.decode(encoding).splitlines()
    assert line.startswith("gmmcore info: error: ")
    assert "\\u017c" in line


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: gmmcore {verb} [-h]")
    assert f"Example: gmmcore {verb} " in text
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f" {verb} " in capsys.readouterr().out.replace("\n", " ")


def test_help_has_the_verbs_that_rules_call_apart(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    users, rules = (
        set(re.findall(r"^  (\w+) +[A-Z]", part, re.MULTILINE))
        for part in capsys.readouterr()
        .out.split("verbs for users:")[1]
        .split("verbs for the rules")
    )
    called = re.findall(r'"gmmcore (\w+)', "".join(path.read_text() for path in RULES))
    assert {*called} - {"convert", "demo"} <= rules
    assert users == VERBS.keys() - rules


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interruption_that_an_import_hides_is_one_line(number: str) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from gmmcore.cli import main as cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run(*_):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "        time.sleep(5)\n"
        "    except KeyboardInterrupt:\n"
        "        raise ImportError('numpy cannot be imported') from None\n"
        "cli._run = run\n"
        "sys.argv = ['gmmcore', 'info', 'x']\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "gmmcore info: stopped; nothing half-written is left\n"


@pytest.mark.parametrize(("name", "is_program"), [("gmmcore", True), ("notebook", False)])
def test_an_interruption_of_the_first_imports_has_no_traceback(name: str, is_program: bool) -> None:
    """The program is ended by the signal itself until `main` has a handler."""
    script = (
        f"import os, signal, sys; sys.argv = ['/bin/{name}']\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import gmmcore.cli\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert ("Traceback" in done.stderr) is not is_program


def test_a_verb_of_an_earlier_version_is_told_what_it_is_now(capsys):
    assert main(["plan", "config.yaml", "--cores", "4"]) == 2
    assert capsys.readouterr().err == "gmmcore plan is now gmmcore status\n"


@pytest.mark.parametrize("is_job", [False, True])
def test_a_job_removes_a_damaged_file_so_that_it_is_made_again(
    tmp_path, monkeypatch, capsys, is_job
):
    path = tmp_path / "ubm.h5"
    path.write_bytes(b"gmmcore mixture 1 sha256:00 bytes:3\n")
    monkeypatch.delenv("GMMCORE_JOB", raising=False)
    if is_job:
        monkeypatch.setenv("GMMCORE_JOB", "1")
    assert main(["history", "--mixture", str(path), "--output", str(tmp_path / "x")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gmmcore history: error: {path}: damaged")
    assert line.endswith("which makes it anew" if is_job else "give the same command again")
    assert path.exists() is not is_job


def test_a_job_dates_what_it_reads_of_the_future(tmp_path, monkeypatch):
    monkeypatch.setenv("GMMCORE_JOB", "1")
    paths = [tmp_path / name for name in ("a.txt", "SHA256SUMS")]
    paths[0].write_text("a")
    os.utime(paths[0], (time.time() + 1e6, time.time() + 1e6))
    assert main(["checksums", str(paths[0]), "--output", str(paths[1])]) == 0
    assert paths[0].stat().st_mtime <= paths[1].stat().st_mtime <= time.time()


def test_settings_of_the_workflow_stand_for_arguments_and_later_ones_count(tmp_path, capsys):
    stamp = tmp_path / "settings.json"
    stamp.write_text('{"demo": {"components": 2, "shows": 1, "frames": 200, "dimension": 2}}')
    given = ["demo", "--settings", str(stamp), "--shows", "3", "--output", str(tmp_path / "c")]
    assert main(given) == 0
    assert "3 shows" in capsys.readouterr().out
    stamp.write_text("{")
    assert main(given) == 1
    assert "settings.json: damaged; remove it" in capsys.readouterr().err
