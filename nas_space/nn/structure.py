"""What a tree of modules needs to know of an architecture: one expression for all of it.

Whatever a module holds is looked into as freezing does: attributes, and what stands in lists,
dictionaries, bound methods and partial functions.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from traceback import walk_tb
from typing import Any, cast

import torch
from torch import nn

from ..errors import ExpressionError
from ..mutable import Constraint, Mutable
from ..mutable.containers import side_by_side
from ..mutable.node import Node

__all__ = [
    "ATOMS",
    "BOOKKEEPING",
    "OF_EVERY_MODULE",
    "Survey",
    "explain_number",
    "explain_plain_layer",
    "held",
    "is_plain_layer",
    "modules_using",
    "refuse_misplaced",
]

ATOMS = frozenset(
    {
        *(int, float, str, bool, bytes, complex, range, type(None), type(Ellipsis), type),
        *(torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout),
        *(types.BuiltinFunctionType, types.ModuleType),
    }
)
"""Types of values that hold nothing and cannot change."""

BOOKKEEPING = frozenset(
    {"_structure", "_symbols", "_apart", "_arguments", "_architecture", "_shared"}
)
"""What spaces and networks remember of themselves."""

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""What torch keeps in each module."""

_LOOKED_INTO_APART = OF_EVERY_MODULE | BOOKKEEPING | {"_expressions", "_mutables"}


class Survey:
    """One look at a tree of modules, which are looked at once however often they are used."""

    def __init__(self) -> None:
        self.misplaced: list[nn.Module] = []
        self._known: dict[int, Node | None] = {}

    def __call__(self, module: nn.Module) -> Node | None:
        """What a module needs; ``None`` where nothing in it differs between architectures."""
        known = self._known
        key = id(module)
        if key not in known:
            known[key] = None  # what holds itself adds nothing to itself
            mutable = isinstance(module, Mutable)
            known[key] = cast(Any, module).describe(self) if mutable else self.contents(module)
        return known[key]

    def contents(self, module: nn.Module) -> Node | None:
        """Return what a module holds and its children need, side by side."""
        parts = self.own(module)
        for child in module._modules.values():
            if child is not None and (part := self(child)) is not None:
                parts.append(part)
        return side_by_side(parts)

    def own(self, module: nn.Module) -> list[Node]:
        """Return what a module holds itself; constraints last."""
        state = module.__dict__
        others = [
            found
            for name, value in state.items()
            if type(value) not in ATOMS and name not in _LOOKED_INTO_APART
            for found in held(value)
        ]
        if others and is_plain_layer(module):
            self.misplaced.append(module)
        registered: tuple[Any, ...] = ()
        if hasattr(type(module), "add_mutable"):  # else names are free for whoever wrote it
            registered = (
                *state.get("_expressions", _NOTHING).values(), *state.get("_mutables", ())
            )  # fmt: skip
        parts: list[Node] = []
        constraints: list[Node] = []
        for item in (*registered, *others):
            if isinstance(item, nn.Module):
                part = self(item)
            elif isinstance(item, Constraint):
                # Only the marker: a constraint is checked, but makes no label active.
                constraints.append(item.marker)
                continue
            else:
                part = item.structure()
            if part is not None:
                parts.append(part)
        return parts + constraints


_NOTHING: dict[str, Any] = {}


def held(value: Any, within: tuple[int, ...] = ()) -> Sequence[Any]:
    """Return the mutables and modules that a value is or holds; ``within`` says what holds it."""
    inside = _INSIDE.get(type(value))
    if inside is None:
        return (value,) if isinstance(value, (Mutable, nn.Module)) else ()
    if id(value) in within:  # a list may hold itself
        return ()
    within = (*within, id(value))
    items = [item for item in inside(value) if type(item) not in ATOMS]
    return [found for item in items for found in held(item, within)]


def _inside_dict(value: dict[Any, Any]) -> Iterable[Any]:
    return (*value, *value.values())


def _inside_set(value: Iterable[Any]) -> Iterable[Any]:
    return sorted(value, key=repr)  # in the same order in every process


def _inside_partial(value: functools.partial[Any]) -> Iterable[Any]:
    return (value.func, *value.args, *value.keywords.values())


_INSIDE: dict[type, Any] = {
    list: iter,
    tuple: iter,
    dict: _inside_dict,
    OrderedDict: _inside_dict,
    set: _inside_set,
    frozenset: _inside_set,
    functools.partial: _inside_partial,
    types.MethodType: lambda method: (method.__self__,),
}


def modules_using(root: nn.Module, label: str) -> str:
    """Return where in a space a label is used: paths of modules, for error messages."""
    survey = Survey()
    paths = []
    for path, module in root.named_modules():
        if any(label in part.symbols() for part in survey.own(module) if isinstance(part, Mutable)):
            paths.append(path or "(the space itself)")
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")


# -- expressions in plain layers --------------------------------------------------------------


def is_plain_layer(module: nn.Module) -> bool:
    """Return whether it is one of torch's own."""
    return type(module).__module__.startswith("torch.nn.modules")


def refuse_misplaced(root: nn.Module, survey: Survey) -> None:
    """Raise if a plain layer of torch was given an expression, which it would not understand."""
    for layer in survey.misplaced:
        given = _expressions(inspect.signature(type(layer)).parameters, vars(layer))
        if given:
            paths = [path for path, module in root.named_modules() if module is layer]
            raise _use_mutable_layer(type(layer), given, paths)


def explain_plain_layer(error: TypeError) -> ExpressionError | None:
    """Return an error that says so, if an expression reached a kernel through a plain layer."""
    for frame, _ in walk_tb(error.__traceback__):
        code, names = frame.f_code, frame.f_locals
        owner = names.get("self")
        if isinstance(owner, nn.Module) and code.co_name == "__init__" and is_plain_layer(owner):
            given = _expressions(code.co_varnames[: code.co_argcount], names)
            if given:
                return _use_mutable_layer(type(owner), given, [])
    return None


def explain_number(error: TypeError) -> ExpressionError | None:
    """Return an error that says what to write, if an expression was given for a number."""
    if isinstance(error, ExpressionError) or not _NAMES_OF_NODES.search(str(error)):
        return None
    return ExpressionError(
        f"{error}: this differs between architectures; for initial weights write float(...) "
        "around it, for all else keep the expression, or read it in forward"
    )


_NAMES_OF_NODES = re.compile(r"\b(MutableExpression|Categorical|Numerical)\b")


def _expressions(names: Iterable[str], values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor that are expressions."""
    return {name: value for name in names if isinstance(value := values.get(name), Node)}


def _use_mutable_layer(cls: type, given: dict[str, Any], paths: list[str]) -> ExpressionError:
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    where = f" (path: {', '.join(paths)})" if paths else ""
    return ExpressionError(
        f"torch.nn.{cls.__name__} needs plain numbers, but got {shown}; "
        f"use nas_space.nn.Mutable{cls.__name__} instead{where}"
    )
