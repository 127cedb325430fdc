from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import DataError, UsageError
from nas_space.mutable import Categorical
from nas_space.training import Batches, evaluate, fit, recalibrate

from . import small


class ElasticNorm(nn.BatchNorm1d):
    """A batch norm of which the first `width` channels are in use, as in a space."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.width = channels

    def forward(self, x: Tensor) -> Tensor:
        w = self.width
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        factor = 1 / float(self.num_batches_tracked or 1) if self.momentum is None else 0.1
        return F.batch_norm(
            x,
            self.running_mean[:w],
            self.running_var[:w],
            self.weight[:w],
            self.bias[:w],
            self.training,
            factor,
            self.eps,
        )


def by_hand(network: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """What must come out, computed from what goes into each batch norm.

    In evaluation mode a batch norm would use its statistics; in the pass that estimates them it
    uses those of the batch, and the layers behind it see that.
    """
    seen: dict[str, list[Tensor]] = {}

    def record(name: str) -> Any:
        return lambda _, inputs, __: seen.setdefault(name, []).append(inputs[0])

    network = copy.deepcopy(network).eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.train()
            module.register_forward_hook(record(name))
    with torch.no_grad():
        for batch in batches:
            network(batch)
    expected = {}
    for name, inputs in seen.items():
        per_batch = [x.double().transpose(0, 1).flatten(1) for x in inputs]
        expected[f"{name}.running_mean"] = torch.stack([x.mean(1) for x in per_batch]).mean(0)
        expected[f"{name}.running_var"] = torch.stack([x.var(1) for x in per_batch]).mean(0)
    return expected


def convolutional() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4, momentum=0.3),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(4, 5, 3),
            nn.BatchNorm2d(5, momentum=None),
            nn.Flatten(),
            nn.LazyLinear(2),
        )


@pytest.mark.parametrize("batches", [None, 1, 3])
def test_statistics_are_the_average_over_batches(batches: int | None) -> None:
    images = torch.rand(22, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    network = convolutional()
    network(images)
    taken = Batches(TensorDataset(images), 5, seed=3, stream="recalibrate")
    inputs = [taken[step][0] for step in range(batches or 4)]
    expected = by_hand(network, inputs)
    before = copy.deepcopy(network)
    recalibrate(network, TensorDataset(images), batches=batches, batch_size=5, seed=3)
    state = network.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(state[name].double(), value, rtol=1e-5, atol=1e-6)
    for name, value in before.state_dict().items():
        if "num_batches" in name:
            assert state[name] == len(inputs)
        elif name not in expected:
            assert torch.equal(state[name], value)
        else:
            assert not torch.allclose(state[name], value)


def test_modes_momenta_gradients_and_randomness_are_left_as_they_were() -> None:
    network = small.network()
    norm: Any = network[1]
    norm.momentum = 0.7
    network[0].eval()
    network[3].eval()
    network(torch.rand(4, 4)).sum().backward()
    modes = [module.training for module in network.modules()]
    gradients = [parameter.grad for parameter in network.parameters()]
    state = torch.get_rng_state()
    recalibrate(network, small.task())
    assert [module.training for module in network.modules()] == modes
    assert norm.momentum == 0.7
    assert all(g is p.grad for g, p in zip(gradients, network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_dropout_is_off_while_estimating() -> None:
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(4))
    data = small.dataset()
    recalibrate(network, data, batch_size=40)
    mean, variance = small.statistics(network[1])
    assert torch.allclose(mean, data.tensors[0].mean(0), atol=1e-6)
    assert torch.allclose(variance, data.tensors[0].var(0), atol=1e-6)


def test_only_what_is_in_use_is_replaced() -> None:
    """The active width of a layer, and none of a branch that is not taken."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.on, self.off = ElasticNorm(4), ElasticNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.on(x[:, :2])  # type: ignore[no-any-return]

    network = Half()
    for norm in (network.on, network.off):
        norm(torch.randn(9, 4))
        small.statistics(norm)[1][0] = 0.0
    before = copy.deepcopy(network.state_dict())
    network.on.width = 2
    data = small.dataset()
    recalibrate(network, data, batch_size=40)
    after = network.state_dict()
    for name, value in before.items():
        if not name.startswith("on.running"):
            assert torch.equal(after[name], value) or name == "on.num_batches_tracked"
        else:
            assert torch.equal(after[name][2:], value[2:])
    assert torch.allclose(after["on.running_mean"][:2], data.tensors[0].mean(0)[:2], atol=1e-6)
    assert torch.allclose(after["on.running_var"][:2], data.tensors[0].var(0)[:2], atol=1e-6)
    assert after["on.num_batches_tracked"] == 1


