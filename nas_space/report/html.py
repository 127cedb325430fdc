"""Parts of a page in HTML that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "page", "plain", "table"]

_STYLE = """
:root { --ink: #222; --muted: #555; --line: #999; --back: #fff; --panel: #f4f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9da7b1; --line: #555; --back: #0d1117; --panel: #161b22; }
  img { background: #fff; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
       max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; width: max-content; }
td { max-width: 28rem; }
th, td { padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; }
img { max-width: 100%; } figure { margin: 1em 0; }
figcaption { color: var(--muted); font-size: 13px; }
pre { font-size: 12px; overflow-x: auto; background: var(--panel); padding: .6em; }
code { font-size: 12px; } .wide { overflow-x: auto; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return the whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table(names: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: slice = slice(0)) -> str:
    """Return a table.

    Parameters
    ----------
    names
        Of the columns.
    rows
        The cells.
    numbers
        Which columns are numbers, to the right.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        looks = [""] * len(cells)
        looks[numbers] = [' class="n"'] * len(looks[numbers])
        made = (f"<{tag}{look}>{escape(c)}</{tag}>" for look, c in zip(looks, cells, strict=True))
        return f"<tr>{''.join(made)}</tr>"

    lines = [line(names, "th"), *(line(row, "td") for row in rows)]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def figure(drawn: Figure, caption: str) -> str:
    """Return a drawing of matplotlib's, as a part of the page."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def plain(text: object) -> str:
    """Return a text for matplotlib to draw as it is: ``$`` in a label does not begin a formula."""
    return str(text).replace("$", r"\$")
