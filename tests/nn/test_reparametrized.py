"""Weight norm, spectral norm, pruning and other parametrizations of elastic layers."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import nas_space.nn as mnn
from nas_space.errors import SpaceError
from nas_space.mutable import Categorical
from nas_space.nn import ElasticModule, ModelSpace
from nas_space.nn.decisions import Traced, Weighted
from nas_space.profiler import flops, memory, params

from ..profiler import oracle

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


class Symmetric(nn.Module):
    def forward(self, weight: Any) -> Any:
        return weight.tanh() + weight.flip(0)


class Masked(nn.Module):
    """With tensors of its own: one that lies as the weight does, one along its rows, a number."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.register_buffer("mask", (torch.rand_like(weight) > 0.5).float())
        self.gain = nn.Parameter(torch.rand(weight.shape[0], *[1] * (weight.dim() - 1)))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, weight: Any) -> Any:
        return weight * self.mask * self.gain * self.scale


def masked(layer: Any) -> Any:
    return parametrize.register_parametrization(layer, "weight", Masked(layer.weight.detach()))


def symmetric(layer: Any) -> Any:
    return parametrize.register_parametrization(layer, "weight", Symmetric())


def pruned_twice(layer: Any) -> Any:
    prune.l1_unstructured(layer, "weight", amount=0.3)
    prune.ln_structured(layer, "weight", amount=0.3, n=2, dim=0)
    return prune.random_unstructured(layer, "bias", amount=0.5)


def householder(layer: Any) -> Any:
    return parametrizations.orthogonal(
        layer, orthogonal_map="householder", use_trivialization=False
    )


HOW: dict[str, Callable[[Any], Any]] = {
    "old weight norm": nn.utils.weight_norm,
    "old weight norm of all": lambda layer: nn.utils.weight_norm(layer, dim=None),  # type: ignore[arg-type]
    "old weight norm along inputs": lambda layer: nn.utils.weight_norm(layer, dim=1),
    "weight norm": parametrizations.weight_norm,
    "weight norm along inputs": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "old spectral norm": nn.utils.spectral_norm,
    "old spectral norm, twice": lambda layer: nn.utils.spectral_norm(layer, n_power_iterations=2),
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm of bias": lambda layer: parametrizations.spectral_norm(layer, "bias", dim=0),
    "pruning": lambda layer: prune.random_unstructured(layer, "weight", amount=0.5),
    "structured pruning": lambda layer: prune.ln_structured(layer, "weight", 0.5, n=1, dim=1),
    "pruning twice, and the bias": pruned_twice,
    "a function": symmetric,
    "tensors of its own": masked,
    "two parametrizations": lambda layer: parametrizations.spectral_norm(symmetric(layer)),
    "weight norm and spectral norm": lambda layer: nn.utils.spectral_norm(
        parametrizations.weight_norm(layer, "bias", dim=0)
    ),
}


