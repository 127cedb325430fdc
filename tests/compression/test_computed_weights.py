"""Networks whose weights are computed by hooks or parametrizations vary as others do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import nas_space as ns
from tests.compression.architectures import smallest

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


def pruned(layer: Any, name: str = "weight") -> Any:
    return prune.random_unstructured(layer, name, amount=0.4)


def pruned_by_rows(layer: Any, dim: int = 0) -> Any:
    return prune.ln_structured(layer, "weight", 0.3, n=1, dim=dim)


HOW: dict[str, Callable[[Any], Any]] = {
    "weight norm": nn.utils.weight_norm,
    "weight norm along inputs": lambda layer: nn.utils.weight_norm(layer, dim=1),
    "weight norm of all": lambda layer: nn.utils.weight_norm(layer, dim=None),  # type: ignore[arg-type]
    "spectral norm": nn.utils.spectral_norm,
    "spectral norm, parametrized": parametrizations.spectral_norm,
    "weight norm, parametrized": parametrizations.weight_norm,
    "pruning": pruned,
    "structured pruning": pruned_by_rows,
    "pruning of rows, then of columns": lambda layer: pruned_by_rows(pruned_by_rows(layer), 1),
}


def perceptron(how: Callable[[Any], Any]) -> nn.Module:
    return nn.Sequential(
        how(nn.Linear(8, 32)), nn.ReLU(), how(nn.Linear(32, 24, bias=False)), nn.ReLU(),
        how(nn.Linear(24, 4)),
    )  # fmt: skip


class Images(nn.Module):
    """Convolutions of all kinds, and a residual."""

    def __init__(self, how: Callable[[Any], Any]) -> None:
        super().__init__()
        self.stem, self.deep = how(nn.Conv2d(3, 16, 3)), how(nn.Conv2d(16, 16, 3, padding=1))
        self.depthwise = how(nn.Conv2d(16, 16, 3, padding=1, groups=16))
        self.up, self.out = how(nn.ConvTranspose2d(16, 16, 2, 2)), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.depthwise(self.deep(x).relu())
        return self.out(self.up(x).relu())  # type: ignore[no-any-return]


class Tied(nn.Module):
    """An embedding whose weight is read a second time, past its forward."""

    def __init__(self, how: Callable[[Any], Any]) -> None:
        super().__init__()
        self.embed, self.layer = how(nn.Embedding(20, 32)), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(self.embed(x)).relu(), self.embed.weight)


class OwnLinear(nn.Linear):
    """A class of one's own, of which nothing is known but its tensors."""


class OwnTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 24))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def own(how: Callable[[Any], Any]) -> nn.Module:
    return nn.Sequential(
        how(OwnLinear(8, 32)), nn.ReLU(), how(OwnTensor()), nn.ReLU(), nn.Linear(24, 4)
    )


def pruned_globally() -> nn.Module:
    net: Any = perceptron(lambda layer: layer)
    tensors = [(net[0], "weight"), (net[2], "weight"), (net[0], "bias"), (net[4], "weight")]
    prune.global_unstructured(tensors, prune.L1Unstructured, amount=0.5)
    return net  # type: ignore[no-any-return]


def numbers() -> Tensor:
    return torch.randn(160, 8)


def images() -> Tensor:
    return torch.randn(24, 3, 8, 8)


def words() -> Tensor:
    return torch.randint(0, 20, (60, 5))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    **{f"linear, {k}": (partial(perceptron, how), numbers) for k, how in HOW.items()},
    **{
        f"convolutions, {k}": (partial(Images, HOW[k]), images)
        for k in ("weight norm", "spectral norm", "pruning", "pruning of rows, then of columns")
    },
    **{
        f"tied, {k}": (partial(Tied, HOW[k]), words)
        for k in ("weight norm", "pruning", "weight norm, parametrized")
    },
    **{f"own, {k}": (partial(own, HOW[k]), numbers) for k in ("weight norm", "pruning")},
    "pruned globally": (pruned_globally, numbers),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def made(name: str) -> tuple[Any, Tensor, Any]:
    make, data = NETWORKS[name]
    torch.manual_seed(0)
    net, x = make(), data()
    for _ in range(3):  # of the power iteration
        net.train()(x)
    return net.eval(), x, ns.elastic(net, x[:2])


@every_network
def test_each_architecture_runs_as_the_network_that_it_freezes_to(name):
    net, x, space = made(name)
    assert len(space.original) >= 1
    assert list(space.state_dict()) == list(net.state_dict())
    with torch.no_grad():  # what was computed when the space was made is of no use any more
        for parameter in space.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        net.load_state_dict(space.state_dict())
    assert torch.equal(space.freeze(space.original)(x), net(x))
    cost = ns.profiler.params(space)
    for seed in range(4):
        arch = space.sample(seed=seed)
        small = space.freeze(arch)
        assert list(small.state_dict()) == list(net.state_dict())
        assert cost.evaluate(arch) == sum(p.numel() for p in small.parameters())
        shapes = {key: value.shape for key, value in _weights(small).items()}  # before it runs
        with space.activate(arch):
            assert torch.equal(space(x), small(x))
            space(x).square().sum().backward()
        small(x).square().sum().backward()
        assert {key: value.shape for key, value in _weights(small).items()} == shapes


