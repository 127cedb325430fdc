"""Profilers as NNI has them: classes that are made for a space, and asked about architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ...errors import SpaceError, UsageError, suggest
from ...mutable import MutableExpression
from ...profiler import Cost, FlopsResult
from ...profiler.cost import formula_for
from ...profiler.parameters import count_parameters
from .batch_dimension import batch_dimension, cut
from .extras import FormulaParameters, Operations

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
        cost = self.expression
        return cost.evaluate(sample) if isinstance(cost, MutableExpression) else cost


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
        arguments, or one that ends with a dictionary of named arguments.  One sample of the
        batch is counted: along ``batch_dim``, or all if the space only runs without cutting.
    batch_dim
        The dimension of the batch. By default the first, but where attention or recurrent layers
        take the sequence first; inputs may also have none.
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

    def __init__(
        self, model_space: nn.Module, args: Any, *, batch_dim: int | None = None, **config: bool
    ) -> None:
        super().__init__(model_space)
        self.config = _config(config)
        self.flops_result = FlopsResult(
            _of_one(Operations(self.config), model_space, args, batch_dim),
            _params(model_space, args, self.config, batch_dim),
        )

    def profile(self, sample: Mapping[str, Any]) -> FlopsResult:
        """Return both costs of an architecture."""
        return self.flops_result.freeze(sample)


class FlopsProfiler(ExpressionProfiler):
    """The operations of :class:`FlopsParamsProfiler`."""

    def __init__(
        self, model_space: nn.Module, args: Any, *, batch_dim: int | None = None, **config: bool
    ) -> None:
        super().__init__(model_space)
        self.expression = _of_one(Operations(_config(config)), model_space, args, batch_dim)


class NumParamsProfiler(ExpressionProfiler):
    """The parameters of :class:`FlopsParamsProfiler`."""

    def __init__(
        self,
        model_space: nn.Module,
        args: Any = None,
        *,
        batch_dim: int | None = None,
        **config: bool,
    ) -> None:
        super().__init__(model_space)
        self.expression = _params(model_space, args, _config(config), batch_dim)


def _params(
    space: nn.Module, args: Any, config: FlopsParamsCounterConfig, batch_dim: int | None
) -> Any:
    known = {
        id(inner)
        for module in space.modules()
        if args is not None and formula_for(module) is not None  # it needs shapes
        for inner in module.modules()
    }
    counted = count_parameters(
        space,
        lambda module: (
            id(module) not in known and (config.count_normalization or not _normalizes(module))
        ),
    )
    return (
        counted + _of_one(FormulaParameters(config), space, args, batch_dim) if known else counted
    )


def _of_one(cost: Cost, space: nn.Module, args: Any, batch_dim: int | None) -> Any:
    """Return the cost of one sample of a batch."""
    if batch_dim is None:
        batch_dim = batch_dimension(space, args)
    tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
    if batch_dim is None or any(x.dim() <= batch_dim for x in tensors if x.dim()):
        return cost(space, inputs=args)
    try:
        return cost(space, inputs=cut(args, batch_dim))
    except SpaceError:
        # What had no batch was cut along its channels; if it does not run whole, that is told.
        return cost(space, inputs=args)


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
