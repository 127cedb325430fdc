"""Frozen networks are plain networks: they pickle, export, compile and run by themselves."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Categorical
from nas_space.nn import InputChoice, LayerChoice, MutableModule, ParametrizedModule, Repeat

WITHOUT_THE_LIBRARY = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'nas_space':
            raise ImportError('nas_space is not here')
sys.meta_path.insert(0, Refusing())
import torch
torch.set_num_threads(1)
"""


class Scale(MutableModule):
    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.factor
        return y


class Shift(ParametrizedModule):
    def __init__(self, by: Any) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.by
        return y


class Everything(ns.ModelSpace):
    """Each primitive once, and modules of one's own."""

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([8, 16], label="width")
        self.stem = mnn.MutableConv2d(3, width, Categorical([3, 5], label="k"), padding="same")
        self.norm = mnn.MutableBatchNorm2d(width)
        self.body = Repeat(
            lambda i: LayerChoice(
                {"conv": lambda: mnn.MutableConv2d(width, width, 1), "id": nn.Identity},
                label=f"op{i}",
            ),
            (0, 2),
            label="depth",
        )
        self.pick = InputChoice(3, 2, "mean", label="pick")
        self.scale = Scale(Categorical([0.5, 2.0], label="factor"))
        self.shift = Shift(Categorical([0.0, 1.0], label="by"))
        self.drop = mnn.MutableDropout(ns.uniform("rate", 0, 1))
        self.attention = mnn.MutableMultiheadAttention(
            width, Categorical([2, 4], label="heads"), batch_first=True
        )
        self.head = mnn.MutableLinear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = self.pick([x, self.body(x), self.scale(x)])
        tokens = self.drop(self.shift(x)).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        y: Tensor = self.head(tokens.mean(1))
        return y


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    mobile = ProxylessNAS(num_labels=10, width_mult=0.25)
    return {
        "everything": Everything().random(seed=1).eval(),
        "proxylessnas": mobile.random(seed=0).eval(),
    }


NAMES = ["everything", "proxylessnas"]


def images(batch: int = 2, size: int = 32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("name", NAMES)
def test_it_pickles_and_copies(networks: dict[str, nn.Module], name: str) -> None:
    network = networks[name]
    saved = pickle.dumps(network)
    assert b"nas_space.mutable" not in saved
    copies: list[Any] = [pickle.loads(saved), copy.deepcopy(network)]
    for other in copies:
        assert torch.equal(other(images()), network(images()))
        assert other.simplify() == {}
        assert other.architecture == network.architecture


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_and_runs_where_the_library_is_not(
    networks: dict[str, nn.Module], name: str, tmp_path: Path
) -> None:
    network = networks[name]
    dynamic = {0: torch.export.Dim("batch")}
    program = torch.export.export(network, (images(2),), dynamic_shapes=(dynamic,))
    torch.export.save(program, tmp_path / "network.pt2")
    with torch.no_grad():
        cases = {batch: (images(batch), network(images(batch))) for batch in (1, 2, 5)}
    torch.save(cases, tmp_path / "cases.pt")
    code = WITHOUT_THE_LIBRARY + (
        f"program = torch.export.load({str(tmp_path / 'network.pt2')!r}).module()\n"
        f"for x, y in torch.load({str(tmp_path / 'cases.pt')!r}).values():\n"
        "    torch.testing.assert_close(program(x), y)\n"
        "assert not any(name.split('.')[0] == 'nas_space' for name in sys.modules)\n"
        "print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout == "done\n", done.stderr


def test_the_library_is_really_not_there(tmp_path: Path) -> None:
    code = WITHOUT_THE_LIBRARY + "import nas_space"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "nas_space is not here" in done.stderr


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "name", ["everything", pytest.param("proxylessnas", marks=pytest.mark.slow)]
)
def test_it_compiles_as_one_graph(networks: dict[str, nn.Module], name: str, mode: bool) -> None:
    torch._dynamo.reset()
    network = copy.deepcopy(networks[name]).train(mode)
    other = copy.deepcopy(network)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = images(2, 64)
    torch.manual_seed(0)
    result = compiled(x)
    torch.manual_seed(0)
    if mode and name == "everything":  # dropout draws its own numbers there
        assert result.shape == other(x).shape
    else:
        torch.testing.assert_close(result, other(x))
    result.sum().backward()


@pytest.mark.slow
def test_it_compiles_to_kernels(networks: dict[str, nn.Module]) -> None:
    torch._dynamo.reset()
    network = networks["everything"]
    compiled = torch.compile(network, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()), network(images()), rtol=1e-4, atol=1e-4)


def test_it_holds_no_more_modules_and_calls_than_one_written_by_hand() -> None:
    """What makes it as fast: the same layers in the same order, and nothing between them."""
    arch = {"width": 8, "k": 3, "depth": 1, "op0": "conv", "pick": [0, 1], "factor": 2.0}
    space: Any = Everything()
    arch |= {"by": 1.0, "rate": 0.5, "heads": 2}
    network = space.freeze(arch)
    own = [
        type(m).__name__ for m in network.modules() if type(m).__module__.startswith("nas_space")
    ]
    assert own == ["ChosenInputs"]
    assert all(type(m).__call__ is nn.Module.__call__ for m in network.modules())
    assert type(network.stem) is nn.Conv2d
    assert type(network.body) is nn.Sequential
    assert type(network.scale) is Scale
    assert network.scale.factor == 2.0
