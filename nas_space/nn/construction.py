"""How things are built here: as a whole space, or as the part that one architecture needs.

``frozen_factory`` runs the same constructors as a space does, with the same symbolic
expressions; only primitives ask this module how much of themselves to build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..mutable import MutableSymbol, bounds
from ..mutable.context_stack import Entered
from ..mutable.lazy import evaluate
from ..mutable.node import Node

__all__ = [
    "Constructor",
    "Slim",
    "building_for",
    "constructing_by",
    "constructor",
    "extent",
    "inside_space",
    "slim",
]


class Slim:
    """Building for one architecture only.

    Parameters
    ----------
    arch
        Label to value.
    """

    def __init__(self, arch: Mapping[str, Any]) -> None:
        self.arch = arch
        self._known: dict[Node, Any] = {}

    def __call__(self, expression: Any) -> Any:
        """Return the value of an expression.

        A label without a value takes its default: what is built with it lies on a branch
        that is not taken and is dropped, or freezing reports that the label is missing.
        """
        return evaluate(expression, self._look_up, self._known)

    def _look_up(self, leaf: MutableSymbol[Any]) -> Any:
        if leaf.is_missing(self.arch):
            return leaf.default_choice()
        return leaf.coerce(leaf.take(self.arch))


_SLIM: Entered[Slim | None] = Entered("building_slim")
_INSIDE: Entered[bool] = Entered("building_inside")

Constructor = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Makes what stands in the place of an instance of a class, given its arguments."""

_CONSTRUCTOR: Entered[Constructor | None] = Entered("building_constructor")


def slim() -> Slim | None:
    """Return the architecture that is built for; ``None`` while a whole space is built."""
    return _SLIM.last()


def building_for(arch: Slim | None) -> AbstractContextManager[None]:
    """Return a context in which primitives build only what one architecture needs."""
    return _SLIM.entering(arch)


def constructor() -> Constructor | None:
    """Return what constructs here in the place of the classes themselves, if anything does."""
    return _CONSTRUCTOR.last()


def constructing_by(how: Constructor | None) -> AbstractContextManager[None]:
    """Return a context in which calling the class of a mutable module is calling ``how``."""
    return _CONSTRUCTOR.entering(how)


@contextmanager
def inside_space() -> Iterator[bool]:
    """Enter a context around the constructor of a space; give whether it is the outermost one."""
    outermost = not _INSIDE.last(False)
    with _INSIDE.entering(True):
        yield outermost


def extent(expression: Any) -> Any:
    """Return how large something that an expression sizes must be built: the most it can need."""
    if not isinstance(expression, Node):
        return expression
    only = _SLIM.last()
    return bounds(expression)[1] if only is None else only(expression)
