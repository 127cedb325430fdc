"""How expressions are written, print, and what they refuse."""

from __future__ import annotations

import math
import operator as py
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas_space.errors import ExpressionError, UsageError
from nas_space.mutable import Categorical, MutableExpression, MutableList, label_scope
from nas_space.mutable.node import key_of
from tests import strategies
from tests.mutable.oracle import outcome

ME = MutableExpression
a = Categorical([7, -3, 2], label="a")
b = Categorical([2, 5, True], label="b")
SAMPLE = {"a": 7, "b": 2}


@pytest.mark.parametrize(
    "function",
    [
        py.add, py.sub, py.mul, py.truediv, py.floordiv, py.mod, divmod, py.pow,
        py.lshift, py.rshift, py.and_, py.or_, py.xor, py.lt, py.le, py.eq, py.ne, py.ge, py.gt,
        pow, round,
    ],
)  # fmt: skip
def test_binary_operators_mean_what_they_do_in_python(function: Any) -> None:
    for left, right in [(a, b), (a, 2), (7, b)]:
        if function is round and isinstance(left, int):
            continue  # a plain 7 is rounded to a plain number of digits only
        made = function(left, right)
        assert isinstance(made, MutableExpression)
        assert key_of(made.freeze(SAMPLE)) == key_of(function(7, 2))


@pytest.mark.parametrize(
    "function",
    [
        py.neg, py.pos, py.invert, abs, round, math.floor, math.ceil, math.trunc,
        ME.to_int, ME.to_float,
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [7, -3, 2.5])
def test_unary_operators_mean_what_they_do_in_python(function: Any, value: float) -> None:
    x = Categorical([value], label="x")
    assert outcome(function(x).freeze, {"x": value}) == outcome(function, value)


def test_methods_for_conversion() -> None:
    x = Categorical([2.7], label="x")
    assert key_of(x.int().freeze({"x": 2.7})) == key_of(2)
    assert key_of((a + 1).float().freeze(SAMPLE)) == key_of(8.0)
    assert pow(a, b, 5).freeze(SAMPLE) == pow(7, 2, 5)


def test_matrix_multiplication_is_left_to_the_operands() -> None:
    class Matrix:
        def __init__(self, name: str) -> None:
            self.name = name

        def __matmul__(self, other: Matrix) -> str:
            return f"{self.name}@{other.name}"

    one, two = Matrix("one"), Matrix("two")
    x = Categorical([one], label="x")
    assert (x @ two).freeze({"x": one}) == "one@two"
    assert (x @ x).evaluate({"x": two}) == "two@two"


def test_indexing_and_slicing() -> None:
    lists = Categorical([[1, 2, 3], [4, 5, 6]], label="lists")
    index = Categorical([0, 2], label="index")
    assert lists[index].freeze({"lists": [4, 5, 6], "index": 2}) == 6
    assert lists[1:].freeze({"lists": [1, 2, 3]}) == [2, 3]


def test_plain_values_give_plain_values() -> None:
    assert ME.max(1, 3, 2) == 3
    assert ME.min([4, 2]) == 2
    assert ME.condition([], "yes", "no") == "no"
    assert ME.case([(False, 1), ("true", 2), (True, 3)]) == 2
    assert ME.switch_case("b", {"a": 1, "b": 2}) == 2
    assert key_of(ME.to_int(2.7)) == key_of(2)
    assert key_of(ME.to_float(2)) == key_of(2.0)
    assert ME.sum([1, 2]) == 3


def test_plain_values_decide_at_once() -> None:
    assert ME.condition(True, a, b) is a
    assert ME.case([(False, b), (True, a), (a > 1, 2)]) is a
    assert ME.case([(a > 1, 1), (True, 2), (b > 1, 3)]) is ME.case([(a > 1, 1), (True, 2)])
    assert ME.switch_case(1, {1: a, 2: b}) is a
    with pytest.raises(KeyError, match="no branch for 3"):
        ME.switch_case(3, {1: a})
    with pytest.raises(UsageError, match="no case holds"):
        ME.case([(False, a)])


def test_extremes_take_arguments_or_one_iterable() -> None:
    assert ME.max(a, b) is ME.max([a, b]) is ME.max(item for item in (a, b))
    assert ME.min(a, 3, b).freeze(SAMPLE) == 2
    assert ME.max(a) is a
    assert ME.max([a]) is a


def test_numpy_scalars_are_python_numbers() -> None:
    three: Any = np.int64(3)
    several: list[Any] = [a * three, three * a, a + np.float64(0.5), np.float32(2) < a, three == a]
    for made in several:
        constants = [argument for argument in made.arguments if argument is not a]
        assert [type(constant) for constant in constants] in ([int], [float])
    assert key_of((three * a).freeze(SAMPLE)) == key_of(21)
    with pytest.raises(TypeError, match="ufunc"):
        np.sqrt(a)  # type: ignore[call-overload]


# -- printing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (a + b * 2, "a + b * 2"),
        ((a + b) * 2, "(a + b) * 2"),
        (a * (b @ a) / (a @ b), "a * (b @ a) / (a @ b)"),
        (a - (b - 1), "a - (b - 1)"),
        (a - b - 1, "a - b - 1"),
        (a**b**2, "a ** b ** 2"),
        ((a**b) ** 2, "(a ** b) ** 2"),
        ((-a) ** 2, "(-a) ** 2"),
        (-(a**2), "-a ** 2"),
        (a ** (-b), "a ** (-b)"),
        (a**-2, "a ** (-2)"),
        (-3 - a, "-3 - a"),
        (a - -3, "a - -3"),
        ((a < b) == (b < 2), "(a < b) == (b < 2)"),
        (a & (b | 1) ^ 3, "a & (b | 1) ^ 3"),
        (~(a << 2), "~(a << 2)"),
        ((a + b)[a * 2], "(a + b)[a * 2]"),
        (round(a + b, 2), "round(a + b, 2)"),
        (pow(a + 1, b, 3), "pow(a + 1, b, 3)"),
        (divmod(a, b), "divmod(a, b)"),
        (ME.sum([a, b * 2]), "sum([a, b * 2])"),
        (ME.condition(a > 1, b, "x"), "condition(a > 1, b, 'x')"),
        (ME.case([(a > 1, b), (True, 0)]), "case([(a > 1, b), (True, 0)])"),
        (ME.switch_case(a, {7: b + 1, "x": 0}), "switch_case(a, {7: b + 1, 'x': 0})"),
        (ME.to_int(a / 2), "int(a / 2)"),
        (math.floor(a), "floor(a)"),
        (ME.max(a, b + 1), "max(a, b + 1)"),
        (Categorical([1], label="has space") + 1, "<has space> + 1"),
    ],
)
def test_expressions_print_as_they_are_written(expression: Any, text: str) -> None:
    assert str(expression) == repr(expression) == text


