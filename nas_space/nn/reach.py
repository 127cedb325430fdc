"""Whether constraints only ask for labels that are active where they are checked."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..errors import LabelError, SampleValidationError, suggest
from ..mutable import Constraint, Mutable, MutableSymbol, SampleBatch
from ..mutable.bounds import all_combinations, combinations_of
from ..mutable.columns import Column, Columns, activity
from ..mutable.layout import two_of_one_label
from ..mutable.node import Leaf, Node, leaves, postorder
from ..mutable.operators import CASE, CONDITION, SWITCH
from ..mutable.random_words import words

_EXHAUSTIVE = 2**16
"""Up to how many combinations of the labels that matter are all looked at; else as many draws."""


def check_reach(constraint: Constraint, space: Mutable) -> None:
    """Refuses a constraint that needs a label where that is not active.

    Parameters
    ----------
    constraint
        One of the space's, or one to be added to it.
    space
        Its structure says where a label is active.

    Raises
    ------
    LabelError
        If the constraint is about a label that the space does not have.
    SampleValidationError
        If it needs a label in an architecture in which that is not active.
    """
    needed, root = constraint.needs(), space.structure()
    if needed is None:
        return
    known = space.symbols()
    about = leaves(needed)
    for leaf in about:
        if known.get(leaf.name, leaf) is not leaf:
            raise two_of_one_label(known[leaf.name], leaf)
        if leaf.name not in known:
            raise LabelError(
                f"the constraint {constraint!r} is about the label {leaf.name!r}, which the space "
                f"does not have{suggest(leaf.name, known)}; it has {list(known)}"
            )
    assert root is not None  # it has labels
    columns = _columns(space, root, about)
    active = activity(root, columns)
    everywhere = np.ones(columns.size, np.bool_)
    rows = np.flatnonzero(active.get(cast(Leaf, constraint.marker), everywhere))
    for leaf, asked in activity(needed, columns.cut(rows)).items():
        if (asked & ~active.get(leaf, ~everywhere)[rows]).any():
            raise SampleValidationError(
                f"the constraint {constraint!r} needs the label {leaf.name!r} in architectures in "
                "which it is not active; guard it with MutableExpression.condition(...)"
            )


def _columns(space: Mutable, root: Node, about: list[Leaf]) -> Columns:
    """Architectures among which an unguarded use shows, if there is one."""
    symbols = list(dict.fromkeys([*leaves(*_selectors(root)), *about]))
    total = combinations_of(symbols)
    if total is not None and total <= _EXHAUSTIVE:
        return all_combinations(symbols)
    batch = SampleBatch.draw(space, _EXHAUSTIVE, words(0))

    def source(symbol: MutableSymbol[Any], rows: Column | None) -> Column:
        codes = batch.codes[symbol]
        return symbol.column(codes if rows is None else codes[rows])

    return Columns(source, len(batch))


def _selectors(root: Node) -> list[Any]:
    """What decides which way an architecture takes, wherever there is more than one."""
    return [
        selector
        for node in postorder(root)
        if node.operator in _DECIDING
        for selector in node.arguments[_DECIDING[node.operator]]
    ]


_DECIDING = {CONDITION: slice(0, 1), SWITCH: slice(0, 1), CASE: slice(0, None, 2)}
"""Which arguments of a lazy operator select among the others."""
