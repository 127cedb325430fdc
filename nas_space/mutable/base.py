"""`Mutable`: anything that differs between architectures.

A subclass says two things: its *structure*, an expression whose evaluation needs exactly
the labels that an architecture decides, and how it freezes once these are known.
Everything else, from validation to the grid, follows from the structure and is written
here once, for expressions, containers and whole networks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LabelError, SampleMissingError, SampleValidationError, suggest
from .evaluation import Walk
from .node import Node, postorder
from .randomness import RandomState, words

if TYPE_CHECKING:
    from .constraints import Constraint
    from .symbols import MutableSymbol

Sample = dict[str, Any]
"""An architecture: label to value."""


class Mutable:
    """Base class of everything that describes a space.

    Subclasses implement :meth:`structure` and :meth:`freeze_values`.
    """

    def structure(self) -> Node | None:
        """An expression that needs exactly the labels an architecture decides here.

        Laziness is that of the expression: a label behind a branch that is not taken is
        not active.  ``None`` where nothing differs between architectures.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement structure()")

    def freeze_values(self, values: Values) -> Any:
        """The frozen form, given the values of the active labels."""
        raise NotImplementedError(f"{type(self).__name__} must implement freeze_values()")

    # -- what it consists of ------------------------------------------------------------

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """The labelled mutables below, those for which ``is_leaf`` holds left whole."""
        root = self.structure()
        if root is None:
            return
        for node in postorder(root):
            if node.operator is None:
                yield from node.expand(is_leaf)  # type: ignore[attr-defined]

    def simplify(self, is_leaf: Callable[[Mutable], bool] | None = None) -> dict[str, LabeledMutable]:
        """The labelled dimensions of the space, each once, by label.

        Parameters
        ----------
        is_leaf
            Which mutables to leave whole; by default every symbol.

        Raises
        ------
        LabelError
            If two different choices carry one label.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> (Categorical([2, 3], label='a') * 2).simplify()
        {'a': Categorical([2, 3], label='a')}
        """
        found: dict[str, LabeledMutable] = {}
        for mutable in self.leaf_mutables(is_leaf or _is_symbol):
            known = found.setdefault(mutable.label, mutable)
            if known is not mutable and not known.equals(mutable):
                raise LabelError(
                    f"two different choices carry the label {mutable.label!r}: {known!r} and "
                    f"{mutable!r}; give one of them another label, or make them the same"
                )
        return found

    def symbols(self) -> dict[str, MutableSymbol]:
        """The symbols of :meth:`simplify`, without constraints and annotations."""
        from .symbols import MutableSymbol

        return {k: v for k, v in self.simplify().items() if isinstance(v, MutableSymbol)}

    def constraints(self) -> list[Constraint]:
        """The constraints declared within."""
        from .constraints import Constraint

        root = self.structure()
        nodes = () if root is None else postorder(root)
        return [n.constraint for n in nodes if n.operator is None and isinstance(getattr(n, "constraint", None), Constraint)]  # type: ignore[attr-defined]

    # -- validation and freezing ----------------------------------------------------------

    def read(self, sample: Mapping[str, Any]) -> Values:
        """Checks a sample along the branches it takes; gives the values of active labels.

        Raises
        ------
        SampleMissingError
            If an active label has no value.
        SampleValidationError
            If a value is not in its label's domain, or a constraint does not hold.
        """
        values = Values()
        root = self.structure()
        if root is not None:
            Walk(root, values.known).run(lambda leaf: leaf.visit(sample, values))
            values.check_constraints(sample)
        return values

    def check_contains(self, sample: Mapping[str, Any]) -> SampleValidationError | None:
        """The reason why a sample is not in the space, or ``None`` if it is."""
        try:
            self.read(sample)
        except SampleValidationError as error:
            return error
        return None

    def contains(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample is in the space.

        >>> from nas_space.mutable import Categorical
        >>> Categorical([2, 3], label='a').contains({'a': 4})
        False
        """
        return self.check_contains(sample) is None

    def validate(self, sample: Mapping[str, Any]) -> None:
        """Raises :class:`SampleValidationError` if a sample is not in the space."""
        error = self.check_contains(sample)
        if error is not None:
            raise error

    def freeze(self, sample: Mapping[str, Any]) -> Any:
        """The form that the space takes under one architecture.

        Parameters
        ----------
        sample
            Label to value, for the labels that are active.

        Raises
        ------
        SampleValidationError
            If the sample is not in the space.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> (Categorical([2, 3], label='a') * 2).freeze({'a': 3})
        6
        """
        return self.freeze_values(self.read(sample))

    # -- choosing -----------------------------------------------------------------------

    def fill(self, sample: Sample, choose: Callable[[MutableSymbol], Any]) -> Values:
        """Chooses a value for each active label that the sample lacks, and adds it there.

        Nothing is added if the result violates a constraint.
        """
        chosen = dict(sample)
        values = Values()
        root = self.structure()
        if root is not None:

            def lookup(leaf: Any) -> Any:
                if leaf.is_missing(chosen):
                    chosen[leaf.label] = choose(leaf)
                return leaf.visit(chosen, values)

            Walk(root, values.known).run(lookup)
            values.check_constraints(chosen)
        sample.update(chosen)
        return values

    def default(self, memo: Sample | None = None) -> Any:
        """The form under the default of each label.

        Parameters
        ----------
        memo
            Values already chosen; those chosen here are added.
        """
        return self.freeze_values(self.fill({} if memo is None else memo, lambda s: s.default_choice()))

    def robust_default(self, memo: Sample | None = None, retries: int = 1000) -> Any:
        """Like :meth:`default`; where constraints refuse that, the first random form they allow.

        The attempts are the same in every run.
        """
        sample: Sample = {} if memo is None else memo
        try:
            return self.default(sample)
        except SampleValidationError as error:
            last: SampleValidationError = error
        generator = np.random.Generator(np.random.PCG64(0))
        for _ in range(retries):
            try:
                return self.random(sample, generator)
            except SampleValidationError as error:
                last = error
        raise SampleValidationError(
            f"no valid default found in {retries} random attempts; give the labels defaults that "
            f"meet the constraints, or loosen these (last reason: {last})"
        )

    def random(self, memo: Sample | None = None, random_state: RandomState = None) -> Any:
        """A random form; each label by its own distribution.

        Parameters
        ----------
        memo
            Values already chosen; those chosen here are added.
        random_state
            A seed or one of NumPy's generators; by default NumPy's global state.

        Raises
        ------
        ConstraintViolation
            If the values drawn violate a constraint.
        """
        draw = words(random_state)
        return self.freeze_values(
            self.fill({} if memo is None else memo, lambda s: s.draw(draw(s.words)))
        )

    def grid(self, memo: Sample | None = None, granularity: int | None = None) -> Iterator[Any]:
        """Every form once, depth first; numerical labels at ``2 ** granularity - 1`` quantiles.

        Parameters
        ----------
        memo
            Values already chosen; at each step it holds the values of the form yielded.
        granularity
            How finely numerical labels are covered; 1, the median alone, by default.
        """
        sample: Sample = {} if memo is None else memo
        root = self.structure()
        if root is None:
            yield self.freeze_values(Values())
            return
        for values, labels in self._grid(Walk(root), Values(), sample, granularity or 1):
            try:
                values.check_constraints(sample)
            except SampleValidationError:
                continue
            yield self.freeze_values(values)
            del labels

    def _grid(
        self, walk: Walk, values: Values, sample: Sample, granularity: int
    ) -> Iterator[tuple[Values, None]]:
        leaf = walk.next_leaf()
        if leaf is None:
            values.known = walk.known
            yield values, None
            return
        options: Iterable[Any]
        added = leaf.is_missing(sample)
        options = leaf.grid_choices(granularity) if added else (None,)
        for option in options:
            branch, chosen = walk.copy(), values.copy()
            if added:
                sample[leaf.label] = option
            branch.known[leaf] = leaf.visit(sample, chosen)
            yield from self._grid(branch, chosen, sample, granularity)
        if added:
            sample.pop(leaf.label, None)

    # -- the rest -----------------------------------------------------------------------

    def equals(self, other: Any) -> bool:
        """Whether two mutables describe the same space.  ``==`` builds an expression instead."""
        return type(self) is type(other) and self.structure() is other.structure()

    def as_legacy_dict(self) -> dict[str, Any]:
        """The description of NNI 2: ``{'_type': 'choice', '_value': [...]}``."""
        raise NotImplementedError(f"{type(self).__name__} has no form in the legacy description")

    def extra_repr(self) -> str:
        """What stands between the brackets of ``repr``."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class LabeledMutable(Mutable):
    """A mutable with a label; mutables of one label share one choice.

    Attributes
    ----------
    label
        The name under which architectures give its value.
    """

    label: str


class Values:
    """The values of the active labels, and of expressions over them, under one architecture.

    Attributes
    ----------
    known
        Node to value; filled as expressions are evaluated.
    active
        Label to value, in the order in which labels were needed.
    """

    __slots__ = ("active", "known", "pending")

    def __init__(self) -> None:
        self.known: dict[Node, Any] = {}
        self.active: Sample = {}
        self.pending: list[Constraint] = []

    def copy(self) -> Values:
        other = Values()
        other.known, other.active, other.pending = dict(self.known), dict(self.active), list(self.pending)
        return other

    def __call__(self, expression: Any) -> Any:
        """The value of an expression; a plain value is its own.

        Raises
        ------
        SampleMissingError
            If the expression needs a label that is not active.
        """
        if not isinstance(expression, Node):
            return expression
        found = self.known.get(expression, self)
        if found is not self:
            return found
        return Walk(expression, self.known).run(self._inactive)

    def _inactive(self, leaf: Any) -> Any:
        raise SampleMissingError(
            f"the label {leaf.label!r} is not active in this architecture{suggest(leaf.label, self.active)}; "
            f"active labels are {list(self.active)!r}"
        )

    def check_constraints(self, sample: Mapping[str, Any]) -> None:
        for constraint in self.pending:
            constraint.check(sample, self)


def _is_symbol(mutable: Mutable) -> bool:
    from .symbols import MutableSymbol

    return isinstance(mutable, MutableSymbol)
