"""Recurrent layers with choices: copied, stored, trained along paths, and frozen."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical
from nas_space.nn.activation import Activation
from nas_space.nn.decisions import Traced
from nas_space.nn.segments import flattened
from nas_space.profiler import params
from nas_space.training import Task

KINDS = ["MutableLSTM", "MutableGRU", "MutableRNN"]


class Net(ns.ModelSpace):
    def __init__(self, kind: str = "MutableLSTM") -> None:
        super().__init__()
        hidden, layers = Categorical([2, 4], label="hidden"), Categorical([1, 2], label="layers")
        self.rnn = getattr(mnn, kind)(4, hidden, layers, batch_first=True, bidirectional=True)
        self.out = mnn.MutableLinear(flattened(2, hidden), 2)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


ARCHS = [{"hidden": h, "layers": n} for h, n in product((2, 4), (1, 2))]


def outputs(space: Net, x: Tensor) -> list[Tensor]:
    found = []
    for arch in ARCHS:
        with space.activate(arch):
            found.append(space(x))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))])
def test_a_copy_runs_and_freezes_alike_with_weights_of_its_own(
    kind: str, copied: Callable[[Net], Net]
) -> None:
    space, x = Net(kind), torch.randn(3, 5, 4)
    before = outputs(space, x)
    twin = copied(space)
    for mine, its in zip(outputs(twin, x), before, strict=True):
        assert torch.equal(mine, its)
    for arch in ARCHS:
        assert torch.equal(twin.freeze(arch)(x), space.freeze(arch)(x))
    with torch.no_grad():
        twin.rnn.weight_hh_l0.zero_()
    assert all(map(torch.equal, outputs(space, x), before))


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_that_is_moved_or_loaded_runs_as_what_it_freezes_to(kind: str) -> None:
    space, other, x = Net(kind).double(), Net(kind).double(), torch.randn(3, 5, 4).double()
    other.load_state_dict(space.state_dict())
    for arch, mine, its in zip(ARCHS, outputs(other, x), outputs(space, x), strict=True):
        assert torch.equal(mine, its)
        assert torch.equal(space.freeze(arch)(x), its)


def test_each_gate_keeps_its_first_units_and_each_direction_its_first_outputs() -> None:
    space = Net("MutableGRU")
    small = space.freeze({"hidden": 2, "layers": 2}).rnn
    owned = space.rnn.weight_ih_l1.view(3, 4, 2, 4)[:, :2, :, :2].reshape(6, 4)
    assert torch.equal(small.weight_ih_l1, owned)


def test_a_network_has_the_tensors_of_its_layers_and_nothing_else() -> None:
    network = Net().freeze({"hidden": 2, "layers": 1})
    plain = nn.LSTM(4, 2, 1, batch_first=True, bidirectional=True)
    assert list(network.rnn._parameters) == list(plain._parameters)
    assert [id(w) for w in network.rnn._flat_weights] == [id(p) for p in network.rnn.parameters()]
    assert network.rnn.all_weights[0][0] is network.rnn.weight_ih_l0


def test_shared_weights_are_views_until_the_network_changes() -> None:
    space, arch, x = Net(), {"hidden": 4, "layers": 2}, torch.randn(1, 5, 4)
    network = space.freeze(arch, weights="share")
    assert network.rnn.weight_hh_l0.data_ptr() == space.rnn.weight_hh_l0.data_ptr()
    network.train()
    with torch.no_grad():
        network.rnn.weight_hh_l0.add_(1)
    assert not torch.equal(network.rnn.weight_hh_l0, space.rnn.weight_hh_l0)
    assert not torch.equal(network(x), space.freeze(arch)(x))


def test_gradients_along_a_path_are_those_of_the_network() -> None:
    space, x = Net(), torch.randn(3, 5, 4)
    for arch in ARCHS:
        network = space.freeze(arch)
        network(x).sum().backward()
        with Traced(space.read(arch)) as path:
            space(x).sum().backward()
        expected = {name: p.grad for name, p in network.named_parameters()}
        owners = {id(p): name for name, p in space.named_parameters()}
        found = {owners[id(part.parameter)]: part.leaf.grad for part in path.used}
        found |= {name: p.grad for name, p in space.named_parameters() if p.grad is not None}
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            mine = found[name]
            assert mine is not None
            assert gradient is not None
            assert torch.equal(mine, gradient), name
        space.zero_grad()


def test_packed_sequences_and_states_are_taken() -> None:
    hidden = Categorical([2, 4], label="hidden")
    rnn = mnn.MutableLSTM(3, hidden, proj_size=1)
    packed = pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    for size in (2, 4):
        frozen, state = rnn.freeze({"hidden": size}), (torch.ones(1, 2, 1), torch.ones(1, 2, size))
        with Activation(rnn.read({"hidden": size})):
            mine, (h, c) = rnn(packed, state)
        its, (h_, c_) = frozen(packed, state)
        assert torch.equal(mine.data, its.data)
        assert torch.equal(h, h_)
        assert torch.equal(c, c_)


def test_one_set_of_weights_serves_any_number_of_values() -> None:
    rnn = mnn.MutableGRU(3, Categorical(range(1, 200), label="hidden"))
    assert rnn.weight_hh_l0.shape == (3 * 199, 199)
    assert params(rnn).evaluate({"hidden": 150}) == sum(
        p.numel() for p in nn.GRU(3, 150).parameters()
    )


def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 5, 4, generator=generator)
    data = TensorDataset(x, (x.sum((1, 2)) > 0).long())
    return Task.classification(data, validation=data)


def test_strategies_that_sample_train_it_and_mixtures_refuse_it_by_name() -> None:
    result = ns.search(Net("MutableGRU"), task(), strategy="random-path", epochs=1, seed=0)
    assert result.network().rnn.hidden_size == result.best()["hidden"]
    with pytest.raises(SpaceError, match=r"cannot be mixed over.*'hidden'.*path: rnn"):
        ns.search(Net("MutableGRU"), task(), strategy="darts", epochs=1, seed=0)


def test_what_keeps_tensors_in_a_plain_attribute_is_refused_by_name() -> None:
    class Twice(nn.Module):
        def __init__(self, width: int, device: Any = None, dtype: Any = None) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))
            self.again = [self.weight]

    class MutableTwice(mnn.ElasticModule, Twice, wraps=Twice):
        @classmethod
        def shapes(cls, arguments: Any) -> dict[str, Any]:
            return {"weight": (arguments["width"],)}

    with pytest.raises(SpaceError, match=r"keeps tensors in the attribute 'again'.*derive"):
        MutableTwice(Categorical([1, 2], label="width"))
