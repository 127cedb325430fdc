"""What every space of the hub holds: one suite over the whole registry."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import nas_space as ns
from nas_space.hub import AutoformerSpace
from nas_space.hub.registry import SPACES
from nas_space.strategy import ONE_SHOT
from nas_space.training import Task

SHAPE = (3, 32, 32)


def small(name: str) -> Any:
    torch.manual_seed(0)
    return SPACES[name].space(num_labels=10, **SPACES[name].small)


@pytest.fixture(scope="module", params=SPACES)
def space(request: pytest.FixtureRequest) -> Any:
    return small(request.param)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_a_frozen_network_is_the_active_architecture_bit_for_bit(space):
    for seed in range(3):
        arch = space.sample(seed=seed)
        for training in (True, False):
            net = space.freeze(arch).train(training)
            mine = copy.deepcopy(space).train(training)
            torch.manual_seed(0)  # dropout
            with mine.activate(arch):
                expected = mine(images())
            torch.manual_seed(0)
            assert torch.equal(net(images()), expected)


def test_costs_are_those_of_the_frozen_networks(space):
    macs = ns.profiler.macs(space, SHAPE)
    params = ns.profiler.params(space)
    for seed in range(3):
        arch = space.sample(seed=seed)
        net = space.freeze(arch).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(images(1))
        assert macs.evaluate(arch) == counter.get_total_flops() / 2
        assert params.evaluate(arch) == sum(p.numel() for p in net.parameters())


def test_half_of_the_architectures_are_within_the_median_cost(space):
    params = ns.profiler.params(space)
    costs = sorted(params.evaluate(arch) for arch in space.sample(101, seed=0))
    within = space.where(params <= costs[50])
    assert 0 < within.count() < space.count()
    assert all(params.evaluate(arch) <= costs[50] for arch in within.sample(5, seed=0))


def test_a_network_made_by_the_factory_has_the_same_tensors(space):
    arch = space.sample(seed=4)
    positional, keyword = space._arguments
    made = type(space).frozen_factory(arch)(*positional, **keyword)
    shapes = {name: tensor.shape for name, tensor in space.freeze(arch).state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in made.state_dict().items()}


def test_spaces_and_networks_pickle_and_nothing_in_a_network_is_to_be_decided(space):
    arch = space.sample(seed=0)
    again = pickle.loads(pickle.dumps(space)).eval()
    net = pickle.loads(pickle.dumps(space.eval().freeze(arch)))
    assert torch.equal(again.freeze(arch)(images()), net(images()))
    assert not any(getattr(module, "mutables", ()) for module in net.modules())


@pytest.mark.parametrize("name", SPACES)
def test_published_architectures_are_in_the_space_and_their_networks_run(name):
    entry = SPACES[name]
    for published in entry.published.values():
        net = entry.space.frozen_factory(published.architecture)(**published.arguments)
        assert isinstance(net, nn.Module)
        # A transformer is for images of one size.
        shape: tuple[int, ...] = SHAPE
        if name == "autoformer":
            shape = AutoformerSpace.example_shape
        with torch.no_grad():
            scores = net.eval()(torch.zeros(1, *shape))
        assert scores.shape == (1, 10 if "num_cells" in published.arguments else 1000)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ONE_SHOT)
@pytest.mark.parametrize("name", SPACES)
def test_every_one_shot_strategy_takes_a_step(name, strategy):
    space = small(name)
    data = TensorDataset(images(8), torch.arange(8))
    task = Task.classification(data, data, batch_size=4)
    arguments = (
        {"candidates": 2} if issubclass(ONE_SHOT[strategy], ns.strategy.RandomOneShot) else {}
    )
    chosen = ns.strategy.get_strategy(strategy, **arguments)
    result = ns.search(space, task, strategy=chosen, steps=1)
    assert space.contains(result.best())


@pytest.mark.parametrize("name", SPACES)
def test_what_a_list_of_the_spaces_says_is_true(name: str) -> None:
    entry = SPACES[name]
    space = entry.space()
    assert entry.labels == len(space.simplify())
    assert entry.architectures == space.count()
    assert set(entry.networks) == set(entry.published)
