"""`--sdm conda`: jobs run the program of the environment. Conda itself is a stand-in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from flows import ROOT

pytestmark = pytest.mark.slow

CONDA = f"""#!{sys.executable}
import json, os, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("conda 24.9.0")
elif words[0] == "info":
    print(json.dumps({{"conda_prefix": PLACE, "platform": "linux-64", "channels": []}}))
elif words[:2] == ["config", "--get"]:
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif words[:2] == ["env", "create"]:
    prefix = words[words.index("--prefix") + 1]
    os.makedirs(f"{{prefix}}/bin")
    with open(f"{{prefix}}/bin/python", "w") as stream:
        stream.write(PYTHON)
    os.chmod(f"{{prefix}}/bin/python", 0o755)
"""
# Instead of `pip install`, a command that leaves a trace.
PYTHON = """#!/bin/sh
echo "$@" >> "$CONDA_PREFIX/installed"
printf '#!/bin/sh\\necho "$@" >> "$CONDA_PREFIX/used"\\nexec %s "$@"\\n' REAL \
    > "$CONDA_PREFIX/bin/gmmcore"
chmod +x "$CONDA_PREFIX/bin/gmmcore"
"""
ACTIVATE = 'export CONDA_PREFIX="$1"; export PATH="$1/bin:$PATH"\n'


def test_jobs_run_the_program_of_their_environment(trained, fresh, tmp_path):
    place = tmp_path / "conda"
    (place / "bin").mkdir(parents=True)
    real = str(Path(sys.executable).parent / "gmmcore")
    python = PYTHON.replace("REAL", real)
    script = CONDA.replace("PLACE", repr(str(place))).replace("PYTHON)", f"{python!r})")
    (place / "bin/conda").write_text(script)
    (place / "bin/conda").chmod(0o755)
    (place / "bin/activate").write_text(ACTIVATE)
    fresh.forked = False
    path = f"{place}/bin{os.pathsep}{fresh.environment()['PATH']}"
    fresh.environment = lambda: {**os.environ, "PATH": path}
    fresh.run("--sdm", "conda")
    (environment,) = fresh.folder.glob(".snakemake/conda/*_")
    installed = (environment / "installed").read_text()
    assert installed.startswith("-m pip install ")
    assert installed.rstrip().endswith(f" {ROOT}")
    verbs = {line.split()[0] for line in (environment / "used").read_text().splitlines()}
    assert {"pack", "stages", "products"} <= verbs
    assert fresh.made() == trained.made()


def test_the_environment_holds_what_the_program_needs():
    import tomllib

    import yaml

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {name.split(">")[0] for name in wanted}
    held = yaml.safe_load((ROOT / "envs/gmmcore.yaml").read_text())["dependencies"]
    assert names <= {name.split()[0] for name in held}
