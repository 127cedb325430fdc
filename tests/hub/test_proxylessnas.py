"""ProxylessNAS against networks written by hand and published figures."""

from __future__ import annotations

import pickle
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_space.errors import SampleValidationError, UsageError
from nas_space.hub import ProxylessNAS
from nas_space.hub.published import published_in
from nas_space.mutable import make_divisible
from tests.reference_networks import (
    BASE_WIDTHS,
    CANDIDATES,
    MAX_DEPTHS,
    ProxylessModules,
    ProxylessNetwork,
    initialise,
    random_architecture,
)

PROXYLESSNAS = published_in("ProxylessNAS")

ARCHITECTURES = [random_architecture(Random(seed)) for seed in range(5)]

# Parameters, and multiply-adds of convolutions and linear layers for one image of 224 by 224.
# The first four: published (github.com/mit-han-lab/proxylessnas) and recomputed.
FIGURES = {
    "proxyless-cpu": (4_361_648, 439_243_864),
    "proxyless-gpu": (7_119_848, 465_260_160),
    "proxyless-mobile": (4_080_512, 320_427_584),
    "acenas-m1": (4_093_864, 327_351_872),
}

SMALL: dict[str, Any] = {"num_labels": 5, "width_mult": 0.25}


@pytest.fixture(scope="module")
def space() -> ProxylessNAS:
    torch.manual_seed(0)
    return ProxylessNAS(**SMALL)


def by_hand(architecture: Any, **options: Any) -> ProxylessNetwork:
    widths = [make_divisible(width * 0.25, 8) for width in BASE_WIDTHS]
    return ProxylessNetwork(architecture, 5, widths, **options)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(batch))


# -- the space --------------------------------------------------------------------------------


def test_labels_and_candidates_are_those_of_the_paper(space: ProxylessNAS) -> None:
    symbols: dict[str, Any] = space.symbols()
    expected: dict[str, list[Any]] = {}
    for stage, depth in MAX_DEPTHS.items():
        if depth > 1:
            expected[f"s{stage}_depth"] = list(range(1, depth + 1))
        expected |= {f"s{stage}_i{index}": sorted(CANDIDATES) for index in range(depth)}
    assert {name: sorted(symbol.values) for name, symbol in symbols.items()} == expected


def test_the_whole_space_has_the_modules_of_one_written_by_hand(space: ProxylessNAS) -> None:
    hand = ProxylessModules(5, [make_divisible(width * 0.25, 8) for width in BASE_WIDTHS])
    shapes = {key: value.shape for key, value in space.state_dict().items()}
    assert shapes == {key: value.shape for key, value in hand.state_dict().items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_a_network_is_the_one_written_by_hand(
    space: ProxylessNAS, architecture: Any, mode: bool
) -> None:
    frozen = space.train(mode).freeze(architecture)
    hand = by_hand(architecture).train(mode)
    assert list(frozen.state_dict()) == list(hand.state_dict())
    hand.load_state_dict(frozen.state_dict())
    x = images()
    y = hand(x)
    assert torch.equal(frozen(x), y)
    fresh = ProxylessNAS.frozen_factory(architecture)(**SMALL).train(mode)
    fresh.load_state_dict(space.freeze(architecture).state_dict())
    assert torch.equal(fresh(x), y)
    assert all(torch.equal(a, b) for a, b in zip(frozen.buffers(), hand.buffers(), strict=True))


def test_the_active_path_is_that_of_the_whole_space_by_hand(space: ProxylessNAS) -> None:
    hand = ProxylessModules(5, [make_divisible(width * 0.25, 8) for width in BASE_WIDTHS]).eval()
    hand.load_state_dict(space.eval().state_dict())
    for architecture in ARCHITECTURES:
        with space.activate(architecture), torch.no_grad():
            assert torch.equal(space(images()), hand.path(architecture)(images()))


def test_weights_are_drawn_as_by_hand() -> None:
    """Only the last initialisation counts: the same standard deviations, exact constants."""
    torch.manual_seed(0)
    network = ProxylessNAS.frozen_factory(ARCHITECTURES[0])()
    hand = ProxylessNetwork(ARCHITECTURES[0])
    for (name, mine), its in zip(network.named_parameters(), hand.parameters(), strict=True):
        if mine.dim() < 2:
            assert torch.equal(mine, its), name
        elif mine.numel() > 10_000:
            assert abs(mine.std() / its.std() - 1) < 0.05, name
            assert abs(mine.mean()) < 0.05 * its.std(), name
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), hand.buffers(), strict=True))


