"""``Stage``: a part of a run that can be interrupted at any moment and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnProgress", "Stage"]

OnProgress = Callable[[str, int, int, str], object]
"""Called with the stage, how many of its steps are done, of how many, and a word on the state."""


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes
    ----------
    name
        What the progress shows.
    length
        Number of its steps.
    work
        Cost of one step, in steps of training a network: progress weighs the stages by it.
    do
        Do what is left of the stage, and say so by the :data:`OnProgress` that it is given. It
        keeps what it needs in the work folder of the run, so that it ends with the same result
        when the process is killed at any moment and the run is resumed.
    """

    name: str
    length: int
    work: float
    do: Callable[[OnProgress], None]
