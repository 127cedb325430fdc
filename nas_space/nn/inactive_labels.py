"""Labels that are not active: checks of what an architecture says of them all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import NasSpaceError, SampleValidationError, suggest
from ..mutable import CategoricalMultiple, MutableSymbol
from ..mutable.labels import incomparable, listed

__all__ = ["Symbols", "check_inactive", "is_retired"]

Symbols = Mapping[str, MutableSymbol[Any]]


def check_inactive(name: str, value: Any, known: Symbols, space: str) -> None:
    """Check a label that is not active: it must be known, and its value allowed.

    Parameters
    ----------
    name, value
        The label, and what an architecture says of it.
    known
        The labels of the space.
    space
        What the space is called.

    Raises
    ------
    SampleValidationError
        If there is no such label, or it does not take the value.
    """
    if name in known:
        try:
            known[name].coerce(value)
        except NasSpaceError:
            raise
        except Exception as error:
            raise incomparable(name, value, error) from error
    elif not _is_flag(name, known):
        raise SampleValidationError(
            f"{space} has no label {name!r}{suggest(name, known)}; it has {listed(known)}",
            label=name,
        )


def is_retired(name: str, value: Any, retired: Mapping[str, Any]) -> bool:
    """Return whether a label is one that a space no longer has, with the value it always had.

    Raises
    ------
    SampleValidationError
        If it has another value.
    """
    if name not in retired:
        return False
    only = retired[name]
    if type(value) is not type(only) or value != only:
        raise SampleValidationError(
            f"the label {name!r} is retired and can only be {only!r}, but got {value!r}; "
            "leave it out",
            label=name,
        )
    return True


def _is_flag(name: str, known: Symbols) -> bool:
    """Return whether a label is part of a multiple choice given as one yes or no for each value."""
    whole, _, place = name.rpartition("/")
    several = known.get(whole)
    return (
        isinstance(several, CategoricalMultiple)
        and place.isdigit()
        and int(place) < len(several.values)
    )
