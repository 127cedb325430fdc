"""Checks of the numbers that spaces of the hub are made with."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from ..errors import UsageError

__all__ = ["check_positive", "positive_numbers"]


def check_positive(**numbers: Any) -> None:
    """Refuse what is no positive whole number, by its name."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} must be a positive whole number, but got {number!r}")


def positive_numbers(
    name: str, numbers: Sequence[int], wanted: int, meaning: str = ""
) -> list[int]:
    """Return a fixed number of positive whole numbers as such.

    Parameters
    ----------
    name
        Of the argument.
    numbers
        What was given.
    wanted
        How many there are.
    meaning
        What they are, in order, for the message.

    Raises
    ------
    UsageError
        If they are something else.
    """
    try:
        found = [operator.index(number) for number in numbers]
    except TypeError:
        found = []
    if len(found) != wanted or min(found) < 1:
        what = f" ({meaning})" if meaning else ""
        raise UsageError(f"{name} are {wanted} positive whole numbers{what}, but got {numbers!r}")
    return found
