"""Costs as NNI counts them: mostly one more operation for each number, parameters by formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...profiler import FlopsResult, LayerCall, OperatorCall
from ...profiler.cost import formula_for
from ...profiler.costs import Macs
from ...profiler.formulas import said_of

__all__ = ["FormulaParameters", "Operations"]

aten = torch.ops.aten


class Operations(Macs):
    """Multiply-adds, and what a configuration says on top.

    Parameters
    ----------
    config
        What counts, as ``count_bias``, ``count_normalization`` and ``count_activation``; formulas
        of layers are given it, too.
    """

    name, unit = "operations", "operations"

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        found = super().rule_for(module)
        if found is None and isinstance(module, nn.MultiheadAttention):
            return self._of_attention
        return found

    def _of_attention(self, call: LayerCall) -> float:
        """Return what NNI counts for attention, by formula: scaling and softmax, too.

        The formula is NNI's ``_count_mhattn``, which has it from ptflops, with what is odd in it:
        scaling counts as many operations as the query is wide, and not the heads; a softmax counts
        one for each score, and a bias one for each number that it is added to.
        """
        layer: Any = call.layer
        query, key, value = call.inputs[:3]
        if len(query) < 3:
            samples, (length, source) = 1, (query[0], key[0])
        elif layer.batch_first:
            samples, (length, source) = query[0], (query[1], key[1])
        else:
            samples, (length, source) = query[1], (query[0], key[0])
        width, bias = layer.embed_dim, self.config.count_bias and layer.in_proj_bias is not None
        projected = length * (query[-1] + bias) + source * (key[-1] + value[-1] + 2 * bias)
        attended = length * source * (2 * width + layer.num_heads)
        scaled = length * query[-1]
        total: int = scaled + width * projected + attended + length * width * (width + bias)
        return samples * total

    def of_operator(self, call: OperatorCall) -> float:
        total = super().of_operator(call)
        packet = call.operator._overloadpacket
        if self.config.count_bias and packet in _BIASED:
            total += call.result.numel() if _BIASED[packet](call.args) else 0
        elif self.config.count_normalization and packet in _NORMALIZING:
            tensor, *others = call.args
            tensors = (other for other in others if other is None or _is_tensor(other))
            total += 2 * (1 + (next(tensors, None) is not None)) * tensor.numel()
        elif self.config.count_activation and packet in _ACTIVATIONS:
            total += call.args[0].numel()
        return total


class FormulaParameters(Macs):
    """The parameters that registered formulas say, once for each module that has one.

    A formula that only gives operations leaves the parameters to be counted.
    """

    name, unit = "params", "parameters"
    once = True

    def of_operator(self, call: OperatorCall) -> float:
        del call  # parameters of other modules are counted without following them
        return 0

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        formula = formula_for(module)
        if formula is None:
            return None

        def count(call: LayerCall) -> float:
            said = said_of(formula, self.config, call)
            if isinstance(said, FlopsResult):
                params: float = said.params
                return params
            return sum(parameter.numel() for parameter in call.layer.parameters())

        return count


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


_BIASED: dict[Any, Callable[[Any], bool]] = {
    aten.convolution: lambda args: args[2] is not None,
    aten.addmm: lambda args: bool(args[0].dim() == 1),
}
"""Operators that add a bias, and whether a call does."""

_NORMALIZING = frozenset(
    {
        aten.native_batch_norm,
        aten._native_batch_norm_legit,
        aten._native_batch_norm_legit_no_training,
        aten.native_layer_norm,
        aten.native_group_norm,
    }
)

_ACTIVATIONS = frozenset(
    {
        getattr(aten, name + suffix)
        for name in (
            *("relu", "elu", "celu", "selu", "silu", "gelu", "mish", "sigmoid", "tanh"),
            *("hardtanh", "hardswish", "hardsigmoid", "leaky_relu", "prelu", "softplus"),
            *("log_sigmoid", "threshold"),
        )
        for suffix in ("", "_")
        if hasattr(aten, name + suffix)
    }
)
