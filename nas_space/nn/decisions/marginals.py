"""How likely each value of an expression is, if every label is drawn on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ...mutable.factors import LIMIT, Factor, combinations_of
from ...mutable.node import Node, key_of, leaves
from ...mutable.piecewise import NOWHERE, Piecewise, joint
from ..places import Indices

__all__ = [
    "Known",
    "Marginals",
    "Outcomes",
    "Support",
    "are_independent",
    "labels_of",
    "support_of",
]

Known: TypeAlias = "tuple[tuple[Node, Any], ...]"
"""Expressions whose values are known, and these as :func:`key_of` has them."""

Support: TypeAlias = "tuple[tuple[str, tuple[int, ...]], ...]"
"""The codes that some labels may have; the others may have all of theirs."""

_LARGE = 2**16
"""Above so many combinations of labels, those that nothing tells apart any more are made one."""


class Outcomes:
    """What some expressions can be together.

    Attributes
    ----------
    values
        The distinct combinations of their values.
    labels
        The labels that decide which it is.
    codes, sizes
        Those codes of each that can be, and how many it has.
    places
        By the codes of the labels, which of the combinations of values it is: an array with an
        axis for each label; :data:`~nas_space.mutable.piecewise.NOWHERE` where it cannot be.
    conditional
        Whether only a part of all combinations of these labels can be.
    """

    def __init__(self, expressions: tuple[Any, ...], known: Known, support: Support) -> None:
        symbols: list[Any] = leaves(*expressions, *(node for node, _ in known))
        allowed = {name: np.unique(codes) for name, codes in support}
        kept = [_Kept(symbol, allowed.get(symbol.name)) for symbol in symbols]
        total = combinations_of(kept)
        if total is None or total > LIMIT:
            names = [symbol.name for symbol in symbols]
            raise UsageError(
                f"{[str(e) for e in expressions]} depend on the labels {names}, which have "
                f"{'infinitely many' if total is None else total} combinations; a strategy that "
                f"mixes all of them can go through {LIMIT}"
            )
        parts = [Piecewise.of(part) for part in (*expressions, *(node for node, _ in known))]
        for part in parts:
            if part.failures:
                raise next(iter(part.failures.values()))
        by_symbol = dict(zip(symbols, kept, strict=True))
        together = joint([_restricted(part, by_symbol) for part in parts])
        n = len(expressions)
        keys = [key for _, key in known]
        fits = np.array(
            [
                [key_of(part.values[k]) for part, k in zip(parts[n:], row[n:], strict=True)] == keys
                for row in together.values
            ]
            + [False],
            bool,
        )  # the last is that of NOWHERE
        shape = [label.size for label in kept]
        flat = np.broadcast_to(together.places.over(kept), shape).reshape(-1)
        rows = np.flatnonzero(fits[flat])
        # Values keep the order in which they occur, on which sums and so seeded runs depend.
        taken, first = np.unique(flat[rows], return_index=True)
        number = np.full(len(together.values), NOWHERE)
        found: dict[Any, int] = {}
        for place in taken[np.argsort(first)].tolist():
            number[place] = found.setdefault(together.values[place][:n], len(found))
        self.values: list[tuple[Any, ...]] = [
            tuple(part.values[k] for part, k in zip(parts, row, strict=False)) for row in found
        ]
        # Labels that are known, whatever their probability, drop out; those that remain may have
        # fewer combinations than there are without what is known.
        columns = np.unravel_index(rows, shape) if shape else ()
        there = [np.unique(column, return_inverse=True) for column in columns]
        varying = [axis for axis, (codes, _) in enumerate(there) if len(codes) > 1]
        self.labels = [kept[axis].name for axis in varying]
        self.codes: list[Indices] = [kept[axis].codes[there[axis][0]] for axis in varying]
        self.sizes = [symbols[axis].size for axis in varying]
        self.conditional = len(rows) != math.prod([kept[axis].size for axis in varying])
        place = np.zeros(len(rows), np.int64)
        for axis in varying:
            place = place * len(there[axis][0]) + there[axis][1].reshape(-1)
        self.places: Indices = np.full([len(codes) for codes in self.codes], NOWHERE)
        self.places.reshape(-1)[place] = number[flat[rows]]
        self._by_device: dict[torch.device, _Chain] = {}

    def probabilities(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return how likely each combination of values is, for probabilities of the labels."""
        device = vectors[0].device
        if device not in self._by_device:
            self._by_device[device] = _Chain(self, device)
        chain = self._by_device[device]
        cases: Tensor | None = None
        for vector, codes, merged in zip(vectors, chain.codes, chain.merged, strict=True):
            taken = vector if codes is None else vector[codes]
            cases = taken if cases is None else (cases[:, None] * taken).reshape(-1)
            if merged is not None:
                states, number = merged
                cases = cases.new_zeros(number).index_add(0, states, cases)
        assert cases is not None
        if chain.rows is not None:
            cases = cases[chain.rows]
        if self.conditional:
            # Given what is never so, as if all were as likely: 0 / 0 would be no weight.
            total = cases.sum()
            never = total == 0
            cases = torch.where(never, 1 / len(cases), cases / torch.where(never, 1.0, total))
        if len(self.values) == len(chain.places):
            return cases
        return cases.new_zeros(len(self.values)).index_add(0, chain.places, cases)


