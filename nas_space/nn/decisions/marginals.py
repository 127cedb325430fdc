"""How likely each value of an expression is, if every label is drawn on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...errors import UsageError
from ...mutable.factors import Factor, Scope, combinations_of
from ...mutable.node import Node, key_of, leaves
from ...mutable.piecewise import NOWHERE, Piecewise, joint

__all__ = ["Known", "Marginals", "Outcomes", "Support", "labels_of"]

Known: TypeAlias = "tuple[tuple[Node, Any], ...]"
"""Expressions whose values are known, and these as :func:`key_of` has them."""

Support: TypeAlias = "tuple[tuple[str, tuple[int, ...]], ...]"
"""The codes that some labels may have; the others may have all of theirs."""

_LIMIT = 2**16
"""Up to how many combinations of labels are gone through for one question."""


class Outcomes:
    """What some expressions can be together.

    Attributes
    ----------
    values
        The distinct combinations of their values.
    labels
        The labels that decide which it is.
    codes
        Their codes in each case, of shape ``(cases, labels)``.
    places
        Which of the combinations each case gives.
    conditional
        Whether the cases are only a part of all combinations of these labels.
    """

    def __init__(self, expressions: tuple[Any, ...], known: Known, support: Support) -> None:
        symbols: list[Any] = leaves(*expressions, *(node for node, _ in known))
        total = combinations_of(symbols)
        if total is None or total > _LIMIT:
            names = [symbol.name for symbol in symbols]
            raise UsageError(
                f"{[str(e) for e in expressions]} depend on the labels {names}, which have "
                f"{'infinitely many' if total is None else total} combinations; a strategy that "
                f"mixes all of them can go through {_LIMIT}"
            )
        parts = [Piecewise.of(part) for part in (*expressions, *(node for node, _ in known))]
        for part in parts:
            if part.failures:
                raise next(iter(part.failures.values()))
        allowed = {name: np.array(codes) for name, codes in support}
        together = joint(parts, lambda scope: _allowed(scope, allowed))
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
        shape = [symbol.size for symbol in symbols]
        flat = np.broadcast_to(together.places.over(symbols), shape).reshape(-1)
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
        self.places: npt.NDArray[Any] = number[flat[rows]]
        codes = (
            np.stack(np.unravel_index(rows, shape), 1) if shape else np.zeros((len(rows), 0), int)
        )
        # Labels that are known, whatever their probability, drop out.
        several = [i for i in range(codes.shape[1]) if len(np.unique(codes[:, i])) > 1]
        varying = [symbols[i] for i in several]
        self.labels = [symbol.name for symbol in varying]
        self.codes: npt.NDArray[Any] = codes[:, several]
        # Those that remain may have fewer combinations than there are without what is known.
        whole = [
            len(np.unique(allowed[symbol.name])) if symbol.name in allowed else symbol.size
            for symbol in varying
        ]
        self.conditional = len(codes) != math.prod(whole)
        self._indices: dict[Any, tuple[list[Tensor], Tensor]] = {}

    def indices(self, device: torch.device) -> tuple[list[Tensor], Tensor]:
        """Return codes and places as tensors."""
        if device not in self._indices:
            codes = [torch.from_numpy(column.copy()).to(device) for column in self.codes.T]
            self._indices[device] = codes, torch.from_numpy(self.places).to(device)
        return self._indices[device]


def _allowed(scope: Scope, support: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Which combinations of codes have only those that are allowed."""
    kept = np.ones([symbol.size for symbol in scope], bool)
    for symbol in scope:
        if symbol.name in support:
            codes = np.isin(np.arange(symbol.size), support[symbol.name])
            kept &= Factor((symbol,), codes).over(scope)
    return kept


def labels_of(node: Any) -> frozenset[str]:
    """Return the names of the labels that an expression depends on; of a plain value none."""
    return node.remember("_label_names", _find_labels) if isinstance(node, Node) else frozenset()


