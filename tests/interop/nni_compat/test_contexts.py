"""Contexts for constructors, modules that freeze themselves, and freezing of any module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_space.errors import SampleValidationError, SpaceError
from nas_space.interop.nni_compat import current_model, model_context, recursive_freeze
from nas_space.mutable import Categorical, ensure_frozen
from nas_space.nn import LayerChoice, ModelSpace, MutableConv2d, MutableModule, Repeat


class Token(MutableModule):
    """Written as NNI's manual tells to: it makes itself anew for an architecture."""

    def __init__(self) -> None:
        super().__init__()
        size = self.add_mutable(Categorical([2, 4], label="size"))
        self.token = nn.Parameter(torch.zeros(ensure_frozen(size)))

    def freeze(self, sample: Any) -> Any:
        with model_context(sample):
            return type(self)()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.token.sum()


class WithToken(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Token(), nn.ReLU())

    def forward(self, x: Tensor) -> Any:
        return self.body(x)


def test_a_module_that_says_how_it_freezes_is_asked() -> None:
    network = WithToken().freeze({"size": 4}, dtype=torch.float64)
    assert network.body[0].token.shape == (4,)
    assert network.body[0].token.dtype == torch.float64
    assert network.simplify() == {}
    assert WithToken.frozen_factory({"size": 4})().body[0].token.shape == (4,)


def test_it_does_not_run_as_one_of_many() -> None:
    with pytest.raises(SpaceError, match=r"'body\.0', a Token"):
        WithToken().activate({"size": 4})


def test_in_a_model_context_classes_make_networks() -> None:
    assert current_model() is None
    with model_context({"size": 4, "op": 1, "width": 8, "depth": 2}):
        assert current_model() == {"size": 4, "op": 1, "width": 8, "depth": 2}
        conv = MutableConv2d(3, Categorical([4, 8], label="width"), 1)
        choice: nn.Module = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")
        body = Repeat(lambda _: nn.ReLU(), (1, 3), label="depth")
    assert (type(conv), conv.out_channels) == (nn.Conv2d, 8)
    assert type(choice) is nn.Tanh
    assert len(body) == 2
    with model_context({"size": 4}):
        assert WithToken().architecture == {"size": 4}
    with model_context({"size": 5}), pytest.raises(SampleValidationError, match="size"):
        WithToken()
    assert current_model() is None


def test_constructors_can_ask_which_architecture_they_are_run_for() -> None:
    seen: list[Any] = []

    class Asks(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            seen.append(current_model())
            self.op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")

    Asks()
    Asks.frozen_factory({"op": 1})()
    with model_context({"op": 0}):
        Asks()
    assert seen == [None, {"op": 1}, {"op": 0}]


def test_recursive_freeze_tells_whether_anything_was() -> None:
    plain = nn.Sequential(nn.ReLU())
    assert recursive_freeze(plain, {}) == (plain, False)
    choice = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")
    body: Any = nn.Sequential(nn.Linear(2, 2), choice)
    frozen: Any
    frozen, replaced = recursive_freeze(body, {"op": 1})
    assert replaced
    assert isinstance(frozen[1], nn.Tanh)
    assert body[1] is choice
    assert torch.equal(frozen[0].weight, body[0].weight)
    assert isinstance(recursive_freeze(choice, {"op": 1})[0], nn.Tanh)
