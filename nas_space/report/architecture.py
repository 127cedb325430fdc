"""Pictures of an architecture, and of a space: what is decided where, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DomainError
from . import html
from .colours import CHOSEN, FAINT, FREE, INK, MUTED, SHARE
from .decisions import Decision, decisions_of
from .figures import Ruler, new_figure, save
from .numbers import counted, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..profiler import LatencyTable

__all__ = ["architecture_picture", "space_picture"]

# Lengths are in inches. A column is as wide as a phone shows at a size that can be read: of 3.6
# inches on 360 pixels, text of 8 points is 11 pixels high. So labels and what may be chosen stand
# under each other, and a page that is wider shows the same picture, larger.
_WIDTH, _MARGIN, _GUTTER = 3.6, 0.14, 0.5
_TALLEST = 80.0
"""A picture that would be taller has several columns: browsers and encoders have limits."""

_LINE, _GAP = 0.165, 0.1
_BAR = 0.62
"""Of the longest bar; the percentage stands at the right of it."""

_NAME, _TEXT, _CHIP = 8.4, 7.6, 7.6
"""Points of labels, of what is told of them, and of values."""


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
    """Draw an architecture into a file: an entry for each decision, in the order of the network.

    All values of the label, the chosen one filled; what comes out; the share of the cost. Blocks
    of a repeat stand together, those that are not used hollow. It is one column, which can be read
    at the width of a phone.

    Parameters
    ----------
    space, arch
        What to draw; the space may be restricted.
    input_shape, inputs
        Of one sample, without the batch; or what the space is called with.
    path
        The file; its ending says which format. Its folder is made if there is none, as of every
        file that this library writes.
    title
        What stands above.
    cost
        Whose shares are drawn: ``'macs'``, ``'params'`` or a table of measured times.

    Raises
    ------
    UsageError
        No picture ends so, or matplotlib is not installed.
    StorageError
        The file cannot be written.

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
    try:
        number = counted(space.count())
    except DomainError:  # of a continuous label
        number = "infinitely many"
    words = f"{_name_of(space)}: {number} architectures, "
    words += f"{sum(bool(row.label) for row in rows)} labels"
    _draw(rows, title or words, path, cost, whole=True)


def _name_of(space: Any) -> str:
    return type(getattr(space, "space", space)).__name__


# -- what stands where -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _ValueChip:
    """A value with the box around it: its place among all, its lines, its left edge, its size."""

    place: int
    lines: Sequence[str]
    left: float
    wide: float
    high: float


@dataclass(frozen=True)
class _DecisionEntry:
    """What is drawn of a decision, or of the head of a repeat, and how high that is.

    What comes out stands at the right of the name, if there is room; else of the last values; else
    on a line of its own.
    """

    row: Decision | None
    group: str
    name: Sequence[str]
    told: str
    place: str
    chips: Sequence[Sequence[_ValueChip]]
    high: float
    last: bool = False
    """Whether it is the last of its repeat."""


def _entry(row: Decision, ruler: Ruler, *, whole: bool) -> _DecisionEntry:
    told = "" if whole else row.shape if row.used else "not used"
    text = row.label or row.kind
    text += f"  ({row.more + 1}\N{NO-BREAK SPACE}modules)" if row.more else ""
    room = _WIDTH - (_BAR + 0.42 if row.share or row.spread[1] else 0.0)
    name = ruler.lines(text, _NAME, room)
    chips = [] if row.position is not None else list(_flow(row.values, ruler))
    wide = 0.15 + ruler.width(told, _TEXT)
    if len(name) == 1 and ruler.width(name[0], _NAME) + wide <= room:
        place = "name"
    elif chips and chips[-1][-1].left + chips[-1][-1].wide + wide <= _WIDTH:
        place = "values"
    else:
        place = "line"
    high = _LINE * (len(name) + bool(told and place == "line"))
    high += 1.15 * _LINE * (row.position is not None)
    high += sum(max(chip.high for chip in line) + 0.035 for line in chips)
    return _DecisionEntry(row, row.group, name, told, place, chips, high + _GAP)


