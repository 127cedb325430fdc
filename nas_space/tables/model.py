"""What a space allows, as factors: its labels, when they are active, and its constraints."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Literal, cast

import numpy as np

from ..errors import DecompositionError, DomainError
from ..mutable import Mutable, MutableExpression, SampleBatch, Values
from ..mutable.constraints import Constraint, ExpressionConstraint, Marker
from ..mutable.factors import Array, Auxiliary, Factor, combinations_of
from ..mutable.node import Leaf, Node, leaves
from ..mutable.operators import OPERATORS
from .activity import Activity
from .conditions import Conditions, Window
from .coverage import check_covered
from .decision_diagrams import defining
from .factor_graph import FactorGraph, TermPattern
from .join_tree import CliqueVertex, JoinTree
from .quantisation import Quantisation, exact_keys
from .table import Table

__all__ = [
    "BareStructure",
    "CompiledModel",
    "Model",
    "Over",
    "find_constraints",
    "infinitely_many",
    "root_of",
]

_KEPT = 8
"""How many compiled models are kept, of those that tell further codes apart."""

_CALLS = 2**14
"""How many combinations a constraint written in Python is called for."""


class Model:
    """A structure as factors over its labels.

    Parameters
    ----------
    root
        The structure of a space.
    constraints
        Which of its constraints are to hold; all by default.

    Attributes
    ----------
    activity
        When labels are active.
    labels
        Its symbols, in order.
    auxiliaries
        The auxiliary variables that tell when its labels are active.
    allowed
        Factors that must all hold, beside those on activity.
    windows
        Bounds on costs.
    others
        Constraints that cannot be taken apart, and why.
    """

    def __init__(self, root: Node, *, constraints: Iterable[Constraint] | None = None) -> None:
        self.root = root
        self.activity = Activity.of(root)
        self.labels: list[Any] = [leaf for leaf in self.activity.reach if leaf.words]
        self.others: dict[Constraint, DecompositionError] = {}
        conditions = Conditions()
        if constraints is None:
            constraints = root.remember("_constraints", find_constraints)
        for constraint in constraints:
            reach = self.activity.reach[cast(Leaf, constraint.marker)]
            self._require(constraint, reach, conditions)
        reached = [self.activity.reach[label] for label in self.labels]
        held = [*(~lost for lost in self.activity.lost), *conditions.factors]
        self.auxiliaries = _auxiliaries((*reached, *held))
        known = self.activity.definitions
        self.allowed = [*(f for f in known if f.scope[-1] in self.auxiliaries), *held]
        self.windows: list[Window] = list(conditions.windows.values())
        self._plain: CompiledModel | None = None
        self._compiled: dict[Hashable, CompiledModel] = {}

    @staticmethod
    def of(root: Node) -> Model:
        """Return the model of a structure; worked out once."""
        return root.remember("_model", Model)

    def _require(self, constraint: Constraint, reach: Factor, conditions: Conditions) -> None:
        if isinstance(constraint, ExpressionConstraint):
            check_covered(self.root, constraint.expression, reach)
            try:
                conditions.add(constraint.expression, reach)
            except DecompositionError as error:
                self.others[constraint] = error
            return
        needed = constraint.needs()
        symbols: Sequence[Any] = leaves(needed)
        total = combinations_of(symbols)
        always = all(s in self.activity.reach and self.activity.reach[s].always for s in symbols)
        if needed is None or not always or total is None or total > _CALLS:
            self.others[constraint] = DecompositionError(
                f"{constraint!r} may be any function of the architecture; give it the labels it is "
                f"about (leaf_mutables), of at most {_CALLS} combinations, or write it as an "
                "expression",
                term=constraint,
            )
            return
        shape = tuple(symbol.size for symbol in symbols)
        good = [
            constraint.check_contains(
                {s.name: s.value(code) for s, code in zip(symbols, codes, strict=True)}
            )
            is None
            for codes in np.ndindex(shape)
        ]
        conditions.factors.append(Factor(symbols, np.array(good).reshape(shape)) | ~reach)

    def batch(self, codes: Mapping[Any, Array], size: int) -> SampleBatch:
        """Return architectures that are given by a code for each label, active or not.

        Which of them are active is looked up, as everything else here is.
        """

        @cache
        def column(variable: Any) -> Array:
            if isinstance(variable, Auxiliary):
                return variable.column(column)
            return codes[variable]

        reach = {label: self.activity.reach[label] for label in self.labels}
        active = {
            label: here.at(column) if here.scope else np.full(size, bool(here.values))
            for label, here in reach.items()
        }
        return SampleBatch(self.root, {label: codes[label] for label in reach}, size, active)

    def compiled(self, tables: Sequence[Table] = ()) -> CompiledModel:
        """Return the model as a join tree on which sums of tables can be asked about.

        It depends on which labels the terms of the tables are over and which codes they tell
        apart, not on their values, and is kept: asking again with other values of the same kind
        costs little.
        """
        terms = [term for table in tables for term in table.terms]
        if self._plain is None:
            self._plain = CompiledModel(self)
        if self._plain.graph.holds(terms):
            return self._plain
        pattern = TermPattern(terms)
        kept = self._compiled.get(pattern.key)
        if kept is None:
            if len(self._compiled) == _KEPT:
                del self._compiled[next(iter(self._compiled))]
            kept = self._compiled[pattern.key] = CompiledModel(self, pattern)
        return kept


class CompiledModel:
    """A model as a join tree.

    Parameters
    ----------
    model
        What a space allows.
    pattern
        Of the terms that can be asked about beside the costs of its windows.

    Attributes
    ----------
    pattern
        See above; it holds the variables whose identities are in its key.
    graph, tree
        Its factors, and how they are joined.
    costs
        What each state of a clique adds to the windows' costs: for each clique, an array of
        shape ``(windows, states)``.
    """

    def __init__(self, model: Model, pattern: TermPattern | None = None) -> None:
        self.model, self.pattern = model, pattern or TermPattern([])
        windows = model.windows
        costs = [term for window in windows for term in window.table.terms]
        values = [*costs, *self.pattern.spans()]
        own = self._definitions(values)
        reach = {label: model.activity.reach[label] for label in model.labels}
        alike = [factor for factor in reach.values() if not factor.always]
        factors = (*model.allowed, *own, *alike, *values)
        tight = dict.fromkeys(variable for factor in factors for variable in factor.scope)
        active = ((label, reach[label]) for label in tight if label in reach)
        first = [_only_first(label) | here for label, here in active if not here.always]
        ordered = [label for label in model.labels if label in tight]
        allowed = [*model.allowed, *own, *first]
        values += self.pattern.distinctions()
        self.graph = graph = FactorGraph(allowed, values, alike, ordered)
        sums = [graph.sums(window.table.terms) for window in windows]
        rooms = []
        for cost, window in zip(sums, windows, strict=True):
            pairs = zip(cost, graph.cliques, strict=True)
            least = [c[q.allowed.reshape(-1)].min(initial=c.max()) for c, q in pairs]
            rooms.append(max(0, int(window.high - window.table.constant - sum(least))))
        self.tree = tree = JoinTree(graph, sums, rooms)
        at_states = [tree.at_states(cost) for cost in sums]
        self.costs = [
            np.stack([cost[place] for cost in at_states])
            if windows
            else np.zeros((0, len(vertex.states)), np.int64)
            for place, vertex in enumerate(tree.vertices)
            if isinstance(vertex, CliqueVertex)
        ]
        self.loose = [label for label in model.labels if label not in graph.place]

    def _definitions(self, values: Sequence[Factor]) -> list[Factor]:
        """What determines the auxiliary variables of some factors, beside those of the model."""
        known = {factor.scope[-1]: factor for factor in self.model.activity.definitions}
        new = (v for v in _auxiliaries(values) if v not in self.model.auxiliaries)
        return [f for v in new for f in ((known[v],) if v in known else defining(v))]

    @cached_property
    def keys(self) -> Quantisation:
        """The costs of the windows as keys that lose nothing."""
        return exact_keys(self.tree, self.model.windows, self.costs)

    @property
    def possible(self) -> bool | None:
        """Whether any architecture meets all conditions; ``None`` if that is not so easily told."""
        windows = self.model.windows
        if not self.tree.possible:
            return False
        ends = [self.extremes(window.table) for window in windows]
        if any(w.high < low or high < w.low for w, (low, high) in zip(windows, ends, strict=True)):
            return False
        if len(windows) > 1:
            return None
        # Within a single window, the cheapest or the dearest architecture may settle it.
        within = (w.low <= e <= w.high for w, both in zip(windows, ends, strict=True) for e in both)
        return True if not windows or any(within) else None

    def values(self, table: Table) -> list[Array]:
        """Return what each state of each clique adds to a table, its constant left out."""
        return self.tree.at_states(self.graph.sums(table.terms))

    def weights(self, over: Over) -> list[Array]:
        """Return how much each state of each clique weighs.

        Parameters
        ----------
        over
            Whether each architecture weighs the same, or as its labels' distributions say.

        Raises
        ------
        DomainError
            If every architecture is to weigh the same, but there are infinitely many.
        """
        reach = self.model.activity.reach
        own, others = [], []
        for variable in self.graph.variables:
            if over == "labels" and variable in reach:
                own.append(_by_distribution(variable, reach[variable]))
            else:
                own.append(Factor((variable,), np.ones(variable.size, np.int64)))
        if over == "architectures":
            others = [_by_number(label, reach[label]) for label in self.loose]
        return self.tree.at_states(self.graph.weights(own, others), 1)

    def extremes(self, table: Table) -> tuple[Any, Any]:
        """Return the lowest and the highest value of a table, whatever windows say."""
        low, high = self.tree.extremes(self.graph.sums(table.terms))
        return low + table.constant, high + table.constant


class BareStructure(Mutable):
    """A structure on its own, to read and draw architectures with: it freezes to their values."""

    def __init__(self, root: Node) -> None:
        self.root = root

    def structure(self) -> Node:
        return self.root

    def freeze_values(self, values: Values) -> Values:
        return values


def find_constraints(root: Node) -> list[Constraint]:
    """Return the constraints of a structure, in order; to be remembered as ``_constraints``."""
    markers = (leaf for leaf in leaves(root) if isinstance(leaf, Marker))
    notes = (marker.annotation for marker in markers)
    return [note for note in notes if isinstance(note, Constraint)]


def root_of(space: Mutable) -> Node:
    """Return the structure of a space; an empty one where nothing differs between architectures."""
    root = space.structure()
    return _NOTHING if root is None else root


_NOTHING: Node = MutableExpression(OPERATORS["tuple"], ())

Over = Literal["labels", "architectures"]


def infinitely_many(label: Any) -> DomainError:
    """Return the error for a label that has no finite number of values."""
    return DomainError(
        f"{label.name!r} is continuous, so there are infinitely many architectures; give it a "
        "step (quantize=...) and finite bounds"
    )


def _auxiliaries(factors: Iterable[Factor]) -> dict[Auxiliary, None]:
    """Return the auxiliary variables of some factors, and those of their conditions, in order."""
    found: dict[Auxiliary, None] = {}
    open_ = [variable for factor in factors for variable in factor.scope]
    while open_:
        variable = open_.pop()
        if isinstance(variable, Auxiliary) and variable not in found:
            found[variable] = None
            open_ += variable.condition.scope
    return found


def _only_first(label: Any) -> Factor:
    """Of all that are the same because the label is not active, the first stands for all."""
    return Factor((label,), np.arange(label.size) == 0)


def _by_distribution(label: Any, active: Factor) -> Factor:
    own = Factor((label,), label.probabilities())
    return own.combine(active, lambda share, here: np.where(here, share, 1.0))


def _by_number(label: Any, active: Factor) -> Factor:
    if label.size is None:
        raise infinitely_many(label)
    numbers = np.where(active.values, np.array(label.size, dtype=object), 1)
    return Factor(active.scope, np.asarray(numbers, dtype=object))
