"""From combinations of classes back to architectures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, cast

import numpy as np

from ..mutable import Constraint, ExpressionConstraint, SampleBatch
from ..mutable.columns import activity
from ..mutable.factors import Array
from ..mutable.node import Leaf
from .model import CompiledModel, Model

__all__ = ["Decoder", "default_code", "meets", "within"]

_AT_ONCE = 64
"""Architectures that are decoded together."""


class Decoder:
    """The architectures that combinations of classes stand for.

    Parameters
    ----------
    compiled
        What a space allows, as a graph whose variables the classes are of.
    """

    def __init__(self, compiled: CompiledModel) -> None:
        self.model, self.graph = compiled.model, compiled.graph

    def architectures(self, batches: Iterable[dict[int, Array]]) -> Iterator[SampleBatch]:
        """Yield the architectures of combinations, as far as they are allowed, in batches.

        Parameters
        ----------
        batches
            Of each variable, by its place, the class in each combination.
        """
        codes = (
            codes for classes in batches for row in _rows(classes) for codes in self._members(row)
        )
        while some := list(islice(codes, _AT_ONCE)):
            columns = {label: np.array([row[label] for row in some]) for label in some[0]}
            batch = self.model.batch(columns, len(some))
            allowed = within(self.model, batch)
            if self.model.others:
                allowed[allowed] = meets(batch[np.flatnonzero(allowed)], self.model.others)
            yield batch[np.flatnonzero(allowed)]

    def _members(self, classes: dict[int, int]) -> Iterator[dict[Any, Any]]:
        """The codes of each architecture of a combination; a continuous label has its default."""
        graph = self.graph
        options: list[tuple[Any, int, Callable[[int], Any]]] = []
        for label in self.model.labels:
            place = graph.place.get(label)
            if place is not None:
                members = graph.members[place][classes.get(place, 0)]
                options.append((label, len(members), members.__getitem__))
                continue
            reach = self.model.activity.reach[label]
            places = (graph.place[variable] for variable in reach.scope)
            codes = tuple(graph.members[p][classes.get(p, 0)][0] for p in places)
            several = bool(reach.values[codes]) and label.size is not None
            options.append((label, label.size if several else 1, _default_first(label)))
        for number in range(math.prod(size for _, size, _ in options)):
            row, rest = {}, number
            for label, size, option in reversed(options):
                rest, digit = divmod(rest, size)
                row[label] = option(digit)
            yield row


def within(model: Model, batch: SampleBatch) -> Array:
    """Return which architectures of a batch are within all windows of a model."""
    good = np.ones(len(batch), np.bool_)
    for window in model.windows:
        cost = window.table.evaluate(batch)
        good &= (window.low <= cost) & (cost <= window.high)
    return good


def meets(batch: SampleBatch, constraints: Iterable[Constraint]) -> Array:
    """Return which architectures of a batch meet the constraints that they reach."""
    good = np.ones(len(batch), np.bool_)
    if batch.root is None:
        return good
    reached = activity(batch.root, batch.columns())
    nowhere = np.zeros(len(batch), np.bool_)
    for constraint in constraints:
        rows = np.flatnonzero(good & reached.get(cast(Leaf, constraint.marker), nowhere))
        if isinstance(constraint, ExpressionConstraint):
            holds = batch[rows].evaluate(constraint.expression).astype(np.bool_)
        else:
            holds = np.array([constraint.check_contains(a) is None for a in batch[rows]], np.bool_)
        good[rows] = holds
    return good


def default_code(label: Any) -> Any:
    """Return the code of a label's default; of a continuous one, the value."""
    value = label.default_choice()
    return value if label.size is None else label.code(value)


def _default_first(label: Any) -> Callable[[int], Any]:
    """The codes of a label, the default first, then the others in order."""
    first = default_code(label)

    def option(number: int) -> Any:
        if number == 0:
            return first
        return number - 1 if number <= first else number

    return option


def _rows(classes: dict[int, Array]) -> Iterator[dict[int, int]]:
    """Each combination on its own."""
    columns = [column.tolist() for column in classes.values()]
    if not columns:
        yield {}
    for row in zip(*columns, strict=True):
        yield dict(zip(classes, row, strict=True))
