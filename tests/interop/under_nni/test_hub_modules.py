"""The modules of NNI's hub as somebody's own files: migrated, with nothing of NNI's left in them.

Each is read from the installed package, its imports are rewritten, and what ``migrate`` reports is
done as the report says.  Then the space has to be NNI's: labels, domains, networks, costs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.hub import pytorch as theirs
from torch import Tensor, nn

from nas_space.nn import ModelSpace
from tests.interop.own_hub import CASES, SPACES, write_own_hub

HUB = Path(theirs.__file__).parent


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Imports a module of somebody's own copy of the hub."""
    folder = tmp_path_factory.mktemp("own")
    write_own_hub(HUB, folder)
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"own_hub.{name}")
    sys.path.remove(str(folder))


class Pair:
    """A space of the file, and what makes NNI's networks."""

    def __init__(self, own: Callable[[str], Any], module: str, name: str, arguments: Any) -> None:
        self.here: type[ModelSpace] = getattr(own(module), name)
        self.there: Any = getattr(theirs, name)
        self.arguments = arguments
        self.space = self.here(**arguments)

    def theirs_of(self, arch: dict[str, Any]) -> nn.Module:
        # A sample is changed in place there.
        return self.there.frozen_factory(dict(arch))(**self.arguments)  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=CASES)
def pair(request: Any, own: Any) -> Pair:
    return Pair(own, *SPACES[request.param])


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_labels_and_domains_are_those_of_nni(pair: Pair) -> None:
    def domains(space: Any) -> dict[str, list[Any]]:
        return {
            label: list(symbol.values)
            for label, symbol in space.simplify().items()
            if hasattr(symbol, "values")
        }

    found = domains(pair.space)
    assert found
    assert found == domains(pair.there(**pair.arguments))


def test_networks_have_the_keys_shapes_and_outputs_of_nni(pair: Pair) -> None:
    for arch in pair.space.sample(5, seed=0):
        other = pair.theirs_of(arch)
        for mine in (pair.space.freeze(arch), pair.here.frozen_factory(arch)(**pair.arguments)):
            shapes = {key: tensor.shape for key, tensor in mine.state_dict().items()}
            assert shapes == {key: tensor.shape for key, tensor in other.state_dict().items()}
            mine.load_state_dict(other.state_dict())
            if "MobileNetV3" in pair.here.__name__:
                # There, equal expressions are two objects; here they are one.
                mine.blocks[0].has_skip = other.blocks[0].has_skip  # type: ignore[union-attr, index]
            with torch.no_grad():
                assert torch.equal(mine.eval()(images()), other.eval()(images()))
