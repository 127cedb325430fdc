"""Figures of matplotlib, which an extra of this library brings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..files import replacing
from ..lazy import installed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_format", "missing", "new_figure", "save"]


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

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


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
