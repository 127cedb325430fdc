"""A loop written by hand that updates what took part, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nas_space.errors import SampleValidationError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear
from nas_space.training import SliceOptimizer


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        width = Categorical([2, 4], label="width")
        self.up, self.down = MutableLinear(3, width), MutableLinear(width, 3)
        self.op = LayerChoice([nn.Linear(3, 3), nn.Identity()], label="op")
        self.head = nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.op(self.down(self.up(x).tanh())))


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


def steps(module: Any, optimizer: Any, arch: Any = None, n: int = 3) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        x = torch.randn(8, 3, generator=generator)
        if arch is None:
            loss = module(x).square().mean()
        else:
            with optimizer.along(module, arch):
                loss = module(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_architecture_is_trained_as_its_network_is_and_nothing_else_moves(name):
    torch.manual_seed(0)
    space, arch = Net(), {"width": 2, "op": 1}
    before = {name: p.detach().clone() for name, p in space.named_parameters()}
    network = space.freeze(arch)
    steps(space, SliceOptimizer(OPTIMIZERS[name](space.parameters())), arch)
    steps(network, OPTIMIZERS[name](network.parameters()))
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(space.freeze(arch).state_dict()[key], tensor)
    assert torch.equal(space.up.weight[2:], before["up.weight"][2:])
    assert torch.equal(space.down.weight[:, 2:], before["down.weight"][:, 2:])
    for key in ("op.0.weight", "op.0.bias"):
        assert torch.equal(space.get_parameter(key), before[key])


def test_several_paths_of_a_step_add_up_and_can_be_clipped():
    torch.manual_seed(0)
    space, x = Net(), torch.randn(4, 3)
    optimizer = SliceOptimizer(torch.optim.SGD(space.parameters(), lr=1.0))
    before = space.up.weight.detach().clone()
    whole = torch.zeros_like(before)
    for width in (2, 4):
        arch = {"width": width, "op": 1}
        network = space.freeze(arch)
        network(x).sum().backward()
        gradient: Any = network.up.weight.grad
        whole[:width] += gradient
        with optimizer.along(space, arch):
            space(x).sum().backward()
    with optimizer.gradients():
        gradients = [p.grad for p in space.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(space.parameters(), 0.5)
        assert norm > 0.5
        optimizer.step()
    assert gradients
    torch.testing.assert_close(before - space.up.weight, whole * 0.5 / norm)
    assert space.up.weight.shape == (4, 3)


def test_what_is_forgotten_moves_nothing_and_states_can_be_stored():
    space, x = Net(), torch.randn(4, 3)
    optimizer = SliceOptimizer(OPTIMIZERS["adamw"](space.parameters()))
    before = {key: tensor.clone() for key, tensor in space.state_dict().items()}
    with optimizer.along(space, {"width": 2, "op": 1}):
        space(x).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    assert all(torch.equal(tensor, before[key]) for key, tensor in space.state_dict().items())
    steps(space, optimizer, {"width": 2, "op": 1})
    other = SliceOptimizer(OPTIMIZERS["adamw"](space.parameters()))
    other.load_state_dict(optimizer.state_dict())
    assert other.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()
    with pytest.raises(SampleValidationError):
        optimizer.along(space, {"width": 3, "op": 1})
