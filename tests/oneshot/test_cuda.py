"""Every strategy on a CUDA device, under bfloat16."""

from __future__ import annotations

import math

import pytest
import torch

from nas_space.strategy.oneshot import Run
from nas_space.training import make_fabric
from tests.oneshot.planted import task
from tests.oneshot.test_run import ALL, Rich

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("name", ALL)
def test_a_search_goes_on_the_device(name):
    space = Rich().to("cuda")
    run = Run(ALL[name](), space, task(), steps=4, fabric=make_fabric("cuda"))
    while not run.done:
        assert math.isfinite(run.advance().loss)
    assert all(parameter.device.type == "cuda" for parameter in space.parameters())
    arch, x = run.best(), torch.randn(5, 4, device="cuda")
    network = run.frozen().eval()
    with torch.no_grad(), space.eval().activate(arch):
        assert torch.equal(network(x), space(x))
