"""``Restricted``: the architectures of a space that meet some conditions; a space again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from ..errors import ExpressionError, UsageError
from ..extensions import call
from ..mutable import (
    Constraint,
    ExpressionConstraint,
    Mutable,
    MutableExpression,
    Sample,
    Values,
)
from ..mutable.expression import apply
from ..mutable.labels import label
from ..mutable.node import Node
from ..mutable.printing import brief
from ..mutable.random_words import RandomState
from . import queries
from .activity import Activity
from .coverage import check_covered
from .infeasibility import refusal
from .model import Model, root_of
from .queryable import Queryable
from .sampler import any_within

__all__ = ["Restricted", "restrict"]

S = TypeVar("S", bound=Mutable)


class Restricted(Queryable, Generic[S]):
    """The architectures of a space that meet some conditions.

    It is a value, and a space: what takes a space takes this.  Made by :func:`restrict`.

    Attributes
    ----------
    space
        The whole space.
    conditions
        What its architectures must meet.
    attempts
        How many draws may be rejected for each architecture that is drawn, if that is allowed.
    """

    def __init__(
        self, space: S, conditions: tuple[Constraint, ...], attempts: int | None = None
    ) -> None:
        self.space = space
        self.conditions = conditions
        self.attempts = attempts
        markers = [condition.marker for condition in conditions]
        whole = root_of(space)
        self._structure: Node = apply("tuple", whole, *markers)
        Activity.of(whole).share(self._structure, markers)

    def _repr_html_(self) -> str:
        return str(call("html", self))

    def structure(self) -> Node:
        return self._structure

    def freeze_values(self, values: Values) -> Any:
        return self.space.freeze_values(values)

    def read(self, sample: Mapping[str, Any]) -> Values:
        values = self.space.read(sample)
        for condition in self.conditions:
            condition.check(sample, values)
        return values

    def freeze(self, sample: Mapping[str, Any], **options: Any) -> Any:
        """Return the form that the space takes under one of these architectures.

        Parameters
        ----------
        sample
            Label to value.
        options
            What the space's own ``freeze`` takes beside it.

        Raises
        ------
        SampleValidationError
            If it is not one of them.
        """
        self.validate(sample)
        return self.space.freeze(sample, **options)

    # -- choosing -----------------------------------------------------------------------------

    def where(self, *conditions: Any, attempts: int | None = None) -> Self:
        """Restrict further; see :func:`restrict`."""
        allowed = self.attempts if attempts is None else attempts
        return self.of(self.space, (*self.conditions, *conditions), allowed)

    def _draws_at_most(self) -> int | None:
        return self.attempts

    def random(self, memo: Sample | None = None, random_state: RandomState = None) -> Any:
        if memo:
            return super().random(memo, random_state)
        return self._noted(self.sample(seed=random_state), memo)

    def default(self, memo: Sample | None = None) -> Any:
        if memo:
            return super().default(memo)
        return self._noted(queries.default(self), memo)

    def robust_default(self, memo: Sample | None = None, retries: int = 1000) -> Any:
        return super().robust_default(memo, retries) if memo else self.default(memo)

    def grid(self, memo: Sample | None = None, granularity: int | None = None) -> Iterator[Any]:
        if memo or granularity is not None:
            yield from super().grid(memo, granularity)
            return
        for arch in queries.grid(self):
            if memo is not None:
                memo.clear()
            yield self._noted(arch, memo)

    def _noted(self, arch: Sample, memo: Sample | None) -> Any:
        frozen = self.freeze(arch)
        if memo is not None:
            memo.update(arch)
        return frozen

    # -- making -------------------------------------------------------------------------------

    @classmethod
    def of(cls, space: S, conditions: Any, attempts: int | None = None) -> Self:
        """Do what :func:`restrict` does; subclasses make themselves."""
        if attempts is not None and attempts < 1:
            raise UsageError(f"attempts must be 1 or more, but got {attempts!r}")
        made = []
        for number, condition in enumerate(conditions):
            made.append(_constraint(condition, number))
            check_covered(root_of(space), _expression(made[-1]))
        restricted = cls(space, tuple(made), attempts)
        model = Model.of(restricted.structure())
        if attempts is None:
            for constraint in made:
                if constraint in model.others:
                    raise model.others[constraint]
        compiled = model.compiled()
        possible = compiled.possible
        if possible is None and attempts is None:
            possible = any_within(compiled)
        if possible is False:
            raise refusal(model.root)
        return restricted

    def extra_repr(self) -> str:
        conditions = ", ".join(brief(_expression(condition)) for condition in self.conditions)
        return f"{type(self.space).__name__} where {conditions}"


def restrict(
    space: S,
    *conditions: Any,
    attempts: int | None = None,
) -> Restricted[S]:
    """Return the architectures of a space that meet some conditions, as a space.

    A condition on few labels is looked up in a table.  A comparison of a cost with a number (or
    with another cost) is met exactly by dynamic programming over the sums that are possible.
    Conditions on one cost are taken together.  A bound on a maximum from above, or on a minimum
    from below, is one on each of its parts.  Where there are too many sums to tell apart, as
    with narrow bounds on several costs at once, sums are counted in a coarser unit for drawing,
    and what that lets through is drawn again: what is drawn has the same distribution; counting
    is refused then.

    Parameters
    ----------
    space
        Any mutable, restricted or not.
    conditions
        Expressions of a truth value over its labels, such as ``macs <= 320e6``, or constraints.
        ``&`` joins several.
    attempts
        Allows conditions that can only be met by drawing until one is: on how many draws for
        each architecture.

    Returns
    -------
    Restricted

    Raises
    ------
    InfeasibleError
        If no architecture meets the conditions; names the smallest cost that one has.
    DecompositionError
        If a condition is neither on few labels nor on a sum of small tables, or if too many sums
        would have to be told apart even for drawing.
    LabelError
        If a condition is about what the space does not have.
    SampleMissingError
        If a condition needs a label where it is not active.

    Examples
    --------
    >>> from nas_space.mutable import Categorical, MutableList
    >>> widths = [Categorical([8, 16, 24, 32], label=f"w{i}") for i in range(40)]
    >>> cost = sum(a * b for a, b in zip(widths, widths[1:]))
    >>> small = restrict(MutableList(widths), cost >= 10_000, cost <= 10_064)
    >>> small.count()
    489383179729408155917
    >>> 10_000 <= cost.freeze(small.sample(seed=0)) <= 10_064
    True
    >>> restrict(MutableList(widths), cost <= 2000)
    Traceback (most recent call last):
    ...
    nas_space.errors.InfeasibleError: no architecture has ...: the smallest is 2496, ...
    """
    if isinstance(space, Restricted):
        return space.where(*conditions, attempts=attempts)
    return Restricted.of(space, conditions, attempts)


def _constraint(condition: Any, number: int) -> Constraint:
    if isinstance(condition, Constraint):
        return condition
    if not isinstance(condition, MutableExpression):
        raise ExpressionError(
            f"a condition is an expression over the labels of a space, but got {condition!r}, "
            + (
                "a function, which is never called: write what it computes as an expression, such "
                "as macs(space, shape) <= 3e8 or space.symbols()['depth'] < 3"
                if callable(condition)
                else "which is the same for every architecture"
            )
        )
    return ExpressionConstraint(condition, label=label(["where", str(number)]))


def _expression(constraint: Constraint) -> Node:
    needed = constraint.needs()
    return constraint.marker if needed is None else needed
