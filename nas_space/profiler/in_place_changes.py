"""What calls of functions change in the tensors that they are given."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import SpaceError
from ..mutable.piecewise import Piecewise, merged
from .contexts import Context
from .execution import Effects, Executor
from .tensors import VaryingTensor

if TYPE_CHECKING:
    from .allocations import MemoryWatch

__all__ = ["Changes"]

_NOTHING = Effects()


class Changes:
    """Takes over what calls change in their arguments: a shape, values that were known, memory.

    Parameters
    ----------
    executor
        Which runs the calls.
    watch
        Is told which tensors lie in which memory, if anybody is.
    memory
        Numbers the memory of tensors, given that of which arguments it is and the arguments.
    """

    def __init__(
        self,
        executor: Executor,
        watch: MemoryWatch | None,
        memory: Callable[[list[int | None], list[Any]], frozenset[int]],
    ) -> None:
        self.executor = executor
        self.watch = watch
        self.memory = memory
        self._with_values: list[weakref.ref[VaryingTensor]] = []

    def notice(self, tensor: VaryingTensor) -> None:
        """Remember a tensor of which values are known: what lies in its memory may be written."""
        if any(self.executor.value_of(meta) is not None for meta in tensor.pieces.values):
            self._with_values.append(weakref.ref(tensor))

    def take_over(self, context: Context, executions: Piecewise, leaves: list[Any]) -> None:
        """Make tensors what calls have made of them.

        Parameters
        ----------
        context
            The architectures for which they ran.
        executions
            The calls.
        leaves
            What they were given.

        Raises
        ------
        SpaceError
            If a tensor that the space holds is not what it was.
        """
        effects: list[Effects] = [each.effects or _NOTHING for each in executions.values]
        for place in dict.fromkeys(place for effect in effects for place in effect.written):
            if type(leaves[place]) is VaryingTensor:
                self._forget(leaves[place])
        for place in dict.fromkeys(p for e in effects for p in (*e.changed, *e.moved)):
            tensor = leaves[place]
            if type(tensor) is not VaryingTensor:
                raise SpaceError(
                    "the forward changes the shape, the type or the need of gradients of a tensor "
                    "that the space holds, so the next call would find it changed; work on a copy"
                )
            values = [
                effect.changed.get(place, execution.call[2][place])
                for effect, execution in zip(effects, executions.values, strict=True)
            ]
            self._update(tensor, Piecewise(executions.places, values).distinct(), context)
            self.notice(tensor)
            if any(place in effect.moved for effect in effects):
                origins = [effect.moved.get(place, place) for effect in effects]
                if self.watch is not None:
                    metas = [effect.changed.get(place) for effect in effects]
                    self.watch.placed(tensor, context, executions, metas, origins, leaves)
                before = tensor.memory if context.exact.scope else frozenset()
                tensor.memory = self.memory(origins, leaves) | before
            tracked = [place in effect.tracked for effect in effects]
            if any(tracked):
                here = Piecewise(executions.places, tracked).truth()
                for view in [view() for view in tensor.views]:
                    if view is not None and view is not tensor:
                        new = view.pieces.map(lambda t: self.executor.interned(_tracked(t)))
                        self._update(view, new, context.within(here))

    def _forget(self, tensor: VaryingTensor) -> None:
        """Forget the values of what lies in the memory of a tensor that was written to."""
        for other in [reference() for reference in self._with_values]:
            if other is None or other is tensor or tensor.memory.isdisjoint(other.memory):
                continue
            other.pieces = other.pieces.map(self.executor.forgotten)

    @staticmethod
    def _update(tensor: VaryingTensor, new: Piecewise, context: Context) -> None:
        """Make a tensor something else, for the architectures of a context."""
        for conditions, reference in [((), weakref.ref(tensor)), *tensor.parts]:
            if (part := reference()) is not None:
                here = context.within(*conditions).exact
                before = [(~here, part.pieces)] if here.scope else []
                part.pieces = merged([(here, new), *before])


def _tracked(tensor: Any) -> Any:
    """Return a tensor like another one that autograd follows."""
    return tensor.detach().requires_grad_()
