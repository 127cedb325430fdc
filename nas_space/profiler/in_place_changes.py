"""What calls of functions change in the tensors that they are given."""

from __future__ import annotations

import weakref
from typing import Any

from ..errors import SpaceError
from ..mutable.piecewise import Piecewise, merged
from .allocations import Memory
from .contexts import Context
from .execution import Executor
from .tensors import VaryingTensor

__all__ = ["Changes"]


class Changes:
    """Takes over what calls change in their arguments: a shape, values that were known, memory.

    Parameters
    ----------
    executor
        Which runs the calls.
    memory
        In which tensors lie.
    """

    def __init__(self, executor: Executor, memory: Memory) -> None:
        self.executor = executor
        self.memory = memory
        self._with_values: list[weakref.ref[VaryingTensor]] = []

    def watch(self, tensor: VaryingTensor) -> None:
        """Remember a tensor of which values are known: what lies in its memory may be written."""
        if any(self.executor.values.of(value) is not None for value in tensor.pieces.values):
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
        all_of_it = [place for e in executions.values for place in (*e.changed, *e.moved)]
        for place in dict.fromkeys(p for e in executions.values for p in e.written):
            if type(leaves[place]) is VaryingTensor:
                self._forget(leaves[place])
        for place in dict.fromkeys(all_of_it):
            tensor = leaves[place]
            if type(tensor) is not VaryingTensor:
                raise SpaceError(
                    "the forward changes the shape, the type or the need of gradients of a tensor "
                    "that the space holds, so the next call would find it changed; work on a copy"
                )
            values = [e.changed.get(place, e.call[2][place]) for e in executions.values]
            self._update(tensor, Piecewise(executions.places, values).distinct(), context)
            self.watch(tensor)
            if any(place in execution.moved for execution in executions.values):
                self._move(tensor, place, context, executions, leaves)
            tracked = [place in execution.tracked for execution in executions.values]
            if any(tracked):
                here = Piecewise(executions.places, tracked).truth()
                for view in [view() for view in tensor.views]:
                    if view is not None and view is not tensor:
                        self._update(
                            view, view.pieces.map(self.executor.tracked), context.within(here)
                        )

    def _forget(self, tensor: VaryingTensor) -> None:
        """Forget the values of what lies in the memory of a tensor that was written to."""
        memory = {id(share.claim[0]) for share in tensor.shares}
        for other in [reference() for reference in self._with_values]:
            if other is None or other is tensor:
                continue
            if any(id(share.claim[0]) in memory for share in other.shares):
                other.pieces = other.pieces.map(self.executor.forgotten)

    @staticmethod
    def _update(tensor: VaryingTensor, new: Piecewise, context: Context) -> None:
        """Make a tensor something else, for the architectures of a context."""
        for conditions, reference in [((), weakref.ref(tensor)), *tensor.parts]:
            if (part := reference()) is not None:
                here = context.within(*conditions).exact
                before = [(~here, part.pieces)] if here.scope else []
                part.pieces = merged([(here, new), *before])

    def _move(
        self,
        tensor: VaryingTensor,
        place: int,
        context: Context,
        executions: Piecewise,
        leaves: list[Any],
    ) -> None:
        """Take over that a tensor lies in other memory than before, for some architectures."""
        origins = [execution.moved.get(place, place) for execution in executions.values]
        tensors = [execution.changed.get(place) for execution in executions.values]
        here = context.exact
        outside = [share.where(~here) for share in tensor.shares if here.scope]
        inside = self.memory.shares(context, executions, tensors, origins, leaves)
        tensor.shares = (*inside, *outside)
