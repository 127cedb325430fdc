"""``Mixer``: what the parts of a mixture ask of it, and how they read expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from ...mutable.node import Node
from .marginals import Known, Marginals, Support

__all__ = ["Atoms", "Mixer", "Values", "reader_of", "readers_of", "union"]

Values: TypeAlias = "Callable[[Any], Any]"
"""Reads expressions under one combination of values."""

Atoms: TypeAlias = "tuple[Node, ...]"


class Mixer(Protocol):
    """What tensors and layers have to know of the mixture that they are in."""

    marginals: Marginals
    misread: list[tuple[Any, str, Any]] | None
    """Triples of a layer, the argument that is the width of its input, and the axis that the input
    has instead, as ``misread.py`` collects them; ``None`` where outputs are computed."""

    @property
    def known(self) -> Known:
        """Expressions with their values, given by the branches that the forward is in."""

    @property
    def numbers(self) -> list[Atoms]:
        """The atoms of each number that differs which the forward was given."""

    def possible(self, atoms: Atoms) -> list[Values]:
        """Return a reader of some expressions for each combination of values they can have here."""

    def gathered(
        self, atoms: Atoms, cases: dict[Any, Tensor], inputs: Sequence[Any], own: Sequence[Any]
    ) -> Any:
        """Return one tensor of cases, of a function of some inputs and axes of its own."""

    def outcomes_of(
        self, atoms: Atoms, too_many: Callable[[int], Exception]
    ) -> Iterator[tuple[Values, Tensor, AbstractContextManager[None]]]:
        """Yield a reader, the weight and a context for each combination of values to be run."""


def union(*groups: Sequence[Node]) -> Atoms:
    """Return the expressions of several groups, each once, by identity.

    Nodes must not be compared: ``==`` builds an expression.
    """
    return tuple({id(node): node for group in groups for node in group}.values())


def reader_of(atoms: Sequence[Node], value: Sequence[Any]) -> Values:
    """Return a reader of some expressions that have some values."""
    known = {id(node): item for node, item in zip(atoms, value, strict=True)}
    return lambda expression: known[id(expression)]


def readers_of(atoms: Atoms, support: Support) -> list[Values]:
    """Return a reader of some expressions for each combination of values in a support.

    It depends neither on where the forward is nor on probabilities, so what is made by these
    readers, axes and plans of reshapes, is valid everywhere and can be remembered.
    """
    outcomes = Marginals({}, dict(support)).everywhere(atoms)
    return [reader_of(atoms, value) for value in outcomes.values]
