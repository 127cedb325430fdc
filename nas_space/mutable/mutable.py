"""``Mutable``: anything that differs between architectures.

A subclass says two things: its *structure*, an expression whose evaluation needs exactly
the labels that an architecture decides, and how it freezes once these are known.
Everything else, from validation to the grid, follows from the structure and is written
here once, for expressions, containers and whole networks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ..errors import (
    NasSpaceError,
    SampleMissingError,
    SampleValidationError,
    UsageError,
    suggest,
)
from .labels import incomparable, label, listed
from .lazy import Walk
from .node import Leaf, Node, leaves
from .random_words import RandomState, words
from .word_layout import Layout, two_of_one_label

__all__ = ["LabeledMutable", "Mutable", "Sample", "Values", "listed"]

Sample = dict[str, Any]
"""An architecture: label to value."""


class Mutable:
    """Base class of everything that describes a space.

    Subclasses implement :meth:`structure` and :meth:`freeze_values`.
    """

    def structure(self) -> Node | None:
        """Return an expression that needs exactly the labels an architecture decides here.

        Laziness is that of the expression: a label behind a branch that is not taken is
        not active.  ``None`` where nothing differs between architectures.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement structure()")

    def freeze_values(self, values: Values) -> Any:
        """Return the frozen form, given the values of the active labels."""
        raise NotImplementedError(f"{type(self).__name__} must implement freeze_values()")

    def _named_parts(self) -> Iterable[tuple[str, Mutable]]:
        """Return what it directly consists of, by name, for the path in an error message."""
        return ()

    # -- what it consists of ------------------------------------------------------------

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """Yield the labelled mutables below, those for which ``is_leaf`` holds left whole."""
        for leaf in leaves(self.structure()):
            yield from leaf.expand(is_leaf)

    def simplify(
        self, is_leaf: Callable[[Mutable], bool] | None = None
    ) -> dict[str, LabeledMutable]:
        """Return the labelled dimensions of the space, each once, by label.

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
        >>> (Categorical([2, 3], label="a") * 2).simplify()
        {'a': Categorical([2, 3], label='a')}
        """
        found: dict[str, LabeledMutable] = {}
        for mutable in self.leaf_mutables(is_leaf or _is_symbol):
            known = found.setdefault(str(mutable.label), mutable)
            if known is not mutable and not known.equals(mutable):
                raise two_of_one_label(known, mutable)
        return found

    def symbols(self) -> dict[str, Any]:
        """Return the symbols of :meth:`simplify`, without constraints and annotations.

        Each is a :class:`.symbols.MutableSymbol`.
        """
        return {name: found for name, found in self.simplify().items() if found.is_symbol}

    def constraints(self) -> list[Any]:
        """Return the constraints declared within, each a :class:`.constraints.Constraint`."""
        return [found for found in self.leaf_mutables(_is_symbol) if found.is_constraint]

    # -- validation and freezing ----------------------------------------------------------

    def read(self, sample: Mapping[str, Any]) -> Values:
        """Check a sample along the branches it takes; give the values of active labels.

        Raises
        ------
        SampleMissingError
            If an active label has no value.
        SampleValidationError
            If a value is not in its label's domain, or a constraint does not hold.
        """
        if not isinstance(sample, Mapping):
            raise SampleValidationError(
                f"an architecture is a dict from label to value, but got {sample!r}"
            )
        for name in sample:
            if not isinstance(name, str):
                raise SampleValidationError(
                    f"labels are strings, but the architecture has a {type(name).__name__}"
                )
        values = Values()
        known = values.known
        try:
            for leaf in Layout.of(self.structure()).needed(known):
                try:
                    known[leaf] = leaf.visit(sample, values)
                except NasSpaceError:
                    raise
                except Exception as error:
                    # A tensor, an array, a list that holds itself: no value is compared with it.
                    raise incomparable(leaf.name, sample.get(leaf.name), error) from error
            values.check_constraints(sample)
        except SampleValidationError as error:
            if isinstance(error, SampleMissingError):
                error.msg += _misspelling(error.label or "", sample, self.structure())
                error.args = (error.msg,)
            self._locate(error, sample)
            raise
        return values

    def _locate(self, error: SampleValidationError, sample: Mapping[str, Any]) -> None:
        """Put in front of an error's path where in here it comes from."""
        for name, part in self._named_parts():
            found = part.check_contains(sample)
            if found is not None and found.label == error.label and type(found) is type(error):
                error.paths[:0] = [name, *found.paths]
                return

    def check_contains(self, sample: Mapping[str, Any]) -> SampleValidationError | None:
        """Return the reason why a sample is not in the space, or ``None`` if it is."""
        return _refusal(self.read, sample)

    def contains(self, sample: Mapping[str, Any]) -> bool:
        """Return whether a sample is in the space.

        >>> from nas_space.mutable import Categorical
        >>> Categorical([2, 3], label="a").contains({"a": 4})
        False
        """
        return self.check_contains(sample) is None

    def validate(self, sample: Mapping[str, Any]) -> None:
        """Raise :class:`SampleValidationError` if a sample is not in the space."""
        error = self.check_contains(sample)
        if error is not None:
            raise error

    def freeze(self, sample: Mapping[str, Any]) -> Any:
        """Return the form that the space takes under one architecture.

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
        >>> (Categorical([2, 3], label="a") * 2).freeze({"a": 3})
        6
        """
        return self.freeze_values(self.read(sample))

    # -- choosing -----------------------------------------------------------------------

    def fill(self, sample: Sample, choose: Callable[[Any], Any]) -> Values:
        """Choose a value for each active label that the sample lacks, and add it there.

        Nothing is added if the result violates a constraint.
        """
        chosen, values = self.completed(sample, choose)
        values.check_constraints(chosen)
        sample.update(chosen)
        return values

    def completed(
        self, sample: Mapping[str, Any], choose: Callable[[Any], Any]
    ) -> tuple[Sample, Values]:
        """Return a sample with a value for each active label, and the values of these.

        What it lacks is chosen, in an order in which each label is known to be active; constraints
        are left aside.
        """
        chosen, values = dict(sample), Values()
        known = values.known
        for leaf in Layout.of(self.structure()).needed(known):
            if leaf.name not in chosen and leaf.is_missing(chosen):
                chosen[leaf.name] = choose(leaf)
            known[leaf] = leaf.visit(chosen, values)
        return chosen, values

    def default(self, memo: Sample | None = None) -> Any:
        """Return the form under the default of each label.

        Parameters
        ----------
        memo
            Values already chosen; those chosen here are added.
        """
        sample: Sample = {} if memo is None else memo
        return self.freeze_values(self.fill(sample, lambda symbol: symbol.default_choice()))

    def robust_default(self, memo: Sample | None = None, retries: int = 1000) -> Any:
        """Return :meth:`default`, or the first random form that constraints allow.

        The attempts are the same in every run.
        """
        sample: Sample = {} if memo is None else memo
        try:
            return self.default(sample)
        except SampleValidationError as error:
            last: SampleValidationError = error
        generator = np.random.PCG64(0)
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
        """Return a random form; each label by its own distribution.

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
        layout = Layout.of(self.structure())
        raw = words(random_state)(layout.words)

        def draw(symbol: Any) -> Any:
            start = layout.offsets[symbol]
            return symbol.draw(raw[start : start + symbol.words])

        return self.freeze_values(self.fill({} if memo is None else memo, draw))

    def grid(self, memo: Sample | None = None, granularity: int | None = None) -> Iterator[Any]:
        """Yield every form once, depth first; numerical labels at ``2**granularity - 1`` quantiles.

        Parameters
        ----------
        memo
            Values already chosen; at each step it holds the values of the form yielded.
        granularity
            How finely numerical labels are covered; 1, the median alone, by default.
        """
        sample: Sample = {} if memo is None else memo
        for values in self.combinations(sample, 1 if granularity is None else granularity):
            try:
                values.check_constraints(sample)
            except SampleValidationError:
                continue
            yield self.freeze_values(values)

    def combinations(self, sample: Sample, granularity: int) -> Iterator[Values]:
        """Yield every combination of values of active labels, constraints left aside.

        ``sample`` and ``granularity`` are as of :meth:`grid`.

        Runs like an odometer: the label that was needed last turns first, and each time it
        stops the walk begins anew, since what is needed after it may be other labels.
        """
        if granularity < 1:
            raise UsageError(f"granularity must be at least 1, but got {granularity}")
        layout = Layout.of(self.structure())
        turning: list[tuple[str, Iterator[Any]]] = []  # labels chosen here; what is left of each
        while True:
            values = Values()
            for leaf in layout.needed(values.known):
                if leaf.is_missing(sample):
                    options = iter(leaf.grid_choices(granularity))
                    sample[leaf.name] = next(options)
                    turning.append((leaf.name, options))
                values.known[leaf] = leaf.visit(sample, values)
            yield values
            while turning:
                name, options = turning[-1]
                following = next(options, _END)
                if following is not _END:
                    sample[name] = following
                    break
                turning.pop()
                del sample[name]
            else:
                return

    # -- the rest -----------------------------------------------------------------------

    def equals(self, other: Any) -> bool:
        """Return whether two mutables describe the same space; ``==`` builds an expression."""
        return type(self) is type(other) and self.structure() is other.structure()

    def extra_repr(self) -> str:
        """Return what stands between the brackets of ``repr``."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class LabeledMutable(Mutable):
    """A mutable with a label; mutables of one label share one choice.

    Attributes
    ----------
    label
        The name under which architectures give its value.
    is_symbol, is_constraint
        Whether it is a dimension of the space, or a condition on these; else an annotation.
    """

    label: label
    is_symbol: ClassVar[bool] = False
    is_constraint: ClassVar[bool] = False