class Joined(ns.ModelSpace):
    """A batch norm of two concatenated widths, of which the second does not begin at the first."""

    def __init__(self) -> None:
        super().__init__()
        w, v = Categorical([2, 4], label="w"), Categorical([3, 5], label="v")
        self.first, self.second = mnn.MutableLinear(3, w), mnn.MutableLinear(3, v)
        self.norm = mnn.MutableBatchNorm1d(w + v)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(torch.cat([self.first(x), self.second(x)], 1))
        return y


def test_channels_of_a_concatenation_are_replaced_where_they_are() -> None:
    space, data = Joined(), TensorDataset(torch.randn(64, 3))
    arch = {"w": 2, "v": 3}
    right = recalibrate(space.freeze(arch), data).state_dict()
    with space.activate(arch):
        recalibrate(space, data)
    found = space.freeze(arch).state_dict()
    for name in ("norm.running_mean", "norm.running_var"):
        torch.testing.assert_close(found[name], right[name])
    whole, _ = small.statistics(space.norm)
    assert whole[[2, 3, 7, 8]].tolist() == [0, 0, 0, 0]


def test_a_variance_of_zero_and_one_that_is_not_a_number_are_results_too() -> None:
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(8, 2))
    x = torch.stack([torch.full((6,), 3.0), torch.full((6,), torch.nan)], dim=1)
    recalibrate(norm, TensorDataset(x))
    mean, variance = small.statistics(norm)
    assert mean[0] == 3
    assert variance[0] == 0
    assert bool(variance[1].isnan())


def test_a_failure_changes_nothing() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("out of memory")
            return self.norm(x)  # type: ignore[no-any-return]

    network = Fails()
    network.norm(torch.randn(8, 4))
    before = copy.deepcopy(network)
    with pytest.raises(RuntimeError, match="out of memory"):
        recalibrate(network, small.dataset(), batch_size=5)
    assert small.same(network, before)
    assert network.norm.momentum == 0.1
    assert network.training


def test_recalibrating_for_clean_inputs_helps_after_training_on_noisy_ones() -> None:
    task = small.task(augment=lambda x, g: x + 3 * torch.randn(x.shape, generator=g))
    network = small.network()
    fit(network, task, steps=30)
    noisy, clean = copy.deepcopy(network), copy.deepcopy(network)
    recalibrate(noisy, task, augment=True)
    recalibrate(clean, task)
    variances = [float(small.statistics(n[1])[1].mean()) for n in (noisy, clean)]
    assert variances[0] > 1.5 * variances[1]
    assert evaluate(clean, task)["loss"] != evaluate(noisy, task)["loss"]


def test_all_kinds_of_data() -> None:
    data = small.dataset()
    x = data.tensors[0]
    results = []
    for source in (
        data,
        small.task(train=data, batch_size=40, augment=None),
        DataLoader(data, batch_size=40),
        DataLoader(TensorDataset(x), batch_size=40),
    ):
        network = small.network()
        recalibrate(network, source, batch_size=40)
        results.append(small.statistics(network[1])[1])
    assert all(torch.allclose(result, results[0]) for result in results)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(small.dataset().tensors[0])


def test_data_without_length_need_a_number_of_batches() -> None:
    loader = DataLoader(Stream(), batch_size=8)
    with pytest.raises(UsageError, match="say how many batches="):
        recalibrate(small.network(), loader)
    network = recalibrate(small.network(), loader, batches=2)
    assert network.state_dict()["1.num_batches_tracked"] == 2


def test_no_data_and_no_batches_are_refused() -> None:
    network = small.network()
    before = copy.deepcopy(network)
    with pytest.raises(DataError, match="there are no data"):
        recalibrate(network, TensorDataset(torch.zeros(0, 4)))
    with pytest.raises(UsageError, match="batches must be at least 1, but is 0"):
        recalibrate(network, small.dataset(), batches=0)
    assert small.same(network, before)


def test_a_network_without_batch_norm_is_left_alone() -> None:
    network = nn.Linear(4, 3)
    before = copy.deepcopy(network)
    recalibrate(network, small.task())
    assert small.same(network, before)
