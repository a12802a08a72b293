"""The site: `make docs` builds it in build/docs. No network is needed, and warnings are errors."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

import gmmcore
from gmmcore.cli import main

project = "gmmcore"
version = release = gmmcore.__version__
copyright = "the authors of gmmcore"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["captions"]
templates_path = ["templates"]
# Names in single backticks in docstrings are links where they are documented.
default_role = "autolink"
nitpicky = True
# Names of other libraries would be looked up in the network.
nitpick_ignore_regex = [("py:.*", r"(?!gmmcore\.).*")]

myst_heading_anchors = 4
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # numpydoc's sections say them.
numpydoc_show_class_members = False
numpydoc_validation_checks = {"all", "EX01", "SA01", "ES01"}

html_theme = "furo"
html_title = f"gmmcore {release}"
html_show_sourcelink = False


def setup(app: Sphinx) -> None:
    """Add what `gmmcore VERB --help` prints to the page of the verbs."""
    app.connect("source-read", _add_verbs)


def _add_verbs(app: Sphinx, page: str, source: list[str]) -> None:
    if page == "verbs":
        source[0] += "".join(_verbs())


def _verbs() -> Iterator[str]:
    for path in sorted((Path(gmmcore.__file__).parent / "verbs").glob("[a-z]*.py")):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            os.environ["COLUMNS"] = "70"  # What a page has room for.
            main([path.stem, "--help"])
        yield f"\n## {path.stem}\n\n```text\n{text.getvalue()}```\n"
