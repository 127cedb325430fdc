"""What happened when a space was followed: calls of modules, and of functions in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..mutable.factors import Factor
from ..mutable.piecewise import Piecewise
from .contexts import Context
from .execution import Execution

__all__ = ["FunctionCall", "ModuleCall"]


class FunctionCall:
    """One call of a function, for all architectures that get there.

    Attributes
    ----------
    context
        Which these are.
    executions
        What the call gives and costs.
    memory
        Where its tensors lie, if that was watched: a :class:`~.allocations.Moment`.
    """

    __slots__ = ("context", "executions", "memory")

    def __init__(self, context: Context, executions: Piecewise) -> None:
        self.context = context
        self.executions = executions
        self.memory: Any = None

    def within(self, quantity: Callable[[Execution], float], *conditions: Factor) -> Factor:
        """Return a quantity, 0 for architectures that do not get there or meet conditions."""
        return self.context.within(*conditions).only(self.executions.quantity(quantity))


class ModuleCall:
    """One call of a module.

    Attributes
    ----------
    path, kind
        Which module, and its class.
    context
        The architectures for which it is called.
    calls
        What happens in it: calls of functions and of further modules.
    decides
        Whether it is itself a choice between branches.
    arguments, results
        What goes in and comes out, taken apart; what differs between architectures as a
        :class:`~nas_space.mutable.piecewise.Piecewise`.
    """

    __slots__ = ("arguments", "calls", "context", "decides", "kind", "path", "results")

    def __init__(self, path: str, kind: str, context: Context) -> None:
        self.path = path
        self.kind = kind
        self.context = context
        self.calls: list[FunctionCall | ModuleCall] = []
        self.decides = False
        self.arguments: tuple[Any, list[Any]] = (None, [])
        self.results: tuple[Any, list[Any]] = (None, [])

    def functions(self) -> Iterator[tuple[ModuleCall, FunctionCall]]:
        """Yield every call of a function, with the module that makes it, in order."""
        for inner in self.calls:
            if isinstance(inner, ModuleCall):
                yield from inner.functions()
            else:
                yield self, inner
