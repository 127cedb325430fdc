"""Formulas for modules whose costs torch's counter does not know, or counts otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from ..errors import UsageError
from ..mutable import Mutable
from .cost import FORMULAS, LayerCall

__all__ = ["FlopsResult", "Formula", "multiply_adds", "register_flops_formula"]


class FlopsResult(NamedTuple):
    """What a module costs.

    Attributes
    ----------
    flops
        Multiply-adds of one sample.
    params
        Learnable parameters.
    """

    flops: Any
    params: Any = 0

    def freeze(self, sample: Mapping[str, Any]) -> FlopsResult:
        """Return the costs of one architecture.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> width = Categorical([2, 4], label="width")
        >>> FlopsResult(8 * width, 9).freeze({"width": 4})
        FlopsResult(flops=32, params=9)
        """
        return FlopsResult(
            *[cost.freeze(sample) if isinstance(cost, Mutable) else cost for cost in self]
        )


Formula = Callable[..., "FlopsResult | float"]


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
    given: Any = module_type
    if not isinstance(given, type) or not issubclass(given, nn.Module):
        raise UsageError(f"a formula is for a class of modules, but got {given!r}")
    FORMULAS[module_type] = formula


def multiply_adds(formula: Formula, config: Any, call: LayerCall) -> int:
    """Return what a formula says of one call.

    Parameters
    ----------
    formula
        What was registered.
    call
        The call.
    config
        What a formula is given as ``config``, and whose fields it can ask for by name.

    Raises
    ------
    UsageError
        If the formula does not give a number of multiply-adds.
    """
    result = said_of(formula, config, call)
    number = result.flops if isinstance(result, FlopsResult) else result
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < 2**62:
        raise UsageError(
            f"a formula gives a number of multiply-adds, but that for {call.path!r} gave {number!r}"
        )
    return round(number)


def said_of(formula: Formula, config: Any, call: LayerCall) -> Any:
    """Return what a formula gives for one call, unchecked."""
    path, layer, inputs, outputs = call
    known = {"name": path, "shapes": {path: (inputs, outputs)}, "config": config}
    known |= {} if config is None else vars(config)
    wanted = inspect.signature(formula).parameters
    return formula(layer, inputs, outputs, **{name: known[name] for name in wanted & known.keys()})
