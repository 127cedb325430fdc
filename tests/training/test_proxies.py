"""Zero-cost proxies against their definitions, written out."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from nas_space.errors import UsageError
from nas_space.hub import NasBenchMacro
from nas_space.training import Task, training_batches
from nas_space.training.proxies import PROXIES, grad_norm, naswot, proxy, synflow, zico


def the_task(n: int = 24, batch_size: int = 8) -> Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 8, 8, generator=generator)
    return Task.classification(TensorDataset(x, torch.arange(n) % 4), batch_size=batch_size)


def network(width: int = 4) -> Any:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36 * width, 4),
    )


def batches(task: Task, n: int) -> list[Any]:
    stream = training_batches(task.train, task.batch_size, seed=0, stream="proxy")
    return [next(stream) for _ in range(n)]


def test_naswot_is_the_determinant_of_agreements():
    task, net = the_task(), network()
    [(x, _)] = batches(task, 1)
    codes = net[:2](x).flatten(1) > 0
    agree = torch.tensor([[float((a == b).sum()) for b in codes] for a in codes]).double()
    assert naswot(network(), task) == pytest.approx(float(torch.logdet(agree)))


def test_naswot_sees_rectifiers_that_are_no_modules():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            x = torch.nn.functional.relu(self.inner[:2](x))
            return self.inner[3:](x)

    assert naswot(Functional(), the_task()) == pytest.approx(naswot(network(), the_task()))
    with pytest.raises(UsageError, match="has none"):
        naswot(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), the_task())


def test_grad_norm_is_the_sum_of_the_norms_of_weights():
    task, net = the_task(), network()
    [batch] = batches(task, 1)
    task.training_loss(net, batch).backward()
    expected = sum(float(net[place].weight.grad.norm()) for place in (0, 4))
    assert grad_norm(network(), task) == pytest.approx(expected)


def test_synflow_counts_what_all_paths_carry():
    torch.manual_seed(0)
    first, last = nn.Linear(192, 5, bias=False), nn.Linear(5, 4, bias=False)
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    product = (
        (last.weight.abs() @ first.weight.abs()).detach().sum()
    )  # of ones; once for each layer
    assert synflow(net, the_task()) == pytest.approx(math.log(2 * float(product)), rel=1e-5)


def test_zico_compares_gradients_of_batches():
    task, net = the_task(), network()
    found: list[list[torch.Tensor]] = []
    for batch in batches(task, 3):
        net.zero_grad()
        task.training_loss(net, batch).backward()
        found.append([net[place].weight.grad.double().clone() for place in (0, 4)])
    expected = 0.0
    for layer in range(2):
        stacked = torch.stack([gradients[layer] for gradients in found])
        deviation = ((stacked - stacked.mean(0)) ** 2).mean(0).sqrt()
        expected += math.log(float((stacked.abs().mean(0) / deviation)[deviation > 0].sum()))
    assert zico(network(), task, batches=3) == pytest.approx(expected)
    with pytest.raises(UsageError, match="at least 2"):
        zico(network(), task, batches=1)


@pytest.mark.parametrize("name", PROXIES)
def test_a_network_is_left_as_it_was(name):
    net = network().eval()
    before, random = deepcopy(net.state_dict()), torch.get_rng_state()
    first = proxy(name)(net, the_task())
    assert not net.training
    assert all(weight.grad is None for weight in net.parameters())
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert proxy(name)(net, the_task()) == first


@pytest.mark.parametrize("name", PROXIES)
def test_a_space_scores_as_the_network_that_is_active(name):
    space = NasBenchMacro(num_labels=4, init_channels=4)
    for arch in space.sample(2, seed=0):
        with space.activate(arch):
            found = proxy(name)(space, the_task())
        assert found == pytest.approx(proxy(name)(space.freeze(arch), the_task()), rel=1e-4)


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="did you mean 'naswot'"):
        proxy("nasswot")
