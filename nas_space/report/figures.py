"""Figures of matplotlib, which an extra of this library brings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import replacing
from ..lazy import installed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "Ruler", "check_format", "missing", "new_figure", "save"]

WIDTH = 4.4
"""Inches of a chart. A phone shows it on some 360 pixels, where text of 9 points is 10 high."""


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """Return an empty figure, which no window and no global state knows of.

    Parameters
    ----------
    width, height
        In inches.
    constrained
        Whether what is drawn makes room for its own labels.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    installed("matplotlib", "plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not by pyplot, which would choose a window system and keep the figure until it is closed.
    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


class Ruler:
    """Says how wide texts are in the font of pictures, in inches, and breaks them into lines."""

    def __init__(self) -> None:
        installed("matplotlib", "plots")
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.font_manager import FontProperties

        renderer: Any = RendererAgg
        self._renderer, self._font = renderer(8, 8, 72.0), FontProperties
        self._known: dict[tuple[str, float, str], float] = {}

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Return how wide a text is at a size in points."""
        if (text, size, weight) not in self._known:
            # At ten times the size: what is drawn at 72 dots an inch is rounded to whole dots.
            font = self._font(size=10 * size, weight=weight)
            wide, _, _ = self._renderer.get_text_width_height_descent(text, font, False)
            self._known[text, size, weight] = wide / 720
        return self._known[text, size, weight]

    def lines(self, text: str, size: float, room: float, weight: str = "normal") -> list[str]:
        """Return all of a text in lines no wider than the room.

        Words, and parts of paths, stay whole where they can.
        """
        found = [""]
        for word in re.findall(r"[^ ._]*[._]? *", text):
            if found[-1] and self.width((found[-1] + word).rstrip(), size, weight) > room:
                found.append("")
            for character in word:
                if found[-1] and self.width(found[-1] + character, size, weight) > room:
                    found.append("")
                found[-1] += character
        return [line.rstrip() for line in found]


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 120) -> None:
    """Write a figure into a file, whose ending says the format.

    Raises
    ------
    UsageError
        No picture ends so.
    """
    check_format(path)
    with replacing(path) as file:
        figure.savefig(file, dpi=dpi)


def check_format(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose ending is of no picture.

    Raises
    ------
    UsageError
        As said, or matplotlib is not installed.
    """
    installed("matplotlib", "plots")
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in known:
        raise UsageError(f"a picture's file ends in one of {sorted(known)}, unlike {path}")


def missing() -> str | None:
    """Return why nothing can be drawn here; ``None`` where it can."""
    try:
        installed("matplotlib", "plots")
    except UsageError as error:
        return str(error)
    return None
