"""NNI's hub as somebody's own files, migrated: weights, strategies and costs of its spaces.

The files are read where NNI is installed, beside this environment; that networks are those of NNI
is seen there (``under_nni/test_hub_modules.py``).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_space.errors import SpaceError
from nas_space.nn import ModelSpace
from nas_space.profiler import macs, params
from nas_space.strategy.oneshot import DARTS, OneShot, RandomOneShot, Run
from nas_space.training import Task

from .own_hub import CASES, SPACES, write_own_hub

ROOT = Path(__file__).parents[2]
HUB = next(ROOT.glob(".venv-nni/lib/python3*/site-packages/nni/nas/hub/pytorch"), None)
pytestmark = pytest.mark.skipif(HUB is None, reason="NNI is not installed in .venv-nni")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Imports a module of somebody's own copy of the hub."""
    assert HUB is not None
    folder = tmp_path_factory.mktemp("own")
    write_own_hub(HUB, folder)
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"own_hub.{name}")
    sys.path.remove(str(folder))


@pytest.fixture(scope="module", params=CASES)
def space(request: Any, own: Any) -> ModelSpace:
    module, name, arguments = SPACES[request.param]
    torch.manual_seed(0)
    made: ModelSpace = getattr(own(module), name)(**arguments)
    return made


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def task() -> Task:
    data = TensorDataset(images(8), torch.arange(8) % 10)
    return Task.classification(data, validation=data, batch_size=4)


APART = {
    "NasBench101": "'features.0', a NasBench101Cell",
    **dict.fromkeys(("NASNet", "ENAS", "AmoebaNet", "PNAS", "DARTS"), "'the space', a "),
}
"""Spaces of which NNI's own ``freeze`` makes each network anew; the hub here has them with shared
weights, and with costs."""


def apart(space: ModelSpace) -> str | None:
    return APART.get(type(space).__name__)


def test_networks_have_the_weights_of_the_space(space: ModelSpace) -> None:
    space.eval()
    x = images()
    for arch in space.sample(5, seed=0):
        if apart(space):
            with pytest.raises(SpaceError, match=f"{apart(space)}.*its own freeze.*no weights"):
                space.activate(arch)
            continue
        with torch.no_grad(), space.activate(arch):
            found = space(x)
        with torch.no_grad():
            assert torch.equal(space.freeze(arch).eval()(x), found)


@pytest.mark.parametrize("strategy", [RandomOneShot, DARTS])
def test_strategies_take_a_step(space: ModelSpace, strategy: type[OneShot]) -> None:
    if apart(space):
        with pytest.raises(SpaceError, match="its own freeze"):
            Run(strategy(), space, task(), steps=2)
        return
    run = Run(strategy(), space, task(), steps=2)
    before = [parameter.detach().clone() for parameter in space.parameters()]
    run.advance()
    after = list(space.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in after)


@pytest.mark.filterwarnings("ignore:.*reads elements that lie otherwise:UserWarning")
def test_costs_are_those_that_hooks_count(space: ModelSpace) -> None:
    if apart(space):
        for cost in (params, lambda it: macs(it, (3, 32, 32))):
            with pytest.raises(SpaceError, match="its own freeze"):
                cost(space)
        return
    size, work = params(space), macs(space, (3, 32, 32))
    for arch in space.sample(5, seed=0):
        network = space.freeze(arch)
        assert size.evaluate(arch) == sum(p.numel() for p in network.parameters())
        assert work.evaluate(arch) == hooked(network.eval())


def hooked(network: nn.Module) -> int:
    """Return the multiply-adds of one image: of layers by hooks, of attention by its two products.

    Written apart from the profiler: it knows convolutions, linear layers, and the matrix products
    of attention, which are no layers.
    """
    total = 0

    def count(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal total
        per_output = layer.weight[0].numel()
        total += output.numel() * per_output

    class Products(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal total
            output = function(*args, **(kwargs or {}))
            if getattr(function, "__name__", "") in ("matmul", "__matmul__", "bmm"):
                total += output.numel() * args[0].shape[-1]
            return output

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad(), Products():
        network(images(1))
    for hook in hooks:
        hook.remove()
    return total
