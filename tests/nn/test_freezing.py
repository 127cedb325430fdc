"""What freezing follows, what it keeps together, and what it refuses."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import SampleValidationError, SpaceError, UsageError
from nas_space.mutable import Categorical, MutableDict, MutableList
from nas_space.nn import LayerChoice, MutableModule, Repeat

from .small import ARCH, Holding, Net, images

WIDTH = Categorical([4, 8], label="width")


def storages(module: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}


# -- what is kept together --------------------------------------------------------------------


def test_tied_parameters_stay_tied() -> None:
    class Tied(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.embed = mnn.MutableEmbedding(10, WIDTH)
            self.head = mnn.MutableLinear(WIDTH, 10, bias=False)
            self.head.weight = self.embed.weight
            self.also = [self.embed.weight]

    space = Tied()
    network = space.freeze({"width": 4})
    assert network.embed.weight is network.head.weight
    assert network.embed.weight.shape == (10, 4)
    assert network.embed.weight is not space.embed.weight
    assert len(list(network.parameters())) == 1


def test_a_module_used_twice_stays_one() -> None:
    shared = nn.Linear(2, 2)
    space = Holding(first=shared, second=nn.Sequential(shared), third={"x": [shared]})
    network = space.freeze({"width": 4})
    assert network.first is network.second[0] is network.third["x"][0]
    assert network.first is not shared


def test_a_shared_list_stays_one_and_may_hold_itself() -> None:
    items: list[Any] = [WIDTH]
    items.append(items)
    network = Holding(a=items, b=items).freeze({"width": 8})
    assert network.a is network.b
    assert network.a[0] == 8
    assert network.a[1] is network.a


def test_a_child_may_refer_to_its_parent() -> None:
    space = Holding(child=nn.Linear(2, 2))
    space.child.parent = [space]
    network = space.freeze({"width": 4})
    assert network.child.parent[0] is network


# -- what is followed -------------------------------------------------------------------------

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Settings:
    width: Any
    layer: nn.Module


def test_expressions_are_found_wherever_they_are_held() -> None:
    space = Holding(
        items=[WIDTH, (WIDTH + 1, {2})],
        table={"a": WIDTH, "b": OrderedDict(c=WIDTH * 2)},
        chosen={WIDTH * 3},
        call=functools.partial(max, WIDTH, key=None),
        several=MutableList([WIDTH, 1]),
        named=MutableDict(a=WIDTH),
        pair=Pair(WIDTH, 0),
        counts=defaultdict(int, a=1),
        settings=SimpleNamespace(width=WIDTH),
    )
    network = space.freeze({"width": 8})
    assert network.items == [8, (9, {2})]
    assert network.table == {"a": 8, "b": {"c": 16}}
    assert network.chosen == {24}
    assert network.call(3) == 8
    assert (network.several, network.named) == ([8, 1], {"a": 8})
    assert network.pair == Pair(8, 0)
    assert network.counts == {"a": 1}
    assert network.settings.width == 8


def test_modules_are_found_wherever_they_are_held() -> None:
    inner = mnn.MutableLinear(2, WIDTH)
    op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")
    space = Holding(layers=[inner], table={"op": op}, call=functools.partial(inner))
    assert set(space.symbols()) == {"width", "op"}
    network = space.freeze({"width": 4, "op": 1})
    assert type(network.layers[0]) is nn.Linear
    assert network.layers[0].out_features == 4
    assert network.call.func is network.layers[0]
    assert type(network.table["op"]) is nn.Tanh


def test_an_object_of_ones_own_is_copied_with_what_it_holds() -> None:
    inner = mnn.MutableLinear(2, WIDTH)
    space = Holding(settings=Settings(WIDTH, inner), layer=inner)
    network = space.freeze({"width": 4}, dtype=torch.float64)
    assert network.settings.width == 4
    assert network.settings.layer is network.layer
    assert network.layer.weight.dtype == torch.float64
    assert space.settings.layer is inner  # it is a copy


def test_methods_hooks_and_weak_references_are_bound_to_the_network() -> None:
    class Calling(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.factor: Any = Categorical([2, 3], label="factor")
            self.layer = nn.Identity()
            self.layer.register_forward_hook(self.scale)
            self.method = self.plain
            self.handed_on = functools.partial(self.plain)
            self.reference = weakref.ref(self)

        def scale(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
            scaled: Tensor = output * self.factor
            return scaled

        def plain(self) -> Any:
            return self

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y

    space = Calling()
    network = space.freeze({"factor": 3})
    assert network.method() is network.handed_on() is network.reference() is network
    assert network(torch.ones(1)).item() == 3
    with space.activate({"factor": 2}):
        assert space(torch.ones(1)).item() == 2


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.args, self._shared, self._mutables = {"scale": 2.0}, 3.0, (4.0,)


class ConfiguredSpace(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.args = {"scale": 3.0}
        self.layer, self.part = mnn.MutableLinear(2, WIDTH), Configured()


def test_what_a_users_module_keeps_under_a_name_of_ours_is_kept() -> None:
    network = ConfiguredSpace().freeze({"width": 4})
    assert network.args == {"scale": 3.0}
    part = network.part
    assert (part.args, part._shared, part._mutables) == ({"scale": 2.0}, 3.0, (4.0,))
    assert "args" not in vars(network.layer)


def test_functions_locks_and_classes_are_kept() -> None:
    lock = threading.Lock()
    space = Holding(lock=lock, act=torch.relu, norm=nn.BatchNorm2d, stop=torch.nn.functional.relu)
    network = space.freeze({"width": 4})
    assert network.lock is lock
    assert network.act is torch.relu
    assert network.norm is nn.BatchNorm2d
    assert network.stop is torch.nn.functional.relu


def test_tensors_that_are_attributes_are_copied() -> None:
    space = Holding(plain=torch.ones(2), inner=nn.Linear(1, 1))
    network = space.freeze({"width": 4})
    network.plain.zero_()
    assert space.plain.tolist() == [1, 1]


def test_parametrizations_of_plain_layers_survive() -> None:
    space = Holding(layer=parametrizations.weight_norm(nn.Linear(3, 2)))
    network = space.freeze({"width": 4})
    x = torch.randn(4, 3)
    assert torch.equal(network.layer(x), space.layer(x))
    assert not storages(network) & storages(space)


def test_the_mode_and_the_hooks_of_a_repeat_go_to_what_takes_its_place() -> None:
    class Net(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.body = Repeat(lambda _: nn.Identity(), (0, 2), label="depth")
            self.body.register_forward_hook(lambda module, args, output: output + 1)  # noqa: ARG005
            self.pick = mnn.InputChoice(2, label="pick")
            self.pick.register_forward_hook(lambda module, args, output: output * 2)  # noqa: ARG005

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.pick([self.body(x), x])
            return y

    space = Net().eval()
    for arch in ({"depth": d, "pick": [p]} for d in (0, 1, 2) for p in (0, 1)):
        network = space.freeze(arch)
        assert not any(module.training for module in network.modules())
        with space.activate(arch):
            assert torch.equal(space(torch.ones(1)), network(torch.ones(1)))


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: lambda x: layer(x),  # noqa: PLW0108
        lambda layer: lambda x, inner=layer: inner(x),
        lambda layer: lambda x, *, inner=[layer]: inner[0](x),
        lambda layer: [{"f": lambda x: layer.weight}],  # noqa: ARG005
        lambda layer: lambda x: (lambda: layer)(),  # noqa: ARG005, PLC3002
    ],
    ids=["cell", "default", "keyword", "in a list", "nested"],
)
def test_a_closure_over_the_space_is_refused_by_name(make: Any) -> None:
    layer = nn.Linear(1, 1)
    space = Holding(layer=layer, inner=nn.Sequential(nn.Identity()))
    space.inner[0].call = make(layer)
    before = space.state_dict()
    with pytest.raises(SpaceError, match=r"'inner\.0\.call.*<lambda>.*closes over.*, a Linear"):
        space.freeze({"width": 4})
    assert all(torch.equal(before[key], value) for key, value in space.state_dict().items())


def test_a_closure_over_an_expression_or_a_parameter_is_refused() -> None:
    weight = nn.Parameter(torch.ones(1))
    for held in (WIDTH, weight):
        with pytest.raises(SpaceError, match="closes over 'held'"):
            Holding(call=lambda x, held=held: x * held).freeze({"width": 4})


def test_a_closure_over_plain_values_is_kept() -> None:
    factor = 3
    assert Holding(call=lambda x: x * factor).freeze({"width": 4}).call(2) == 6


def test_hooks_of_which_nothing_would_be_left_are_refused() -> None:
    class Hooked(ns.ModelSpace):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.body = nn.Sequential(layer)
            layer.register_forward_pre_hook(print)

    for layer in (
        LayerChoice([nn.ReLU(), nn.Tanh()], label="op"),
        mnn.MutableLSTMCell(2, Categorical([2, 4], label="op")),
    ):
        space = Hooked(layer)
        with pytest.raises(
            SpaceError, match=r"the hooks of 'body\.0', a (LayerChoice|MutableLSTMCell)"
        ):
            space.random(seed=0)


def test_what_cannot_be_copied_is_named() -> None:
    graph = (torch.ones(1, requires_grad=True) * 2,)
    space = Holding(thing=SimpleNamespace(tensors=graph))
    with pytest.raises(SpaceError, match="'thing' cannot be copied"):
        space.freeze({"width": 4})


def test_an_expression_that_nothing_tracks_is_named() -> None:
    hidden = SimpleNamespace(rate=Categorical([1, 2], label="rate"))
    space = Holding(hidden=hidden)
    assert "rate" not in space.symbols()
    with pytest.raises(
        SpaceError,
        match="'hidden' holds an expression that is not tracked.*'rate'",  # noqa: RUF043
    ):
        space.freeze({"width": 4})
    space.add_mutable(hidden.rate)
    assert space.freeze({"width": 4, "rate": 2}).hidden.rate == 2


def test_a_frozen_network_is_not_frozen_again() -> None:
    network = Net().freeze(ARCH)
    for call in (
        lambda: network.freeze(ARCH),
        lambda: network.activate(ARCH),
        network.sample,
        network.random,
        network.default,
        network.refresh,
        lambda: network.require(WIDTH > 4),
        lambda: next(network.grid()),
    ):
        with pytest.raises(SpaceError, match="this Net is frozen already, as {'width': 4"):  # noqa: RUF043
            call()
    assert network.architecture == ARCH
    assert Net().architecture is None


def test_a_frozen_network_may_be_a_part_of_another_space() -> None:
    part = Net().freeze(ARCH)
    network = Holding(part=part).freeze({"width": 8})
    assert network.architecture == {"width": 8}
    assert network.part.architecture == ARCH
    assert torch.equal(network.part(images()), part(images()))


def test_how_weights_come_is_checked() -> None:
    with pytest.raises(UsageError, match="'copy' or 'share', but got 'steal'"):
        Net().freeze(ARCH, weights="steal")  # type: ignore[arg-type]


def test_a_failed_freeze_names_the_label_and_leaves_everything() -> None:
    space = Net()
    with pytest.raises(SampleValidationError, match=r"'op1'.*\(path: body\.blocks\.1\)"):
        space.freeze({**ARCH, "op1": "covn"})


# -- where weights go -------------------------------------------------------------------------


def test_weights_are_copies_without_gaps() -> None:
    space = Net()
    network = space.freeze(ARCH)
    assert not storages(network) & storages(space)
    for tensor in (*network.parameters(), *network.buffers()):
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_weights_can_be_of_another_type_or_device() -> None:
    space = Net()
    network: Any = space.freeze(ARCH, dtype=torch.float64)
    assert {p.dtype for p in network.parameters()} == {torch.float64}
    assert network.norm.num_batches_tracked.dtype == torch.int64
    assert torch.equal(network.stem.weight, space.freeze(ARCH).stem.weight.double())
    assert {p.device.type for p in space.freeze(ARCH, device="meta").parameters()} == {"meta"}
    assert {p.dtype for p in space.parameters()} == {torch.float32}


def test_what_is_trained_stays_trained() -> None:
    space = Net()
    space.stem.requires_grad_(False)
    network = space.freeze(ARCH)
    assert not network.stem.weight.requires_grad
    assert network.head.weight.requires_grad
    assert network.head.weight.is_leaf


def test_parameters_of_other_kinds_stay_of_their_kind() -> None:
    class Special(nn.Parameter):
        pass

    space = Holding(layer=nn.Linear(1, 1))
    space.layer.weight = Special(torch.ones(1, 1))
    assert type(space.freeze({"width": 4}).layer.weight) is Special


# -- modules that are no space ----------------------------------------------------------------


def test_any_mutable_module_freezes_by_itself() -> None:
    class Scale(MutableModule):
        def __init__(self) -> None:
            super().__init__()
            self.factor: Any = Categorical([1, 10], label="factor")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x * self.factor
            return y

    scale = Scale()
    assert scale.freeze({"factor": 10}).factor == 10
    assert [net.factor for net in scale.grid()] == [1, 10]
    assert scale.default().factor == 1
    assert scale.contains({"factor": 10})
    assert not scale.contains({"factor": 11})


class _Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0

    def derived(self) -> float:
        return self.scale

    def forward(self, x):
        return x * self.derived()


class _Small(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.layer = mnn.MutableLinear(2, ns.Categorical([1, 2], label="width"))
        self.named = _Named()

    def forward(self, x):
        return self.named(self.layer(x))


def test_a_space_that_was_frozen_can_be_forgotten():
    space = _Small()
    network = space.freeze({"width": 2})
    layer, itself = weakref.ref(space.layer), weakref.ref(space)
    del space
    gc.collect()
    assert layer() is None
    assert itself() is None
    assert network(torch.ones(1, 2)).shape == (1, 2)


def test_a_method_of_a_users_module_may_be_called_derived():
    space = _Small()
    x = torch.ones(1, 2)
    frozen = space.freeze({"width": 2})
    with space.activate({"width": 2}):
        assert torch.equal(frozen(x), space(x))
