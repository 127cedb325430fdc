"""Constraints of one's own, as expressions, and as NNI's users write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from nas_space.errors import ConstraintViolation, ExpressionError, SampleMissingError
from nas_space.mutable import (
    Categorical,
    Constraint,
    ExpressionConstraint,
    MutableAnnotation,
    MutableExpression,
    MutableList,
    Numerical,
    label_scope,
)

a = Categorical([1, 3], label="a")
b = Categorical([2, 4], label="b")


def test_an_expression_must_hold() -> None:
    rule = ExpressionConstraint(a + b == 5, label="rule")
    space = MutableList([a, b, rule])
    assert list(space.grid()) == [[1, 4, None], [3, 2, None]]
    assert space.freeze({"a": 1, "b": 4}) == [1, 4, None]
    with pytest.raises(
        ConstraintViolation, match=r"a \+ b == 5 does not hold for {'a': 1, 'b': 2}"
    ):
        space.freeze({"a": 1, "b": 2})
    assert space.constraints() == [rule]
    assert space.simplify() == {"a": a, "b": b, "rule": rule}
    assert space.symbols() == {"a": a, "b": b}
    assert repr(rule) == "ExpressionConstraint(a + b == 5, label='rule')"


def test_a_constraint_alone_is_a_space_of_what_it_is_about() -> None:
    rule = ExpressionConstraint(a > b, label="rule")
    assert rule.check_contains({"a": 3, "b": 2}) is None
    assert isinstance(rule.check_contains({"a": 1, "b": 2}), ConstraintViolation)
    assert isinstance(rule.check_contains({"a": 1}), SampleMissingError)
    assert rule.check_contains({"a": 2, "b": 2}) is not None
    assert rule.freeze({"a": 3, "b": 2}) is None
    memo: dict[str, Any] = {}
    assert [dict(memo) for _ in rule.grid(memo)] == [{"a": 3, "b": 2}]
    assert rule.robust_default(memo) is None
    assert memo == {"a": 3, "b": 2}


def test_equal_constraints() -> None:
    rule = ExpressionConstraint(a > b, label="rule")
    assert rule.equals(ExpressionConstraint(a > b, label="rule"))
    assert not rule.equals(ExpressionConstraint(a > b, label="other"))
    assert not rule.equals(ExpressionConstraint(a >= b, label="rule"))
    twice = MutableList([rule, ExpressionConstraint(a > b, label="rule")])
    assert list(twice.simplify()) == ["a", "b", "rule"]


def test_a_constraint_on_a_branch_is_met_only_there() -> None:
    guarded = MutableExpression.condition(a > 1, ExpressionConstraint(b > 2).structure(), 0)
    space = MutableList([a, guarded])
    assert space.contains({"a": 1})
    assert space.contains({"a": 3, "b": 4})
    assert not space.contains({"a": 3, "b": 2})


def test_what_is_no_expression_is_refused() -> None:
    with pytest.raises(ExpressionError, match="but got True, which is the same for every"):
        ExpressionConstraint(True)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [a, a + b, Numerical(0, 1, label="x")], ids=str)
def test_a_number_holds_no_condition_but_a_flag_does(number: Any) -> None:
    with pytest.raises(ExpressionError, match="is a number: compare it"):
        ExpressionConstraint(number)
    flag = ExpressionConstraint(Categorical([0, 1], label="flag"))
    assert [flag.contains({"flag": value}) for value in (0, 1)] == [False, True]


class Odd(Constraint):
    """By the active values, whatever they are."""

    def violation(self, values: Mapping[str, Any]) -> str | None:
        total = sum(values.values())
        return None if total % 2 else f"the sum {total} is even"


def test_a_constraint_of_ones_own() -> None:
    branching = MutableExpression.condition(a > 1, b, 0)
    space = MutableList([branching, Odd(label="odd")])
    assert list(space.grid()) == [[0, None], [2, None], [4, None]]
    both = MutableList([a, Categorical([1, 2], label="c"), Odd(label="odd")])
    assert list(both.grid()) == [[1, 2, None], [3, 2, None]]
    with pytest.raises(ConstraintViolation, match="the sum 4 is even"):
        both.freeze({"a": 3, "c": 1})
    with pytest.raises(NotImplementedError, match="Constraint must implement violation"):
        MutableList([a, Constraint(label="empty")]).freeze({"a": 1})


class Ordered(Constraint):
    """As one writes them for NNI: the labels by leaf_mutables, the check by check_contains."""

    def __init__(self, first: Any, second: Any, *, label: str | None = None) -> None:
        super().__init__(label=label)
        self.first, self.second = first, second

    def leaf_mutables(self, is_leaf: Any) -> Iterable[Any]:
        yield from self.first.leaf_mutables(is_leaf)
        yield from self.second.leaf_mutables(is_leaf)
        yield self

    def check_contains(self, sample: Mapping[str, Any]) -> ConstraintViolation | None:
        if self.first.evaluate(sample) < self.second.evaluate(sample):
            return None
        return ConstraintViolation("out of order")


def test_a_constraint_written_for_nni() -> None:
    space = MutableList([a, Ordered(a, b * 1, label="ordered")])
    assert list(space.simplify()) == ["a", "b", "ordered"]
    memo: dict[str, Any] = {}
    assert [dict(memo) for _ in space.grid(memo)] == [
        {"a": 1, "b": 2},
        {"a": 1, "b": 4},
        {"a": 3, "b": 4},
    ]
    with pytest.raises(ConstraintViolation, match="out of order"):
        space.freeze({"a": 3, "b": 2})


def test_annotations_are_transparent() -> None:
    class Note(MutableAnnotation):
        """Says nothing about values."""

    note = Note(label="note")
    space = MutableList([a, note])
    assert space.freeze({"a": 1}) == [1, None]
    assert list(space.simplify()) == ["a", "note"]
    assert list(space.symbols()) == ["a"]
    assert space.constraints() == []
    assert note.equals(note)
    assert not note.equals(Note(label="note"))
    assert space.check_contains({"a": 1}) is None


def test_constraints_are_numbered_by_scopes() -> None:
    with label_scope("net"):
        assert ExpressionConstraint(a > 1).label == "net/1"
        assert Odd().label == "net/2"
