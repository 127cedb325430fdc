"""Costs of the architectures of a space, as expressions over its labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .cost import Cost, LayerCall, UnknownOperatorError, formula_for
from .operator_calls import OperatorCall
from .profile import InputShape, Space

__all__ = ["Flops", "Macs", "flops", "macs"]


class Macs(Cost):
    """Multiply-adds; see :func:`macs`.

    Parameters
    ----------
    config
        What formulas of layers are given as ``config``.
    """

    name, unit = "macs", "MACs"

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def of_operator(self, call: OperatorCall) -> float:
        return _flops(call) // 2

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        return _rule(module, self.config)


class Flops(Cost):
    """Floating-point operations; see :func:`flops`."""

    name, unit = "flops", "FLOPs"

    def of_operator(self, call: OperatorCall) -> float:
        return _flops(call)

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        rule = _rule(module, None)
        return None if rule is None else lambda call: 2 * rule(call)


def _flops(call: OperatorCall) -> int:
    flops = call.flops
    if flops is None:
        raise UnknownOperatorError
    return flops


def _rule(module: nn.Module, config: Any) -> Callable[[LayerCall], int] | None:
    """Return what says the multiply-adds of a module, if a formula does."""
    formula = formula_for(module)
    if formula is None:
        return None
    from .formulas import multiply_adds

    return lambda call: multiply_adds(formula, config, call)


def macs(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Count multiply-adds of one sample: convolutions, linear layers, matrix products, attention.

    Half of :func:`flops`.  Normalisation, biases, activations and pooling do not count.

    Parameters
    ----------
    space
        A space; any other module counts as one of a single architecture.
    input_shape
        The shape of one sample, without the batch.
    inputs
        Instead: tensors as the forward takes them, a batch of one; only shapes and types count.
        A tensor, a tuple of arguments, or one that ends with a dictionary of named arguments.
    dtype
        The type of a sample given by its shape; torch's default by default.

    Returns
    -------
    MutableExpression[int]
        In multiply-adds; a plain ``int`` where all architectures cost the same.

    Raises
    ------
    UsageError
        If the shape is none.
    SpaceError
        If the space, or some architecture of it, does not run on such inputs, or if it calls
        something of which nobody knows what it costs.
    DecompositionError
        If too many labels determine something together.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS()
    >>> cost = macs(space, (3, 224, 224))
    >>> net = ProxylessNAS.load_searched_model("proxyless-mobile")
    >>> cost.evaluate(net.architecture)
    320427584
    """
    return Macs()(space, input_shape, inputs=inputs, dtype=dtype)


def flops(
    space: Space,
    input_shape: InputShape | None = None,
    *,
    inputs: Any = None,
    dtype: torch.dtype | None = None,
) -> Any:
    """Count floating-point operations of one sample, as ``torch.utils.flop_counter`` does.

    Two for each multiply-add; else as :func:`macs`.

    Returns
    -------
    MutableExpression[int]
        In operations.

    Examples
    --------
    >>> from nas_space.nn import MutableLinear
    >>> flops(MutableLinear(8, 4), (8,))
    64
    """
    return Flops()(space, input_shape, inputs=inputs, dtype=dtype)