class _Chain:
    """How probabilities of labels become those of outcomes: label by label.

    After each label, what the labels before have come to is a state.  Where there are many, those
    from which all else leads to the same are one state: this is the decision diagram of the
    outcomes, which is small where these are few (Bryant, *Graph-based algorithms for Boolean
    function manipulation*, IEEE Transactions on Computers 35, 1986).

    Attributes
    ----------
    codes
        Those of each label that can be; ``None`` if all can.
    merged
        By label, which state each of the states so far becomes, and how many there then are;
        ``None`` if they stay.
    rows
        Which of the states in the end can be; ``None`` if all can.
    places
        The outcome of each of these.
    """

    def __init__(self, outcomes: Outcomes, device: torch.device) -> None:
        self.codes = [
            None if len(codes) == size else torch.from_numpy(codes).to(device)
            for codes, size in zip(outcomes.codes, outcomes.sizes, strict=True)
        ]
        self.merged: list[tuple[Tensor, int] | None] = []
        states = outcomes.places.reshape(1, -1)
        for size in outcomes.places.shape:
            states = states.reshape(len(states) * size, -1)
            if outcomes.places.size > _LARGE:
                number: dict[bytes, int] = {}
                merged = np.array([number.setdefault(s.tobytes(), len(number)) for s in states])
                states = states[np.unique(merged, return_index=True)[1]]
                self.merged.append((torch.from_numpy(merged).to(device), len(number)))
            else:
                self.merged.append(None)
        places = states.reshape(-1)
        rows = np.flatnonzero(places != NOWHERE)
        self.rows = None if len(rows) == len(places) else torch.from_numpy(rows).to(device)
        self.places = torch.from_numpy(places[rows]).to(device)


class _Kept:
    """A label with those of its codes that it may have; a variable of factors."""

    def __init__(self, symbol: Any, codes: Indices | None) -> None:
        self.name: str = symbol.name
        self.size: Any = symbol.size if codes is None else len(codes)
        self.codes = np.arange(symbol.size or 0) if codes is None else codes


def _restricted(part: Piecewise, kept: Mapping[Any, _Kept]) -> Piecewise:
    scope = [kept[symbol] for symbol in part.scope]
    places = part.places.values[np.ix_(*[label.codes for label in scope])]
    return Piecewise(Factor(scope, places), part.values)


def labels_of(node: Any) -> frozenset[str]:
    """Return the names of the labels that an expression depends on; of a plain value none."""
    return node.remember("_label_names", _find_labels) if isinstance(node, Node) else frozenset()


def _find_labels(node: Node) -> frozenset[str]:
    return frozenset(symbol.name for symbol in leaves(node))


def _names(expressions: tuple[Any, ...]) -> frozenset[str]:
    return frozenset().union(*map(labels_of, expressions))


def _relevant(expressions: tuple[Any, ...], known: Known) -> tuple[Known, frozenset[str]]:
    """Return what is known that bears on some expressions, and the labels of all of these.

    Labels are independent but for what is known of them, so the closure is taken: of expressions
    that share a label with these, of those that share one with any of them, and so on.  All else
    is a factor of its own in every probability, which cancels.
    """
    names = _names(expressions)
    # By index: nodes themselves must not be compared.
    rest = set(range(len(known)))
    kept: set[int] = set()
    while more := {i for i in rest if names & labels_of(known[i][0])}:
        kept |= more
        rest -= more
        names = names.union(*(labels_of(known[i][0]) for i in more))
    return tuple(known[i] for i in sorted(kept)), names


