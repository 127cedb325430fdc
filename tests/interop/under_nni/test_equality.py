"""The same architecture with the same weights computes the same here and in NNI, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nni.mutable import Categorical as NNICategorical
from nni.mutable import SampleValidationError as NNISampleValidationError
from nni.nas.hub import pytorch as theirs
from torch import nn

from nas_space import hub as ours
from nas_space.errors import SampleValidationError
from nas_space.hub.published import published_in

SMALL: dict[str, Any] = {"num_labels": 10, "width_mult": 0.25}
REFUSED_BY_NNI = {"cream-481", "cream-604"} | {
    f"mobilenetv3-small-{width}" for width in ("050", "075", "100")
}


def images(batch: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


def assert_same(mine: nn.Module, other: nn.Module) -> None:
    """Given the weights of the other, the network computes the same in both modes."""
    mine.load_state_dict(other.state_dict())
    x = images()
    for mode in (True, False):
        mine.train(mode)
        other.train(mode)
        with torch.no_grad():
            torch.manual_seed(0)  # dropout
            expected = other(x)
            torch.manual_seed(0)
            assert torch.equal(mine(x), expected)
    # Training mode has updated the statistics of both.
    after = other.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in mine.state_dict().items())


def without_first_skip(network: Any) -> nn.Module:
    """NNI leaves out stage 0's residual connection where widths are chosen."""
    network.blocks[0].has_skip = False
    return network  # type: ignore[no-any-return]


# -- ProxylessNAS -----------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_random_networks_of_proxylessnas(start: int) -> None:
    batch = ours.ProxylessNAS(**SMALL).sample(100, seed=0)
    for index in range(start, start + 20):
        arch = batch[index]
        mine = ours.ProxylessNAS.frozen_factory(arch)(**SMALL)
        assert_same(mine, theirs.ProxylessNAS.frozen_factory(arch)(**SMALL))


@pytest.mark.parametrize("name", published_in("ProxylessNAS"))
def test_published_networks_of_proxylessnas(name: str) -> None:
    mine = ours.ProxylessNAS.load_searched_model(name)
    assert_same(mine, theirs.ProxylessNAS.load_searched_model(name))


def test_a_network_frozen_out_of_the_space_is_nnis_too() -> None:
    space = ours.ProxylessNAS(**SMALL)
    arch = space.sample(seed=1)
    assert_same(space.freeze(arch), theirs.ProxylessNAS.frozen_factory(arch)(**SMALL))


# -- ShuffleNetSpace ---------------------------------------------------------------------------


@pytest.mark.parametrize("channel_search", [False, True])
def test_random_networks_of_shufflenet(channel_search: bool) -> None:
    arguments: dict[str, Any] = {"num_labels": 10, "channel_search": channel_search}
    space: Any = ours.ShuffleNetSpace(**arguments)
    assert {label: list(symbol.values) for label, symbol in space.symbols().items()} == {
        label: list(symbol.values)
        for label, symbol in theirs.ShuffleNetSpace(**arguments).simplify().items()
    }
    for arch in space.sample(5, seed=0):
        other = theirs.ShuffleNetSpace.frozen_factory(arch)(**arguments)
        assert list(other.state_dict()) == list(space.freeze(arch).state_dict())
        assert_same(space.freeze(arch), other)


def test_published_network_of_shufflenet() -> None:
    mine = ours.ShuffleNetSpace.load_searched_model("spos")
    assert_same(mine, theirs.ShuffleNetSpace.load_searched_model("spos"))


# -- AutoFormer and the NASNet family ------------------------------------------------------------


def test_random_networks_of_autoformer() -> None:
    arguments: dict[str, Any] = {
        "search_embed_dim": (16, 24),
        "search_num_heads": (1, 2),
        "search_depth": (1, 2),
        "img_size": 32,
        "patch_size": 8,
        "num_labels": 10,
        "drop_path_rate": 0.0,  # drawn by another function
    }
    space = ours.AutoformerSpace(**arguments)
    known = theirs.AutoFormer(**arguments).simplify()
    domains = {label: list(symbol.values) for label, symbol in space.symbols().items()}
    assert domains == {label: list(symbol.values) for label, symbol in known.items()}
    for arch in space.sample(5, seed=0):
        full = {label: values[0] for label, values in domains.items()} | dict(arch)
        other = theirs.AutoFormer.frozen_factory(full)(**arguments)
        assert list(other.state_dict()) == list(space.freeze(arch).state_dict())
        assert_same(space.freeze(arch), other)