class Net(ModelSpace):
    """A discriminator of elastic width and kernel, of which every layer is reparametrized."""

    def __init__(self, name: str) -> None:
        super().__init__()
        how = HOW[name]
        width = Categorical([3, 5], label="width")
        kernel = Categorical([1, 3], label="kernel")
        bias = Categorical([True, False], label="bias")
        self.stem = how(mnn.MutableConv2d(2, width, kernel, padding=kernel // 2))
        self.up = how(mnn.MutableConvTranspose2d(width, 2 * width, 2, stride=2))
        self.head = mnn.MutableLinear(2 * width, width, bias=bias)
        self.out = how(mnn.MutableLinear(width, 1 + width, bias=True))

    def forward(self, x: Any) -> Any:
        x = self.up(self.stem(x).relu()).mean((2, 3))
        return self.out(self.head(x))


ARCHS = [
    {"width": width, "kernel": kernel, "bias": bias}
    for width, kernel, bias in itertools.product([3, 5], [1, 3], [True, False])
]

every = pytest.mark.parametrize("how", HOW)


def made(how: str) -> tuple[Net, Any]:
    torch.manual_seed(0)
    return Net(how), torch.randn(3, 2, 4, 4)


@every
def test_an_active_architecture_is_the_network_it_freezes_to(how):
    space, x = made(how)
    space.train()
    for arch in ARCHS[::3] * 2:  # the second time with vectors that other architectures have moved
        network = space.freeze(arch)
        assert not any(isinstance(module, ElasticModule) for module in network.modules())
        for _ in range(2):  # a step of the power iteration each
            with space.activate(arch):
                expected = space(x)
            assert torch.equal(network(x), expected)
        expected.square().sum().backward()
        network.zero_grad()
        network(x)
    space.eval()
    for arch in ARCHS:
        with space.activate(arch):
            assert torch.equal(space.freeze(arch)(x), space(x))
            assert torch.equal(space.freeze(arch, weights="share")(x), space(x))


@every
def test_a_network_is_a_plain_layer_reparametrized_by_torch(how):
    space, _ = made(how)
    network = space.freeze(ARCHS[0])
    plain = HOW[how](nn.Conv2d(2, 3, 1))
    mine = network.stem
    assert {k: v.shape for k, v in mine.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    plain.load_state_dict(mine.state_dict())
    x = torch.randn(1, 2, 4, 4)
    for _ in range(2):
        assert torch.equal(mine(x), plain(x))
    assert [type(h) for h in mine._forward_pre_hooks.values()] == [
        type(h) for h in plain._forward_pre_hooks.values()
    ]
    assert parametrize.type_before_parametrizations(mine) is nn.Conv2d


@every
def test_gradients_are_those_of_the_network(how):
    space, x = made(how)
    space.eval()
    for arch in (ARCHS[0], ARCHS[7]):
        network = space.freeze(arch)
        network(x).square().sum().backward()
        with Traced(space.read(arch)) as path:
            space(x).square().sum().backward()
        space.zero_grad()
        with space.activate(arch):
            space(x).square().sum().backward()
        names = {id(p): name for name, p in space.named_parameters()}
        slices = {names[id(part.parameter)]: part for part in path.used}
        for name, parameter in network.named_parameters():
            expected: Any = parameter.grad
            whole: Any = space.get_parameter(name).grad
            if name in slices:
                part: Any = slices[name]
                assert torch.equal(part.leaf.grad, expected), name
                assert torch.equal(part.cut(whole), expected), name
            assert whole.count_nonzero() == expected.count_nonzero(), name


@every
def test_costs_are_those_of_the_network(how):
    space, x = made(how)
    costs: list[tuple[Any, Callable[..., Any]]] = [
        (flops(space, inputs=x), oracle.flops),
        (memory(space, inputs=x), oracle.peak),
        (memory(space, inputs=x, training=True), oracle.kept),
    ]
    count = params(space)
    for arch in ARCHS[::3]:
        assert count.evaluate(arch) == oracle.params(space.freeze(arch))
        for cost, measure in costs:
            value = cost if isinstance(cost, int) else cost.evaluate(arch)
            if measure is oracle.flops:
                # torch's counter leaves out the products of matrices and vectors
                assert value >= measure(space.freeze(arch), x)
            else:
                assert value == measure(space.freeze(arch), x), (measure, arch)


@every
def test_a_mixture_of_one_is_that_architecture(how):
    space, x = made(how)
    space.eval()
    symbols: Any = space.simplify()
    for arch in ARCHS[:4:3]:
        probabilities = {
            label: torch.tensor([float(value == arch[label]) for value in symbol.values])
            for label, symbol in symbols.items()
        }
        with Weighted(probabilities):
            got = space(x)
        assert torch.allclose(got[:, : arch["width"] + 1], space.freeze(arch)(x), atol=1e-5)


@every
def test_it_can_be_copied_and_stored(how):
    space, x = made(how)
    space.eval()
    arch = ARCHS[1]
    with space.activate(arch):
        expected = space(x)
    twin = copy.deepcopy(space)
    with twin.activate(arch):
        assert torch.equal(twin(x), expected)
    other = made(how)[0].eval()
    buffer = io.BytesIO()
    torch.save(space.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer))
    with other.activate(arch):
        assert torch.equal(other(x), expected)
    if parametrize.is_parametrized(space.stem):
        with pytest.raises(RuntimeError, match="cannot be pickled, as torch has it"):
            pickle.dumps(space)
        return
    loaded = pickle.loads(pickle.dumps(space))
    with loaded.activate(arch):
        assert torch.equal(loaded(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(loaded.freeze(arch)))(x), expected)


class Rotated(mnn.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.layer = householder(mnn.MutableLinear(6, Categorical([2, 4], label="w")))

    def forward(self, x: Any) -> Any:
        return self.layer(x)


def test_householder_parametrizations_stay_orthogonal():
    space, x = Rotated(), torch.randn(3, 6)
    for width in (2, 4):
        network: Any = space.freeze({"w": width})
        weight = network.layer.weight
        assert torch.allclose(weight @ weight.T, torch.eye(width), atol=1e-5)
        with space.activate({"w": width}):
            found = space(x)
        assert torch.equal(found, network(x))
        found.sum().backward()
        assert params(space).evaluate({"w": width}) == 6 * width + width
    with pytest.raises(SpaceError, match="nobody knows what aten::linalg_householder"):
        flops(space, (6,))


def test_what_torch_does_not_pickle_is_refused_with_what_to_do():
    with pytest.raises(SpaceError, match=r"MutableLinear with .* weight cannot be pickled.*state_"):
        pickle.dumps(Rotated())
    space = Rotated()
    other = Rotated()
    other.load_state_dict(space.state_dict())
    x = torch.randn(3, 6)
    assert torch.equal(other.freeze({"w": 2})(x), space.freeze({"w": 2})(x))


def test_what_is_taken_off_again_leaves_the_layer_as_it_was():
    width = Categorical([2, 4], label="w")
    x = torch.randn(1, 3)
    for on, off in (
        (nn.utils.weight_norm, nn.utils.remove_weight_norm),
        (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
        (lambda m: prune.identity(m, "weight"), lambda m: prune.remove(m, "weight")),
        (parametrizations.weight_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
    ):
        layer = mnn.MutableLinear(3, width)
        on(layer)
        off(layer)
        assert type(layer) is mnn.MutableLinear
        assert layer.freeze({"w": 2})(x).shape == (1, 2)
        assert layer.freeze({"w": 2}).state_dict().keys() == {"weight", "bias"}


def test_layers_with_plain_arguments_are_reparametrized_as_torch_does():
    for how in HOW.values():
        space = nn.Sequential(how(mnn.MutableConv2d(2, 3, 3)), how(nn.Conv2d(3, 4, 1)))

        class Plain(ModelSpace):
            def __init__(self, body: Any = space) -> None:
                super().__init__()
                self.body = body

            def forward(self, x: Any) -> Any:
                return self.body(x)

        net, x = Plain().eval(), torch.randn(1, 2, 4, 4)
        assert torch.equal(net.freeze({})(x), net(x))


class Broken(ModelSpace):
    def __init__(self, add: Callable[[Any], Any], layer: Any = None) -> None:
        super().__init__()
        width = Categorical([2, 4], label="w")
        self.layer = mnn.MutableLinear(4, width) if layer is None else layer(width)
        add(self.layer)

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(4, 2)), nn.Parameter(torch.zeros(2, 4))

    def forward(self, weight: Any) -> Any:
        return weight + self.a @ self.b


@pytest.mark.parametrize(
    ("add", "says"),
    [
        (parametrizations.orthogonal, r"orthogonal.*use_trivialization=False"),
        (
            lambda m: parametrize.register_parametrization(m, "weight", LowRank()),
            r"'a' of the parametrization LowRank",
        ),
        (
            lambda m: m.register_parameter("gain", nn.Parameter(torch.ones(4))),
            r"the tensor 'gain' of shape \(4,\)",
        ),
        (lambda m: m.register_buffer("table", torch.ones(3, 3)), "the tensor 'table'"),
    ],
)
def test_what_nothing_says_how_to_cut_is_refused_when_the_space_is_built(add, says):
    with pytest.raises(SpaceError, match=f"(?s){says}.*wrap a layer of your own"):
        Broken(add)
    layer = mnn.MutableLinear(4, Categorical([2, 4], label="w"))
    add(layer)
    with pytest.raises(SpaceError, match=f"(?s){says}"):
        layer.freeze({"w": 2})


def test_a_single_number_beside_the_weights_is_the_same_in_every_architecture():
    space = Broken(lambda m: m.register_buffer("seen", torch.tensor([7.0])))
    assert torch.equal(space.freeze({"w": 2}).layer.seen, torch.tensor([7.0]))


def test_weights_of_parts_of_a_layer_are_refused():
    def attention(width: Any) -> Any:
        return mnn.MutableMultiheadAttention(4 * width, 2)

    with pytest.raises(SpaceError, match="its 'out_proj'"):
        Broken(lambda m: parametrizations.weight_norm(m.out_proj), attention)
    with pytest.raises(SpaceError, match="its 'out_proj'"):
        Broken(lambda m: nn.utils.spectral_norm(m.out_proj), attention)
