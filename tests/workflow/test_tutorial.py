"""The tutorial: its commands, its configuration and its Python, in a folder of their own."""

from __future__ import annotations

import doctest
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, Workflow


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocks of the page run in its order, the first one in the folder of the clone."""
    for name in ("Snakefile", "rules", "profiles", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = (ROOT / "docs/tutorial.md").read_text()
    blocks = re.findall(r"^```(bash|yaml|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} == {"bash", "yaml", "python"}
    environment = Workflow(tmp_path).environment()
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    for language, text in blocks:
        if language == "yaml":
            Path("config.yaml").write_text(text)
        elif language == "bash":
            command = ["bash", "-ec", text]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            example = doctest.DocTestParser().get_doctest(text, names, "tutorial.md", None, None)
            runner = doctest.DocTestRunner()
            assert runner.run(example, clear_globs=False).failed == 0, capsys.readouterr().out
            names = example.globs
        monkeypatch.chdir(tmp_path / "tutorial")
