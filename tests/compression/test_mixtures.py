"""One-shot strategies on elastic spaces: a mixture is exact, or refused before anything moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import nas_space as ns
from nas_space.errors import SpaceError
from nas_space.nn.decisions import Gated, Weighted
from nas_space.training import Task
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import run

EXACT = (
    "ResNet", "UNet", "DenseNet", "Inception", "nn.LSTM", "BERT", "ViT", "Llama", "ConvNeXt",
    "nn.TransformerEncoder",
)  # fmt: skip
REFUSED = {"GPT-2": "plain numbers|combinations"}
SLOW = {"BERT", "ViT", "Llama", "GPT-2", "ConvNeXt", "DenseNet", "UNet", "Inception"}


def _marked(names: Any) -> list[Any]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


def double(name: str) -> tuple[Any, Any]:
    try:
        net, inputs = NETWORKS[name]()
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")
    net.double()
    inputs = tree_map(lambda t: t.double() if t.is_floating_point() else t, inputs)
    return ns.elastic(net, inputs), inputs


@pytest.mark.parametrize("name", _marked(EXACT))
def test_a_certain_mixture_is_its_architecture(name):
    space, inputs = double(name)
    symbols = space.symbols()
    for seed in range(2):
        arch = space.original | space.sample(seed=seed)
        codes = {label: symbol.code(arch[label]) for label, symbol in symbols.items()}
        certain = {
            label: torch.eye(symbol.size, dtype=torch.double)[codes[label]]
            for label, symbol in symbols.items()
        }
        logits = {label: torch.zeros_like(p).requires_grad_() for label, p in certain.items()}
        pairs = {label: (code, (code + 1) % symbols[label].size) for label, code in codes.items()}
        with space.activate(arch):
            wanted = run(space, inputs)
        with Weighted(certain):
            weighted = run(space, inputs)
        with Gated(logits, pairs):
            gated = run(space, inputs)
        for mixed in (weighted, gated):
            for ours, theirs in zip(mixed, wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", _marked(REFUSED))
def test_what_cannot_be_mixed_is_refused_by_name(name):
    space, inputs = double(name)
    uniform = {
        label: torch.full((symbol.size,), 1 / symbol.size, dtype=torch.double)
        for label, symbol in space.symbols().items()
    }
    with pytest.raises(SpaceError, match=REFUSED[name]), Weighted(uniform):
        run(space, inputs)


class Perceptron(nn.Module):
    """A perceptron with residual blocks, as a mixer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 32)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
            for _ in range(2)
        )
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)  # type: ignore[no-any-return]


class Doubled(nn.Module):
    """Puts a shape together from sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        return self.head(y.view(x.size()[:-1] + (y.size(-1),)))  # type: ignore[no-any-return]  # noqa: RUF005


class Silenced(nn.Module):
    """Changes some channels in place, which a mixture cannot do for each width by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        y[:, :1] = 0.0
        return self.head(y)  # type: ignore[no-any-return]


def labelled() -> Task:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long() + (x[:, 0] > 1).long())
    return Task.classification(data, validation=data, batch_size=16)


STRATEGIES = ("DARTS", "GumbelDARTS", "Proxyless")


@pytest.mark.parametrize(
    ("strategy", "kind"), [*((name, Perceptron) for name in STRATEGIES), ("DARTS", Doubled)]
)
def test_strategies_that_mix_train_an_elastic_space(strategy, kind):
    torch.manual_seed(0)
    net = kind().eval()
    space = ns.elastic(net, torch.ones(1, 6))
    before = space.state_dict()["enter.weight"].clone()
    found = ns.search(space, labelled(), strategy=strategy, steps=3, seed=0)
    arch = found.best()
    small: Any = space.freeze(arch)
    assert type(small) is kind
    assert not torch.equal(space.state_dict()["enter.weight"], before)
    x = torch.randn(4, 6)
    with torch.no_grad(), space.activate(arch):
        assert torch.equal(space(x), small(x))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_cannot_mix_a_network_is_refused_before_its_first_step(strategy):
    space = ns.elastic(Silenced().eval(), torch.ones(1, 6))
    before = {key: value.clone() for key, value in space.state_dict().items()}
    with pytest.raises(SpaceError, match="RandomOneShot"):
        ns.search(space, labelled(), strategy=strategy, steps=3, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in space.state_dict().items())