@every_network
def test_a_space_is_sorted_fitted_and_takes_weights_back(name):
    net, x, space = made(name)
    whole = net(x).detach()
    space.sort_channels([x])
    torch.testing.assert_close(space.freeze(space.original)(x), whole, rtol=1e-4, atol=1e-5)
    arch = smallest(space)
    small = space.freeze(arch)
    zero = {key: value == 0 for key, value in _weights(small).items()}
    with torch.no_grad():
        before = (small(x) - whole).square().mean()
        space.refit(small, [x], teacher=net)
        after = (small(x) - whole).square().mean()
    assert after <= before
    if "spectral" not in name:  # of which nothing says how another weight would be computed
        assert after < 0.95 * before
    if "prun" in name:
        for key, value in _weights(small).items():
            assert bool((value[zero[key]] == 0).all())
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(space.absorb(small).freeze(arch)(x), small(x))


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {
        path: module.weight.detach().clone()
        for path, module in net.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor)
    }


@every_network
def test_the_network_is_left_as_it_was_and_its_computed_tensors_with_their_graph(name):
    make, data = NETWORKS[name]
    net, x = make().train(), data()
    net(x)
    before = {id(module): dict(vars(module)) for module in net.modules()}
    net.eval()
    space = ns.elastic(net, x[:2])
    assert torch.equal(space.freeze(space.original)(x), net(x))
    net.train()
    for module in net.modules():
        hooks = [type(hook) for hook in module._forward_pre_hooks.values()]
        known = before[id(module)]
        assert hooks == [type(hook) for hook in known["_forward_pre_hooks"].values()]
        assert vars(module).keys() == known.keys()


@pytest.mark.parametrize("by", ["magnitude", "activation", "taylor"])
def test_channels_that_were_pruned_come_last(by):
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    mask = torch.ones(16)
    mask[[0, 1, 3, 5, 6, 9, 12, 15]] = 0
    with torch.no_grad():  # far from what a plain order would think little of
        net[0].weight[mask == 0] *= 10
        net[2].weight[:, mask == 0] *= 10
    prune.custom_from_mask(net[0], "weight", mask[:, None].expand(16, 4))
    prune.custom_from_mask(net[0], "bias", mask)
    prune.custom_from_mask(net[2], "weight", mask.expand(2, 16))
    x = torch.randn(32, 4)
    space = ns.elastic(net, x).sort_channels([x], by=by)
    torch.testing.assert_close(space.freeze({"0.width": 8})(x), net(x))


def test_it_may_be_pruned_again_and_made_plain_as_a_space():
    torch.manual_seed(0)
    net: Any = pruned_globally().eval()
    x = numbers()
    space: Any = ns.elastic(net, x)
    pruned(space[0])
    prune.remove(space[2], "weight")
    arch = smallest(space)
    small: Any = space.freeze(arch)
    with space.activate(arch):
        assert torch.equal(space(x), small(x))
    assert "weight" in small[2].state_dict()
    assert float((small[0].weight == 0).float().mean()) > 0.5


@pytest.mark.parametrize("how", [nn.utils.weight_norm, pruned])
def test_a_recurrent_layer_of_which_weights_are_computed_is_fixed_with_the_reason(how):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.cells = nn.Linear(8, 16), nn.LSTM(16, 32, batch_first=True)
            how(self.cells, "weight_hh_l0")
            self.up, self.out = nn.Linear(32, 48), nn.Linear(48, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.up(self.cells(self.first(x))[0]).relu())  # type: ignore[no-any-return]

    torch.manual_seed(0)
    net, x = Recurrent().eval(), torch.randn(3, 5, 8)
    space = ns.elastic(net, x)
    assert set(space.original) == {"up.width"}
    assert "torch keeps the weights of cells in one list" in str(space.groups())
    small = space.freeze({"up.width": 24})
    with space.activate({"up.width": 24}):
        assert torch.equal(space(x), small(x))


def test_a_tensor_that_an_attribute_holds_as_well_is_fixed_with_the_reason():
    class Penalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 24)
            self.out = nn.Linear(24, 4)
            self.penalised = {"first": [self.first.weight]}

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.second(self.first(x).relu()).relu())  # type: ignore[no-any-return]

    space = ns.elastic(Penalised().eval(), torch.randn(2, 8))
    assert set(space.original) == {"second.width"}
    assert "first.weight is held by the attribute penalised as well" in str(space.groups())
    small = space.freeze({"second.width": 16})
    assert small.penalised["first"][0] is small.first.weight


def test_a_list_that_holds_itself_is_looked_through_once():
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    net.notes = ["all", {"first": net[0].weight}]  # type: ignore[assignment]
    net.notes.append(net.notes)  # type: ignore[union-attr, operator]
    space = ns.elastic(net, torch.randn(2, 8))
    assert "0.weight is held by the attribute notes as well" in str(space.groups())


@pytest.mark.parametrize("how", ["weight norm", "weight norm, parametrized", "pruning"])
def test_a_kernel_of_a_weight_that_is_computed_is_fixed_with_the_reason(how):
    net = nn.Sequential(HOW[how](nn.Conv2d(3, 16, 5, padding=2)), nn.ReLU(), nn.Conv2d(16, 2, 1))
    space = ns.elastic(net.eval(), torch.randn(2, 3, 8, 8), kernels=True)
    assert "0.kernel" not in space.original
    assert "0.kernel: 5, fixed: its weight is computed from others" in str(space.groups())
