"""Values as people write them on a command line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, TypedDict

from ..errors import UsageError
from ..schema import checked

__all__ = [
    "amount",
    "architecture",
    "arguments_of",
    "budget",
    "budgets_of",
    "build",
    "check_rate",
    "duration",
    "shape_of",
]

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}


def amount(text: str) -> float:
    """Return a number such as ``320M``, ``0.8M``, ``6e6`` or ``800000``.

    Raises
    ------
    UsageError
        If it is none, or not positive.

    Examples
    --------
    >>> amount("320M"), amount("6e5")
    (320000000.0, 600000.0)
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([kKmMgG]?)\s*", text)
    try:
        value = float(found[1]) * _UNITS[found[2].upper()] if found else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise UsageError(
            f"{text!r} is no amount; write a positive number, with K, M or G if you like: 320M"
        )
    return value


def duration(text: str) -> float:
    """Return a time such as ``60ms`` or ``800us``, in microseconds.

    Raises
    ------
    UsageError
        If it is none, has no unit, or is not positive.

    Examples
    --------
    >>> duration("60ms"), duration("0.5 s")
    (60000.0, 500000.0)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(us|µs|ms|s)\s*", text)
    value = float(found[1]) * {"s": 1e6, "ms": 1e3}.get(found[2], 1.0) if found else 0.0
    if not 0 < value < math.inf:
        raise UsageError(f"{text!r} is no time; write a positive number with us, ms or s: 60ms")
    return value


def budgets_of(pairs: list[str] | None, **single: str | None) -> dict[str, float] | None:
    """Return the budget of each cost, from ``name=value`` and from options of their own.

    Parameters
    ----------
    pairs
        As ``--max`` takes them.
    single
        Name of a cost to what the option for it alone says. ``'none'`` stands for no budget.

    Returns
    -------
    dict or None
        ``None`` if nothing is said about budgets.

    Raises
    ------
    UsageError
        A budget is no positive amount, a time without a unit, or given twice.

    Examples
    --------
    >>> budgets_of(["params=5M", "latency=60ms"], macs="320M")
    {'params': 5000000.0, 'latency': 60000.0, 'macs': 320000000.0}
    """
    given = [pair.rpartition("=")[::2] for pair in pairs or ()]
    for (name, text), pair in zip(given, pairs or (), strict=True):
        if not name or not text:
            raise UsageError(f"--max takes name=value, such as macs=320M, but got {pair!r}")
    given += [(name, text) for name, text in single.items() if text is not None]
    found: dict[str, float] = {}
    for name, text in given:
        if name in found:
            raise UsageError(f"there are two budgets of {name}; give one")
        if text.lower() not in ("none", "0"):
            found[name] = budget(name, text)
    return found if given else None


def budget(cost: str, text: str) -> float:
    """Return a value of a cost as people write it: a time with its unit, or an amount."""
    from ..profiler import find_cost

    return duration(text) if find_cost(cost).unit == "us" else amount(text)


def check_rate(rate: float) -> None:
    """Refuse a learning rate that is not positive and finite, before anything takes long."""
    if not 0 < rate < math.inf:
        raise UsageError(f"--learning-rate must be positive, but is {rate}")


def build(space: str, arguments: dict[str, Any]) -> Any:
    """Return the space of a name, with arguments from the command line."""
    from ..hub.registry import find_space

    return find_space(space).build(arguments)


class _Arch(TypedDict):
    arch: dict[str, Any]


class _Facts(_Arch, total=False):
    space: str
    arguments: dict[str, Any]
    input_shape: list[int] | None


def architecture(file: Path) -> dict[str, Any]:
    """Return what a JSON file says about an architecture, itself under ``arch``.

    Parameters
    ----------
    file
        Holds a bare architecture, or what ``nas-space search`` writes.

    Raises
    ------
    UsageError
        If the file is not there, or holds none.
    StorageError
        If what it says beside the architecture is of another type than it can be.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {file}") from None
    except (OSError, RecursionError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no architecture: a JSON object from label to value")
    found = content if isinstance(content.get("arch"), dict) else {"arch": content}
    facts: dict[str, Any] = checked(found, _Facts, file)
    if facts.get("input_shape") is not None and min(facts["input_shape"], default=0) < 1:
        raise UsageError(f"{file}: input_shape is {facts['input_shape']}, no shape of an image")
    return facts


def arguments_of(pairs: list[str] | None, option: str = "--arg") -> dict[str, Any]:
    """Return arguments given as ``name=value``; values are JSON, or else strings."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{option} takes name=value, but got {pair!r}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
        except (RecursionError, ValueError) as error:
            raise UsageError(
                f"{option} {name} is nested too deeply, or a number of too many digits"
            ) from error
    return found


def shape_of(text: str) -> tuple[int, ...]:
    """Return a shape such as ``3,224,224``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"a shape is positive whole numbers with commas, but got {text!r}")
    return shape
