"""Pictures of an architecture, and of a space: what is decided where, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import html
from .colours import CHOSEN, FAINT, FREE, INK, MUTED, SHARE
from .decisions import Decision, decisions_of
from .figures import new_figure, save
from .numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..profiler import LatencyTable

__all__ = ["architecture_picture", "space_picture"]

_ROW = 0.235
"""The height of a line, in inches, as everything here."""

_CHARACTER = 0.066
"""How wide a character of the smallest text is."""

_LONGEST = 36
"""Characters of a label on one line; a longer one takes several."""

_ROOM = 3.1
"""For values on one line; more of them take several."""


@dataclass(frozen=True)
class _Columns:
    """Where the columns begin, and how wide the picture is."""

    chips: float
    shape: float
    bar: float
    width: float

    @classmethod
    def of(cls, rows: Sequence[Decision], *, whole: bool) -> _Columns:
        """Return columns as wide as what stands in them."""
        name = max(len(part) for row in rows for part in _name(row))
        chips = 0.15 + _CHARACTER * name
        lines = [line for row in rows for line in _chips(row, 0.0) if line]
        ends = [line[-1][0] + line[-1][1] for line in lines]
        ends += [_ROOM * (row.position is not None) for row in rows]
        shape = chips + max(1.4, *ends) + 0.15
        words = 0 if whole else max(8, *(len(row.shape) for row in rows))
        bar = shape + (0.15 + 0.9 * _CHARACTER * words if words else 0.0)
        return cls(chips, shape, bar, bar + 1.55)


def architecture_picture(
    space: Any,
    arch: Mapping[str, Any],
    input_shape: tuple[int, ...] | None,
    path: Path | str,
    title: str = "",
    *,
    inputs: Any = None,
    cost: str | LatencyTable = "macs",
) -> None:
    """Draw an architecture into a file: a line for each decision, in the order of the network.

    All values of the label, the chosen one filled; what comes out; the share of the cost. Blocks
    of a repeat stand together, those that are not used hollow.

    Parameters
    ----------
    space, arch
        What to draw; the space may be restricted.
    input_shape, inputs
        Of one sample, without the batch; or what the space is called with.
    path
        The file; its ending says which format.
    title
        What stands above.
    cost
        Whose shares are drawn: ``'macs'``, ``'params'`` or a table of measured times.

    Examples
    --------
    >>> import tempfile
    >>> from nas_space.hub import NasBench201
    >>> space = NasBench201(num_labels=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     architecture_picture(space, space.sample(seed=0), (3, 32, 32), f"{folder}/a.png")
    """
    rows = decisions_of(space, arch, input_shape, inputs=inputs, cost=cost)
    _draw(rows, title or _name_of(space), path, cost, whole=False)


def space_picture(
    space: Any,
    input_shape: tuple[int, ...] | None,
    path: Path | str,
    title: str = "",
    *,
    inputs: Any = None,
    cost: str | LatencyTable = "macs",
) -> None:
    """Draw a space into a file: what may be where, how many architectures, where the cost is.

    Bars are means over random architectures, lines on them the range of what these have there.

    Parameters
    ----------
    space
        What to draw.
    input_shape, inputs, path, title, cost
        As of :func:`architecture_picture`.
    """
    rows = decisions_of(space, None, input_shape, inputs=inputs, cost=cost)
    words = f"{_name_of(space)}: {counted(space.count())} architectures, "
    words += f"{sum(bool(row.label) for row in rows)} labels"
    _draw(rows, title or words, path, cost, whole=True)


def _name_of(space: Any) -> str:
    return type(getattr(space, "space", space)).__name__


def _draw(
    rows: Sequence[Decision],
    title: str,
    path: Path | str,
    cost: str | LatencyTable,
    *,
    whole: bool,
) -> None:
    lines = list(_lines(rows))
    columns = _Columns.of(rows, whole=whole)
    height = _ROW * (sum(lines_of for _, _, lines_of in lines) + 3.2)
    figure = new_figure(columns.width + 0.3, height, constrained=False)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-0.15, columns.width + 0.15)
    axes.set_ylim(height / _ROW, 0)
    axes.axis("off")
    axes.text(0, 0.9, html.plain(title), fontsize=11, color=INK, va="center", weight="bold")
    what = {"macs": "multiply-adds", "params": "parameters"}.get(str(cost), "measured time")
    heads = [
        (0.0, "label"),
        (columns.chips, "what may be chosen" if whole else "chosen, of all values"),
    ]
    heads += [] if whole else [(columns.shape, "what comes out")]
    for place, word in (*heads, (columns.bar, f"share of {what}")):
        axes.text(place, 2.1, word, fontsize=7.5, color=MUTED, va="center")
    most = max(max(row.share, row.spread[1]) for row in rows) or 1.0
    at = 2.8
    for row, group, high in lines:
        middle = at + high / 2
        if row is None:
            axes.text(0, middle, html.plain(group), fontsize=7.5, color=MUTED, va="center",
                      style="italic")  # fmt: skip
        else:
            if group:
                axes.plot([-0.07, -0.07], [at + 0.05, at + high - 0.05], color=FAINT, lw=2)
            _line(axes, columns, row, at, most, whole=whole)
        at += high
    save(figure, path, dpi=130)


def _lines(rows: Sequence[Decision]) -> list[tuple[Decision | None, str, float]]:
    """Return the lines of a picture, each with its group and how high it is, in plain lines."""
    found: list[tuple[Decision | None, str, float]] = []
    last = ""
    for row in rows:
        if row.group != last and row.group:
            found.append((None, f"repeat {row.group}", 0.9))
        last = row.group
        found.append((row, row.group, _height(row)))
    return found


def _height(row: Decision) -> float:
    return max(1.0, 0.86 * len(_chips(row, 0.0)) + 0.14, 0.75 * len(_name(row)) + 0.25)


def _name(row: Decision) -> list[str]:
    """Return the label, on as many lines as it needs."""
    text = row.label or row.kind
    text += f"  ({row.more + 1} modules)" if row.more else ""
    return [text[i : i + _LONGEST] for i in range(0, len(text), _LONGEST)]


def _chips(row: Decision, left: float) -> list[list[tuple[float, float, int]]]:
    """Return where the values stand: for each line the left edge, the width, and which."""
    if row.position is not None or not row.values:
        return [[]]
    found: list[list[tuple[float, float, int]]] = [[]]
    x = left
    for place, text in enumerate(row.values):
        wide = _CHARACTER * max(1, len(text)) + 0.1
        if x + wide > left + _ROOM and found[-1]:
            found.append([])
            x = left
        found[-1].append((x, wide, place))
        x += wide + 0.04
    return found


def _line(
    axes: Axes, columns: _Columns, row: Decision, at: float, most: float, *, whole: bool
) -> None:
    from matplotlib.patches import FancyBboxPatch

    high = _height(row)
    middle = at + high / 2
    dark = INK if row.used else MUTED
    for place, part in enumerate(_name(row)):
        down = middle + 0.75 * (place - (len(_name(row)) - 1) / 2)
        axes.text(0, down, html.plain(part), fontsize=7.5, color=dark, va="center")
    if row.position is not None:
        _range(axes, columns, row, middle)
    chips = _chips(row, columns.chips)
    for number, line in enumerate(chips):
        y = middle + 0.86 * (number - (len(chips) - 1) / 2)
        for x, wide, which in line:
            chosen = which in row.chosen
            axes.add_patch(
                FancyBboxPatch(
                    (x, y - 0.33), wide, 0.66, boxstyle="round,pad=0,rounding_size=0.05",
                    facecolor=CHOSEN if chosen else ("none" if not row.used else FREE),
                    edgecolor=CHOSEN if chosen else FAINT, linewidth=0.7,
                    linestyle="-" if row.used else (0, (2, 2)), mutation_aspect=1 / _ROW,
                )
            )  # fmt: skip
            axes.text(
                x + wide / 2, y, html.plain(row.values[which]), fontsize=6.8, ha="center",
                va="center_baseline", color="white" if chosen else dark,
            )  # fmt: skip
    if not whole:
        words = row.shape if row.used else "not used"
        axes.text(columns.shape, middle, html.plain(words), fontsize=7, color=dark, va="center")
    if row.used and (row.share or row.spread[1]):
        left, unit = columns.bar, 1.1 / most
        axes.barh([middle], [unit * row.share], left=left, height=0.5, color=SHARE)
        end = row.share
        if whole and row.spread[1] > row.spread[0]:
            axes.plot([left + unit * s for s in row.spread], [middle] * 2, color=INK, lw=0.8)
            end = row.spread[1]
        axes.text(
            left + unit * end + 0.04, middle, percent(row.share), fontsize=6.8, color=INK,
            va="center",
        )  # fmt: skip


def _range(axes: Axes, columns: _Columns, row: Decision, middle: float) -> None:
    """Draw a range with its ends, and the value where it is in it."""
    low, high = row.values
    left = columns.chips + _CHARACTER * len(low) + 0.08
    right = columns.chips + _ROOM - _CHARACTER * (len(high) + len(row.text)) - 0.3
    axes.text(columns.chips, middle, low, fontsize=6.8, color=MUTED, va="center")
    axes.text(right + 0.08, middle, high, fontsize=6.8, color=MUTED, va="center")
    axes.plot([left, right], [middle, middle], color=FAINT, lw=3, solid_capstyle="round")
    if row.position is not None and row.position >= 0:
        x = left + (right - left) * min(1.0, row.position)
        axes.plot([x], [middle], "o", color=CHOSEN, markersize=5)
        axes.text(
            columns.chips + _ROOM, middle, row.text, fontsize=6.8, color=CHOSEN, ha="right",
            va="center", weight="bold",
        )  # fmt: skip
