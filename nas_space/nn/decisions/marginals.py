"""Probabilities of the values of expressions, of labels that are drawn independently."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ...mutable.factors import LIMIT, Array, Factor, combinations_of
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
    """The combinations of values that some expressions have together, given what is known.

    Attributes
    ----------
    values
        The distinct combinations of values.
    labels
        The labels that decide between them.
    codes, sizes
        The codes of each label that are possible, and how many codes it has in all.
    places
        The index into ``values`` by the codes of the labels, an array with an axis for each label;
        :data:`~nas_space.mutable.piecewise.NOWHERE` where what is known does not hold.
    failure
        Why one of the expressions has no value for some codes that do not contradict what is known;
        ``None`` if it has one for all.
    conditional
        Whether some combinations of possible codes contradict what is known, so that probabilities
        have to be normalised.
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
        by_symbol = dict(zip(symbols, kept, strict=True))
        shape = [label.size for label in kept]
        fits = np.ones(shape, np.bool_)
        for node, key in known:
            part = Piecewise.of(node)
            holds = np.array([*(key_of(value) == key for value in part.values), False])
            fits &= holds[_restricted(part, by_symbol).places.over(kept)]
        parts = [Piecewise.of(expression) for expression in expressions]
        together = joint([_restricted(part, by_symbol) for part in parts])
        flat = np.broadcast_to(together.places.over(kept), shape).reshape(-1)
        self.failure = _failure(parts, by_symbol, fits & (flat.reshape(shape) == NOWHERE))
        rows = np.flatnonzero(fits.reshape(-1) & (flat != NOWHERE))
        # Values keep the order in which they occur, on which sums and so seeded runs depend.
        taken, first = np.unique(flat[rows], return_index=True)
        order = np.argsort(first)
        number = np.full(len(together.values), NOWHERE)
        number[taken[order]] = np.arange(len(order))
        self.values: list[tuple[Any, ...]] = [
            tuple(part.values[k] for part, k in zip(parts, together.values[place], strict=True))
            for place in taken[order].tolist()
        ]
        # A label of which one code is left is dropped: its probability is a factor of every
        # combination, and cancels in P(values | known) = P(values, known) / P(known).  If the rest
        # is a full grid of all codes, P(known) is that factor alone, and nothing is divided.
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
        """Return the probability of each combination of values, given those of the labels."""
        # One label at a time: the outer product of what there is with the label's vector, after
        # which states are summed that the labels to come do not tell apart (see ``_Chain``).
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
            # What is known may have probability 0: a branch that is never taken is still run where
            # its weight has a gradient.  Then all are taken to be equally likely.  The divisor is
            # replaced as well, as the gradient of the side that ``where`` drops would be NaN.
            total = cases.sum()
            never = total == 0
            cases = torch.where(never, 1 / len(cases), cases / torch.where(never, 1.0, total))
        if len(self.values) == len(chain.places):
            return cases
        return cases.new_zeros(len(self.values)).index_add(0, chain.places, cases)


class _Chain:
    """The decision diagram by which probabilities of labels become those of outcomes.

    After each label, the combinations of codes so far are states.  Where there are many, states
    from which every continuation leads to the same outcome are merged, and their probabilities
    added.  This is exact, as labels are independent: what follows is multiplied with the same
    factors whichever of these states it started from.  The result is the reduced ordered decision
    diagram of the outcomes, of small width where these are few (Bryant, *Graph-based algorithms for
    Boolean function manipulation*, IEEE Transactions on Computers 35, 1986).  It is made once; each
    step of a strategy costs one product and one sum for each edge, where enumeration would cost
    one for each combination of labels.

    Attributes
    ----------
    codes
        The possible codes of each label; ``None`` for all.
    merged
        For each label, which state each of the states so far becomes, and how many there then are;
        ``None`` if none are merged.
    rows
        Which of the final states are possible; ``None`` for all.
    places
        The outcome of each of these.
    """

    def __init__(self, outcomes: Outcomes, device: torch.device) -> None:
        self.codes = [
            None if len(codes) == size else torch.from_numpy(codes).to(device)
            for codes, size in zip(outcomes.codes, outcomes.sizes, strict=True)
        ]
        self.merged: list[tuple[Tensor, int] | None] = []
        # A row for each state: the outcomes of all its continuations, so equal rows are one state.
        # States are numbered by first occurrence, which fixes the order of the sums.
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


def _failure(
    parts: Sequence[Piecewise], kept: Mapping[Any, _Kept], undefined: Array
) -> Exception | None:
    """Return why one of some functions is not defined; ``None`` if nothing is undefined."""
    if not undefined.any():
        return None
    row = np.unravel_index(np.argmax(undefined), undefined.shape)
    codes = {s: label.codes[place] for (s, label), place in zip(kept.items(), row, strict=True)}
    for part in parts:
        index = [codes[symbol] for symbol in part.scope]
        if index and part.places.values[tuple(index)] == NOWHERE:
            return part.failures[int(np.ravel_multi_index(index, part.places.values.shape))]
    return None


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
"""Outcomes, with the nodes whose identities are in the keys, so that these stay theirs."""


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
        """Return the combinations of values of some expressions, given what is known.

        An expression may have no value where it is never read, as the width of a layer has none for
        the candidates that have no such layer.  Where it could be read, the error is raised.
        """
        found = self._outcomes(expressions, known)
        if found.failure is not None:
            raise found.failure
        return found

    def everywhere(self, expressions: tuple[Any, ...]) -> Outcomes:
        """Return all combinations of values of some expressions, wherever these have values."""
        return self._outcomes(expressions, ())

    def _outcomes(self, expressions: tuple[Any, ...], known: Known) -> Outcomes:
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
            # The result is shared by all that ask, within a gradient checkpoint and outside.  What
            # a checkpoint runs again finds it here and does not compute it, so the checkpoint must
            # not replace the tensors saved for its backward pass by what is to be recomputed.
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
