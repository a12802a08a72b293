"""The site: `make docs` builds it in build/docs. No network is needed, and warnings are errors."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

from sphinx.application import Sphinx

import gmmcore
from gmmcore.cli.main import main, verbs

project = "gmmcore"
version = release = gmmcore.__version__
copyright = "the authors of gmmcore"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["captions"]
templates_path = ["templates"]
# Names in single backticks in docstrings are links where they are documented.
default_role = "autolink"
highlight_language = "none"  # of blocks that name none
nitpicky = True
# Names of other libraries would be looked up in the network.
nitpick_ignore_regex = [("py:.*", r"(?!gmmcore\.).*")]
# The methods set_..._request that the estimator inherits from scikit-learn refer to its glossary.
suppress_warnings = ["ref.term", "ref.ref"]

myst_heading_anchors = 4
autodoc_typehints = "none"  # numpydoc's sections say them.
numpydoc_show_class_members = False
# All checks but those that ask for sections where one line says it all, for the types that
# annotations have, and for parameters one by one.
_UNCHECKED = "ES01 EX01 GL02 PR01 PR03 PR04 PR07 RT01 SA01 SS03 YD01"
numpydoc_validation_checks = {"all", *_UNCHECKED.split()}
numpydoc_validation_exclude = {"_request$"}

html_theme = "furo"
html_title = f"gmmcore {release}"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Add what `gmmcore VERB --help` prints to the page of the verbs."""
    app.connect("source-read", _add_verbs)


def _add_verbs(app: Sphinx, page: str, source: list[str]) -> None:
    if page == "verbs":
        source[0] += "".join(_verbs())


def _verbs() -> Iterator[str]:
    for verb in sorted(verbs()):
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            os.environ["COLUMNS"] = "90"  # What a page has room for.
            main([verb, "--help"])
        yield f"\n## {verb}\n\n```text\n{text.getvalue()}```\n"
