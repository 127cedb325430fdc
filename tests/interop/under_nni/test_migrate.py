"""NNI's own hub, as installed, moved here: the same spaces, and networks of the same tensors.

The modules are read where the package has them and rewritten into a temporary folder.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from nni.nas.hub import pytorch as theirs
from torch import nn

from nas_space.interop.migrate import migrate, package_of
from nas_space.interop.names import find
from nas_space.nn import ModelSpace
from tests.interop.own_hub import STAGES

HUB = Path(theirs.__file__).parent
FILES = [
    "proxylessnas.py",
    "mobilenetv3.py",
    "shufflenet.py",
    "nasbench201.py",
    "modules/nasbench201.py",
]
SPACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "proxylessnas": ("proxylessnas", "ProxylessNAS", {"num_labels": 10, "width_mult": 0.25}),
    "mobilenetv3": ("mobilenetv3", "MobileNetV3Space", STAGES),
    "mobilenetv3 of fixed widths": (
        "mobilenetv3",
        "MobileNetV3Space",
        STAGES | {"width_multipliers": 1.0},
    ),
    "shufflenet": ("shufflenet", "ShuffleNetSpace", {"num_labels": 10}),
    "shufflenet with channels": (
        "shufflenet",
        "ShuffleNetSpace",
        {"num_labels": 10, "channel_search": True, "affine": False},
    ),
    "nasbench201": ("nasbench201", "NasBench201", {"num_modules_per_stack": 1}),
}


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Imports a migrated module of NNI's hub."""
    folder = tmp_path_factory.mktemp("moved")
    root = folder / "moved_hub"
    (root / "modules").mkdir(parents=True)
    for package in (root, root / "modules"):
        (package / "__init__.py").touch()
    for name in FILES:
        source = (HUB / name).read_text()
        (root / name).write_text(migrate(source, package_of(HUB / name)).text)
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"moved_hub.{name}")
    sys.path.remove(str(folder))


@pytest.fixture(params=SPACES)
def pair(request: Any, moved: Any) -> tuple[type[ModelSpace], Any, dict[str, Any]]:
    """The class here, the class there, and arguments."""
    module, name, arguments = SPACES[request.param]
    here: ModuleType = moved(module)
    assert "nni." not in " ".join(
        str(getattr(value, "__module__", "")) for value in vars(here).values()
    )
    return getattr(here, name), getattr(theirs, name), arguments


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def test_labels_and_domains_stay(pair: Any) -> None:
    here, there, arguments = pair

    def domains(space: Any) -> dict[str, list[Any]]:
        return {label: list(symbol.values) for label, symbol in space.simplify().items()}

    found = domains(here(**arguments))
    assert found == domains(there(**arguments))
    assert found


def test_networks_have_the_same_tensors_so_checkpoints_load(pair: Any) -> None:
    here, there, arguments = pair
    space = here(**arguments)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for arch in space.sample(8, seed=0):
        other = there.frozen_factory(arch)(**arguments)
        for mine in (space.freeze(arch), here.frozen_factory(arch)(**arguments)):
            assert shapes(mine) == shapes(other)
            mine.load_state_dict(other.state_dict())
            if "MobileNetV3" in there.__name__:
                # There, equal expressions are two objects; here they are one.
                mine.blocks[0].has_skip = other.blocks[0].has_skip
            with torch.no_grad():
                assert torch.equal(mine.eval()(x), other.eval()(x))


def test_the_space_runs_as_any_of_its_networks(pair: Any) -> None:
    here, _, arguments = pair
    space = here(**arguments).eval()
    x = torch.randn(2, 3, 32, 32)
    for arch in space.sample(3, seed=1):
        with torch.no_grad(), space.activate(arch):
            found = space(x)
        with torch.no_grad():
            assert torch.equal(found, space.freeze(arch)(x))


def test_residuals_by_identity_are_reported_with_their_lines() -> None:
    found = migrate((HUB / "proxylessnas.py").read_text(), package_of(HUB / "proxylessnas.py"))
    lines = found.source.splitlines()
    residuals = [finding for finding in found.findings if " is " in finding.what]
    assert len(residuals) == 2
    for finding in residuals:
        assert "in_channels is out_channels" in lines[finding.line - 1]
        assert "same_width(in_channels, out_channels)" in finding.instead


def test_files_with_their_own_copy_of_the_initialisation_build_and_freeze(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copied_hub"
    root.mkdir()
    (root / "__init__.py").touch()
    for name in ("proxylessnas", "mobilenetv3"):
        # As a user's own files: what they import of each other is theirs.
        text = migrate((HUB / f"{name}.py").read_text()).text
        text = text.replace("from .utils.pretrained import load_pretrained_weight", "")
        (root / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("copied_hub.mobilenetv3")
    assert module.reset_parameters.__module__ == "copied_hub.proxylessnas"
    space = module.MobileNetV3Space(**STAGES)
    depthwise: Any = next(layer for layer in space.blocks.modules() if isinstance(layer, nn.Conv2d))
    n = 7 * 7 * depthwise.out_channels.freeze({"s0_width_mult": 2.0})
    assert depthwise.weight.std().item() == pytest.approx((2 / n) ** 0.5, rel=0.1)
    for arch in space.sample(3, seed=0):
        other = theirs.MobileNetV3Space.frozen_factory(arch)(**STAGES)
        # Under other names: there, the constructor sees an identity where one is chosen.
        mine = space.freeze(arch)
        assert [*map(torch.numel, mine.parameters())] == [*map(torch.numel, other.parameters())]


# Names that NNI offers and that have no counterpart; the page on migrating says what to use.
GONE = {
    "nni.mutable": {
        "ContextStack",
        "NoContextError",
        "get_current_context",
        "reset_uid",
        "uid",
    },
    "nni.nas.nn.pytorch": {
        "MutableParameterDict",
        "MutationAnchor",
        "create_cell_op_candidates",
        "preprocess_cell_inputs",
    },
    "nni.nas.profiler": set(),
}


@pytest.mark.filterwarnings("ignore:.*has been deprecated:FutureWarning")  # by torch
@pytest.mark.parametrize("name", ["nni.mutable", "nni.nas.nn.pytorch", "nni.nas.profiler"])
def test_everything_else_that_nni_offers_is_here(name: str) -> None:
    offered = {
        each
        for each, value in vars(importlib.import_module(name)).items()
        if getattr(value, "__module__", "").startswith("nni") and not each.startswith("_")
    }
    assert {each for each in offered if find(name, each) is None} == GONE[name]
