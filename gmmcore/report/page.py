"""An HTML page that opens without a network: text, tables, and plots by Vega-Lite."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gmmcore.files import digest_of

__all__ = ["Page", "is_page", "number", "setting"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5em auto; max-width: 960px; padding: 0 1em;
  color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
td, th { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
  white-space: nowrap; }
td.number, th.number { text-align: right; }
.wide { overflow-x: auto; } .chart { width: 100%; min-height: 40px; }
.caution { background: #fff4d6; border-left: 4px solid #d99a00; padding: 0.4em 0.8em; }
p { overflow-wrap: anywhere; } .note { color: #555; }
pre { font-size: 13px; overflow-x: auto; }
summary { cursor: pointer; color: #555; }
.vega-embed { width: 100%; } .vega-embed summary { opacity: 0.3; }
"""
# The page asks for nothing from elsewhere, and the browser refuses what would.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_SHOW = """
for (const [id, spec] of JSON.parse(document.getElementById("plots").textContent)) {
  vegaEmbed("#" + id, spec, {renderer: "svg", actions: {export: true, source: false,
    compiled: false, editor: false}, downloadFileName: id});
}
"""
_SEAL = "<!-- gmmcore page {} -->\n"


class Page:
    """A page that is written from its top to its end.

    Parameters
    ----------
    title : str
    drawing : bool
        Whether Altair and vl-convert are installed, so that there are plots.
    """

    def __init__(self, title: str, drawing: bool) -> None:
        self._title, self._drawing = title, drawing
        self._parts = [f"<h1>{html.escape(title)}</h1>"]
        self._plots: list[tuple[str, Any]] = []
        if not drawing:
            self.paragraph(
                "The plots are left out, because Altair and vl-convert are not installed: "
                "pip install 'gmmcore[plot]', and remove this file to have it made again.",
                "caution",
            )

    def heading(self, text: str) -> None:
        """Add the title of a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str, kind: str = "") -> None:
        """Add a paragraph: of the kind ``caution`` or ``note``, or an ordinary one."""
        self._parts.append(f'<p class="{kind}">{html.escape(text)}</p>')

    def code(self, text: str) -> None:
        """Add text whose lines stay as they are."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(
        self,
        head: Sequence[str],
        rows: Iterable[Sequence[object]],
        summary: str = "",
        bold: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Add a table.

        Parameters
        ----------
        head
            Titles of the columns.
        rows
            Cells, which are numbers (aligned to the right; floats have four decimals, and NaN is an
            empty cell) or texts.
        summary
            If given, the table is folded away, and this text unfolds it.
        bold
            Cells that stand out: numbers of row and column, from 0.
        """
        rows, marked = [*rows], {*bold}
        numeric = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
        kinds = [' class="number"' if each else "" for each in numeric]
        lines = ["".join(f"<th{k}>{html.escape(t)}</th>" for k, t in zip(kinds, head, strict=True))]
        for at, row in enumerate(rows):
            cells = []
            for column, (kind, value) in enumerate(zip(kinds, row, strict=True)):
                text = html.escape(number(value))
                text = f"<strong>{text}</strong>" if (at, column) in marked else text
                cells.append(f"<td{kind}>{text}</td>")
            lines.append("".join(cells))
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        table = f'<div class="wide"><table>\n{body}\n</table></div>'
        if summary:
            table = f"<details><summary>{html.escape(summary)}</summary>{table}</details>"
        self._parts.append(table)

    def plot(self, make: Callable[..., Any], *arguments: Any) -> None:
        """Add the Altair chart that a function makes, if there are plots."""
        if not self._drawing:
            return
        name = f"plot-{len(self._plots) + 1}"
        self._plots.append((name, make(*arguments).to_dict()))
        self._parts.append(f'<div class="chart" id="{name}"></div>')

    def text(self, *made_from: object) -> str:
        """Return the page as HTML, with a digest of its content and of what it is made from."""
        parts = [
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head><body>",
            *self._parts,
        ]
        if self._plots:
            specs = json.dumps(self._plots, separators=(",", ":"), allow_nan=False)
            specs = specs.replace("<", "\\u003c")
            parts += [
                f'<script type="application/json" id="plots">{specs}</script>',
                f"<script>{_library()}</script>",
                f"<script>{_SHOW}</script>",
            ]
        rest = "\n".join([*parts, "</body></html>"]) + "\n"
        return f"<!doctype html>\n{_SEAL.format(digest_of(rest, *made_from))}{rest}"


@cache
def _library() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def is_page(path: Path, *made_from: object) -> bool:
    """Whether a file is a page as it was written, made from these JSON values."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    head, _, rest = text.removeprefix("<!doctype html>\n").partition("\n")
    return f"{head}\n" == _SEAL.format(digest_of(rest, *made_from))


def setting(value: object) -> str:
    """Write the value of a setting as a configuration has it.

    Examples
    --------
    >>> from gmmcore.report.page import setting
    >>> setting(None), setting("sidekit"), setting([2, 4])
    ('null', 'sidekit', '[2, 4]')
    """
    return value if isinstance(value, str) else json.dumps(value)


def number(value: object) -> str:
    """Write a cell of a table; NaN is empty, and whole numbers have separators of thousands.

    Examples
    --------
    >>> from gmmcore.report.page import number
    >>> number(1234567), number(-33.71978), number(float("nan"))
    ('1,234,567', '-33.7198', '')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != value:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
