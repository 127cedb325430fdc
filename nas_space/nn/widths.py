"""``Widths``: which arguments of an elastic layer say how wide its input and output are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Widths"]


@dataclass(frozen=True)
class Widths:
    """The widths of a layer's input and output, for who runs it at several widths at once.

    Attributes
    ----------
    inputs, outputs
        The arguments that say them; ``inputs`` is ``None`` if the input has no width.
    axis
        Where the width is in the input and the output.
    reads
        How an output element depends on those of the input: on all of them, each weighted by an
        element of ``weight`` (``"sum"``); on the one at its own place (``"channel"``); on
        statistics over the width (``"mean"``); or on a row that the input names (``"lookup"``).
    inputs_first
        Whether ``weight`` has the input elements on its first axis, not on its second.
    broadcasts
        Whether a width of 1 goes with every input.
    """

    inputs: str | None
    outputs: str
    axis: int
    reads: Literal["sum", "channel", "mean", "lookup"] = "sum"
    inputs_first: bool = False
    broadcasts: bool = False
