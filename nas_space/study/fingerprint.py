"""What a space is, as plain data, and a digest of it: what stored results carry."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

from ..mutable import MISSING, Mutable, MutableSymbol
from ..mutable.node import Leaf, Node, postorder
from ..strategy.base import unrestricted

__all__ = ["Described", "describe", "differences", "fingerprint"]

_FORMAT = "nas_space.space/1"


class _Kind(TypedDict):
    kind: str


class DescribedLabel(_Kind, total=False):
    """What :func:`describe` says of a label; its domain may have further keys."""

    values: list[Any]


class Described(TypedDict, total=False):
    """What :func:`describe` gives, as it is read again; earlier versions say less."""

    format: str
    space: str
    arguments: dict[str, Any]
    labels: dict[str, DescribedLabel]
    structure: str
    conditions: list[str]


def describe(space: Any) -> Described:
    """Return a space as plain data that JSON can hold.

    Parameters
    ----------
    space
        A space or a restriction of one.

    Returns
    -------
    dict
        ``format``; ``space``, the name of its class; ``arguments``, what it was made with;
        ``labels``, each with its kind and domain; ``structure`` and ``conditions``, digests of
        which label is active when, and of what is required of architectures.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> facts = describe(ProxylessNAS(num_labels=10))
    >>> facts["space"], facts["arguments"]["num_labels"]
    ('ProxylessNAS', 10)
    >>> facts["labels"]["s2_depth"]
    {'kind': 'Categorical', 'values': [1, 2, 3, 4]}
    """
    base = unrestricted(space)
    return {
        "format": _FORMAT,
        "space": type(base).__name__,
        "arguments": _arguments(base),
        "labels": {label: _symbol(symbol) for label, symbol in base.symbols().items()},
        "structure": digest(base.structure()),
        "conditions": sorted(digest(condition) for condition in _conditions(space)),
    }


def fingerprint(space: Any) -> str:
    """Return a short digest of :func:`describe`: the same in every process.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> fingerprint(ProxylessNAS()) == fingerprint(ProxylessNAS(num_labels=10))
    False
    """
    return _digest(describe(space))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what distinguishes two descriptions, in words.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> small, large = describe(ProxylessNAS(num_labels=10)), describe(ProxylessNAS())
    >>> differences(small, large)
    ['num_labels is 10 there, 1000 here']
    """
    found: list[str] = []
    for part, name in (("format", "the format"), ("space", "the space")):
        if there.get(part) != here.get(part):
            found.append(f"{name} is {there.get(part)!r} there, {here.get(part)!r} here")
    for part, noun in (("arguments", ""), ("labels", "the label ")):
        theirs, ours = there.get(part, {}), here.get(part, {})
        for key in {**theirs, **ours}:
            what = f"{noun}{key!r}" if noun else key
            if key not in ours:
                found.append(f"{what} is not here")
            elif key not in theirs:
                found.append(f"{what} is not there")
            elif theirs[key] != ours[key]:
                found.append(f"{what} is {_short(theirs[key])} there, {_short(ours[key])} here")
    if there.get("conditions") != here.get("conditions"):
        found.append("other conditions are required of architectures")
    if not found and there.get("structure") != here.get("structure"):
        found.append("the same labels are active under other conditions")
    return found


def digest(expression: Any) -> str:
    """Return a short digest of an expression."""
    return _digest(_program(expression))


def _conditions(space: Any) -> Iterable[Any]:
    base = unrestricted(space)
    for constraint in (*base.constraints(), *(() if base is space else space.conditions)):
        yield getattr(constraint, "expression", constraint)


def _arguments(space: Any) -> dict[str, Any]:
    """The arguments of the constructor, defaults included, as far as they are plain data."""
    positional, keyword = getattr(space, "_arguments", ((), {}))
    try:
        bound = inspect.signature(type(space).__init__).bind(space, *positional, **keyword)
    except TypeError:  # made of a network, not by its class; the labels say what it is
        return {}
    bound.apply_defaults()
    _, *arguments = bound.arguments.items()  # the first is the space itself
    return {name: _plain(value) for name, value in arguments}


def _symbol(symbol: MutableSymbol[Any]) -> DescribedLabel:
    positional, keyword = symbol.arguments_of_call()
    names = ["values"] if len(positional) == 1 else ["low", "high"]
    given = {**dict(zip(names, positional, strict=True)), **keyword}
    told = {
        name: _plain(value)
        for name, value in given.items()
        if name != "label" and value is not None and value is not False and value is not MISSING
    }
    return cast("DescribedLabel", {"kind": type(symbol).__name__} | told)


def _program(root: Any) -> list[Any]:
    """An expression as a flat list, in an order that its structure alone determines."""
    if not isinstance(root, Node):
        return [_plain(root)]
    places: dict[Node, int] = {}
    program: list[Any] = []
    for node in postorder(root):
        if isinstance(node, Leaf):
            step: list[Any] = ["label", node.name]
        else:
            assert node.operator is not None
            step = [node.operator.name]
            step += [[places[a]] if isinstance(a, Node) else _plain(a) for a in node.arguments]
        places[node] = len(program)
        program.append(step)
    return program


def _plain(value: Any) -> Any:
    """A value as JSON holds it: what it cannot hold, by its type's or its own name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Mutable):
        return {"expression": digest(value.structure())}
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
