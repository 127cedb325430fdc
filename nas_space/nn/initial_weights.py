"""Plain numbers for initial weights, in constructors where sizes are expressions.

An initialisation such as ``weight.normal_(0, math.sqrt(2 / fan))`` takes the fan of the weights
that there are: in a space, those of the largest sizes.  What a constructor does with a plain
number cannot be followed, and anything else would be the same in all architectures, though it
was made of what differs between them.  So the constructor is run a second time, with the numbers
at the other end, and everything but the initial weights has to come out the same.
"""

from __future__ import annotations

import copy
import io
import math
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from ..errors import ExpressionError
from ..mutable.expression import PLAIN_NUMBERS
from ..mutable.lazy import evaluate
from ..mutable.node import Node
from .construction import slim
from .freezing import cell_content

__all__ = ["built"]

T = TypeVar("T")

_STRANGE = 1.0000137629
"""A factor after which a number is none of those that a constructor may ask for by ``==``."""


def built(build: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Return what a constructor of a space makes, which may take plain numbers for its weights.

    While it is built for one architecture, the numbers are those of that architecture.

    Parameters
    ----------
    build
        Runs the constructor.
    args, kwargs
        The arguments.

    Raises
    ------
    ExpressionError
        If something else than initial weights depends on a number.
    """
    only = slim()
    if only is not None:
        with PLAIN_NUMBERS.entering(lambda expression: float(only(expression))):
            return build(*args, **kwargs)
    start = torch.get_rng_state()
    numbers = _Numbers(max)
    with PLAIN_NUMBERS.entering(numbers):
        space = build(*args, **kwargs)
    if numbers.taken:
        with torch.random.fork_rng(devices=()):
            _check(space, numbers, build, (args, kwargs), start)
    return space


class _Numbers:
    """Reads expressions as numbers, and notes which.

    Parameters
    ----------
    extreme
        Which value of a label counts, of the smallest and the largest.
    factor
        What numbers are multiplied by.
    """

    def __init__(self, extreme: Callable[..., Any], factor: float = 1.0) -> None:
        self.extreme, self.factor = extreme, factor
        self.taken: dict[Node, None] = {}
        self._known: dict[Node, Any] = {}

    def __call__(self, expression: Any) -> float:
        self.taken[expression] = None
        return float(evaluate(expression, self._value, self._known)) * self.factor

    def _value(self, leaf: Any) -> Any:
        low, high = leaf.interval()
        found = self.extreme(low, high)
        return found if math.isfinite(found) else leaf.default_choice()


def _check(
    space: Any, numbers: _Numbers, build: Callable[..., Any], arguments: Any, start: torch.Tensor
) -> None:
    try:
        torch.set_rng_state(start)
        args, kwargs = copy.deepcopy(arguments)
        with PLAIN_NUMBERS.entering(_Numbers(min, _STRANGE)):
            other = build(*args, **kwargs)
        if _outline(other) != _outline(space):
            where = _first_difference(space, other)
            raise _refusal(space, numbers, f"{where} is another with other numbers")
    except ExpressionError:
        raise
    except Exception as error:
        raise _refusal(space, numbers, f"built again with others, it says: {error}") from error


def _refusal(space: Any, numbers: _Numbers, why: str) -> ExpressionError:
    taken = [*map(str, numbers.taken)]
    listed = ", ".join(taken[:3]) + (", ..." if len(taken) > 3 else "")
    return ExpressionError(
        f"the constructor of {type(space).__name__} takes {listed} as a plain number, which "
        "differs between architectures, so only initial weights may depend on it, but "
        f"{why}; keep the expression, and give it to layers of nas_space.nn or read it in forward"
    )


def _first_difference(space: Any, other: Any) -> str:
    theirs = dict(_parts(other))
    for where, part in _parts(space):
        if where not in theirs or _outline(part) != _outline(theirs[where]):
            return where
    return "what it holds"


def _parts(space: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield what the modules of a space hold, module by module, with where it is."""
    for path, module in space.named_modules():
        state = vars(module)
        for name, value in (state | state["_parameters"] | state["_buffers"]).items():
            if name not in _REGISTERED:
                yield f"{path}.{name}".lstrip("."), value


_REGISTERED = ("_parameters", "_buffers", "_modules")


def _outline(space: Any) -> bytes:
    """Return all that a space is, but for the values of weights that are trained."""
    written = io.BytesIO()
    _Outliner(written, protocol=pickle.HIGHEST_PROTOCOL).dump(space)
    return written.getvalue()


class _Outliner(pickle.Pickler):
    """Writes what can be compared; of what pickles by name or not at all, what it holds."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            described = (type(obj).__qualname__, tuple(obj.shape), str(obj.dtype), str(obj.device))
            trains = isinstance(obj, torch.nn.Parameter) and obj.requires_grad
            return _Described, (*described, None if trains else obj.detach().cpu().tolist())
        if obj is _Described:
            return NotImplemented
        if isinstance(obj, (type, types.FunctionType)):
            # What a function holds comes second: it may hold itself.
            held = _held_by(obj) if isinstance(obj, types.FunctionType) else None
            return _Described, (obj.__module__, obj.__qualname__), held
        if isinstance(obj, types.ModuleType):
            return _Described, (obj.__name__,)
        if isinstance(obj, torch.nn.Module):
            return _Described, (type(obj),), vars(obj)
        return NotImplemented


def _held_by(function: types.FunctionType) -> dict[str, Any]:
    contents = [cell_content(cell) for cell in function.__closure__ or ()]
    defaults = (function.__defaults__, function.__kwdefaults__)
    return {"code": function.__code__.co_code, "cells": contents, "defaults": defaults}


class _Described:
    """Stands in an outline for what it describes; never made."""
