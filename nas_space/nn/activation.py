"""Which architecture a space is at this moment, for the code that runs here.

The active architecture is context-local: threads and tasks that run one space as different
architectures at the same time each get their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from ..errors import SpaceError
from ..mutable import Mutable, Values
from ..mutable.containers import frozen
from ..mutable.context_stack import Entered

__all__ = ["Activation", "active", "current", "required"]

T = TypeVar("T")

_ENTERED: Entered[Activation] = Entered("activations")


class Activation:
    """An architecture made active; a context manager.

    Primitives do not decide themselves what a choice means for what they run.  They hand the
    branches of a choice to :meth:`mix`, blocks of which the first few run to :meth:`repeat`,
    and layers whose weights are cut to :meth:`elastic`: a strategy that relaxes choices, or a
    profiler that follows all of them, redefines these, and primitives know none of them.

    The innermost activation holds for everything that runs in its context, whatever space it
    was made of.

    Parameters
    ----------
    values
        The values of the active labels.
    """

    def __init__(self, values: Values) -> None:
        self.values = values

    def mix(self, choice: Any, run: Callable[[Any], T]) -> T:
        """Return the outcome of a choice: here, that of the one value that is active.

        Parameters
        ----------
        choice
            An expression over labels.
        run
            Runs the branch of a value.
        """
        return run(self.values(choice))

    def choose(
        self, choice: Any, branch: Callable[[Any], Callable[..., T]], args: Any, kwargs: Any
    ) -> T:
        """Return the outcome of a choice between functions of the same arguments.

        Parameters
        ----------
        choice
            An expression over labels.
        branch
            Gives the function of a value.
        args, kwargs
            The arguments.
        """
        return self.mix(choice, lambda value: branch(value)(*args, **kwargs))

    def choose_input(
        self, choice: Any, place: Callable[[Any], int], inputs: Any, run: Callable[[Any], T]
    ) -> T:
        """Return what a function makes of the one of several inputs that is chosen.

        By default it runs once for each that may be, since a relaxed choice mixes outcomes. Who
        only asks what comes out may run it once, on whichever is chosen.

        Parameters
        ----------
        choice
            An expression over labels.
        place
            Gives the place of the input of a value.
        inputs
            The inputs.
        run
            The function.
        """
        return self.choose(
            choice, lambda value: lambda given: run(given[place(value)]), (inputs,), {}
        )

    def called(self, module: nn.Module, run: Callable[..., T], args: Any, kwargs: Any) -> T:
        """Return the output of a module that may read values of expressions in its forward.

        Parameters
        ----------
        module
            The module.
        run
            Runs it.
        args, kwargs
            Its input.
        """
        del module  # where each expression has one value, nothing more is to be known
        return run(*args, **kwargs)

    def repeat(self, choice: Any, blocks: Iterable[Callable[[Any], Any]], x: Any) -> Any:
        """Run the first ``choice`` blocks; what they share need be run once.

        Parameters
        ----------
        choice
            An expression over labels: how many.
        blocks
            As many as there may be.
        x
            The input of the first.
        """

        def run(depth: Any) -> Any:
            y = x
            for block in islice(blocks, depth):
                y = block(y)
            return y

        return self.mix(choice, run)

    def optional(self, condition: Any, tensor: Tensor, dim: int) -> Tensor | None:
        """Return a tensor that is concatenated with others where a condition holds.

        Parameters
        ----------
        condition
            An expression over labels, or a plain truth value.
        tensor
            The tensor.
        dim
            Along which dimension it is concatenated.

        Returns
        -------
        Tensor or None
            ``None`` where it is not there.
        """
        del dim  # what is there is there as a whole
        there = self.values(condition) if isinstance(condition, Mutable) else condition
        return tensor if there else None

    is_single: ClassVar[bool] = True
    """Whether one architecture runs, so that each elastic layer has one shape."""

    def stand_in(self, layer: Any) -> Any:
        """Return the plain layer that an elastic one is, with its slices."""
        return layer.stand_in(self.values)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output of an elastic layer: here, of the one shape that is active."""
        return layer.run_as(self.stand_in(layer), *args, **kwargs)

    def whole(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return the output of a whole space, or of one that is a part of another."""
        return run(*args, **kwargs)

    def given(self, condition: Any) -> AbstractContextManager[None]:
        """Enter a context in which a condition holds, as it does in every architecture."""
        del condition  # where there is one architecture, nothing follows
        return nullcontext()

    def for_recomputation(self, *, reentrant: bool) -> Activation:
        """Return what is entered to run a part of the forward again, for its gradients.

        Parameters
        ----------
        reentrant
            Whether what then runs is what gradients go through, instead of telling again only what
            it saved; as of ``torch.utils.checkpoint``.
        """
        del reentrant
        return copy.copy(self)  # as it is now: what is known in a branch, for instance

    def __enter__(self) -> Activation:
        _ENTERED.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        _ENTERED.leave_value(self)


def current() -> Activation | None:
    """Return the activation that holds here, if any."""
    return _ENTERED.last()


def required(what: Any) -> Activation:
    """Return the activation that holds here.

    Parameters
    ----------
    what
        The module or expression that needs one.

    Raises
    ------
    SpaceError
        If no architecture is active.
    """
    found = current()
    if found is None:
        if isinstance(what, nn.Module):
            what = f"{type(what).__name__}({what.extra_repr()})"
        raise SpaceError(
            f"{what} differs between architectures, and none is active here; run it inside "
            "`with space.activate(arch):`, or run a network made by space.freeze(arch)"
        )
    return found


def active(mutable: Any) -> Any:
    """Return the value of an expression under the active architecture; a plain value as it is.

    What a module that is no :class:`MutableModule` uses in ``forward`` for the expressions
    it holds; in a frozen network they are plain values already.

    Parameters
    ----------
    mutable
        An expression, or a list or dictionary of them (``MutableList``, ``MutableDict``);
        anything else is given back.

    Raises
    ------
    SpaceError
        If no architecture is active.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([16, 24], label="width")
    >>> with Activation(width.read({"width": 24})):
    ...     active(width * 2)
    48
    >>> active(3)
    3
    """
    if not isinstance(mutable, Mutable) or isinstance(mutable, nn.Module):
        return mutable
    return frozen(mutable, required(mutable).values)