def test_a_label_of_a_scope_prints_as_a_quotient_would() -> None:
    with label_scope("stage"):
        width: Any = Categorical([1, 2], label="width")
    texts = [str(each) for each in (width + 1, width * 2, 2 * width, width**2, -width)]
    assert texts == [
        "stage/width + 1",
        "stage/width * 2",
        "2 * (stage/width)",
        "(stage/width) ** 2",
        "-(stage/width)",
    ]


def case(pairs: list[tuple[Any, Any]]) -> Any:
    for predicate, value in pairs:
        if predicate:
            return value
    raise ValueError("no predicate holds")


PRINTED = {
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "inf": math.inf,
    "sum": lambda terms: reduce(py.add, terms, 0),
    "flattened": lambda *sizes: reduce(py.mul, sizes),
    "listed": lambda size, _: size,
    "case": case,
    "condition": lambda predicate, yes, no: yes if predicate else no,
    "switch_case": lambda selector, ways: ways[selector],
}
"""What the text of an expression refers to beside Python's own functions."""


# Python's own, from 3.12 on, of the text that is evaluated.
@pytest.mark.filterwarnings("ignore:Bitwise inversion .* on bool:DeprecationWarning")
@given(st.data())
def test_the_printed_text_means_the_same(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools())
    expression = data.draw(strategies.expressions(pool))
    # What is very long is not printed whole.
    assume("..." not in str(expression) and "FactorSum(" not in str(expression))
    program = compile(str(expression), "expression", "eval")
    lazy = any(name in str(expression) for name in strategies.LAZY)
    for row in strategies.combinations(pool, most=12):
        expected = outcome(expression.evaluate, row)
        found = outcome(eval, program, dict(PRINTED), row)  # of our own text
        # Written as Python, all branches are computed, also those that have no value.
        if expected[0] == "value" and not (lazy and found[0] == "error"):
            assert found == expected


def test_what_is_too_long_is_abbreviated() -> None:
    total: Any = a
    for _ in range(60):
        total = total * (total + 1)
    assert "..." in str(total)
    assert len(str(total)) < 5000


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: bool(a > 1), r"a > 1 has no single truth value.*condition\(\.\.\.\).*equals"),
        (lambda: 1 if a == 2 else 0, "a == 2 has no single truth value"),
        (lambda: a in [b, 1], "no single truth value"),
        (lambda: int(a), r"plain number.*a differs.*nas_space.active.*float.*to_int"),
        (lambda: float(a + 1), r"plain number is needed here, but a \+ 1 differs"),
        (lambda: range(a), "plain number"),
        (lambda: [1, 2][a], "plain number"),
        (lambda: math.sqrt(a), "plain number"),
        (lambda: 3 in a, "plain container"),
    ],
)
def test_what_only_a_plain_value_can_do_is_refused(use: Any, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        use()


def test_an_expression_is_nothing_to_iterate_over() -> None:
    nodes: list[Any] = [a, a + 1, a[0]]
    for node in nodes:
        assert not isinstance(node, Iterable)
        for use in (list, sum, tuple, iter, enumerate):
            with pytest.raises(TypeError, match="not iterable"):
                use(node)
        with pytest.raises(TypeError, match="iterable"):
            _first, *_ = node


@pytest.mark.parametrize(
    "use",
    [
        lambda: a * [b],
        lambda: ME.condition(a > 1, [b], 0),
        lambda: ME.switch_case(a, {7: {"width": b}, -3: 0}),
        lambda: ME.case([(a > 1, (1, [b])), (True, 0)]),
        lambda: ME.switch_case(a, {7: {b}, -3: 0}),
        lambda: a + MutableList([b]),
    ],
)
def test_mutables_where_nothing_tracks_them_are_refused(use: Any) -> None:
    with pytest.raises(
        ExpressionError, match=r"(b stands inside a .*cannot be tracked|got a Mutable)"
    ):
        use()


def test_a_plain_layer_given_an_expression_names_the_one_to_use() -> None:
    nn = pytest.importorskip("torch.nn")
    with pytest.raises(TypeError, match=r"nas_space.nn.MutableConv2d instead of torch.nn.Conv2d"):
        nn.Conv2d(3, Categorical([4, 8], label="width"), 3)
