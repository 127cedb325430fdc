"""Sums of tables over a few labels each, and the expressions that say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..mutable import MutableExpression
from .cases import Array, Context, Labels, ordered, sizes, spread
from .order import Known, Order


class Tables:
    """Tables of numbers, one for each set of labels, that add up or of which the largest counts.

    Parameters
    ----------
    space
        The space whose architectures they are about.
    """

    def __init__(self, space: nn.Module) -> None:
        self.order = Order(space)
        self.tables: dict[Labels, Array] = {}

    def add(self, context: Context, labels: Labels, table: Array) -> None:
        """Add a table for the architectures of a context, and nothing for others."""
        if not table.any():
            return
        joint, part = context.table(labels, table)
        known = self.tables.get(joint)
        self.tables[joint] = part if known is None else known + part

    def raise_to(self, context: Context, labels: Labels, table: Array) -> None:
        """Take a table where it exceeds what is known, for the architectures of a context."""
        joint, part = context.table(labels, table)
        known = self.tables.get(joint)
        self.tables[joint] = part if known is None else np.maximum(known, part)

    def sum(self) -> Any:
        """The sum of all tables: a whole number, or an expression of one."""
        merged: dict[Labels, Array] = {}
        for labels, table in self.tables.items():
            kept, part = essential(labels, table)
            merged[kept] = merged[kept] + part if kept in merged else part
        constant = int(merged.pop((), 0))
        terms = [expression_of(*part, self.order) for part in merged.items()]
        terms = [term for term in terms if not _is_zero(term)]
        if not terms:
            return constant
        if not constant and len(terms) == 1:
            return terms[0]
        return MutableExpression.sum([*terms, constant] if constant else terms)

    def maximum(self, *others: Any) -> Any:
        """The largest over all tables, and over other expressions."""
        # Whatever lies below what every architecture reaches somewhere does not matter.
        floor = max((int(table.min()) for table in self.tables.values()), default=0)
        merged: dict[Labels, Array] = {}
        for labels, table in self.tables.items():
            kept, part = essential(labels, np.maximum(table, floor))
            if kept:
                merged[kept] = np.maximum(merged[kept], part) if kept in merged else part
        terms = [expression_of(*part, self.order) for part in merged.items()]
        return MutableExpression.max([*terms, *others, floor])


def titled(cost: Any, title: str) -> Any:
    """A cost that prints as a title where it is too long to print, as in what is said of it."""
    return cost.titled(title) if isinstance(cost, MutableExpression) else cost


def _is_zero(term: Any) -> bool:
    return isinstance(term, int) and term == 0


def essential(labels: Labels, table: Array) -> tuple[Labels, Array]:
    """A table without the labels that make no difference."""
    for axis in reversed(range(len(labels))):
        first = table.take([0], axis=axis)
        if (table == first).all():
            labels, table = labels[:axis] + labels[axis + 1 :], first.squeeze(axis)
    return labels, table


def expression_of(labels: Labels, table: Array, order: Order, known: Known | None = None) -> Any:
    """The expression that a table over some labels is.

    It asks for no label that an architecture does not have.

    Parameters
    ----------
    labels, table
        A table, which is the same whatever the value of a label that is inactive.
    order
        In which order labels may be asked for.
    known
        Those that were asked for, and the codes that they may have here.
    """
    labels, table = essential(labels, table)
    if not labels:
        return int(table)
    known = known or {}
    label = order.first(labels, known)
    codes = known.get(label, range(label.size))
    if label in labels:
        axis = labels.index(label)
        rest = labels[:axis] + labels[axis + 1 :]
        parts = {code: table.take(code, axis) for code in codes}
        groups: dict[bytes, list[int]] = {}
        for code, part in parts.items():
            groups.setdefault(part.tobytes(), []).append(code)
        alike = list(groups.values())
    else:  # what differs is not the table, but what of it may be asked for next
        rest = labels
        parts = dict.fromkeys(codes, table)
        alike = [[code] for code in codes]
    branches = [
        (group, expression_of(rest, parts[group[0]], order, {**known, label: group}))
        for group in alike
    ]
    symbol = label.symbol
    if len(branches) == 2:
        return _either(symbol, *branches)
    chosen = {code: branch for group, branch in branches for code in group}
    values = {code: symbol.value(code) for code in chosen}
    try:
        return MutableExpression.switch_case(
            symbol, {values[code]: branch for code, branch in sorted(chosen.items())}
        )
    except TypeError:  # values that do not hash, such as lists
        pairs = [(symbol == values[code], branch) for code, branch in sorted(chosen.items())]
        return MutableExpression.case([*pairs[:-1], (True, pairs[-1][1])])


def _either(symbol: Any, one: tuple[list[int], Any], other: tuple[list[int], Any]) -> Any:
    """One of two branches, by the shortest condition that tells them apart."""
    if len(one[0]) == 1:
        return MutableExpression.condition(symbol == symbol.value(one[0][0]), one[1], other[1])
    if len(other[0]) == 1:
        return MutableExpression.condition(symbol == symbol.value(other[0][0]), other[1], one[1])
    values = {code: symbol.value(code) for code in (*one[0], *other[0])}
    if all(type(value) in (int, float) for value in values.values()):
        for low, high in ((one, other), (other, one)):
            least = min(values[code] for code in high[0])
            if max(values[code] for code in low[0]) < least:
                return MutableExpression.condition(symbol >= least, high[1], low[1])
    chosen = {code: branch for codes, branch in (one, other) for code in codes}
    pairs = [(symbol == value, chosen[code]) for code, value in sorted(values.items())]
    return MutableExpression.case([*pairs[:-1], (True, pairs[-1][1])])


def total(*parts: tuple[Labels, Array]) -> tuple[Labels, Array]:
    """The sum of several tables, over all of their labels."""
    labels = ordered(*(mine for mine, _ in parts))
    result: Array = np.zeros(sizes(labels), dtype=np.int64)
    for mine, table in parts:
        result = result + spread(table, mine, labels)
    return labels, result


def largest(*parts: tuple[Labels, Array]) -> tuple[Labels, Array]:
    """The largest of several tables, over all of their labels."""
    labels, table = parts[0]
    for other, more in parts[1:]:
        both = ordered(labels, other)
        table = np.maximum(spread(table, labels, both), spread(more, other, both))
        labels = both
    return labels, table
