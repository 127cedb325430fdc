"""What an architecture says beside its active labels, and what it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..errors import SampleValidationError, suggest
from ..mutable import CategoricalMultiple, MutableSymbol, Sample
from ..mutable.base import listed

Symbols = Mapping[str, MutableSymbol[Any]]


def check_inactive(name: str, value: Any, known: Symbols, space: str) -> None:
    """Checks a label that is not active: it must be known, and its value allowed.

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
        known[name].coerce(value)
    elif not _is_flag(name, known):
        raise SampleValidationError(
            f"{space} has no label {name!r}{suggest(name, known)}; it has {listed(known)}",
            label=name,
        )


def is_retired(name: str, value: Any, retired: Mapping[str, Any]) -> bool:
    """Whether a label is one that a space no longer has, with the value it always had.

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
    """Whether a label is part of a multiple choice given as one yes or no for each value."""
    whole, _, place = name.rpartition("/")
    several = known.get(whole)
    return (
        isinstance(several, CategoricalMultiple)
        and place.isdigit()
        and int(place) < len(several.values)
    )


def digest(canonical: Sample, known: Symbols) -> str:
    """Sixteen hex digits that tell architectures of one space apart."""
    plain = {name: _plain(value, known[name]) for name, value in canonical.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any, symbol: MutableSymbol[Any]) -> Any:
    """A value as JSON can hold it: itself, or else its number among those of the symbol."""
    try:
        json.dumps(value)
    except TypeError:
        return ["code", symbol.code(value)]
    return value
