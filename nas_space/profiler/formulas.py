"""Formulas for modules whose costs torch's counter does not know, or counts otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import UsageError
from ..mutable import Values
from ..mutable.node import leaves
from ..nn.freezing import Freezer
from ..nn.structure import Survey
from .cases import Array, Cases, Context, Label, Labels, joint
from .profile import Profile
from .tensors import unflatten
from .trace import Call, Step


class FlopsResult(NamedTuple):
    """What a module costs.

    Attributes
    ----------
    flops
        Multiply-adds of one sample, which NNI calls FLOPs.
    params
        Learnable parameters.
    """

    flops: Any
    params: Any = 0


Formula = Callable[..., "FlopsResult | float"]

_FORMULAS: dict[type[nn.Module], Formula] = {}


def register_flops_formula(module_type: type[nn.Module], formula: Formula) -> None:
    """Say what modules of a class cost, in place of what is counted inside of them.

    Parameters
    ----------
    module_type
        The class; subclasses without a formula of their own are included, and so is the
        ``Mutable`` form of a layer.
    formula
        Called with a frozen module and the shapes of its inputs and of its outputs: tuples
        of ``torch.Size``, the batch included; if it has parameters ``name``, ``shapes`` or
        ``config``, also with the path of the module, a dictionary from that path to its
        shapes, and the configuration of the :class:`FlopsParamsProfiler` that asks, if it is
        one, whose fields it can also ask for by name.  Gives multiply-adds, as a number or a
        :class:`FlopsResult`.

    Raises
    ------
    UsageError
        If the class is none of modules.

    Examples
    --------
    >>> from nas_space.profiler import macs
    >>> class Twice(nn.Linear):
    ...     pass
    >>> register_flops_formula(Twice, lambda module, x, y: 2 * x[0].numel() * module.out_features)
    >>> macs(Twice(8, 4), (8,))
    64
    """
    if not _is_module_class(module_type):
        raise UsageError(f"a formula is for a class of modules, but got {module_type!r}")
    _FORMULAS[module_type] = formula


def _is_module_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def formula_for(module: nn.Module) -> Formula | None:
    """The formula of a module: its class's method ``_count_flops``, or what is registered."""
    for cls in type(module).__mro__:
        own = vars(cls).get("_count_flops")
        if own is not None:
            return own  # type: ignore[no-any-return]
        if cls in _FORMULAS:
            return _FORMULAS[cls]
    return None


Counted = tuple[Context, Labels, Array]


def covered(of: Profile, config: Any = None) -> tuple[list[Counted], list[tuple[Call, Step]]]:
    """Split what a space does.

    Returns
    -------
    counted
        Tables of multiply-adds of the modules for which there is a formula.
    rest
        The calls of functions outside of these.
    """
    if not _FORMULAS and not any(hasattr(m, "_count_flops") for m in of.space.modules()):
        return [], list(of.steps())
    modules = dict(of.space.named_modules())
    counted: list[Counted] = []
    rest: list[tuple[Call, Step]] = []

    def visit(call: Call) -> None:
        formula = formula_for(modules[call.path])
        if formula is not None:
            counted.append(_table(call, modules[call.path], formula, config))
            return
        for step in call.steps:
            if isinstance(step, Call):
                visit(step)
            else:
                rest.append((call, step))

    visit(of.root)
    return counted, rest


def _table(call: Call, module: nn.Module, formula: Formula, config: Any) -> Counted:
    """What a formula gives, for each combination of what the module and its inputs are."""
    root = Survey()(module)
    symbols = [] if root is None else [leaf for leaf in leaves(root) if leaf.words]
    varying = [item for item in (*call.arguments[1], *call.results[1]) if isinstance(item, Cases)]
    for symbol in symbols:
        codes = np.arange(symbol.size)  # type: ignore[attr-defined]
        varying.append(Cases((Label.of(symbol),), codes, codes.tolist()))
    together = joint(varying, call.context)
    numbers = []
    for places in together.combinations:
        chosen = {id(item): item.values[i] for item, i in zip(varying, places, strict=True)}
        values = Values()
        for symbol, code in zip(symbols, places[len(places) - len(symbols) :], strict=True):
            values.known[symbol] = symbol.value(code)  # type: ignore[attr-defined]
        plain = Freezer(values, "share").module(module)
        inputs, outputs = (
            tuple(_shapes_in(spec, [chosen.get(id(item), item) for item in items]))
            for spec, items in (call.arguments, call.results)
        )
        extra = {"name": call.path, "shapes": {call.path: (inputs, outputs)}, "config": config}
        numbers.append(_evaluated(formula, plain, inputs, outputs, extra))
    return call.context, together.labels, np.array([*numbers, 0], dtype=np.int64)[together.ids]


def _shapes_in(spec: Any, leaves_: list[Any]) -> Iterator[torch.Size]:
    found: list[Any] = []
    _tensors(unflatten(spec, iter(leaves_)), found)
    return (tensor.shape for tensor in found)


def _tensors(value: Any, found: list[Any]) -> None:
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _tensors(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _tensors(item, found)


def _evaluated(
    formula: Formula, module: nn.Module, inputs: Any, outputs: Any, extra: dict[str, Any]
) -> int:
    wanted = inspect.signature(formula).parameters
    known = {**extra, **(vars(extra["config"]) if extra["config"] is not None else {})}
    result = formula(
        module, inputs, outputs, **{name: known[name] for name in wanted if name in known}
    )
    number = result.flops if isinstance(result, FlopsResult) else result
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < 2**62:
        raise UsageError(
            f"a formula gives a number of multiply-adds, but that for {extra['name']!r} gave "
            f"{number!r}"
        )
    return round(number)
