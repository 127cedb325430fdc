"""What can be asked of a space exactly: how many, the best, the trade-offs, the extremes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import DecompositionError, UsageError
from ..mutable import Mutable, Sample
from ..mutable.factors import LIMIT, Array, Factor
from ..mutable.node import Node, key_of
from .arithmetic import Modular, exactly
from .decoding import default_code
from .effort import allowed
from .infeasibility import refusal
from .message_passing import Messages
from .model import Model, infinitely_many, root_of
from .quantisation import Quantisation, exact_keys
from .solver import Solver
from .table import Bounds, Table

__all__ = ["Scored", "Tradeoff", "best", "bounds", "count", "default", "grid", "pareto"]

_LONGEST = 2**24
"""How many different costs may be told apart in one place while counting."""

T = TypeVar("T")


class Scored(NamedTuple):
    """An architecture, and what it costs."""

    value: Any
    arch: Sample


class Tradeoff(NamedTuple):
    """An architecture that none beats in both of two costs, and what these are."""

    first: Any
    second: Any
    arch: Sample


def count(space: Mutable) -> int:
    """Return the number of different architectures of a space that meet its constraints.

    Two are different if an active label has different values.

    Raises
    ------
    DomainError
        If there are infinitely many: a label is continuous.
    DecompositionError
        If a constraint is not on few labels nor on a sum, or too many different costs would have
        to be told apart: at most 2**24 for one state of the labels between two parts of a space.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableExpression
    >>> ops = [Categorical(["conv", "pool", "none"], label=f"op{i}") for i in range(100)]
    >>> depth = Categorical([1, 100], label="depth")
    >>> count(MutableExpression.switch_case(depth, {1: ops[0], 100: sum(ops)})) == 3 + 3**100
    True
    """
    return root_of(space).remember("_count", _count)


def _count(root: Node) -> int:
    model = Model.of(root)
    for error in model.others.values():
        raise error
    compiled = model.compiled()
    weights = compiled.weights("architectures")
    if not compiled.tree.possible:
        return 0
    free = exact_keys(compiled.tree, (), [np.zeros((0, len(w)), np.int64) for w in weights])
    numbers = math.prod(label.size for label in model.labels)
    total = exactly(numbers, lambda modular: _total(free, weights, modular))
    if not model.windows:
        return total
    keys = compiled.keys
    estimate = keys.estimate()
    if not keys.fits or estimate.longest > _LONGEST or estimate.work > allowed():
        raise DecompositionError(
            f"counting would have to tell up to {estimate.longest:.1e} sums apart for "
            f"{' and '.join(window.text for window in model.windows)}, at most {_LONGEST} can be; "
            f"and that is an effort of {estimate.work / 1e9:.1g}, at most {allowed() / 1e9:g} is "
            "allowed (nas_space.tables.effort); sample instead, or round the costs to a coarser "
            "unit with nas_space.tables.rounded"
        )
    return exactly(total, lambda modular: _total(keys, weights, modular))


def _total(keys: Quantisation, weights: list[Array], modular: Modular) -> int:
    return modular.total(Messages(keys, modular, weights, keep=False).root_pairs().weights)


def bounds(space: Mutable, cost: Any) -> Bounds:
    """Return the lowest and the highest cost in a space, exactly, with an architecture for each.

    Parameters
    ----------
    space
        A space, restricted or not.
    cost
        An expression over its labels, or a table.

    Raises
    ------
    InfeasibleError
        If no architecture meets the constraints.
    DecompositionError
        If the cost is not a sum of small tables.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a, b = Categorical([1, 2], label="a"), Categorical([3, 5], label="b")
    >>> bounds(a * b, a * b)
    Bounds(minimum=3, maximum=10, at_minimum={'a': 1, 'b': 3}, at_maximum={'a': 2, 'b': 5})
    """
    low, high = best(space, cost)[0], best(space, cost, maximize=True)[0]
    return Bounds(low.value, high.value, low.arch, high.arch)


def best(
    space: Mutable,
    objective: Any,
    k: int = 1,
    *,
    maximize: bool = False,
    exclude: Iterable[Mapping[str, Any]] = (),
) -> list[Scored]:
    """Return the architectures with the lowest (or highest) values of an objective, exactly.

    Asking again with other values of the same labels, as a search does with new scores, is
    faster: what does not depend on the values is kept.

    Parameters
    ----------
    space
        A space, restricted or not.
    objective
        An expression over its labels, or a table.
    k
        How many; fewer are found if there are fewer.
    maximize
        Whether the highest are wanted.
    exclude
        Architectures that do not count, such as those that were tried before.

    Returns
    -------
    list of Scored
        Value and architecture, the best first.  Which of several of one value are found, and
        in which order, is the same in every run.  A continuous label has its default.

    Raises
    ------
    InfeasibleError
        If no architecture meets the constraints.
    DecompositionError
        If the objective is not a sum of small tables, or finding them takes more work than
        :func:`~nas_space.tables.effort` allows.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = [Categorical([8, 16, 24], label=f"w{i}") for i in range(3)]
    >>> for value, arch in best(sum(width), sum(width), k=2, maximize=True):
    ...     print(value, arch)
    72 {'w0': 24, 'w1': 24, 'w2': 24}
    64 {'w0': 24, 'w1': 24, 'w2': 16}
    """
    if k < 1:
        raise UsageError(f"k must be a whole number, 1 or more, but got {k!r}")
    excluded = {_key(arch) for arch in exclude}
    solver = Solver(space, [objective], [-1 if maximize else 1])
    found = solver.least(k, (lambda arch: _key(arch) in excluded) if excluded else None)
    if excluded and not found and solver.least(1):
        return []
    return [Scored(values[0], arch) for values, arch in _any(space, found)]


def _key(arch: Mapping[str, Any]) -> Hashable:
    """A key of an architecture: labels take no two values that are equal to Python."""
    try:
        return frozenset(arch.items())
    except TypeError:  # a list is no key
        return key_of(dict(arch), loose=True)


def pareto(
    space: Mutable, first: Any, second: Any, *, maximize: tuple[bool, bool] = (False, False)
) -> list[Tradeoff]:
    """Return the trade-offs between two objectives, exactly: what no architecture beats in both.

    Parameters
    ----------
    space
        A space, restricted or not.
    first, second
        Expressions over its labels, or tables.
    maximize
        Which of them are to be high instead of low.

    Returns
    -------
    list of Tradeoff
        One architecture for each pair of values on the front, the best in the first objective
        first.

    Raises
    ------
    InfeasibleError
        If no architecture meets the constraints.
    DecompositionError
        If an objective is not a sum of small tables, or bounds on other costs would have to tell
        too many of their values apart.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> a, b = Categorical([1, 2], label="a"), Categorical([0, 3], label="b")
    >>> [(point.first, point.second) for point in pareto(a + b, a + b, b * 2 - a * 5)]
    [(1, -5), (2, -10)]
    """
    signs = [-1 if high else 1 for high in maximize]
    found = Solver(space, [first, second], signs).front()
    return [Tradeoff(values[0], values[1], arch) for values, arch in _any(space, found)]


def _any(space: Mutable, found: list[T]) -> list[T]:
    if not found:
        raise refusal(root_of(space))
    return found


def default(space: Mutable) -> Sample:
    """Return the architecture that differs from the default in as few labels as is allowed.

    Raises
    ------
    InfeasibleError
        If no architecture meets the constraints.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, ExpressionConstraint, MutableList
    >>> a, b = Categorical([1, 2, 3], label="a"), Categorical([1, 2, 3], label="b")
    >>> default(MutableList([a, b, ExpressionConstraint(a + b >= 4, label="sum")]))
    {'a': 1, 'b': 3}
    """
    model = Model.of(root_of(space))
    terms = []
    for label in model.labels:
        if label.size is not None and label.size <= LIMIT:
            differs = np.arange(label.size) != default_code(label)
            active = model.activity.reach[label]
            terms.append(Factor((label,), differs).combine(active, np.logical_and).reduced())
    distance = Table(None, [Factor(t.scope, t.values.astype(np.int64)) for t in terms if t.scope])
    return best(space, distance)[0].arch


def grid(space: Mutable) -> Iterator[Sample]:
    """Yield every architecture that meets the constraints, once, without trying those that do not.

    Raises
    ------
    DomainError
        If there are infinitely many: a label is continuous.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, ExpressionConstraint, MutableList
    >>> labels = [Categorical([0, 1], label=f"x{i}") for i in range(40)]
    >>> space = MutableList([*labels, ExpressionConstraint(sum(labels) <= 1, label="few")])
    >>> sum(1 for arch in grid(space))
    41
    """
    for label in Model.of(root_of(space)).labels:
        if label.size is None:
            raise infinitely_many(label)
    yield from Solver(space, [], []).everything()
