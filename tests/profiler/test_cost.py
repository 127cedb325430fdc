"""A cost of one's own is told the same of a space as of each frozen network, call by call."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nas_space.errors import SpaceError, UsageError
from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import LayerChoice, ModelSpace, MutableConv2d, MutableLinear
from nas_space.profiler import COSTS, Cost, UnknownOperatorError, macs
from nas_space.tables import tabulate

from . import oracle
from .spaces import SPACES

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "cost.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(autouse=True)
def _plain_attention():
    """In evaluation, torch may fuse attention into one operator, on one device and not another."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


class Traffic(Cost):
    """Bytes of weights a thousandfold, those of other tensors, and a trace of the operators."""

    name = "traffic"

    def of_operator(self, call: Any) -> Any:
        if call.is_view:
            return 0
        total = sum(tensor.nbytes for tensor in (*call.inputs, *call.outputs))
        return total + 1000 * sum(tensor.nbytes for tensor in call.weights) + len(call.name)


class Watching(TorchDispatchMode):
    """The same of a frozen network, by what torch dispatches while it runs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.own = {_memory(t) for t in (*net.parameters(), *net.buffers())}
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        out = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        before = {_memory(t) for t in given}
        if func._schema.is_mutable or not made or not {_memory(t) for t in made} <= before:
            weights = [t for t in given if _memory(t) in self.own]
            self.total += sum(t.numel() * t.itemsize for t in (*given, *made))
            self.total += 1000 * sum(t.numel() * t.itemsize for t in weights)
            self.total += len(str(func._overloadpacket))
        return out


def _memory(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()._cdata


def traffic(net: nn.Module, inputs: Any) -> int:
    args, kwargs = oracle.arguments(inputs)
    net = net.to("meta").eval()
    with torch.no_grad(), (watching := Watching(net)):
        net(*args, **kwargs)
    return watching.total


def value(cost: Any, arch: Any) -> Any:
    return cost.evaluate(arch) if isinstance(cost, MutableExpression) else cost


@pytest.mark.parametrize("name", SPACES)
def test_it_is_told_the_same_of_a_space_and_of_every_frozen_network(name):
    make, inputs = SPACES[name]
    space = make()
    cost = Traffic()(space, inputs=inputs)
    for arch in oracle.architectures(space):
        assert value(cost, arch) == traffic(space.freeze(arch), inputs)


def test_the_weights_of_an_elastic_layer_are_those_that_an_architecture_has():
    elastic = MutableLinear(8, Categorical([2, 4], label="width"), bias=False)

    class Weights(Cost):
        def of_operator(self, call: Any) -> Any:
            return sum(tensor.nbytes for tensor in call.weights if not call.is_view)

    cost = Weights()(elastic, (8,))
    assert [cost.evaluate({"width": width}) for width in (2, 4)] == [8 * 2 * 4, 8 * 4 * 4]
    assert Weights()(nn.Linear(8, 4, bias=False), (8,)) == 8 * 4 * 4


def choice() -> ModelSpace:
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice(
                {
                    "conv": MutableConv2d(3, 4, Categorical([1, 3], label="k"), padding="same"),
                    "none": nn.Conv2d(3, 4, 1),
                },
                label="op",
            )

        def forward(self, x: Any) -> Any:
            return self.op(x)

    return Net()


def test_a_rule_for_a_layer_takes_the_place_of_its_operators():
    class Ruled(Traffic):
        def rule_for(self, module: nn.Module) -> Any:
            if not isinstance(module, MutableConv2d):
                return None
            return lambda call: call.layer.kernel_size[0] * 1000 + call.outputs[0].numel()

    space = choice()
    cost = Ruled()(space, (3, 8, 8))
    for kernel in (1, 3):
        assert cost.evaluate({"op": "conv", "k": kernel}) == kernel * 1000 + 4 * 8 * 8
    plain = traffic(space.freeze({"op": "none"}), torch.zeros(1, 3, 8, 8))
    assert cost.evaluate({"op": "none"}) == plain


def test_costs_that_are_not_whole_evaluate_and_are_bounded():
    class Half(Cost):
        def of_operator(self, call: Any) -> Any:
            return 0.5 * sum(out.numel() for out in call.outputs if not call.is_view)

    space = choice()
    cost = Half()(space, (3, 8, 8))
    assert cost == 128.0  # in all architectures
    wide = Half()(MutableLinear(8, Categorical([3, 4], label="width")), (8,))
    assert [wide.evaluate({"width": w}) for w in (3, 4)] == [1.5, 2]
    assert tabulate(wide).interval() == (1.5, 2.0)


@pytest.mark.parametrize("wrong", ["much", None, True, float("nan"), float("inf"), 2**62])
def test_what_is_no_number_is_refused(wrong):
    class Wrong(Cost):
        name = "wrong"

        def of_operator(self, call: Any) -> Any:
            return wrong

    with pytest.raises(UsageError, match=r"wrong of aten\..* is "):
        Wrong()(nn.Linear(2, 2), (2,))


def test_an_operator_of_which_a_cost_knows_nothing_is_named():
    class Ignorant(Cost):
        def of_operator(self, call: Any) -> Any:
            if call.name == "aten.convolution":
                raise UnknownOperatorError
            return 1

    with pytest.raises(SpaceError, match=r"nobody knows what aten::convolution costs, which op\."):
        Ignorant()(choice(), (3, 8, 8))
    with pytest.raises(NotImplementedError, match="must implement of_operator"):
        Cost()(choice(), (3, 8, 8))


def test_costs_go_together_in_one_expression():
    space = choice()
    bytes_, operations = Traffic()(space, (3, 8, 8)), macs(space, (3, 8, 8))
    both = MutableExpression.condition(operations > 10**4, bytes_ + 2 * operations, 0)
    for arch in oracle.architectures(space):
        many = operations.evaluate(arch)
        assert both.evaluate(arch) == (bytes_.evaluate(arch) + 2 * many if many > 10**4 else 0)
    assert both.evaluate(space.sample(50, seed=0)).tolist() == [
        both.evaluate(arch) for arch in space.sample(50, seed=0)
    ]


# -- the page -------------------------------------------------------------------------------------


def test_the_page_runs(capsys):
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for snippet in SNIPPETS:
            exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - it is our own text
    finally:
        COSTS.pop("energy", None)
    printed = capsys.readouterr().out.splitlines()
    assert re.findall(r"print\(.*\)  # (\d+)", "\n".join(SNIPPETS)) == printed
    image = torch.zeros(1, 3, 32, 32, device="meta")
    network = names["space"].freeze(names["arch"]).to("meta")
    assert names["moved"].evaluate(names["arch"]) == moved(network, image)


def moved(net: nn.Module, image: torch.Tensor) -> int:
    """Bytes moved by a network, by what torch dispatches."""
    total = 0

    class Moving(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal total
            given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            out = func(*args, **(kwargs or {}))
            made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            if func._schema.is_mutable or not {*map(_memory, made)} <= {*map(_memory, given)}:
                total += sum(tensor.nbytes for tensor in (*given, *made))
            return out

    with torch.no_grad(), Moving():
        net.eval()(image)
    return total
