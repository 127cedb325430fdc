"""The best combinations, and the trade-offs between two costs, by dynamic programming.

Rows carry what they cost, and which rows they came from, so that each leads back to a
combination.  What another row of the same state and the same keys makes superfluous is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..mutable.factors import Array
from .backward_sampling import classes_of
from .histograms import Histograms, RowPairs
from .join_tree import CliqueVertex, Join, JoinTree
from .quantisation import Quantisation

_MANY = 2**22
"""Rows that are collected before what is superfluous is dropped."""


class TooManyRows(Exception):  # noqa: N818 - caught within this part of the library, not an error yet
    """More rows are worth keeping than there may be."""


class Selected(NamedTuple):
    """Rows of one vertex, in order of their states.

    Attributes
    ----------
    rows
        Where each state begins, and keys; without weights.
    costs
        Of shape ``(costs, rows)``.
    left, right
        The rows of the children; for a clique, twice the row itself.
    """

    rows: Histograms
    costs: Array
    left: Array
    right: Array


Keep = Callable[[Array, Array], Array]
"""Given groups and costs, ``(costs, rows)``: which rows to keep, in order of their groups."""


def best_of(k: int) -> Keep:
    """Keeps the ``k`` rows of each group that cost the least."""

    def keep(groups: Array, costs: Array) -> Array:
        order = np.lexsort((*costs[::-1], groups))
        ordered = groups[order]
        begin = np.flatnonzero(np.append(True, np.diff(ordered) != 0)) if len(ordered) else ordered
        rank = np.arange(len(ordered)) - np.repeat(begin, np.diff(np.append(begin, len(ordered))))
        kept: Array = order[rank < k]
        return kept

    return keep


def undominated(groups: Array, costs: Array) -> Array:
    """Keeps the rows of each group that no other one is as good as, in both of two costs."""
    first, second = costs
    order = np.lexsort((second, first, groups))
    if not len(order):
        return order
    groups, first, second = groups[order], first[order], second[order]
    # The least second cost so far in each group: earlier groups are lifted out of the way.
    _, ranks = np.unique(second, return_inverse=True)
    _, number = np.unique(groups, return_inverse=True)
    lifted = ranks - number * (int(ranks.max()) + 1)
    before = np.append(np.iinfo(np.int64).max, np.minimum.accumulate(lifted)[:-1])
    kept: Array = order[lifted < before]
    return kept


class KBest:
    """The rows worth keeping, for each vertex and state.

    Parameters
    ----------
    scale
        Keys, and the windows that they must end up in.
    costs
        Which of the problem's costs count.
    signs
        1 for each that is minimised, -1 for each that is maximised.
    keep
        What to keep of rows that agree in state and keys.
    most
        How many rows there may be in all.

    Attributes
    ----------
    found
        The rows of each vertex; those of the root are within the windows as far as the keys say.
    rows
        How many there are.

    Raises
    ------
    TooManyRows
        If there are more than there may be.
    """

    def __init__(
        self,
        scale: Quantisation,
        costs: Sequence[int],
        signs: Sequence[int],
        keep: Keep,
        most: float = math.inf,
    ) -> None:
        self.scale, self.tree = scale, scale.tree
        self.costs, self.signs, self.keep = costs, signs, keep
        self.found: list[Selected] = []
        self.rows, self.most = 0, most
        for place, vertex in enumerate(self.tree.vertices):
            if isinstance(vertex, Join):
                self.found.append(self._joined(place, vertex))
            elif isinstance(vertex, CliqueVertex):
                self.found.append(self._given(place, vertex))
            self.rows += len(self.found[-1].left)

    def _given(self, place: int, vertex: CliqueVertex) -> Selected:
        states = np.arange(len(vertex.states))
        keys = self.scale.single(self.scale.keys[place])
        chosen = [
            sign * vertex.clique.costs[k].reshape(-1)[vertex.states]
            for k, sign in zip(self.costs, self.signs, strict=True)
        ]
        costs = np.stack(chosen) if chosen else np.zeros((0, len(states)))
        alive = self.scale.alive(place, states, keys)
        rows = Histograms.of(len(states), states[alive], keys[alive], np.zeros(0))
        own = np.arange(int(alive.sum()))
        return Selected(rows, costs[:, alive], own, own)

    def _joined(self, place: int, join: Join) -> Selected:
        left, right = self.found[join.left], self.found[join.right]
        a, b = join.pairs
        result = np.repeat(np.arange(len(join.states)), np.diff(join.starts))
        parts: list[tuple[Array, ...]] = []
        collected = 0
        for pair, row, other in RowPairs(left.rows, right.rows, a, b).chunks():
            states, keys = result[pair], left.rows.keys[row] + right.rows.keys[other]
            alive = self.scale.alive(place, states, keys)
            one, two = row[alive], other[alive]
            costs = left.costs[:, one] + right.costs[:, two]
            parts.append((states[alive], keys[alive], one, two, costs))
            collected += len(one)
            if collected > _MANY:
                parts = [self._kept(parts)]
                collected = len(parts[0][0])
                if self.rows + collected > self.most:
                    raise TooManyRows
        if not parts:
            nothing = np.zeros(0, np.int64)
            parts = [(nothing, nothing, nothing, nothing, left.costs[:, :0])]
        states, keys, row, other, costs = self._kept(parts)
        return Selected(
            Histograms.of(len(join.states), states, keys, np.zeros(0)), costs, row, other
        )

    def _kept(self, parts: list[tuple[Array, ...]]) -> tuple[Array, ...]:
        columns = [np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)]
        states, keys = columns[0], columns[1]
        _, ranks = np.unique(keys, return_inverse=True)
        groups = states * (int(ranks.max(initial=0)) + 1) + ranks
        kept = self.keep(groups, columns[4])
        return tuple(column[..., kept] for column in columns)

    @property
    def ends(self) -> Selected:
        """The rows of the root."""
        return self.found[-1]


def classes_at(tree: JoinTree, found: Sequence[Selected], row: int) -> dict[int, int]:
    """The class of each variable in the combination that a row of the root stands for.

    Parameters
    ----------
    tree
        An order of elimination.
    found
        The rows of each vertex.
    row
        One of those of the root.
    """
    classes: dict[int, int] = {}
    waiting = [(len(found) - 1, row)]
    while waiting:
        place, row = waiting.pop()
        vertex, chosen = tree.vertices[place], found[place]
        if isinstance(vertex, Join):
            waiting.append((vertex.left, int(chosen.left[row])))
            waiting.append((vertex.right, int(chosen.right[row])))
        else:
            digits = classes_of(tree, place, chosen.rows.starts, np.array([row]))
            classes.update((variable, int(digit[0])) for variable, digit in digits.items())
    return classes
