"""What happened when a space was followed: calls of modules, and of functions in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ..mutable.factors import LIMIT, Factor, TooLargeError
from ..mutable.piecewise import Piecewise, joint
from .contexts import Context
from .execution import Execution
from .tensors import STAND_INS, flatten

__all__ = ["Apart", "FunctionCall", "ModuleCall", "Way"]


class Apart(NamedTuple):
    """Arguments or results, as :func:`~.tensors.flatten` takes them apart.

    Attributes
    ----------
    spec, leaves
        What differs between architectures is a :class:`~nas_space.mutable.piecewise.Piecewise`.
    """

    spec: Any
    leaves: list[Any]

    @classmethod
    def of(cls, value: Any) -> Apart:
        """Take something apart, without the stand-ins in it, which would keep memory alive."""
        leaves: list[Any] = []
        spec = flatten(value, leaves)
        return cls(spec, [leaf.pieces if type(leaf) in STAND_INS else leaf for leaf in leaves])

    @property
    def shapes(self) -> list[torch.Size]:
        """The shapes of the tensors in it."""
        return [leaf.shape for leaf in self.leaves if isinstance(leaf, torch.Tensor)]

    def map(self, function: Callable[[Piecewise], Any]) -> Apart:
        """Return the same with something else in the place of what differs."""
        leaves = [function(x) if isinstance(x, Piecewise) else x for x in self.leaves]
        return Apart(self.spec, leaves)


class Way(NamedTuple):
    """One of the different ways in which something is called.

    Attributes
    ----------
    arguments, results
        What it is given, and what it gives.
    others
        What else was asked for.
    """

    arguments: Apart
    results: Apart
    others: list[Any]


@dataclass(slots=True, eq=False)
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

    context: Context
    executions: Piecewise
    memory: Any = None

    def within(self, quantity: Callable[[Execution], float], *conditions: Factor) -> Factor:
        """Return a quantity, 0 for architectures that do not get there or meet conditions."""
        return self.context.within(*conditions).only(self.executions.quantity(quantity))


_NOTHING = Apart(None, [])


@dataclass(slots=True, eq=False)
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
        What goes in and comes out.
    """

    path: str
    kind: str
    context: Context
    calls: list[FunctionCall | ModuleCall] = field(default_factory=list)
    decides: bool = False
    arguments: Apart = _NOTHING
    results: Apart = _NOTHING

    def functions(self) -> Iterator[tuple[ModuleCall, FunctionCall]]:
        """Yield every call of a function, with the module that makes it, in order."""
        for inner in self.calls:
            if isinstance(inner, ModuleCall):
                yield from inner.functions()
            else:
                yield self, inner

    def ways(self, others: Sequence[Piecewise], most: int = LIMIT) -> Piecewise:
        """Return the different ways in which it is called, together with what else differs.

        Raises
        ------
        TooLargeError
            If there are more than so many.
        """
        found = (*self.arguments.leaves, *self.results.leaves)
        parts = [*others, *(leaf for leaf in found if isinstance(leaf, Piecewise))]
        together = joint(parts, self.context.possible)
        if len(together.values) > most:
            raise TooLargeError(together.scope)

        def way(places: tuple[int, ...]) -> Way:
            values = [part.values[place] for part, place in zip(parts, places, strict=True)]
            of = {id(part): value for part, value in zip(parts, values, strict=True)}
            arguments, results = (
                apart.map(lambda part: of[id(part)]) for apart in (self.arguments, self.results)
            )
            return Way(arguments, results, values[: len(others)])

        return Piecewise(together.places, [way(places) for places in together.values])