def _flow(values: Sequence[str], ruler: Ruler) -> Iterator[list[_ValueChip]]:
    """Yield lines of values, as many on each as there is room for."""
    line: list[_ValueChip] = []
    left = 0.0
    for place, text in enumerate(values):
        lines = ruler.lines(text or " ", _CHIP, _WIDTH - 0.12)
        wide = max(0.16, *(ruler.width(one, _CHIP) + 0.09 for one in lines))
        if line and left + wide > _WIDTH:
            yield line
            line, left = [], 0.0
        line.append(_ValueChip(place, lines, left, wide, 0.03 + 0.125 * len(lines)))
        left += wide + 0.04
    if line:
        yield line


def _entries(rows: Sequence[Decision], ruler: Ruler, *, whole: bool) -> Iterator[_DecisionEntry]:
    last = ""
    for row, following in zip(rows, [*(row.group for row in rows[1:]), ""], strict=True):
        if row.group != last and row.group:
            name = ruler.lines(f"repeat {row.group}", _TEXT, _WIDTH)
            yield _DecisionEntry(
                None, row.group, name, "", "name", [], _LINE * len(name) + 0.3 * _GAP
            )
        last = row.group
        yield replace(_entry(row, ruler, whole=whole), last=row.group != following)


def _columns(entries: Sequence[_DecisionEntry]) -> list[list[_DecisionEntry]]:
    """Share entries out among as few columns as are not too tall, of about the same height."""
    total = sum(entry.high for entry in entries)
    wanted = total / math.ceil(total / _TALLEST)
    columns: list[list[_DecisionEntry]] = [[]]
    filled = 0.0
    for entry in entries:
        if columns[-1] and filled + entry.high / 2 > wanted:
            columns.append([])
            filled = 0.0
        columns[-1].append(entry)
        filled += entry.high
    return columns


# -- drawing ---------------------------------------------------------------------------------------


def _draw(
    rows: Sequence[Decision], title: str, path: Path | str, cost: str | LatencyTable, *, whole: bool
) -> None:
    ruler = Ruler()
    columns = _columns(list(_entries(rows, ruler, whole=whole)))
    full = len(columns) * (_WIDTH + _GUTTER) - _GUTTER
    what = {"macs": "multiply-adds", "params": "parameters"}.get(str(cost), "measured time")
    legend = (
        "bars: mean share of {}, lines: its range" if whole else "filled: chosen; bars: share of {}"
    )
    heads = [(line, 10.5, INK, "bold") for line in ruler.lines(title, 10.5, full, "bold")]
    if any(row.share for row in rows):
        heads += [(legend.format(what), _TEXT, MUTED, "normal")]
    top = 0.21 * len(heads) + 0.1
    high = top + max(sum(entry.high for entry in column) for column in columns)
    figure = new_figure(full + 2 * _MARGIN, high + 2 * _MARGIN, constrained=False)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-_MARGIN, full + _MARGIN)
    axes.set_ylim(high + _MARGIN, -_MARGIN)
    axes.axis("off")
    for place, (text, size, colour, weight) in enumerate(heads):
        axes.text(0, 0.21 * (place + 0.5), html.plain(text), fontsize=size, color=colour,
                  weight=weight, va="center")  # fmt: skip
    pen = _DecisionPen(axes, max(max(row.share, row.spread[1]) for row in rows) or 1.0, whole=whole)
    for number, column in enumerate(columns):
        at = top
        for entry in column:
            pen.entry(entry, number * (_WIDTH + _GUTTER), at)
            at += entry.high
    save(figure, path, dpi=200)


