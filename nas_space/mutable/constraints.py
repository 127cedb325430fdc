"""Constraints: which combinations of values are allowed together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from ..errors import ConstraintViolation, ExpressionError, SampleValidationError
from .base import LabeledMutable, Mutable, Values
from .expression import MutableExpression, apply
from .labels import auto_label
from .node import Node
from .symbols import MutableSymbol


class MutableAnnotation(LabeledMutable):
    """Says something about a space without adding a dimension to it."""


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
    ...         return 'too long' if len(values['word']) > 3 else None
    >>> space = MutableList([Categorical(['fine', 'ok'], label='word'), Short()])
    >>> list(space.grid())
    [['ok', None]]
    """

    def __init__(self, *, label: str | None = None) -> None:
        self.label = auto_label(label)

    def violation(self, values: Mapping[str, Any]) -> str | None:
        """Why the active values do not meet the condition; ``None`` if they do."""
        raise NotImplementedError(f"{type(self).__name__} must implement violation()")

    def needs(self) -> Node | None:
        """An expression over the labels that the constraint is about."""
        return None

    @property
    def marker(self) -> Node:
        """The leaf that stands for this constraint in a structure."""
        return _Marker(self)

    def structure(self) -> Node | None:
        needed = self.needs()
        return self.marker if needed is None else apply("tuple", needed, self.marker)

    def freeze_values(self, values: Values) -> None:
        return None

    def check(self, sample: Mapping[str, Any], values: Values) -> None:
        """Raises :class:`ConstraintViolation` unless the condition is met."""
        reason = self.violation(values.active)
        if reason is not None:
            raise ConstraintViolation(reason)

    def equals(self, other: Any) -> bool:
        return self is other


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
    >>> a, b = Categorical([1, 3], label='a'), Categorical([2, 4], label='b')
    >>> list(MutableList([a, b, ExpressionConstraint(a + b == 5)]).grid())
    [[1, 4, None], [3, 2, None]]
    """

    def __init__(self, expression: MutableExpression[Any], *, label: str | None = None) -> None:
        if not isinstance(expression, MutableExpression):
            raise ExpressionError(
                f"a constraint needs an expression over labels, but got {expression!r}, which is the same "
                "for every architecture"
            )
        super().__init__(label=label)
        self.expression = expression

    def needs(self) -> Node:
        return self.expression

    def violation(self, values: Mapping[str, Any]) -> str | None:
        return None if self.expression.evaluate(values) else f"{self.expression} does not hold"

    def check(self, sample: Mapping[str, Any], values: Values) -> None:
        if not values(self.expression):
            used = {s.label: values.active[s.label] for s in self.expression.symbols().values() if s.label in values.active}
            raise ConstraintViolation(f"the constraint {self.expression} does not hold for {used}")

    def freeze(self, sample: Mapping[str, Any]) -> None:
        self.read(sample)

    def equals(self, other: Any) -> bool:
        return type(self) is type(other) and self.expression is other.expression and self.label == other.label

    def extra_repr(self) -> str:
        return f"{self.expression}, label={str(self.label)!r}"


class _Marker(MutableSymbol[None]):
    """Reaching this leaf puts a constraint on the list of those to check."""

    size = 1

    def __init__(self, constraint: Constraint) -> None:
        self.label = constraint.label
        self.constraint = constraint

    def key(self) -> Hashable:
        return (_Marker, id(self.constraint))

    def is_missing(self, sample: Mapping[str, Any]) -> bool:
        return False

    def visit(self, sample: Mapping[str, Any], values: Values) -> None:
        values.pending.append(self.constraint)

    def grid_choices(self, granularity: int) -> tuple[None]:
        return (None,)

    def expand(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[LabeledMutable]:
        yield self.constraint

    def extra_repr(self) -> str:
        return repr(self.constraint)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Marker, (self.constraint,)


__all__ = ["Constraint", "ConstraintViolation", "ExpressionConstraint", "MutableAnnotation", "SampleValidationError"]
