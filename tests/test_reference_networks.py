"""The networks written by hand are what others are compared with, so they are checked first."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_space.hub.published import published_in
from tests.reference_networks import (
    BASE_WIDTHS,
    CANDIDATES,
    MAX_DEPTHS,
    InvertedResidual,
    ProxylessModules,
    ProxylessNetwork,
    random_architecture,
)

PROXYLESSNAS = published_in("ProxylessNAS")


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("acenas-m1", 4_093_864, 327_351_872),
        ("proxyless-cpu", 4_361_648, 439_243_864),
        ("proxyless-gpu", 7_119_848, 465_260_160),
        ("proxyless-mobile", 4_080_512, 320_427_584),
    ],
)
def test_published_parameters_and_macs_are_met_exactly(
    name: str, parameters: int, macs: int
) -> None:
    published = PROXYLESSNAS[name]
    widths = published.arguments.get("base_widths", BASE_WIDTHS)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = ProxylessNetwork(published.architecture, widths=widths)
        network(torch.empty(1, 3, 224, 224))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs


def test_weights_are_drawn_by_fan_out() -> None:
    network = ProxylessNetwork(PROXYLESSNAS["proxyless-mobile"].architecture)
    mix, linear = network.get_parameter("feature_mix_layer.0.weight"), network.classifier
    assert mix.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not linear.bias.any()


@pytest.mark.parametrize(("out_channels", "stride"), [(8, 1), (16, 1), (8, 2)])
def test_a_block_adds_its_input_where_the_shape_stays(out_channels: int, stride: int) -> None:
    block = InvertedResidual(8, out_channels, 3, 3, stride, nn.BatchNorm2d)
    nn.init.zeros_(block.get_parameter("7.weight"))
    x = torch.randn(2, 8, 4, 4)
    y = block(x)
    assert torch.equal(y, x if (out_channels, stride) == (8, 1) else torch.zeros_like(y))


def test_a_path_through_all_modules_is_the_network_with_its_weights() -> None:
    every = ProxylessModules(num_labels=5)
    architecture = random_architecture(Random(3))
    network, path = ProxylessNetwork(architecture, num_labels=5), every.path(architecture)
    tensors = path.state_dict().values()
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(path(x), network(x))
    assert torch.equal(path.eval()(x), network.eval()(x))


def test_random_architectures_hold_active_labels_only_and_reach_every_value() -> None:
    rng = Random(0)
    seen: dict[str, set[int | str]] = {}
    for _ in range(500):
        architecture = random_architecture(rng)
        for stage, max_depth in MAX_DEPTHS.items():
            depth = architecture.get(f"s{stage}_depth", 1)
            blocks = [label for label in architecture if label.startswith(f"s{stage}_i")]
            assert blocks == [f"s{stage}_i{index}" for index in range(int(depth))]
            assert int(depth) <= max_depth
        for label, value in architecture.items():
            seen.setdefault(label, set()).add(value)
    assert len(seen) == 5 + 21
    for label, values in seen.items():
        assert values == ({1, 2, 3, 4} if label.endswith("depth") else set(CANDIDATES))
