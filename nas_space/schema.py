"""What was read from a file, held to the types that the code which reads it is written for."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from .errors import StorageError

__all__ = ["checked"]

_LARGEST = 2**63
"""Whole numbers are below it, as those of torch and numpy are."""

_NAMES = {
    bool: "true or false", dict: "an object", float: "a number", int: "a whole number",
    list: "a list", NoneType: "null", str: "text",
}  # fmt: skip


def checked(value: Any, kind: Any, source: object) -> Any:
    """Return what a file says in the form of a type; refuse what is not of that.

    Whoever reads a file need not ask for each key whether it is there: what is declared for mypy
    is what is checked.

    Parameters
    ----------
    value
        As JSON, or a state of this library, gives it.
    kind
        A type: plain ones, ``list``, ``tuple``, ``dict`` and ``Mapping`` of types, unions,
        ``Literal``, a ``TypedDict`` (which may have further keys), or a dataclass, which is made.
        Under ``Any`` as everywhere else, text can be written, and so can be part of a path.
    source
        The file, for the message.

    Raises
    ------
    StorageError
        Something is missing or of another type; the message names the file and the key.

    Examples
    --------
    >>> checked({"steps": [1, 2]}, dict[str, list[int]], "plan.json")
    {'steps': [1, 2]}
    >>> checked({"steps": [1, "x"]}, dict[str, list[int]], "plan.json")
    Traceback (most recent call last):
        ...
    nas_space.errors.StorageError: plan.json is damaged: steps[1] is 'x', but a whole number is \
expected; restore a copy
    """
    try:
        return _taken(value, kind, "")
    except _MismatchError as error:
        raise StorageError(f"{source} is damaged: {error}; restore a copy") from None
    except RecursionError:
        raise StorageError(f"{source} is damaged: it is nested too deeply") from None


_hints = cache(get_type_hints)


class _MismatchError(Exception):
    """Says which key is wrong."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key or 'it'} {message}")
        self.key = key


def _taken(value: Any, kind: Any, key: str) -> Any:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(value, inner, key)
    if origin is Literal:
        _expect(value in inner, value, f"one of {', '.join(map(repr, inner))}", key)
        return value
    if is_typeddict(origin):
        _expect(isinstance(value, dict), value, _NAMES[dict], key)
        return value | _members(value, _hints(origin), origin.__required_keys__, key)
    if is_dataclass(origin):
        return _made(value, origin, key)
    if origin in (list, tuple, Sequence):
        _expect(isinstance(value, list | tuple), value, _NAMES[list], key)
        return _items(value, origin, inner, key)
    if origin in (dict, Mapping):
        _expect(isinstance(value, dict), value, _NAMES[dict], key)
        each = inner[1] if inner else Any
        for name in value:
            if isinstance(name, str):
                _text(name, key)
        return {name: _taken(v, each, _within(key, name)) for name, v in value.items()}
    return _plain(value, origin, key)


def _plain(value: Any, kind: Any, key: str) -> Any:
    """A value that has no parts, or whose parts may be anything."""
    if kind is Any:
        parts: dict[Any, Any] = {str: str, list: list[Any], dict: dict[str, Any]}
        return _taken(value, parts[type(value)], key) if type(value) in parts else value
    if kind is float:
        _expect(type(value) in (int, float) and _has_float(value), value, _NAMES[kind], key)
        return value
    _expect(type(value) is kind, value, _NAMES.get(kind, kind.__name__), key)
    if kind is int:
        _expect(abs(value) < _LARGEST, value, "a smaller number", key)
    return _text(value, key) if kind is str else value


def _one_of(value: Any, kinds: Iterable[Any], key: str) -> Any:
    """The first that fits; or the error of the one that fits furthest."""
    errors = []
    for kind in kinds:
        try:
            return _taken(value, kind, key)
        except _MismatchError as error:
            errors.append(error)
    raise max(errors, key=lambda error: len(error.key))


def _made(value: Any, kind: Any, key: str) -> Any:
    """A dataclass of what is given for it."""
    _expect(isinstance(value, dict), value, _NAMES[dict], key)
    known = fields(kind)
    needed = {f.name for f in known if f.default is MISSING and f.default_factory is MISSING}
    if foreign := [name for name in value if name not in {f.name for f in known}]:
        raise _MismatchError(_within(key, foreign[0]), "is not known to this version")
    return kind(**_members(value, _hints(kind), needed, key))


def _members(
    value: Mapping[str, Any], kinds: Mapping[str, Any], needed: Iterable[str], key: str
) -> dict[str, Any]:
    for name in needed:
        if name not in value:
            raise _MismatchError(_within(key, name), "is missing")
    for name in value:
        _text(name, key)
    return {
        name: _taken(each, kinds.get(name, Any), _within(key, name)) for name, each in value.items()
    }


def _items(value: Sequence[Any], origin: Any, inner: tuple[Any, ...], key: str) -> Any:
    kinds: Iterable[Any] = [inner[0] if inner else Any] * len(value)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        _expect(len(value) == len(inner), value, f"a list of {len(inner)}", key)
        kinds = inner
    found = [
        _taken(each, kind, f"{key}[{place}]")
        for place, (each, kind) in enumerate(zip(value, kinds, strict=True))
    ]
    return tuple(found) if origin is tuple else found


def _text(value: Any, key: str) -> str:
    """Text that can be written and be in a path: JSON may hold halves of characters, and nulls."""
    _expect(isinstance(value, str), value, "text", key)
    can_be_written = not any("\ud800" <= c <= "\udfff" or c == "\0" for c in value)
    _expect(can_be_written, value, "text that can be written", key)
    return str(value)


def _has_float(value: float) -> bool:
    try:
        return isinstance(float(value), float)
    except OverflowError:
        return False


def _expect(holds: bool, value: Any, what: str, key: str) -> None:
    if not holds:
        raise _MismatchError(key, f"is {reprlib.repr(value)}, but {what} is expected")


def _within(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
