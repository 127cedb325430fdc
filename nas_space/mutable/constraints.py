"""Constraints: which combinations of values are allowed together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import ConstraintViolation, ExpressionError, SampleValidationError
from .containers import joint_structure
from .expression import MutableExpression, apply
from .labels import auto_label
from .mutable import LabeledMutable, Mutable, Values
from .node import ActiveValues, Leaf, Node
from .printing import brief
from .symbols import MutableSymbol

__all__ = ["Constraint", "ExpressionConstraint", "Marker", "MutableAnnotation"]


class MutableAnnotation(LabeledMutable):
    """Says something about a space without adding a dimension to it.

    It is listed by ``simplify()`` under its label, which is not a key of architectures, and
    freezes to ``None``.

    Parameters
    ----------
    label
        What to call it; numbered by the label scope if it is not given.
    """

    def __init__(self, *, label: str | None = None) -> None:
        self.label = auto_label(label)

    @property
    def marker(self) -> Node:
        """The leaf that stands for this in a structure."""
        return Marker(self)

    def identity(self) -> Hashable:
        """Return what tells it from others: by default, no two are the same."""
        return id(self)

    def structure(self) -> Node | None:
        return self.marker

    def freeze_values(self, values: Values) -> None:
        del values  # nothing is left of an annotation

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        del is_leaf  # annotations are never expanded
        yield self

    def equals(self, other: Any) -> bool:
        """Tell whether both are the same object, as annotations are equal only then."""
        return self is other


class Constraint(MutableAnnotation):
    """A condition that an architecture must meet.

    Subclass it and implement :meth:`violation`; for conditions that an expression can say,
    use :class:`ExpressionConstraint`.

    Parameters
    ----------
    label
        What to call the constraint; not a key of architectures.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> class Short(Constraint):
    ...     def violation(self, values):
    ...         return "too long" if len(values["word"]) > 3 else None
    >>> space = MutableList([Categorical(["fine", "ok"], label="word"), Short()])
    >>> list(space.grid())
    [['ok', None]]
    """

    is_constraint = True

    def violation(self, values: Mapping[str, Any]) -> str | None:
        """Return why the active values do not meet the condition; ``None`` if they do."""
        raise NotImplementedError(f"{type(self).__name__} must implement violation()")

    def check_contains(self, sample: Mapping[str, Any]) -> SampleValidationError | None:
        """Return the error if the condition is not met.

        Subclasses may override this instead of :meth:`violation`.
        """
        reason = self.violation(sample)
        return None if reason is None else ConstraintViolation(reason)

    def check(self, sample: Mapping[str, Any], values: Values) -> None:
        """Raise :class:`ConstraintViolation` unless the condition is met."""
        del sample  # conditions are on what is active
        error = self.check_contains(values.active)
        if error is not None:
            raise error

    def needs(self) -> Node | None:
        """Return the labels that the constraint is about: by default its :meth:`leaf_mutables`."""
        others = self.leaf_mutables(lambda mutable: isinstance(mutable, MutableSymbol))
        return joint_structure(mutable for mutable in others if mutable is not self)

    def structure(self) -> Node | None:
        needed = self.needs()
        return self.marker if needed is None else apply("tuple", needed, self.marker)


_NUMBERS = frozenset(
    {"add", "sub", "sum", "neg", "abs", "truediv", "floordiv", "mod", "pow", "round", "lookup"}
)
"""Operators whose values are numbers, so that they hold no condition.

A product of conditions holds where all do, and their largest where any does.
"""


def _is_number(expression: Node) -> bool:
    """Whether an expression is a number by its form, as a cost that is compared with nothing."""
    if expression.operator is not None:
        return expression.operator.name in _NUMBERS
    values = getattr(expression, "values", None)
    return isinstance(expression, MutableSymbol) and not (
        values is not None and all(value in (0, 1) for value in values)
    )


class ExpressionConstraint(Constraint):
    """A condition that an expression says: it must be true.

    Parameters
    ----------
    expression
        An expression of a truth value, over labels that are active whenever it needs them.
    label
        What to call the constraint.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> a, b = Categorical([1, 3], label="a"), Categorical([2, 4], label="b")
    >>> list(MutableList([a, b, ExpressionConstraint(a + b == 5)]).grid())
    [[1, 4, None], [3, 2, None]]
    """

    def __init__(self, expression: MutableExpression[Any], *, label: str | None = None) -> None:
        if not isinstance(expression, MutableExpression):
            raise ExpressionError(
                f"a constraint needs an expression over labels, but got {expression!r}, which is "
                "the same for every architecture"
            )
        if _is_number(expression):
            raise ExpressionError(
                f"a condition holds or not, but {brief(expression)} is a number: compare it, as in "
                "cost <= 3e8"
            )
        super().__init__(label=label)
        self.expression = expression

    def needs(self) -> Node:
        return self.expression

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        yield from self.expression.leaf_mutables(is_leaf)
        yield self

    def identity(self) -> Hashable:
        # The same said twice under one label is one constraint: parts of one class may share it.
        if type(self) is not ExpressionConstraint:
            return id(self)
        return (str(self.label), id(self.expression))

    def violation(self, values: Mapping[str, Any]) -> str | None:
        return None if self.expression.evaluate(values) else self._complaint(values)

    def _complaint(self, values: Mapping[str, Any]) -> str:
        used = {name: values[name] for name in self.expression.symbols() if name in values}
        return f"the constraint {self.expression} does not hold for {used}"

    def check_contains(self, sample: Mapping[str, Any]) -> SampleValidationError | None:
        """Return the error if a needed label has no valid value, or the condition is not met."""
        return LabeledMutable.check_contains(self, sample)

    def check(self, sample: Mapping[str, Any], values: Values) -> None:
        if not values(self.expression):
            raise ConstraintViolation(self._complaint(values.active))

    def equals(self, other: Any) -> bool:
        """Return whether two constraints of one label say the same."""
        return (
            type(self) is type(other)
            and self.expression is other.expression
            and self.label == other.label
        )

    def extra_repr(self) -> str:
        return f"{self.expression}, label={str(self.label)!r}"


class Marker(Leaf):
    """The leaf of an annotation: reaching it puts a constraint on the list of those to check."""

    def __init__(self, annotation: MutableAnnotation) -> None:
        self.annotation = annotation
        self.label = annotation.label
        self.name = str(annotation.label)

    def key(self) -> Hashable:
        return (Marker, self.annotation.identity())

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        del sample  # nothing is chosen here
        return False

    def visit(self, sample: Mapping[str, Any], values: ActiveValues) -> None:
        del sample
        if self.annotation.is_constraint:
            values.pending.append(self.annotation)

    def expand(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        del is_leaf
        yield self.annotation

    def text(self, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
        del texts
        return f"<{self.annotation!r}>", 18

    def __repr__(self) -> str:
        return self.text({})[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return Marker, (self.annotation,)
