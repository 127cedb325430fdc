"""What a smaller network has learnt goes back into its space, and on to networks smaller still."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import every_network, made


def smallest(space: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(space.original)
    for label, symbol in space.symbols().items():
        found[label] = symbol.values[0] if "depth" not in label else found[label]
    return found


@every_network
def test_what_is_absorbed_is_frozen_again_and_nothing_else_has_changed(name):
    """So layers cut where the analysis has tried to: both say where the elements of sizes are."""
    net, _, original = made(name)
    space: Any = copy.deepcopy(original)
    before = {key: value.clone() for key, value in space.state_dict().items()}
    arch = space.original | space.sample(seed=3)
    small: Any = space.freeze(arch)
    for parameter in small.parameters():
        parameter.data.uniform_(-0.1, 0.1)
    space.absorb(small)
    again = space.freeze(arch).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in small.state_dict().items())
    parameters = dict(space.named_parameters())
    changed = sum(int((parameters[key] != before[key]).sum()) for key in parameters)
    assert changed <= sum(parameter.numel() for parameter in small.parameters())
    wanted = net.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in before.items())


def test_a_network_is_fitted_to_a_larger_one_of_its_space():
    """Of which it has some of the blocks and channels; the original is another network."""
    torch.manual_seed(0)
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs, divisor=1).sort_channels([inputs])
    fewer = {"stages.0.depth": 1}
    larger: Any = space.freeze(smallest(space) | fewer | _middle(space))
    for parameter in larger.parameters():
        parameter.data.mul_(1.1)
    space.absorb(larger)
    small: Any = space.freeze(smallest(space) | fewer)
    data = [torch.randn(32, *inputs.shape[1:]) for _ in range(2)]
    with torch.no_grad():
        before = (small(inputs) - larger(inputs)).square().mean()
        space.refit(small, data, teacher=larger)
        assert (small(inputs) - larger(inputs)).square().mean() < 0.9 * before


def _middle(space: Any) -> dict[str, Any]:
    return {
        label: symbol.values[1]
        for label, symbol in space.symbols().items()
        if "depth" not in label and len(symbol.values) > 2
    }


def test_a_teacher_that_lacks_channels_is_refused_and_nothing_is_changed():
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs)
    narrow: Any = space.freeze(smallest(space))
    wide: Any = space.freeze(space.original | _middle(space))
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    with pytest.raises(UsageError, match="larger in every choice"):
        space.refit(wide, [inputs], teacher=narrow)
    assert all(torch.equal(value, before[key]) for key, value in wide.state_dict().items())


def test_a_network_of_other_sizes_is_not_absorbed():
    net, inputs = NETWORKS["ResNet"]()
    space = ns.elastic(net, inputs)
    before = {key: value.clone() for key, value in space.state_dict().items()}
    with pytest.raises(UsageError, match="frozen"):
        space.absorb(net)
    small: Any = space.freeze(smallest(space))
    layer = next(m for m in small.modules() if isinstance(m, nn.Conv2d))
    layer.weight = nn.Parameter(torch.zeros(1, 1, 1, 1))
    with pytest.raises(UsageError, match="as it was frozen"):
        space.absorb(small)
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())