class _DecisionPen:
    """Draws entries on axes whose unit is the inch."""

    def __init__(self, axes: Axes, most: float, *, whole: bool) -> None:
        self.axes, self.most, self.whole = axes, most, whole

    def text(self, x: float, y: float, text: str, size: float, colour: str, **look: Any) -> None:
        self.axes.text(
            x, y, html.plain(text), fontsize=size, color=colour, **{"va": "center", **look}
        )

    def entry(self, entry: _DecisionEntry, left: float, at: float) -> None:
        if entry.group:
            x, end = left - 0.06, at + entry.high - (0.6 * _GAP if entry.last else 0.0)
            self.axes.plot([x, x], [at, end], color=FAINT, lw=1.5, solid_capstyle="butt")
        # The line of a repeat at its left is drawn piece by piece by the entries themselves, which
        # may be in several columns; that of the last entry ends above the gap to the next.
        row = entry.row
        dark = INK if row is not None and row.used else MUTED
        look = {} if row is not None else {"style": "italic"}
        size = _NAME if row is not None else _TEXT
        for place, line in enumerate(entry.name):
            self.text(left, at + _LINE * (place + 0.5), line, size, dark, **look)
        if row is None:
            return
        middle = at + _LINE / 2
        if row.used and (row.share or row.spread[1]):
            self.bar(row, left + _WIDTH - _BAR - 0.36, middle)
        y = at + _LINE * len(entry.name)
        if entry.place == "name":
            end = left + _WIDTH - (_BAR + 0.42 if row.share or row.spread[1] else 0.0)
            self.text(end, middle, entry.told, _TEXT, MUTED, ha="right")
        elif entry.place == "line":
            self.text(left, y + _LINE / 2, entry.told, _TEXT, MUTED)
            y += _LINE
        if row.position is not None:
            self.range(row, left, y + 0.5 * _LINE)
        for chips in entry.chips:
            for chip in chips:
                self.chip(chip, row, left, y)
            last, y = y + chips[-1].high / 2, y + max(chip.high for chip in chips) + 0.035
        if entry.place == "values":
            self.text(left + _WIDTH, last, entry.told, _TEXT, MUTED, ha="right")

    def chip(self, chip: _ValueChip, row: Decision, left: float, top: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        chosen = chip.place in row.chosen
        self.axes.add_patch(
            FancyBboxPatch(
                (left + chip.left, top), chip.wide, chip.high,
                boxstyle="round,pad=0,rounding_size=0.04",
                facecolor=CHOSEN if chosen else FREE if row.used else "none",
                edgecolor=CHOSEN if chosen else FAINT, linewidth=0.6,
                linestyle="-" if row.used else (0, (2, 2)),
            )
        )  # fmt: skip
        colour = "white" if chosen else INK if row.used else MUTED
        for place, line in enumerate(chip.lines):
            y = top + 0.015 + 0.125 * (place + 0.5)
            x = left + chip.left + chip.wide / 2
            self.text(x, y, line, _CHIP, colour, ha="center", va="center_baseline")

    def bar(self, row: Decision, left: float, middle: float) -> None:
        unit = _BAR / self.most
        self.axes.barh([middle], [unit * row.share], left=left, height=0.09, color=SHARE)
        if self.whole and row.spread[1] > row.spread[0]:
            ends = [left + unit * share for share in row.spread]
            self.axes.plot(ends, [middle] * 2, color=INK, lw=0.7)
        self.text(left + _BAR + 0.36, middle, percent(row.share), _TEXT, INK, ha="right")

    def range(self, row: Decision, left: float, middle: float) -> None:
        """Draw a range with its ends, and the value where it is in it."""
        low, high = row.values
        start, end = left + 0.075 * len(low) + 0.1, left + 2.6 - 0.075 * len(high)
        self.text(left, middle, low, _CHIP, MUTED)
        self.text(end + 0.1, middle, high, _CHIP, MUTED)
        self.axes.plot([start, end], [middle] * 2, color=FAINT, lw=2.5, solid_capstyle="round")
        if row.position is not None and row.position >= 0:
            x = start + (end - start) * min(1.0, row.position)
            self.axes.plot([x], [middle], "o", color=CHOSEN, markersize=4.5)
            self.text(left + _WIDTH, middle, row.text, _CHIP, CHOSEN, ha="right", weight="bold")