def _find_labels(node: Node) -> frozenset[str]:
    return frozenset(symbol.name for symbol in leaves(node))


def _names(expressions: tuple[Any, ...]) -> frozenset[str]:
    return frozenset().union(*map(labels_of, expressions))


def _relevant(expressions: tuple[Any, ...], known: Known) -> Known:
    """What is known of labels that the expressions depend on, directly or by what is known."""
    if not known:
        return known
    names = _names(expressions)
    # By place: nodes themselves must not be compared.
    rest = set(range(len(known)))
    kept: set[int] = set()
    while True:
        more = {i for i in rest if names & labels_of(known[i][0])}
        if not more:
            return tuple(known[i] for i in sorted(kept))
        kept |= more
        rest -= more
        names = names.union(*(labels_of(known[i][0]) for i in more))


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@lru_cache(maxsize=8192)
def _outcomes(key: tuple[Any, ...], asked: _Question) -> Outcomes:
    del key  # it tells questions apart; nodes themselves must not be compared
    return Outcomes(asked.expressions, asked.known, asked.support)


class _Question:
    """A question as it stands; equal to every other, for its key tells them apart."""

    def __init__(self, expressions: tuple[Any, ...], known: Known, support: Support) -> None:
        self.expressions, self.known, self.support = expressions, known, support

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question)


_REMEMBERED = 2**14

_ASKED: dict[Any, tuple[tuple[Any, ...], Known, Outcomes]] = {}
"""What expressions can be together, if labels may have all of their codes; with what was asked,
whose identities are in the keys."""


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
        self._support = dict(self.support)
        self._found: dict[Any, tuple[Outcomes, Tensor]] = {}
        self._asked: dict[Any, Outcomes] = {}

    def outcomes(self, expressions: tuple[Any, ...], known: Known = ()) -> Outcomes:
        """Return what the expressions can be together, where some things are known."""
        key = (tuple(map(key_of, expressions)), tuple((id(n), k) for n, k in known))
        if self.support:
            if key not in self._asked:
                self._asked[key] = self._ask(expressions, known)
            return self._asked[key]
        # Every step of a strategy asks the same of other probabilities.
        if key not in _ASKED:
            if len(_ASKED) > _REMEMBERED:
                _ASKED.clear()
            _ASKED[key] = expressions, known, self._ask(expressions, known)
        return _ASKED[key][2]

    def _ask(self, expressions: tuple[Any, ...], known: Known) -> Outcomes:
        known = _relevant(expressions, known)
        names = _names(expressions).union(*(labels_of(node) for node, _ in known))
        # Of the support, only what matters: another one of other labels is the same question.
        support = tuple([(name, self._support[name]) for name in names if name in self._support])
        support = tuple(sorted(support))
        return _outcomes(
            (tuple(map(key_of, expressions)), tuple((id(n), k) for n, k in known), support),
            _Question(expressions, known, support),
        )

    def of(self, expressions: tuple[Any, ...], known: Known = ()) -> tuple[Outcomes, Tensor]:
        """Return :meth:`outcomes` with the probability of each combination of values.

        Raises
        ------
        UsageError
            If a label that matters has no probabilities, or there are too many combinations.
        """
        key = (tuple(map(key_of, expressions)), tuple((id(n), k) for n, k in known))
        if key not in self._found:
            outcomes = self.outcomes(expressions, known)
            # What a gradient checkpoint runs again finds them here: it must not wait for them.
            with torch.autograd.graph.saved_tensors_hooks(_itself, _itself):
                self._found[key] = outcomes, self._probabilities(outcomes)
        return self._found[key]

    @property
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
        codes, places = outcomes.indices(vectors[0].device)
        cases = vectors[0][codes[0]]
        for vector, column in zip(vectors[1:], codes[1:], strict=True):
            cases = cases * vector[column]
        if outcomes.conditional:
            cases = cases / cases.sum()
        if len(outcomes.values) == len(outcomes.places):
            return cases
        return cases.new_zeros(len(outcomes.values)).index_add(0, places, cases)
