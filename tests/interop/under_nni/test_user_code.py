"""Code written for NNI, run as it is under NNI, and with its imports replaced here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nas_space.interop.migrate import migrate

HEAD = """
import copy
import torch
import torch.nn as nn
import nni
from nni.mutable import (
    Categorical, CategoricalMultiple, MutableExpression, ensure_frozen, frozen_context, label_scope,
    auto_label,
)
from nni.nas.nn.pytorch import (
    Cell, ChosenInputs, InputChoice, LayerChoice, ModelSpace, MutableBatchNorm2d, MutableConv2d,
    MutableLinear, MutableModule, ParametrizedModule, Repeat, ValueChoice, recursive_freeze,
)
from nni.nas.space import current_model, model_context
"""

CELL = """
class Net(ModelSpace):
    def __init__(self, merge_op="all", factory=False, predecessors=1):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        ops = {"conv": nn.Conv2d(4, 4, 3, padding=1), "pool": nn.MaxPool2d(3, 1, 1)}
        if factory:
            ops = {
                "conv": lambda node, op, read: nn.Conv2d(4, 4, (1 if read else 3), stride=1,
                                                         padding=(0 if read else 1)),
                "act": lambda node, op, read: nn.ReLU(),
            }
        self.cell = Cell(ops, 3, 2, predecessors, merge_op=merge_op, label="cell")
        self.predecessors = predecessors

    def forward(self, x):
        x = self.stem(x)
        return self.cell(*[x * (i + 1) for i in range(self.predecessors)]).mean((2, 3))
"""

EVERYTHING = """
class Block(nn.Module):
    def __init__(self, width, kernel):
        super().__init__()
        self.conv = MutableConv2d(width, width, kernel, padding=kernel // 2)
        self.norm = MutableBatchNorm2d(width)

    def forward(self, x):
        return self.norm(self.conv(x))


class Net(ModelSpace, label_prefix="net"):
    def __init__(self):
        super().__init__()
        width = ValueChoice([4, 8], label="width")
        self.stem = MutableConv2d(3, width, 3, padding=1)
        self.body = Repeat(
            lambda i: Block(width, nni.choice(f"kernel{i}", [1, 3])), nni.choice("depth", [1, 3])
        )
        with label_scope("head") as scope:
            self.act = LayerChoice([nn.ReLU(), nn.Tanh()])
            self.pick = InputChoice(3, n_chosen=2, reduction="concat", label="pick")
        self.out = MutableLinear(width * 2, 5)

    def forward(self, x):
        x = self.act(self.body(self.stem(x)))
        return self.out(self.pick([x, x * 2, x + 1]).mean((2, 3)))
"""

SIZED = """
class Token(MutableModule):
    def __init__(self):
        super().__init__()
        size = self.add_mutable(nni.choice("size", [2, 4, 8]))
        self.token = nn.Parameter(torch.randn(ensure_frozen(size)))

    def freeze(self, sample):
        with model_context(sample):
            return self.__class__()

    def forward(self, x):
        return x + self.token.sum()


class Net(ModelSpace):
    def __init__(self):
        super().__init__()
        self.token = Token()
        choice = LayerChoice({"a": nn.Linear(3, 3), "b": nn.Identity()}, label="op")
        self.body = nn.Sequential(choice)

    def forward(self, x):
        return self.token(self.body(x.mean((2, 3))))
"""

PARAMETRIZED = """
class Scale(ParametrizedModule):
    def __init__(self, factor, width):
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x.mean((2, 3)).sum(1, keepdim=True) * self.factor * self.weight


class Net(ModelSpace):
    def __init__(self):
        super().__init__()
        width = Categorical([2, 3], label="width")
        self.scale = Scale(Categorical([1.0, 2.0], label="factor"), width)
        self.out = MutableLinear(MutableExpression.condition(width > 2, width, 2), 4)

    def forward(self, x):
        return self.out(self.scale(x))
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a cell": (CELL, {}),
    "a cell of two inputs": (CELL, {"predecessors": 2}),
    "a cell with loose ends": (CELL, {"merge_op": "loose_end", "predecessors": 2}),
    "a cell made by factories": (CELL, {"factory": True}),
    "a cell made by factories with loose ends": (CELL, {"factory": True, "merge_op": "loose_end"}),
    "elastic layers, repeats, inputs, scopes": (EVERYTHING, {}),
    "a module that freezes itself": (SIZED, {}),
    "parametrized modules": (PARAMETRIZED, {}),
}


@pytest.fixture(params=CASES)
def pair(request: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The class here, the class there, and arguments."""
    source, arguments = CASES[request.param]
    here: dict[str, Any] = {"__name__": "here"}
    there: dict[str, Any] = {"__name__": "there"}
    done = migrate(HEAD + source)
    assert not done.findings
    exec(done.text, here)  # noqa: S102 - written above
    exec(HEAD + source, there)  # noqa: S102
    assert "nas_space" in here["nni"].__name__
    return here["Net"], there["Net"], arguments


def test_the_same_labels_and_domains(pair: Any) -> None:
    here, there, arguments = pair

    def domains(space: Any) -> dict[str, list[Any]]:
        return {label: list(symbol.values) for label, symbol in space.simplify().items()}

    assert domains(here(**arguments)) == domains(there(**arguments))


def test_the_same_networks(pair: Any) -> None:
    here, there, arguments = pair
    space = here(**arguments)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for arch in space.sample(12, seed=0):
        other = there.frozen_factory(arch)(**arguments)
        for mine in (space.freeze(arch), here.frozen_factory(arch)(**arguments)):
            mine.load_state_dict(other.state_dict())
            for mode in (True, False):
                assert torch.equal(mine.train(mode)(x), other.train(mode)(x))


def test_model_context_makes_networks(pair: Any) -> None:
    here, _, arguments = pair
    source = migrate("from nni.nas.space import current_model, model_context").text
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102
    arch = here(**arguments).sample(seed=0)
    assert names["current_model"]() is None
    with names["model_context"](arch):
        assert names["current_model"]() == arch
        network = here(**arguments)
    assert network.architecture == arch