def test_nothing_is_left_uninitialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of the hub are built blank; what is not set would show."""
    real = torch.empty

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        made = real(*args, **kwargs)
        return made.fill_(float("nan")) if made.is_floating_point() and not made.is_meta else made

    monkeypatch.setattr(torch, "empty", poisoned)
    for network in (
        ProxylessNAS(**SMALL),
        ProxylessNAS.frozen_factory(ARCHITECTURES[0])(**SMALL),
    ):
        assert not any(t.isnan().any() for t in (*network.parameters(), *network.buffers()))


def test_options_reach_the_layers() -> None:
    space = ProxylessNAS(7, dropout_rate=0.25, width_mult=0.5, bn_eps=1e-2, bn_momentum=0.3)
    norms = [m for m in space.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-2, 0.3)}
    network: Any = space.random(seed=0)
    assert network.dropout_layer.p == 0.25
    assert network.classifier.weight.shape == (7, 640)
    assert network.stem[0].out_channels == 16


@pytest.mark.parametrize(
    "widths",
    [BASE_WIDTHS, list(BASE_WIDTHS), np.array(BASE_WIDTHS), tuple(map(float, BASE_WIDTHS))],
)
def test_base_widths_are_any_sequence_of_whole_numbers(widths: Any) -> None:
    if isinstance(widths[0], float):
        with pytest.raises(UsageError, match="9 positive whole numbers"):
            ProxylessNAS(base_widths=widths, width_mult=0.1)
    else:
        assert ProxylessNAS(base_widths=widths, width_mult=0.1).stem[0].out_channels == 8


@pytest.mark.parametrize(
    "widths", [BASE_WIDTHS[:8], (*BASE_WIDTHS, 1), (0,) * 9, (-8,) * 9, 3, "a" * 9]
)
def test_wrong_base_widths_are_refused(widths: Any) -> None:
    with pytest.raises(UsageError, match="base_widths are 9 positive whole numbers"):
        ProxylessNAS(base_widths=widths)


def test_no_weight_decay_names_the_classifier_of_frozen_networks_too(space: ProxylessNAS) -> None:
    networks: list[Any] = [space, space.random(seed=0)]
    for module in (*networks, ProxylessNAS.load_searched_model("acenas-m1")):
        assert module.no_weight_decay() == {"classifier.weight", "classifier.bias"}
        assert module.no_weight_decay() <= dict(module.named_parameters()).keys()


def test_the_space_pickles(space: ProxylessNAS) -> None:
    other = pickle.loads(pickle.dumps(space))
    assert other.sample(3, seed=0)[2] == space.sample(3, seed=0)[2]


# -- published architectures ------------------------------------------------------------------


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures_are_met_exactly(name: str) -> None:
    network = ProxylessNAS.load_searched_model(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    parameters = sum(p.numel() for p in network.parameters())
    assert (parameters, counter.get_total_flops() // 2) == FIGURES[name]


@pytest.mark.parametrize("name", sorted(PROXYLESSNAS))
def test_published_architectures_freeze_as_they_are(name: str) -> None:
    published = PROXYLESSNAS[name]
    assert published.architecture["s7_depth"] == 1
    network = ProxylessNAS.load_searched_model(name)
    architecture = {k: v for k, v in published.architecture.items() if k != "s7_depth"}
    assert network.architecture == architecture
    widths = published.arguments.get("base_widths", BASE_WIDTHS)
    hand = ProxylessNetwork(published.architecture, widths=widths, initialised=False)
    hand.load_state_dict(network.state_dict())
    space = ProxylessNAS(width_mult=0.25, **published.arguments)
    assert space.freeze(published.architecture).architecture == architecture


def test_the_retired_label_has_one_value(space: ProxylessNAS) -> None:
    for build in (space.freeze, lambda arch: ProxylessNAS.frozen_factory(arch)(**SMALL)):
        with pytest.raises(SampleValidationError, match="'s7_depth' is retired and can only be 1"):
            build({**ARCHITECTURES[0], "s7_depth": 2})
        with pytest.raises(
            SampleValidationError, match=r"no label 's8_depth' \(did you mean 's._depth'"
        ):
            build({**ARCHITECTURES[0], "s8_depth": 1})


def test_options_go_with_published_architectures() -> None:
    network = ProxylessNAS.load_searched_model("proxyless-gpu", num_labels=3, dropout_rate=0.5)
    assert network.classifier.weight.shape == (3, 1728)
    assert network.dropout_layer.p == 0.5


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="proxyless-mobil") as caught:
        ProxylessNAS.load_searched_model("proxyless-mobil")
    assert isinstance(caught.value, UsageError)
    assert "did you mean 'proxyless-mobile'" in str(caught.value)
    assert all(name in str(caught.value) for name in PROXYLESSNAS)
    assert len(PROXYLESSNAS) == 6


def test_initialising_by_hand_and_here_agree_on_a_given_network() -> None:
    """`reset_parameters` draws in the same order, so the same seed gives the same weights."""
    from nas_space.hub import reset_parameters

    one, other = by_hand(ARCHITECTURES[0]), by_hand(ARCHITECTURES[0])
    torch.manual_seed(5)
    initialise(one)
    torch.manual_seed(5)
    reset_parameters(other, bn_eps=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
