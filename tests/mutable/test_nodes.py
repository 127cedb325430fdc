"""The same expression is the same object: in one process, after pickling, in every thread."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_space.errors import NasSpaceError
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    ExpressionConstraint,
    MutableDict,
    MutableExpression,
    MutableList,
    Numerical,
    label_scope,
    make_divisible,
)
from nas_space.mutable.expression import apply
from nas_space.mutable.node import key_of, leaves, postorder
from tests import strategies

ME = MutableExpression


def width() -> Categorical[int]:
    return Categorical([16, 24], label="width")


def test_what_is_written_twice_is_one_object() -> None:
    assert width() is width()
    assert make_divisible(width() * 6, 8) is make_divisible(width() * 6, 8)
    assert ME.switch_case(width(), {16: 1, 24: [1, 2]}) is ME.switch_case(
        width(), {16: 1, 24: [1, 2]}
    )
    assert Numerical(0, 1, label="x") is Numerical(0.0, 1.0, label="x")
    assert CategoricalMultiple(("a", ""), label="x") is CategoricalMultiple(["a", ""], label="x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (True, 1.0),
        (0.0, -0.0),
        ("1", 1),
        ((1,), (True,)),
        ([1], (1,)),
        (0, None),
    ],
)
def test_constants_of_different_types_are_different(one: Any, other: Any) -> None:
    assert key_of(one) != key_of(other)
    first, second = apply("eq", width(), one), apply("eq", width(), other)
    assert first is not second
    assert not first.equals(second)
    assert Categorical([one], label="w") is not Categorical([other], label="w")


@pytest.mark.parametrize(
    "other",
    [
        Categorical([16, 24], label="other"),
        Categorical([24, 16], label="width"),
        Categorical([16, 24.0], label="width"),
        Categorical([16, 24], default=24, label="width"),
        Categorical([16, 24], weights=[0.5, 0.5], label="width"),
        CategoricalMultiple([16, 24], label="width"),
    ],
    ids=repr,
)
def test_symbols_that_differ_in_anything_are_different(other: Any) -> None:
    assert width() is not other
    assert not width().equals(other)


def test_equal_nodes_hash_by_identity_although_comparing_builds_an_expression() -> None:
    table = {width() * 2: "twice", width(): "once"}
    assert table[width() * 2] == "twice"
    assert isinstance(width() == 16, MutableExpression)
    assert {width(), width()} == {width()}


def test_what_nobody_holds_is_forgotten() -> None:
    kept = Categorical([1, 2], label="forgotten")
    reference = weakref.ref(kept + 1)
    gc.collect()
    assert reference() is None
    assert (kept + 1).freeze({"forgotten": 1}) == 2


def test_nodes_cannot_be_changed() -> None:
    expression = width() + 1
    for node in (width(), expression):
        with pytest.raises(AttributeError, match="'arguments' cannot be set; build a new one"):
            node.arguments = ()
    assert expression.freeze({"width": 16}) == 17


def test_a_list_given_to_an_expression_is_its_own() -> None:
    mine = [1, 2]
    expression = ME.switch_case(width(), {16: mine, 24: []})
    choice = Categorical([mine, []], label="lists")
    mine.append(3)
    assert expression.freeze({"width": 16}) == [1, 2]
    assert choice.freeze({"lists": [1, 2]}) == [1, 2]
    expression.freeze({"width": 16}).append(3)
    choice.freeze({"lists": [1, 2]}).append(3)
    choice.default().append(3)
    next(iter(choice.grid())).append(3)
    assert expression.freeze({"width": 16}) == [1, 2]
    assert choice.default() == [1, 2]
    assert choice.values == ([1, 2], [])


@given(st.data())
def test_copies_and_pickles_are_the_object_itself(data: st.DataObject) -> None:
    pool = data.draw(strategies.pools())
    expression = data.draw(strategies.expressions(pool))
    for node in (expression, *pool):
        assert copy.copy(node) is node
        assert copy.deepcopy([node])[0] is node
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(node, protocol)) is node


@given(st.data())
def test_any_symbol_survives_pickling(data: st.DataObject) -> None:
    symbol = data.draw(strategies.symbols())
    text, program = repr(symbol), pickle.dumps(symbol)
    assert pickle.loads(program) is symbol
    label = symbol.label
    del symbol
    again = pickle.loads(program)
    assert repr(again) == text
    assert again.label == label
    assert type(again.label) is type(label)


def test_labels_in_scopes_survive_pickling() -> None:
    with label_scope("net"):
        symbol = Categorical([1, 2], label="depth")
    again = pickle.loads(pickle.dumps(symbol))
    assert again is symbol
    assert again.label.parts == ("net", "depth")


def test_containers_and_constraints_survive_pickling() -> None:
    space = MutableDict(
        both=MutableList([width(), ExpressionConstraint(width() > 16, label="rule")]), plain=1
    )
    for again in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert again.equals(space)
        assert list(again.grid()) == list(space.grid()) == [{"both": [24, None], "plain": 1}]


def test_a_pickle_is_the_same_object_in_another_process() -> None:
    script = (
        "import pickle, sys\n"
        "first, again, symbol = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "from nas_space.mutable import Categorical, make_divisible\n"
        "width = Categorical([16, 24], label='width')\n"
        "assert symbol is width, symbol\n"
        "assert first is again is make_divisible(width * 6, 8), first\n"
        "print(first.freeze({'width': 24}))"
    )
    expression = make_divisible(width() * 6, 8)
    content = pickle.dumps((expression, expression, width())).hex()
    done = subprocess.run(
        [sys.executable, "-c", script], input=content, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "144", done.stderr


def test_pickles_may_be_deeper_than_the_recursion_limit() -> None:
    total: Any = width()
    for _ in range(5000):
        total = total + 1
    assert pickle.loads(pickle.dumps(total)) is total


def test_threads_that_build_the_same_build_one() -> None:
    found: list[list[Any]] = []
    start = threading.Barrier(8)

    def build() -> None:
        start.wait()
        mine = []
        for step in range(200):
            symbol = Categorical(range(step + 1), label=f"thread{step}")
            mine.append(make_divisible(symbol * 3 + step, 8))
        found.append(mine)

    threads = [threading.Thread(target=build) for _ in range(8)]
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switching)
    assert len(found) == 8
    for made in found:
        assert all(one is other for one, other in zip(made, found[0], strict=True))


def test_leaves_and_postorder_visit_everything_once() -> None:
    a, b = width(), Categorical([1, 2], label="b")
    shared = a + b
    root = (shared * b) - shared
    order = list(postorder(root))
    assert order == [a, b, shared, shared * b, root]
    assert leaves(root, 3, b) == [a, b]


@pytest.mark.parametrize("value", [math.nan, 2**70, b"bytes", frozenset({1, 2}), len, object()])
def test_any_value_can_be_a_constant_or_a_choice(value: Any) -> None:
    assert ME.condition(width() > 16, value, 0).freeze({"width": 24}) is value
    choice = Categorical([value, "other"], label="value")
    assert choice.freeze({"value": value}) is value
    assert choice.default() is value


def test_a_whole_set_of_constants_may_hold_equal_numbers_of_different_types() -> None:
    assert key_of({1, 2}) != key_of({True, 2})
    assert key_of({"a": 1, "b": 2}) != key_of({"b": 2, "a": 1})
    assert key_of({"a": 1, "b": 2}, loose=True) == key_of({"b": 2, "a": 1}, loose=True)
    assert key_of([1, (2,)], loose=True) == key_of((1, [2]), loose=True)


def test_a_tensor_is_no_constant() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(NasSpaceError, match=r"got a Tensor.*nas_space.active"):
        width() * torch.ones(2)
    with pytest.raises(NasSpaceError, match=r"got a Tensor.*nas_space.active"):
        torch.ones(2) * width()
