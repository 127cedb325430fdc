"""Costs are found by name, and one of one's own is as good as those that come with the library."""

from __future__ import annotations

import pytest

from nas_space.errors import UsageError
from nas_space.mutable import Categorical
from nas_space.nn import MutableLinear
from nas_space.profiler import COSTS, Cost, find_cost, flops, macs, memory, params, register_cost


def layer() -> MutableLinear:
    return MutableLinear(8, Categorical([2, 4], label="width"))


def test_the_costs_that_come_with_the_library():
    space = layer()
    assert find_cost("macs")(space, (8,)) is macs(space, (8,))
    assert find_cost("flops")(space, (8,)) is flops(space, (8,))
    assert find_cost("params")(space, (8,)) is params(space)
    assert find_cost("memory")(space, (8,)) is memory(space, (8,))
    assert find_cost("training-memory")(space, (8,)) is memory(space, (8,), training=True)


def test_what_a_cost_needs_is_asked_for():
    with pytest.raises(UsageError, match="'latency' needs a table"):
        find_cost("latency")(layer(), (8,))


def outputs(space, **_):
    return space.simplify()["width"] * 3


def test_one_of_ones_own_under_a_name_and_as_a_module():
    register_cost("outputs", outputs, unit="things")
    try:
        assert find_cost("outputs").unit == "things"
        assert find_cost("outputs")(layer(), (8,)).evaluate({"width": 4}) == 12
    finally:
        del COSTS["outputs"]
    assert find_cost(f"{__name__}:outputs")(layer(), (8,)).evaluate({"width": 2}) == 6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("paramz", "did you mean 'params'"),
        ("no.such.module:cost", "'no.such.module:cost', but module 'no.such.module' cannot be"),
        (f"{__name__}:nothing", "has no 'nothing'"),
        (f"{__name__}:__name__", "is no cost"),
        (":macs", "':macs', but module '' cannot be imported"),
    ],
)
def test_a_name_of_no_cost_is_refused(name, message):
    with pytest.raises(UsageError, match=message):
        find_cost(name)


def of_another_shape(space, shape):
    return params(space) * shape[0]


def failing(_space, **_):
    return 1 / 0


def giving_nothing(_space, **_):
    return None


def not_a_number(_space, **_):
    return float("nan")


class Scaled(Cost):
    def __init__(self, factor):
        self.factor = factor

    def of_operator(self, call):
        return self.factor * len(call.outputs)


class Broken(Cost):
    def of_operator(self, call):
        return call.no_such_attribute


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("of_another_shape", "fails: TypeError.* keyword arguments input_shape"),
        ("failing", "fails: "),
        ("giving_nothing", "a finite number, but returned None"),
        ("not_a_number", "a finite number, but returned nan"),
        ("Scaled", "cannot be made without arguments: .*factor"),
        ("Broken", "fails: AttributeError.*no_such_attribute"),
    ],
)
def test_one_of_ones_own_that_is_wrong_is_refused_by_its_name(name, message):
    address = f"{__name__}:{name}"
    with pytest.raises(UsageError, match=message) as refused:
        find_cost(address)(layer(), (8,))
    assert address in str(refused.value)


@pytest.mark.parametrize("name", ["", "a=b", "two words", "-"])
def test_a_name_that_could_not_be_written_is_refused(name):
    with pytest.raises(UsageError, match="letters, digits and hyphens"):
        register_cost(name, outputs)