class Values:
    """The values of the active labels, and of expressions over them, under one architecture.

    Attributes
    ----------
    known
        Node to value; filled as expressions are evaluated.
    active
        Label to value, in the order in which labels were needed.
    pending
        The constraints that were met on the way and are to be checked.
    """

    __slots__ = ("active", "known", "pending")

    def __init__(self) -> None:
        self.known: dict[Node, Any] = {}
        self.active: Sample = {}
        self.pending: list[Any] = []

    def __call__(self, expression: Any) -> Any:
        """Return the value of an expression; a plain value is its own.

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
        return Walk(expression, self.known, self.active or None).run(self._inactive)

    def _inactive(self, leaf: Leaf) -> Any:
        raise SampleMissingError(
            f"the label {leaf.name!r} is not active in this architecture"
            f"{suggest(leaf.name, self.active)}; active labels are {listed(self.active)}",
            label=leaf.name,
        )

    def check_constraints(self, sample: Mapping[str, Any]) -> None:
        """Raise unless the constraints that were met on the way hold."""
        for constraint in self.pending:
            constraint.check(sample, self)

    def meets_constraints(self) -> bool:
        """Return whether the constraints that were met on the way hold."""
        return _refusal(self.check_constraints, self.active) is None


def _refusal(
    check: Callable[[Mapping[str, Any]], object], sample: Mapping[str, Any]
) -> SampleValidationError | None:
    """Return why a check refuses a sample, or ``None`` if it does not."""
    try:
        check(sample)
    except SampleValidationError as error:
        return error
    except NasSpaceError:
        raise  # it is the space that is wrong
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return SampleValidationError(f"what the sample leads to cannot be computed: {error}")
    return None


def _misspelling(label: str, sample: Iterable[str], root: Node | None) -> str:
    """End the error about a missing label, if an unknown one comes near."""
    import difflib

    unknown = {str(name) for name in sample} - {leaf.name for leaf in leaves(root)}
    near = difflib.get_close_matches(label, sorted(unknown), n=1)
    return f"; {near[0]!r}, which is not a label of it, may be a misspelling" if near else ""


def _is_symbol(mutable: Mutable) -> bool:
    return isinstance(mutable, LabeledMutable) and mutable.is_symbol


_END = object()
