"""Once-for-all's spaces, and configurations of networks as others publish them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import nas_space as ns
from nas_space.errors import CheckpointError, UsageError
from nas_space.hub import (
    OFAMobileNetV3Space,
    OFAResNetSpace,
    ProxylessNAS,
    ShuffleNetSpace,
    read_configuration,
    write_configuration,
)

# What once-for-all's code says of three random networks of its spaces.
CONFIGURATIONS = json.loads((Path(__file__).parent / "configurations.json").read_text())
SPACES = {
    "ProxylessNASNets": ProxylessNAS,
    "MobileNetV3": OFAMobileNetV3Space,
    "ResNets": OFAResNetSpace,
}


def config_of(name: str) -> Any:
    return copy.deepcopy(CONFIGURATIONS[name])


def without_standardisation(config: Any) -> Any:
    config["bn"].pop("ws_eps")
    return config


def test_there_are_as_many_networks_as_the_paper_says():
    # arXiv 1908.09791, section 3.2: ((3 × 3)² + (3 × 3)³ + (3 × 3)⁴)⁵, about 2 × 10¹⁹.
    space = OFAMobileNetV3Space()
    assert space.count() == (9**2 + 9**3 + 9**4) ** 5
    assert OFAMobileNetV3Space(resolutions=(128, 224)).count() == 2 * space.count()


def test_the_resolution_is_chosen_and_decides_what_a_network_costs():
    space = OFAMobileNetV3Space(10, 0.25, depths=(1, 1), resolutions=(32, 64)).eval()
    macs = ns.profiler.macs(space, (3, 64, 64))
    arch = dict(space.sample(seed=0))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    small, large = (space.freeze(arch | {"resolution": size}) for size in (32, 64))
    assert torch.equal(
        small(x),
        small(torch.nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True)),
    )
    assert not torch.equal(small(x), large(x))
    costs = [macs.evaluate(arch | {"resolution": size}) for size in (32, 64)]
    assert 3 < costs[1] / costs[0] <= 4


def test_a_resnet_50_d_is_in_the_space_and_costs_what_it_costs():
    arch: dict[str, Any] = {f"s{k}_depth": depth for k, depth in enumerate((3, 4, 6, 3), start=1)}
    arch |= {f"s{k}_width": 1.0 for k in range(1, 5)}
    arch |= {f"s{k}_i{i}_exp": 0.25 for k in range(1, 5) for i in range(arch[f"s{k}_depth"])}
    arch |= {"stem_depth": 1, "stem_width": 1.0, "stem_out_width": 1.0}
    network = OFAResNetSpace.frozen_factory(arch)()
    # ResNet-50 of torch has 25,557,032; the stem of 3 × 3 convolutions has 19,232 more.
    assert sum(parameter.numel() for parameter in network.parameters()) == 25_576_264


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_are_read_and_written(name):
    config = config_of(name)
    found = read_configuration(config)
    assert found.space is SPACES[name]
    network = found.network()
    assert write_configuration(network) == without_standardisation(config)
    blocks = [layer.get("conv", layer) for layer in config["blocks"]]
    assert sum(found.architecture.get(f"s{k}_depth", 0) for k in range(8)) in (
        len(blocks) - 1,
        len(blocks) - 2,  # the last stage of ProxylessNAS has one block
        len(blocks),
    )


def test_a_file_is_read_and_what_the_search_left_out_is_none(tmp_path):
    config = config_of("ProxylessNASNets")
    expected = read_configuration(config)
    skipped = {"conv": {"name": "ZeroLayer", "stride": 1}, "shortcut": {"name": "IdentityLayer"}}
    config["blocks"].insert(2, {"name": "MobileInvertedResidualBlock", **skipped})
    for block in config["blocks"]:  # the name of ProxylessNAS's own files
        block["mobile_inverted_conv"] = block.pop("conv")
    (tmp_path / "net.config").write_text(json.dumps(config))
    assert read_configuration(tmp_path / "net.config") == expected


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_weights_are_given_by_order_if_every_shape_agrees(name):
    found = read_configuration(config_of(name))
    theirs = found.network()
    weights = {f"layer{i}": tensor for i, tensor in enumerate(theirs.state_dict().values())}
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(found.network(weights).eval()(x), theirs.eval()(x))
    weights.popitem()
    with pytest.raises(CheckpointError, match="no weights of this network"):
        found.network(weights)


def test_published_architectures_survive_a_round_trip():
    for published in ProxylessNAS.published.values():
        network = ProxylessNAS.frozen_factory(published.architecture)(**published.arguments)
        again = read_configuration(write_configuration(network))
        retired = {"s7_depth"}
        assert again.architecture.keys() | retired == published.architecture.keys() | retired
        assert again.architecture.items() <= published.architecture.items()


@pytest.mark.parametrize("kind", [OFAMobileNetV3Space, OFAResNetSpace])
def test_random_architectures_survive_a_round_trip(kind):
    space = kind(num_labels=3)
    for arch in space.sample(3, seed=0):
        config = write_configuration(space.freeze(arch))
        again = read_configuration(config)
        # Two factors on the narrow stem are rounded to one width.
        assert {k: v for k, v in again.architecture.items() if k != "stem_width"} == {
            k: v for k, v in arch.items() if k != "stem_width"
        }
        assert write_configuration(again.network()) == config


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("MobileNetV3", ("blocks", 3, "conv", "kernel_size"), 9, "_ks"),
        ("MobileNetV3", ("blocks", 3, "conv", "act_func"), "tanh", "block 3 has act_func 'tanh'"),
        ("MobileNetV3", ("blocks", 3, "conv", "use_se"), None, None),
        ("MobileNetV3", ("blocks", 2, "shortcut"), None, "block 2 has shortcut False"),
        ("MobileNetV3", ("blocks", 2, "conv", "in_channels"), 8, "block 2 has in_channels 8"),
        ("MobileNetV3", ("blocks", 2, "conv", "groups"), 3, "must be depthwise"),
        ("MobileNetV3", ("blocks", 1, "conv", "stride"), 1, "stride 1"),
        ("ProxylessNASNets", ("blocks", 1, "conv", "kernel_size"), 9, "s2_i0"),
        ("ProxylessNASNets", ("blocks", 1, "conv"), 5, "looks like"),
        ("ProxylessNASNets", ("blocks",), [], "looks like"),
        ("ProxylessNASNets", ("classifier",), {}, "looks like"),
        ("ProxylessNASNets", ("classifier", "dropout_rate"), 5, "looks like"),
        ("ProxylessNASNets", ("classifier", "out_features"), "10", "looks like"),
        ("ProxylessNASNets", ("bn", "momentum"), "much", "looks like"),
        ("ResNets", ("blocks", 0, "out_channels"), 250, "stage 1 is 250 wide"),
        ("ResNets", ("blocks", 1, "groups"), 2, "block 1 of stage 1 has groups=2"),
        ("ResNets", ("blocks", 1, "expand_ratio"), 0.5, "s1_i1_exp"),
        ("ResNets", ("input_stem",), [], "has 2 or 3 layers"),
        ("ResNets", ("name",), "VGG", "'VGG'"),
    ],
)
def test_a_network_that_no_space_has_is_refused_with_the_layer(name, path, value, told):
    config = config_of(name)
    *keys, last = path
    entry = config
    for key in keys:
        entry = entry[key]
    entry[last] = value
    if told is None:
        assert read_configuration(config) is not None
        return
    with pytest.raises((UsageError, ns.errors.SampleValidationError), match=told) as refused:
        read_configuration(config)
    assert "UsageError" not in str(refused.value)


@pytest.mark.parametrize("config", [{}, [], None, "no such file", {"name": 3}])
def test_what_is_no_configuration_is_refused(config: Any):
    with pytest.raises(UsageError, match="configuration"):
        read_configuration(config)


def test_only_networks_of_these_spaces_are_written():
    with pytest.raises(UsageError, match="still to be decided"):
        write_configuration(OFAMobileNetV3Space(width_mult=0.25))
    network = ShuffleNetSpace(10, stage_depths=(1, 1, 1, 1)).random(seed=0)
    with pytest.raises(UsageError, match="not of a ShuffleNetSpace"):
        write_configuration(network)
