"""The invariants on a GPU: kernels there may add in another order, so within a tolerance."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from nas_space.hub import ProxylessNAS

from .strategies import RandomSpace, architectures, copy_weights, image, seeds, spaces

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TOLERANCES: dict[torch.dtype, dict[str, Any]] = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.bfloat16: {"rtol": 5e-2, "atol": 5e-2},
}

few = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def exact_products() -> Any:
    """Without TensorFloat-32, whose products have ten bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def run(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    y: torch.Tensor = network(x)
    return y


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@few
@given(made=spaces(), seed=seeds)
def test_a_frozen_network_does_what_the_space_does(
    dtype: torch.dtype, made: tuple[RandomSpace, Any], seed: int
) -> None:
    space, recipe = made
    space.cuda().to(dtype).eval()
    x = image(seed).cuda().to(dtype)
    for arch in architectures(space, seed):
        network = space.freeze(arch)
        assert {p.device.type for p in network.parameters()} == {"cuda"}
        with torch.no_grad(), space.activate(arch):
            expected = run(space, x)
        with torch.no_grad():
            torch.testing.assert_close(run(network, x), expected, **TOLERANCES[dtype])
            built = RandomSpace.frozen_factory(arch)(*recipe).cuda().to(dtype).eval()
            copy_weights(network, built)
            torch.testing.assert_close(run(built, x), expected, **TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_network_is_made_ready_for_the_device(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    space = ProxylessNAS(num_labels=5, width_mult=0.25).train()
    for seed in range(3):
        arch = space.sample(seed=seed)
        network = space.freeze(arch, device="cuda", dtype=dtype)
        assert {(p.device.type, p.dtype) for p in network.parameters()} == {("cuda", dtype)}
        there = copy.deepcopy(space).to("cuda", dtype)
        x = torch.randn(4, 3, 64, 64, device="cuda", dtype=dtype)
        with there.activate(arch):
            expected = run(there, x)
        torch.testing.assert_close(run(network, x), expected, **TOLERANCES[dtype])
        mine, its = network.state_dict(), there.freeze(arch).state_dict()
        for key, value in mine.items():  # statistics of the batch among them
            torch.testing.assert_close(value, its[key], **TOLERANCES[dtype])


def test_memory_formats_and_compiled_kernels() -> None:
    space = ProxylessNAS(num_labels=5, width_mult=0.25).cuda()
    space = space.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    arch = space.sample(seed=0)
    network = space.freeze(arch)
    x = torch.randn(4, 3, 64, 64, device="cuda").to(memory_format=torch.channels_last)
    with torch.no_grad(), space.activate(arch):
        expected = space(x)
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, **TOLERANCES[torch.float32])
