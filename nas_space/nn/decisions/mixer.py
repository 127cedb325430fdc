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
    """Layers, the arguments that say how wide their inputs are, and how these lie instead, where
    somebody asks; ``None`` where outputs are asked for."""

    @property
    def known(self) -> Known:
        """What is known where the forward is."""

    @property
    def numbers(self) -> list[Atoms]:
        """What the numbers depend on that the forward has been given."""

    def possible(self, atoms: Atoms) -> list[Values]:
        """Return what reads some expressions, for each combination of values they have here."""

    def gathered(
        self, atoms: Atoms, cases: dict[Any, Tensor], inputs: Sequence[Any], own: Sequence[Any]
    ) -> Any:
        """Return one tensor of cases, of a function of some inputs and axes of its own."""

    def outcomes_of(
        self, atoms: Atoms, too_many: Callable[[int], Exception]
    ) -> Iterator[tuple[Values, Tensor, AbstractContextManager[None]]]:
        """Yield what reads some expressions, with the weight of each combination, and a context."""


def union(*groups: Sequence[Node]) -> Atoms:
    """Return the expressions of several groups, each once; nodes must not be compared."""
    return tuple({id(node): node for group in groups for node in group}.values())


def reader_of(atoms: Sequence[Node], value: Sequence[Any]) -> Values:
    """Return what reads some expressions at some values."""
    known = {id(node): item for node, item in zip(atoms, value, strict=True)}
    return lambda expression: known[id(expression)]


def readers_of(atoms: Atoms, support: Support) -> list[Values]:
    """Return what reads some expressions, for each combination of values that they may have."""
    outcomes = Marginals({}, dict(support)).outcomes(atoms)
    return [reader_of(atoms, value) for value in outcomes.values]