@pytest.mark.parametrize("name", ["DARTS", "NASNet", "ENAS", "AmoebaNet", "PNAS"])
def test_random_networks_of_the_nasnet_family(name: str) -> None:
    arguments: dict[str, Any] = {"width": 8, "num_cells": 3, "dataset": "cifar"}
    mine, other = getattr(ours, f"{name}Space"), getattr(theirs, name)
    space = mine(**arguments)
    domains = {label: list(symbol.values) for label, symbol in space.symbols().items()}
    known = other(**arguments).simplify()
    assert domains == {label: list(symbol.values) for label, symbol in known.items()}
    for arch in space.sample(3, seed=0):
        network = other.frozen_factory(dict(arch))(**arguments)
        assert list(network.state_dict()) == list(space.freeze(arch).state_dict())
        assert_same(space.freeze(arch), network)


# -- MobileNetV3Space -------------------------------------------------------------------------


def test_random_networks_of_mobilenetv3() -> None:
    batch = ours.MobileNetV3Space(num_labels=10).sample(15, seed=0)
    for arch in batch:
        mine = without_first_skip(ours.MobileNetV3Space.frozen_factory(arch)(num_labels=10))
        assert_same(mine, theirs.MobileNetV3Space.frozen_factory(arch)(num_labels=10))


@pytest.mark.parametrize("name", sorted(set(published_in("MobileNetV3Space")) - REFUSED_BY_NNI))
def test_published_networks_of_mobilenetv3(name: str) -> None:
    mine = ours.MobileNetV3Space.load_searched_model(name)
    assert_same(mine, theirs.MobileNetV3Space.load_searched_model(name))


@pytest.mark.parametrize("name", sorted(REFUSED_BY_NNI))
def test_nni_refuses_published_networks_that_are_deeper_than_its_depth_range(name: str) -> None:
    with pytest.raises(NNISampleValidationError):
        theirs.MobileNetV3Space.load_searched_model(name)
    assert ours.MobileNetV3Space.load_searched_model(name) is not None


# -- where NNI is wrong -----------------------------------------------------------------------


def test_nni_loses_the_eps_of_batch_norms_when_it_freezes_an_elastic_space() -> None:
    """It makes elastic layers anew, with default arguments, after the space has set eps.

    `frozen_factory` keeps the eps, so NNI's two ways to one architecture do not agree.  Ours do.
    """

    def eps(network: nn.Module) -> set[float]:
        return {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)}

    mine, other = ours.MobileNetV3Space(), theirs.MobileNetV3Space()
    arch = mine.sample(seed=0)
    assert eps(theirs.MobileNetV3Space.frozen_factory(arch)()) == {1e-3}
    full = {name: symbol.default() for name, symbol in other.simplify().items()} | arch
    assert eps(other.freeze(full)) == {1e-5}
    assert eps(mine.freeze(arch)) == eps(ours.MobileNetV3Space.frozen_factory(arch)()) == {1e-3}


def block_with_residual(width: int) -> tuple[nn.Module, nn.Module]:
    """A stage that keeps its width and size, where the two widths are equal but two objects."""
    again = int(str(width))
    return (
        ours.InvertedResidual(width, again, 3),
        theirs.proxylessnas.InvertedResidual(width, again, 3),
    )


def test_nni_decides_residuals_by_identity() -> None:
    """Equal integers are one object up to 256 in CPython, and two from there on."""
    mine, other = block_with_residual(256)
    assert mine.has_skip
    assert other.has_skip
    mine, other = block_with_residual(264)
    assert mine.has_skip
    assert not other.has_skip


def test_nni_takes_inactive_and_unknown_labels_for_granted() -> None:
    """Ours checks labels that are not active and drops them, and refuses unknown ones."""
    arch = ours.ProxylessNAS(**SMALL).sample(seed=0) | {"s2_depth": 1, "s2_i0": "k3e3"}
    dead = arch | {"s2_i3": "no such block"}
    unknown = arch | {"s2_i9": "k3e3"}
    for wrong in (dead, unknown):
        assert theirs.ProxylessNAS.frozen_factory(wrong)(**SMALL) is not None
        with pytest.raises(SampleValidationError, match="s2_i"):
            ours.ProxylessNAS.frozen_factory(wrong)(**SMALL)
    canonical = ours.ProxylessNAS(**SMALL).canonical(arch | {"s2_i3": "k7e6"})
    assert "s2_i3" not in canonical


# -- the spaces themselves --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ProxylessNAS", "MobileNetV3Space"])
def test_labels_and_domains_are_nnis(name: str) -> None:
    def domains(space: Any) -> dict[str, list[Any]]:
        return {label: list(symbol.values) for label, symbol in space.simplify().items()}

    other = getattr(theirs, name)()
    assert all(type(symbol) is NNICategorical for symbol in other.simplify().values())
    assert domains(getattr(ours, name)()) == domains(other)
