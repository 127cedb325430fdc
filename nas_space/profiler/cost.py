"""``Cost``: what one call costs, and the cost of a space that follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from ..errors import SpaceError, UsageError
from ..mutable import Values
from ..mutable.factors import Factor
from ..mutable.node import leaves
from ..mutable.piecewise import Piecewise
from ..nn.freezing import Freezer
from ..nn.structure import Survey
from .accumulation import Accumulator, titled
from .execution import Execution
from .operator_calls import OperatorCall
from .profile import InputShape, Profile, Space, profile
from .trace import ModuleCall, Way

__all__ = ["FORMULAS", "Cost", "LayerCall", "UnknownOperatorError", "formula_for"]

FORMULAS: dict[type[nn.Module], Callable[..., Any]] = {}
"""What is registered by :func:`~nas_space.profiler.register_flops_formula`, by class."""


def formula_for(module: nn.Module) -> Callable[..., Any] | None:
    """Return the formula of a module: ``_count_flops`` of its class, or what is registered."""
    for cls in type(module).__mro__:
        found = vars(cls).get("_count_flops", FORMULAS.get(cls))
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


class LayerCall(NamedTuple):
    """One call of a layer, as a cost is told of it; the same in a space and in a frozen network.

    Attributes
    ----------
    path
        Which module of the space it is.
    layer
        The layer that an architecture freezes to, with its weights.
    inputs, outputs
        The shapes of its tensors, the batch included.
    """

    path: str
    layer: nn.Module
    inputs: tuple[torch.Size, ...]
    outputs: tuple[torch.Size, ...]


class UnknownOperatorError(Exception):
    """A cost cannot say what an operator costs; caught where the module is known."""


class Cost:
    """A cost that is a sum over calls.

    A subclass says what one call of an operator of torch costs, :meth:`of_operator`.  For layers
    that it knows as a whole, it may have a rule instead, :meth:`rule_for`.  An instance is called
    like :func:`~nas_space.profiler.macs`.

    Attributes
    ----------
    name
        What it prints as in error messages and reports.
    unit
        What is counted.

    Examples
    --------
    >>> class Written(Cost):
    ...     name, unit = "written", "bytes"
    ...
    ...     def of_operator(self, call):
    ...         return 0 if call.is_view else sum(out.nbytes for out in call.outputs)
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> layer = MutableLinear(8, Categorical([2, 4], label="width"))
    >>> Written()(layer, (8,)).evaluate({"width": 4})  # 4 numbers of 4 bytes
    16
    """

    name: ClassVar[str] = "cost"
    unit: ClassVar[str] = ""
    once: ClassVar[bool] = False
    """Whether what a rule says of a module counts once, however often the module is called."""

    def of_operator(self, call: OperatorCall) -> float:
        """Return what one call of an operator costs: a number, whole where budgets are counted.

        Raises
        ------
        UnknownOperatorError
            If nobody knows.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement of_operator()")

    def rule_for(self, module: nn.Module) -> Callable[[LayerCall], float] | None:
        """Return what says the cost of a module's calls as a whole; by default, nothing does.

        Parameters
        ----------
        module
            A module of the space, such as an elastic layer.

        Returns
        -------
        callable or None
            ``None`` to be asked about the operators that it calls.
        """
        del module
        return None

    def __call__(
        self,
        space: Space,
        input_shape: InputShape | None = None,
        *,
        inputs: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Return the cost of each architecture of a space.

        Parameters
        ----------
        space, input_shape, inputs, dtype
            As of :func:`~nas_space.profiler.macs`.

        Returns
        -------
        MutableExpression
            In :attr:`unit`; a plain number where all architectures cost the same.

        Raises
        ------
        UsageError
            If the shape is none, or if a call costs what is no number.
        SpaceError
            If the space does not run on such inputs, or if it calls something of which the cost
            does not know what it costs.
        DecompositionError
            If too many labels determine something together.
        """
        return self.of(profile(space, input_shape, inputs=inputs, dtype=dtype))

    def of(self, followed: Profile) -> Any:
        """Return the cost of a space that has been followed."""
        space = followed.space
        total = Accumulator(space)
        modules = dict(space.named_modules())
        known: dict[int, float] = {}
        counted: set[str] = set()

        def visit(call: ModuleCall) -> None:
            module = modules[call.path]
            rule = self.rule_for(module)
            if rule is not None:
                if self.once and call.path in counted:
                    return
                counted.add(call.path)
                total.add(_over_arguments(call, module, self._by(rule)), call.context)
                return
            for inner in call.calls:
                if isinstance(inner, ModuleCall):
                    visit(inner)
                    continue
                for execution in inner.executions.values:
                    if id(execution) not in known:
                        known[id(execution)] = self._of_execution(execution, call.path)
                if any(known[id(execution)] for execution in inner.executions.values):
                    costs = inner.executions.quantity(lambda execution: known[id(execution)])
                    total.add(costs, inner.context)

        visit(followed.root)
        return titled(total.sum(), self.name)

    def _of_execution(self, execution: Execution, path: str) -> float:
        total: float = 0
        for call in execution.operators:
            try:
                total += self._checked(self.of_operator(call), call.name)
            except UnknownOperatorError:
                raise SpaceError(
                    f"nobody knows what {call.operator.name()} costs, which {path or 'the space'} "
                    "calls; say so with torch.utils.flop_counter.register_flop_formula, or for the "
                    "module that calls it with nas_space.profiler.register_flops_formula"
                ) from None
        return total

    def _by(self, rule: Callable[[LayerCall], float]) -> Callable[[LayerCall], float]:
        return lambda call: self._checked(rule(call), call.path or type(call.layer).__name__)

    def _checked(self, number: Any, what: str) -> float:
        if isinstance(number, np.generic):
            number = number.item()
        if (
            isinstance(number, bool)
            or not isinstance(number, (int, float))
            or not math.isfinite(number)
            or abs(number) >= 2**62
        ):
            raise UsageError(
                f"a cost is a finite number below 2**62, but {self.name} of {what} is {number!r}"
            )
        return number


def _over_arguments(
    call: ModuleCall, module: nn.Module, quantity: Callable[[LayerCall], float]
) -> Factor:
    """A number for each combination of what a module and its inputs are."""
    root = Survey()(module)
    symbols: list[Any] = [] if root is None else [leaf for leaf in leaves(root) if leaf.words]
    codes = [Piecewise(Factor((each,), np.arange(each.size)), range(each.size)) for each in symbols]

    def of(way: Way) -> float:
        values = Values()
        for symbol, code in zip(symbols, way.others, strict=True):
            values.known[symbol] = symbol.value(code)
        layer = Freezer(values, "share").module(module)
        shapes = tuple(way.arguments.shapes), tuple(way.results.shapes)
        return quantity(LayerCall(call.path, layer, *shapes))

    return call.ways(codes).quantity(of)
