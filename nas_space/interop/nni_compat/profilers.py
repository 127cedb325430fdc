"""Profilers as NNI has them: classes that are made for a space, and asked about architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from ...errors import UsageError, suggest
from ...mutable import MutableExpression
from ...profiler import FlopsResult
from ...profiler.parameters import count_parameters
from .extras import Operations

__all__ = [
    "ExpressionProfiler",
    "FlopsParamsCounterConfig",
    "FlopsParamsProfiler",
    "FlopsProfiler",
    "NumParamsProfiler",
    "Profiler",
]


class Profiler:
    """Says what an architecture costs, quickly, after some work on the space.

    Parameters
    ----------
    model_space
        The space.
    """

    def __init__(self, model_space: nn.Module) -> None:
        self.model_space = model_space

    def profile(self, sample: Mapping[str, Any]) -> Any:
        """Return what an architecture costs."""
        raise NotImplementedError(f"{type(self).__name__} must implement profile()")


class ExpressionProfiler(Profiler):
    """A profiler whose answer is the value of an expression.

    Attributes
    ----------
    expression
        The cost, over the labels of the space; a plain number if that is the same for all.
    """

    expression: MutableExpression[Any] | float

    def profile(self, sample: Mapping[str, Any]) -> Any:
        """Return the value of the expression for an architecture."""
        return _value(self.expression, sample)


@dataclass(frozen=True)
class FlopsParamsCounterConfig:
    """What counts, besides multiply-adds.

    Attributes
    ----------
    count_bias
        One operation for each number that a bias is added to.
    count_normalization
        Two for each number that is normalised, and two more where it is scaled and shifted
        after; and the parameters of normalisations.
    count_activation
        One for each number that goes through an activation.
    """

    count_bias: bool = True
    count_normalization: bool = True
    count_activation: bool = True


class FlopsParamsProfiler(Profiler):
    """Operations and parameters of architectures, in NNI's way of counting.

    NNI counts a multiply-add as one operation, and what the configuration says on top.  For
    other ways, see :func:`~nas_space.profiler.macs` and :func:`~nas_space.profiler.flops`.

    Parameters
    ----------
    model_space
        The space.
    args
        Inputs to follow it on, of which only shapes and types count: a tensor, a tuple of
        arguments, or one that ends with a dictionary of named arguments.  Their first
        dimension is the batch, of which one sample is counted.
    config
        Fields of :class:`FlopsParamsCounterConfig`.

    Attributes
    ----------
    flops_result
        Both costs, as expressions.

    Raises
    ------
    UsageError
        If a field of the configuration does not exist.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> profiler = FlopsParamsProfiler(space, torch.zeros(2, 3, 32, 32), count_activation=False)
    >>> profiler.profile(space.sample(seed=0)).params == sum(
    ...     parameter.numel() for parameter in space.random(seed=0).parameters()
    ... )
    True
    """

    def __init__(self, model_space: nn.Module, args: Any, **config: bool) -> None:
        super().__init__(model_space)
        self.config = _config(config)
        self.flops_result = FlopsResult(
            _flops(model_space, args, self.config), _params(model_space, self.config)
        )

    def profile(self, sample: Mapping[str, Any]) -> FlopsResult:
        """Return both costs of an architecture."""
        return FlopsResult(*(_value(cost, sample) for cost in self.flops_result))


class FlopsProfiler(ExpressionProfiler):
    """The operations of :class:`FlopsParamsProfiler`."""

    def __init__(self, model_space: nn.Module, args: Any, **config: bool) -> None:
        super().__init__(model_space)
        self.expression = _flops(model_space, args, _config(config))


class NumParamsProfiler(ExpressionProfiler):
    """The parameters of :class:`FlopsParamsProfiler`."""

    def __init__(self, model_space: nn.Module, args: Any = None, **config: bool) -> None:
        super().__init__(model_space)
        del args  # NNI needs them, to follow the space; parameters need no inputs
        self.expression = _params(model_space, _config(config))


def _flops(space: nn.Module, args: Any, config: FlopsParamsCounterConfig) -> Any:
    one = tree_map_only(torch.Tensor, lambda tensor: tensor[:1], args)
    return Operations(config)(space, inputs=one)


def _params(space: nn.Module, config: FlopsParamsCounterConfig) -> Any:
    if config.count_normalization:
        return count_parameters(space)
    return count_parameters(space, lambda module: not _normalizes(module))


_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Those of torch; an elastic layer says it itself."""


def _normalizes(module: nn.Module) -> bool:
    return getattr(type(module), "is_normalization", isinstance(module, _NORMALIZATIONS))


def _config(fields: dict[str, bool]) -> FlopsParamsCounterConfig:
    known = FlopsParamsCounterConfig.__dataclass_fields__
    for name in fields:
        if name not in known:
            raise UsageError(
                f"unknown field {name!r}{suggest(name, known)}; there are {list(known)}"
            )
    return FlopsParamsCounterConfig(**fields)


def _value(cost: Any, sample: Mapping[str, Any]) -> Any:
    return cost.evaluate(sample) if isinstance(cost, MutableExpression) else cost
