"""How things are built here: as a whole space, or as the part that one architecture needs.

``frozen_factory`` runs the same constructors as a space does, with the same symbolic
expressions; only primitives ask this module how much of themselves to build.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..mutable import Values, bounds
from ..mutable.evaluation import Walk
from ..mutable.node import Node


class Slim:
    """Building for one architecture only.

    Parameters
    ----------
    arch
        Label to value.

    Attributes
    ----------
    used
        The labels that were asked for.
    """

    def __init__(self, arch: Mapping[str, Any]) -> None:
        self.arch = arch
        self.used: set[str] = set()
        self.values = Values()

    def __call__(self, expression: Any) -> Any:
        """The value of an expression.

        A label without a value takes its default: what is built with it lies on a branch
        that is not taken and is dropped, or freezing reports that the label is missing.
        """
        if not isinstance(expression, Node):
            return expression
        return Walk(expression, self.values.known).run(self._look_up)

    def _look_up(self, leaf: Any) -> Any:
        if leaf.is_missing(self.arch):
            return leaf.default_choice()
        self.used.add(leaf.label)
        return leaf.coerce(leaf.take(self.arch))


_SLIM: ContextVar[Slim | None] = ContextVar("building_slim", default=None)
_DEPTH: ContextVar[int] = ContextVar("building_depth", default=0)


def slim() -> Slim | None:
    """The architecture that is built for; ``None`` while a whole space is built."""
    return _SLIM.get()


@contextmanager
def building_for(arch: Slim | None) -> Iterator[None]:
    """A context in which primitives build only what one architecture needs."""
    token = _SLIM.set(arch)
    try:
        yield
    finally:
        _SLIM.reset(token)


@contextmanager
def inside_space() -> Iterator[bool]:
    """A context around the constructor of a space; gives whether it is the outermost one."""
    depth = _DEPTH.get()
    token = _DEPTH.set(depth + 1)
    try:
        yield depth == 0
    finally:
        _DEPTH.reset(token)


def extent(expression: Any) -> Any:
    """How large something that an expression sizes must be built: the most it can need."""
    if not isinstance(expression, Node):
        return expression
    only = _SLIM.get()
    return bounds(expression)[1] if only is None else only(expression)