def support_of(expressions: tuple[Any, ...], support: Support) -> Support:
    """Return the part of a support that is of labels which some expressions depend on."""
    names = _names(expressions)
    return tuple([pair for pair in support if pair[0] in names])


def are_independent(one: tuple[Any, ...], other: tuple[Any, ...], known: Known) -> bool:
    """Return whether the values of some expressions say nothing of those of others."""
    return _relevant(one, known)[1].isdisjoint(_names(other))


def _itself(tensor: Tensor) -> Tensor:
    return tensor


_REMEMBERED = 2**14
_ASKED: dict[Any, tuple[Any, Outcomes]] = {}
"""What expressions can be together, with what was asked, whose identities are in the keys."""


def _remembered(key: Any, asked: Any, make: Callable[[], Outcomes]) -> Outcomes:
    found = _ASKED.get(key)
    if found is None:
        if len(_ASKED) > _REMEMBERED:
            _ASKED.clear()  # another thread may, at any time
        found = _ASKED[key] = asked, make()
    return found[1]


class Marginals:
    """Probabilities of labels, and what follows from them for expressions.

    Parameters
    ----------
    probabilities
        Label to the probability of each of its codes, of shape ``(size,)``; differentiable.
    support
        The codes that a label may have, for labels that may not have all.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([8, 16], label="width")
    >>> marginals = Marginals({"width": torch.tensor([0.25, 0.75])})
    >>> outcomes, probabilities = marginals.of((width * 2, width))
    >>> outcomes.values, probabilities.tolist()
    ([(16, 8), (32, 16)], [0.25, 0.75])
    """

    def __init__(
        self,
        probabilities: Mapping[str, Tensor],
        support: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.probabilities = dict(probabilities)
        self.support: Support = tuple(sorted((support or {}).items()))
        self._found: dict[Any, tuple[Outcomes, Tensor]] = {}
        self._asked: dict[Any, Outcomes] = {}

    def outcomes(self, expressions: tuple[Any, ...], known: Known = ()) -> Outcomes:
        """Return what the expressions can be together, where some things are known."""
        key = (tuple(map(key_of, expressions)), tuple([(id(n), k) for n, k in known]))
        if self.support:
            if key not in self._asked:
                self._asked[key] = self._ask(expressions, known)
            return self._asked[key]
        # Every step of a strategy asks the same of other probabilities.
        return _remembered(key, (expressions, known), lambda: self._ask(expressions, known))

    def _ask(self, expressions: tuple[Any, ...], known: Known) -> Outcomes:
        known, names = _relevant(expressions, known)
        # Of the support, only what matters: another one of other labels is the same question.
        support = tuple([pair for pair in self.support if pair[0] in names])
        key = (tuple(map(key_of, expressions)), tuple([(id(n), k) for n, k in known]), support)
        make = partial(Outcomes, expressions, known, support)
        return _remembered(key, (expressions, known), make)

    def of(self, expressions: tuple[Any, ...], known: Known = ()) -> tuple[Outcomes, Tensor]:
        """Return :meth:`outcomes` with the probability of each combination of values.

        Raises
        ------
        UsageError
            If a label that matters has no probabilities, or there are too many combinations.
        """
        key = (tuple(map(key_of, expressions)), tuple([(id(n), k) for n, k in known]))
        if key not in self._found:
            outcomes = self.outcomes(expressions, known)
            if not self.need_gradients:
                self._found[key] = outcomes, self._probabilities(outcomes)
                return self._found[key]
            # What a gradient checkpoint runs again finds them here: it must not wait for them.
            with torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
                self._found[key] = outcomes, self._probabilities(outcomes)
        return self._found[key]

    @cached_property
    def need_gradients(self) -> bool:
        """Whether some probabilities are differentiated by."""
        return any(vector.requires_grad for vector in self.probabilities.values())

    def _probabilities(self, outcomes: Outcomes) -> Tensor:
        if not outcomes.labels:
            return torch.ones(len(outcomes.values))
        vectors = []
        for label in outcomes.labels:
            if label not in self.probabilities:
                raise UsageError(f"there are no probabilities of the label {label!r}")
            vectors.append(self.probabilities[label])
        return outcomes.probabilities(vectors)
