"""Which architecture a space is at this moment, for the code that runs here.

The active architecture is context-local: threads and tasks that run one space as different
architectures at the same time each get their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, TypeVar

from ..errors import SpaceError
from ..mutable import Values
from ..mutable.node import Node

T = TypeVar("T")

_ACTIVE: ContextVar[Activation | None] = ContextVar("active_architecture", default=None)


class Activation:
    """An architecture made active; a context manager.

    Primitives do not decide themselves what a choice means for what they run.  They hand the
    branches of a choice to :meth:`mix`, and layers whose weights are cut to :meth:`elastic`:
    a strategy that relaxes choices, or a profiler that follows all of them, redefines these
    two, and primitives know none of them.

    Parameters
    ----------
    values
        The values of the active labels.
    """

    def __init__(self, values: Values) -> None:
        self.values = values
        self._tokens: list[Token[Activation | None]] = []

    def mix(self, choice: Any, run: Callable[[Any], T]) -> T:
        """The outcome of a choice: here, that of the one value that is active.

        Parameters
        ----------
        choice
            An expression over labels.
        run
            Runs the branch of a value.
        """
        return run(self.values(choice))

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """The output of an elastic layer: here, of the one shape that is active."""
        return layer.run(self.values, *args, **kwargs)

    def __enter__(self) -> Activation:
        self._tokens.append(_ACTIVE.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _ACTIVE.reset(self._tokens.pop())


def current() -> Activation | None:
    """The activation that holds here, if any."""
    return _ACTIVE.get()


def required(what: str) -> Activation:
    """The activation that holds here.

    Raises
    ------
    SpaceError
        If no architecture is active.
    """
    found = _ACTIVE.get()
    if found is None:
        raise SpaceError(
            f"{what} differs between architectures, and none is active here; run it inside "
            "`with space.activate(arch):`, or run a network made by space.freeze(arch)"
        )
    return found


def active(expression: Any) -> Any:
    """The value of an expression under the active architecture; a plain value as it is.

    What a module that is no :class:`MutableModule` uses in ``forward`` for the expressions
    it holds; in a frozen network they are plain values already.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, Values
    >>> width = Categorical([16, 24], label='width')
    >>> with Activation(width.read({'width': 24})):
    ...     active(width * 2)
    48
    >>> active(3)
    3
    """
    if not isinstance(expression, Node):
        return expression
    return required(str(expression)).values(expression)
