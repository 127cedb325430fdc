"""What is said of an architecture: its parts, what decided them, what they cost, its identity."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_space.errors import ConstraintViolation, SampleValidationError, SpaceError
from nas_space.hub import MobileNetV3Space, ProxylessNAS
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear, Repeat


class Small(ModelSpace):
    """A width, a choice, and a depth under which another choice is used."""

    example_shape: ClassVar[tuple[int, ...] | None] = (4,)

    def __init__(self) -> None:
        super().__init__()
        width = Categorical([4, 8], label="width")
        self.first = MutableLinear(4, width)
        self.op = LayerChoice(
            {"one": nn.Identity(), "two": nn.Identity(), "relu": nn.ReLU()}, label="op"
        )
        self.more = Repeat(lambda index: self.block(width, index), (0, 2), label="depth")
        self.last = MutableLinear(width, 3)

    @staticmethod
    def block(width: Any, index: int) -> nn.Module:
        candidates = {"linear": MutableLinear(width, width), "none": nn.Identity()}
        return LayerChoice(candidates, label=f"block{index}")

    def forward(self, x: Any) -> Any:
        return self.last(self.more(self.op(self.first(x))))


ARCH = {"width": 8, "op": "relu", "depth": 1, "block0": "linear"}


def test_each_module_has_what_decided_it_and_what_it_costs() -> None:
    told = Small().explain(ARCH)
    found = {part.path: part for part in told.parts}
    assert list(found) == ["", "first", "op", "more", "more.0", "last"]
    assert [found[path].kind for path in ("first", "op", "more", "more.0")] == [
        "Linear",
        "ReLU",
        "Sequential",
        "Linear",
    ]
    assert found["first"].decided == found["last"].decided == {"width": 8}
    assert found["op"].decided == {"op": "relu"}
    assert found["more"].decided == {"depth": 1}
    assert found["more.0"].decided == {"block0": "linear", "width": 8}
    assert found["more.0"].inputs == found["more.0"].outputs == [(1, 8)]
    assert (found["more.0"].macs, found["more.0"].params) == (64, 72)
    assert (told.macs, told.params) == (32 + 64 + 24, 40 + 72 + 27)
    assert told.inactive == ["block1"]
    assert told.arch == ARCH
    assert told.arch_id == Small().arch_id(ARCH)


@pytest.mark.parametrize("make", [ProxylessNAS, MobileNetV3Space])
def test_totals_are_those_of_torch(make: Any) -> None:
    space = make()
    for arch in space.sample(2, seed=1):
        network = space.freeze(arch, device="meta").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 224, 224, device="meta"))
        told = space.explain(arch)
        assert 2 * told.macs == counter.get_total_flops()
        assert told.params == sum(parameter.numel() for parameter in network.parameters())
        assert set(told.inactive) == set(space.symbols()) - set(told.arch)


def test_without_a_shape_there_are_parameters_only() -> None:
    class Shapeless(Small):
        example_shape = None

    told = Shapeless().explain(ARCH)
    assert told.macs == 0
    assert told.params == Small().explain(ARCH).params
    assert all(not part.outputs for part in told.parts)
    assert Shapeless().explain(ARCH, (4,)).macs == Small().explain(ARCH).macs


def test_it_is_shown_as_a_dict_as_a_table_as_text_and_as_a_picture(tmp_path: Path) -> None:
    told = Small().explain(ARCH)
    plain = told.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["parts"][1]["decided"] == {"width": 8}
    console = Console(record=True, width=140, file=(tmp_path / "console").open("w"))
    console.print(told)
    for text in (console.export_text(), str(told)):
        for word in ("more.0", "block0=linear", "1×8", "not used: block1"):
            assert word in text
    assert len(list(told.rows(depth=1))) == 5
    told.picture(tmp_path / "told.png")
    assert (tmp_path / "told.png").read_bytes()[1:4] == b"PNG"


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(SampleValidationError):
        Small().explain({"width": 5})
    with pytest.raises(SpaceError, match=r"\(1, 5\)"):
        Small().explain(ARCH, (5,))


def test_a_restricted_space_explains_what_is_in_it() -> None:
    space = Small()
    width: Any = space.simplify()["width"]
    here, elsewhere = space.where(width == 8), space.where(width != 8)
    assert here.explain(ARCH) == space.explain(ARCH)
    assert here.network_id(ARCH) == space.network_id(ARCH)
    for ask in (elsewhere.explain, elsewhere.network_id):
        with pytest.raises(ConstraintViolation):
            ask(ARCH)


# -- identity ---------------------------------------------------------------------------------


def structure(space: ModelSpace, arch: dict[str, Any]) -> tuple[Any, ...]:
    network = space.freeze(arch)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return str(network), tuple(shapes.items())


def test_networks_have_one_id_exactly_if_they_are_the_same_layer_by_layer() -> None:
    space = Small()
    archs = [dict(net.architecture) for net in space.grid()]
    by_id = {space.network_id(arch): structure(space, arch) for arch in archs}
    assert len(by_id) == len(set(by_id.values())) == len({structure(space, a) for a in archs})
    assert len(by_id) < len({space.arch_id(arch) for arch in archs}) == len(archs)
    assert all(by_id[space.network_id(arch)] == structure(space, arch) for arch in archs)


def test_what_computes_differently_has_another_id() -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: Any, tied: bool = False) -> None:
            super().__init__()
            self.settings = {"factor": factor}
            self.one, self.other = nn.Linear(2, 2), nn.Linear(2, 2)
            if tied:
                self.other.weight = self.one.weight

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            candidates = {
                "1": Scaled(1),
                "2": Scaled(2),
                "same as 2": Scaled(2),
                "float": Scaled(1.0),
                "tied": Scaled(1, tied=True),
            }
            self.op = LayerChoice(candidates, label="op")

    ids = {name: Net().network_id({"op": name}) for name in ("1", "2", "float", "tied")}
    assert len(set(ids.values())) == len(ids)
    assert Net().network_id({"op": "same as 2"}) == ids["2"]


def test_weights_modes_and_inactive_labels_do_not_matter() -> None:
    space = Small()
    before = space.network_id(ARCH)
    with torch.no_grad():
        for parameter in space.parameters():
            parameter.add_(1)
    assert space.eval().network_id({**ARCH, "block1": "none"}) == before
    assert all(a == b for a, b in pairwise([before, *(Small().network_id(ARCH) for _ in "ab")]))


def test_ids_are_the_same_in_every_process() -> None:
    code = (
        "from nas_space.hub import ProxylessNAS; space = ProxylessNAS(width_mult=0.25)\n"
        "print(space.network_id(space.sample(seed=3)))"
    )
    space = ProxylessNAS(width_mult=0.25)
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == space.network_id(space.sample(seed=3))


class Crossed(ModelSpace):
    """Reads a concatenation in another order than its sum of widths says."""

    def __init__(self) -> None:
        super().__init__()
        w, v = (Categorical([1, 3], label=label) for label in "wv")
        self.a, self.b, self.last = (
            MutableLinear(*sizes) for sizes in ((2, w), (2, v), (w + v, 1))
        )

    def forward(self, x: Any) -> Any:
        return self.last(torch.cat([self.b(x), self.a(x)], -1))


def test_layers_that_read_a_concatenation_in_another_order_are_told():
    told = Crossed().explain({"w": 1, "v": 3}, (2,))
    (said,) = told.misread
    assert said.startswith("last, of in_features=w + v")
    assert str(told).endswith(said)
    assert told.to_dict()["misread"] == [said]
    assert Small().explain({"width": 4, "op": "one", "depth": 0}).misread == []
