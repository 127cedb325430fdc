"""The invariants of a space, over random spaces and over ProxylessNAS."""

from __future__ import annotations

import copy
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from nas_space.errors import SampleMissingError, SampleValidationError
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Sample
from nas_space.nn import ModelSpace

from .strategies import RandomSpace, architectures, copy_weights, image, seeds, spaces

thorough = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
quick = settings(thorough, max_examples=12)

Made = tuple[RandomSpace, Any]


def run(network: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    y: Tensor = network(x)
    return y


def train(network: nn.Module, x: Tensor, steps: int = 3) -> None:
    """Some steps of an optimizer with a memory."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        run(network, x, step).square().mean().backward()
        optimizer.step()


def assert_same_state(left: nn.Module, right: nn.Module) -> None:
    mine, its = left.state_dict(), right.state_dict()
    assert list(mine) == list(its)
    for key, tensor in mine.items():
        assert tensor.dtype == its[key].dtype
        assert torch.equal(tensor, its[key]), key


def types_of(network: nn.Module) -> dict[str, type]:
    return {path: type(module) for path, module in network.named_modules(remove_duplicate=False)}


# -- 1: what is frozen does what is active ----------------------------------------------------


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("batch", [1, 3])
@thorough
@given(made=spaces(), seed=seeds)
def test_a_frozen_network_does_what_the_space_does(
    mode: bool, batch: int, made: Made, seed: int
) -> None:
    space, _ = made
    space.train(mode)
    x = image(seed, batch)
    for arch in architectures(space, seed):
        network = space.freeze(arch)
        assert network.training is mode
        own = copy.deepcopy(space)  # whose statistics are not those the next architecture finds
        with own.activate(arch):
            expected = run(own, x)
        assert torch.equal(run(network, x), expected)
        assert_same_state(network, own.freeze(arch))  # statistics included
        for without_gradients in (torch.no_grad, torch.inference_mode):
            with without_gradients():
                with own.activate(arch):
                    expected = run(own, x)
                assert torch.equal(run(network, x), expected)


@quick
@given(made=spaces(), seed=seeds)
def test_training_a_path_of_the_space_is_training_the_frozen_network(made: Made, seed: int) -> None:
    space, _ = made
    space.train()
    x = image(seed)
    for arch in architectures(space, seed, 1):
        network = space.freeze(arch)
        own = copy.deepcopy(space)
        with own.activate(arch):
            train(own, x)
        train(network, x)
        assert_same_state(network, own.freeze(arch))


@quick
@given(made=spaces(), seed=seeds)
def test_a_view_of_the_weights_computes_the_same(made: Made, seed: int) -> None:
    space, _ = made
    space.eval()
    x = image(seed)
    for arch in architectures(space, seed, 1):
        with torch.no_grad():
            shared = run(space.freeze(arch, weights="share"), x)
            # Not bit for bit: torch takes another kernel for attention that is not trained.
            torch.testing.assert_close(shared, run(space.freeze(arch), x))


# -- 2: building for one architecture gives the same network ----------------------------------


@thorough
@given(made=spaces(), seed=seeds)
def test_a_network_is_the_same_without_the_space(made: Made, seed: int) -> None:
    space, recipe = made
    x = image(seed)
    for arch in architectures(space, seed):
        network = space.freeze(arch)
        built = RandomSpace.frozen_factory(arch)(*recipe)
        assert types_of(built) == types_of(network)
        assert {k: v.shape for k, v in built.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }
        assert built.architecture == network.architecture == arch
        copy_weights(network, built)
        assert torch.equal(run(built, x), run(network, x))


@quick
@given(made=spaces(), seed=seeds)
def test_nothing_mutable_is_left(made: Made, seed: int) -> None:
    space, _ = made
    for arch in architectures(space, seed, 1):
        network = space.freeze(arch)
        assert network.simplify() == {}
        saved = pickle.dumps(network)
        assert b"nas_space.mutable" not in saved
        assert b"nas_space.nn.layers" not in saved
        x = image(seed)
        assert torch.equal(run(pickle.loads(saved), x), run(copy.deepcopy(network), x))


# -- 3: the space stays as it was -------------------------------------------------------------


def everything(space: ModelSpace) -> tuple[bytes, Any]:
    """All of a space, and the states of all random number generators."""
    state = np.random.get_state()  # noqa: NPY002
    generators = (torch.get_rng_state().tolist(), state[1].tolist(), state[2:], random.getstate())  # type: ignore[index]
    return pickle.dumps(space), generators


@quick
@given(made=spaces(), seed=seeds)
def test_the_space_stays_as_it_was(made: Made, seed: int) -> None:
    space, recipe = made
    archs = architectures(space, seed, 1)
    before = everything(space)
    space.sample(seed=seed)
    space.sample(3, seed=seed)
    for arch in archs:
        space.freeze(arch)
        space.freeze(arch, weights="share").train()
        with space.activate(arch), pytest.raises((RuntimeError, ValueError)):
            space(image(seed)[:, :1])
        wrong = {**arch, "s0": 7}
        for call in (space.freeze, space.activate, RandomSpace.frozen_factory(wrong)):
            arguments = recipe if call not in {space.freeze, space.activate} else (wrong,)
            torch_state = torch.get_rng_state()
            with pytest.raises(SampleValidationError):
                call(*arguments)
            if call not in {space.freeze, space.activate}:
                torch.set_rng_state(torch_state)  # it builds, and so draws weights
    assert everything(space) == before


# -- 4: architectures are plain data ----------------------------------------------------------


@quick
@given(made=spaces(), seed=seeds)
def test_an_architecture_survives_json(made: Made, seed: int) -> None:
    space, _ = made
    batch = space.sample(4, seed=seed)
    for index, arch in enumerate(batch):  # noqa: B007
        again = json.loads(json.dumps(arch))
        assert arch == arch == space.canonical(again)  # noqa: PLR0124
        assert space.arch_id(again) == space.arch_id(arch)
        network = space.freeze(again)
        assert network.architecture == arch
        assert_same_state(network, space.freeze(arch))


# -- 5: seeds ---------------------------------------------------------------------------------


@quick
@given(made=spaces(), seed=seeds)
def test_a_seed_decides_everything(made: Made, seed: int) -> None:
    space, recipe = made
    many = space.sample(5, seed=seed)
    assert list(RandomSpace(*recipe).sample(5, seed=seed)) == list(many)
    assert space.sample(seed=seed) == many[0]
    assert many[:2] == space.sample(2, seed=seed)
    network = space.random(seed=seed)
    assert network.architecture == many[0]
    np.random.seed(seed)  # noqa: NPY002
    first = space.sample()
    np.random.seed(seed)  # noqa: NPY002
    assert space.sample() == first


# -- 6: threads -------------------------------------------------------------------------------


@quick
@given(made=spaces(), seed=seeds)
def test_threads_do_not_know_of_each_other(made: Made, seed: int) -> None:
    space, recipe = made
    space.eval()
    x = image(seed)
    archs = [*space.sample(4, seed=seed)] * 2

    def work(arch: Sample) -> tuple[Tensor, Tensor, Sample | None]:
        with torch.no_grad(), space.activate(arch):
            active = space(x)
            frozen = space.freeze(arch)(x)
        return active, frozen, RandomSpace.frozen_factory(arch)(*recipe).architecture

    expected = []
    with torch.no_grad():
        expected = [space.freeze(arch)(x) for arch in archs]
    with ThreadPoolExecutor(4) as pool:
        for arch, result, (active, frozen, built) in zip(
            archs, expected, pool.map(work, archs), strict=True
        ):
            assert torch.equal(active, result)
            assert torch.equal(frozen, result)
            assert built == arch


# -- 7: errors --------------------------------------------------------------------------------


@thorough
@given(made=spaces(), seed=seeds)
def test_errors_say_which_label_where_and_what_is_allowed(made: Made, seed: int) -> None:
    space, recipe = made
    arch = architectures(space, seed, 1)[0]
    for name, symbol in space.symbols().items():
        if name not in arch:
            continue
        missing = {key: value for key, value in arch.items() if key != name}
        for call in (space.freeze, lambda a: RandomSpace.frozen_factory(a)(*recipe)):
            with pytest.raises(SampleMissingError) as caught:
                call(missing)
            assert caught.value.label == name
            assert repr(name) in str(caught.value)
            assert symbol.allowed() in str(caught.value)
            assert "path: " in str(caught.value)
        with pytest.raises(SampleValidationError) as wrong:
            space.freeze({**arch, name: "no such value"})
        assert wrong.value.label == name
        assert repr(name) in str(wrong.value)
        assert symbol.allowed() in str(wrong.value)
        assert "path: " in str(wrong.value)
    for call in (space.freeze, lambda a: RandomSpace.frozen_factory(a)(*recipe)):
        with pytest.raises(SampleValidationError, match=r"has no label 's00' \(did you mean 's0'"):
            call({**arch, "s00": 1})


# -- all of them, over ProxylessNAS -----------------------------------------------------------


@pytest.fixture(scope="module")
def proxyless() -> ProxylessNAS:
    torch.manual_seed(0)
    return ProxylessNAS(num_labels=5, width_mult=0.25)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_proxylessnas_frozen_and_active(proxyless: ProxylessNAS, mode: bool) -> None:
    space = copy.deepcopy(proxyless).train(mode)
    for seed, batch in enumerate([1, 2, 3]):
        x = torch.randn(batch, 3, 64, 64)  # two by two are left at the end, for batch norm
        arch = space.sample(seed=seed)
        network = space.freeze(arch)
        with space.activate(arch):
            expected = run(space, x)
        assert torch.equal(run(network, x), expected)
        assert_same_state(network, space.freeze(arch))


def test_proxylessnas_trained_and_without_the_space(proxyless: ProxylessNAS) -> None:
    x = torch.randn(2, 3, 64, 64)
    for seed in range(3):
        space = copy.deepcopy(proxyless).train()
        arch = space.sample(seed=seed)
        network = space.freeze(arch)
        built = ProxylessNAS.frozen_factory(arch)(num_labels=5, width_mult=0.25)
        assert types_of(built) == types_of(network)
        built.load_state_dict(network.state_dict())
        with space.activate(arch):
            train(space, x)
        train(network, x)
        train(built, x)
        assert_same_state(network, space.freeze(arch))
        assert_same_state(built, network)
        assert b"nas_space.mutable" not in pickle.dumps(network)


def test_proxylessnas_stays_as_it_was(proxyless: ProxylessNAS) -> None:
    before = everything(proxyless)
    for seed in range(3):
        arch = proxyless.sample(seed=seed)
        proxyless.freeze(arch)
        with pytest.raises(SampleValidationError):
            proxyless.freeze({**arch, "s2_depth": 9})
    assert everything(proxyless) == before


def test_proxylessnas_samples_are_pinned(proxyless: ProxylessNAS) -> None:
    # A seed means the same on every machine and in every version.
    arch = proxyless.sample(seed=0)
    depths = {"s2_depth": 3, "s3_depth": 4, "s4_depth": 4, "s5_depth": 1, "s6_depth": 1}
    candidates = [
        ["k5e3", "k3e3", "k3e3"],
        ["k3e6", "k5e6", "k3e6", "k7e6"],
        ["k3e3", "k7e6", "k3e3", "k5e6"],
        ["k7e6"],
        ["k3e3"],
        ["k7e3"],
    ]
    assert arch == depths | {
        f"s{stage}_i{block}": candidate
        for stage, blocks in enumerate(candidates, start=2)
        for block, candidate in enumerate(blocks)
    }
    assert proxyless.arch_id(arch) == "ead7691de6e6307d"
