"""Costs equal what torch's own counters say of every frozen network."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas_space.errors import InfeasibleError, SpaceError, UsageError
from nas_space.hub import MobileNetV3Space, ProxylessNAS
from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import (
    Cell,
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableConv2d,
    MutableLinear,
    Repeat,
)
from nas_space.profiler import flops, macs, memory, params, profile
from nas_space.profiler.execution import Executor

from . import oracle
from .spaces import SPACES, Concat, Elastic, Residual

IMAGE = (3, 224, 224)


@pytest.fixture(autouse=True)
def _plain_attention():
    """In evaluation, torch may fuse attention into one operator, which its counter cannot count."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@cache
def proxyless() -> ProxylessNAS:
    return ProxylessNAS()


def value(cost: Any, arch: Any) -> Any:
    return cost.evaluate(arch) if isinstance(cost, MutableExpression) else cost


# -- every architecture of small spaces ---------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_every_architecture_of_a_small_space(name):
    make, inputs = SPACES[name]
    space = make()
    costs = {
        oracle.flops: flops(space, inputs=inputs),
        oracle.peak: memory(space, inputs=inputs),
        oracle.kept: memory(space, inputs=inputs, training=True),
    }
    count, multiplied = params(space), macs(space, inputs=inputs)
    architectures = oracle.architectures(space)
    assert len(architectures) > 4
    for arch in architectures[:: 5 if name.startswith("transformer") else 1]:
        net = space.freeze(arch)
        assert value(count, arch) == oracle.params(net)
        assert value(multiplied, arch) * 2 == oracle.flops(net, inputs)
        for measure, cost in costs.items():
            assert value(cost, arch) == measure(net, inputs), (measure.__name__, arch)


@pytest.mark.parametrize("name", SPACES)
def test_every_cost_is_a_budget(name):
    make, inputs = SPACES[name]
    space = make()
    architectures = oracle.architectures(space)
    for cost in (
        params(space),
        macs(space, inputs=inputs),
        memory(space, inputs=inputs),
        memory(space, inputs=inputs, training=True),
    ):
        if isinstance(cost, MutableExpression):
            found = sorted(cost.evaluate(arch) for arch in architectures)
            middle = found[len(found) // 2]
            assert space.where(cost <= middle).count() == sum(each <= middle for each in found)


@pytest.mark.parametrize("name", SPACES)
def test_what_modules_cost_adds_up(name):
    make, inputs = SPACES[name]
    space = make()
    cost, of = macs(space, inputs=inputs), profile(space, inputs=inputs)
    for arch in oracle.architectures(space)[::7]:
        rows = of.modules(arch)
        assert (rows[0].path, rows[0].macs) == ("", value(cost, arch))
        args, kwargs = oracle.arguments(inputs)
        net = space.freeze(arch).to("meta").eval()
        assert rows[0].outputs == [tuple(net(*args, **kwargs).shape)]


# -- the hub ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "multiply_adds", "parameters"),
    [
        # Published; see the tables in the repositories of ProxylessNAS and AceNAS.
        ("proxyless-cpu", 439243864, 4361648),
        ("proxyless-gpu", 465260160, 7119848),
        ("proxyless-mobile", 320427584, 4080512),
        ("acenas-m1", 327351872, 4093864),
    ],
)
def test_published_figures(name, multiply_adds, parameters):
    net = ProxylessNAS.load_searched_model(name)
    assert macs(net, IMAGE) == multiply_adds
    assert params(net) == parameters
    if name in ("proxyless-mobile", "acenas-m1"):  # of the default widths
        arch = net.architecture
        assert macs(proxyless(), IMAGE).evaluate(arch) == multiply_adds
        assert params(proxyless()).evaluate(arch) == parameters


def check_random(space: Any, number: int, shape: tuple[int, ...]) -> None:
    multiplied, count = macs(space, shape), params(space)
    inputs = torch.empty(1, *shape, device="meta")
    for arch in space.sample(number, seed=number):
        net = space.freeze(arch, weights="share", device="meta")
        assert multiplied.evaluate(arch) * 2 == oracle.flops(net, inputs)
        assert count.evaluate(arch) == oracle.params(net)


def test_random_architectures_of_proxylessnas():
    check_random(proxyless(), 50, (3, 64, 64))


def test_random_architectures_of_mobilenetv3():
    check_random(MobileNetV3Space(), 10, (3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("space", [ProxylessNAS, MobileNetV3Space])
def test_a_thousand_random_architectures(space):
    check_random(space(), 1000, IMAGE)


@pytest.mark.parametrize("space", [ProxylessNAS, MobileNetV3Space])
def test_memory_of_random_architectures(space):
    made = space(num_labels=10)
    inputs = torch.empty(2, 3, 64, 64, device="meta")
    peak = memory(made, (3, 64, 64), batch_size=2)
    kept = memory(made, (3, 64, 64), batch_size=2, training=True)
    for arch in made.sample(3, seed=1):
        net = made.freeze(arch).to("meta")
        assert value(peak, arch) == oracle.peak(net, inputs)
        assert value(kept, arch) == oracle.kept(net, inputs)


def test_costs_read_architectures_with_active_labels_only():
    space = proxyless()
    arch = space.sample(seed=3)
    assert set(arch) < set(space.simplify())
    assert macs(space, IMAGE).evaluate(arch) > 0


# -- what costs are -----------------------------------------------------------------------------


def test_a_flop_is_half_a_multiply_add():
    layer = nn.Linear(8, 4)
    assert (flops(layer, (8,)), macs(layer, (8,)), params(layer)) == (64, 32, 36)


def test_biases_normalisation_and_activations_do_not_count():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False))
    more = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2))
    assert macs(plain, (3, 8, 8)) == macs(more, (3, 8, 8)) == 3 * 8 * 9 * 36


def test_an_expression_says_what_it_depends_on():
    cost = macs(Residual(), (3, 8, 8))
    assert set(cost.simplify()) == {"width", "depth", "op0", "op1"}
    assert pickle.loads(pickle.dumps(cost)) is cost
    text = str(params(MutableLinear(8, Categorical([2, 4], label="width"))))
    assert text == "{2: 18, 4: 36}[width]"


def test_a_peak_is_the_largest_over_moments():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice(
                {"wide": nn.Linear(4, 100), "narrow": nn.Linear(4, 1)}, label="op"
            )

        def forward(self, x: Any) -> Any:
            return self.op(x).sum() + x.exp()

    cost = memory(Net(), (4,))
    # The input and the result of a layer with its sum; or the input, the sum and two of its size.
    assert cost.evaluate({"op": "wide"}) == 4 * (4 + 100 + 1)
    assert cost.evaluate({"op": "narrow"}) == 4 * (4 + 1 + 4 + 4)


def test_memory_in_training_scales_with_the_batch():
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    one, four = (memory(net, (8,), training=True, batch_size=n) for n in (1, 4))
    assert four == 4 * one == 4 * 4 * (8 + 64)


def test_a_tied_parameter_counts_once_wherever_it_is_used():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight
            self.op = LayerChoice([self.a, self.b, nn.Identity()], label="op")
            self.last = LayerChoice([self.b, nn.Linear(4, 4)], label="last")
            del self.a, self.b

        def forward(self, x: Any) -> Any:
            return self.last(self.op(x))

    space = Net()
    cost = params(space)
    for arch in oracle.architectures(space):
        assert cost.evaluate(arch) == oracle.params(space.freeze(arch))
    assert cost.evaluate({"op": 0, "last": 0}) == 16


class Tied(ModelSpace):
    """Elastic layers that own one tensor, of which each takes a part of its own."""

    def __init__(self) -> None:
        super().__init__()
        width, other = Categorical([2, 4], label="width"), Categorical([2, 3, 4], label="other")
        bias = Categorical([True, False], label="bias")
        linears = [MutableLinear(4, width, bias=bias), MutableLinear(4, other, bias=bias)]
        conv = MutableConv2d(4, 4, Categorical([1, 3], label="kernel"))
        other_conv = MutableConv2d(4, 4, Categorical([1, 3], label="other_kernel"))
        linears[1].weight = linears[0].weight
        other_conv.weight = conv.weight
        # Twice under one choice, and once more under another.
        self.first = LayerChoice([linears[0], nn.Sequential(*linears)], label="first")
        self.second = LayerChoice([linears[0], conv, other_conv, nn.Identity()], label="second")
        self.third = LayerChoice([nn.Identity(), nn.Sequential(conv, linears[1])], label="third")


def test_a_tied_parameter_of_elastic_layers_counts_once_for_each_part():
    space = Tied()
    cost = params(space)
    for arch in oracle.architectures(space):
        assert cost.evaluate(arch) == oracle.params(space.freeze(arch)), arch


# -- inputs -------------------------------------------------------------------------------------


def test_inputs_are_a_shape_or_tensors():
    net = nn.Bilinear(3, 4, 5)
    assert macs(net, inputs=(torch.zeros(1, 3), torch.zeros(1, 4))) == 60
    assert macs(net, inputs=(torch.zeros(1, 3), {"input2": torch.zeros(1, 4)})) == 60
    assert macs(nn.Embedding(10, 4), (7,), dtype=torch.long) == 0
    assert memory(nn.ReLU(), (4,), dtype=torch.float64) == 64


@pytest.mark.parametrize("shape", [224, "3", (0, 4), (-1,), (3, 2.0), (True,), [[3]], {"a": 1}])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(UsageError, match="input shape"):
        macs(nn.Linear(4, 4), shape)


def test_either_a_shape_or_inputs():
    for shape, inputs in ((None, None), ((4,), torch.zeros(1, 4))):
        with pytest.raises(UsageError, match="either"):
            macs(nn.Linear(4, 4), shape, inputs=inputs)
    with pytest.raises(UsageError, match="space"):
        macs("proxylessnas", (4,))  # type: ignore[arg-type]


# -- the space is left alone --------------------------------------------------------------------


def test_the_space_stays_as_it_was():
    space = Elastic()
    space.simplify()  # which it remembers
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    attributes = {path: set(vars(module)) for path, module in space.named_modules()}
    training = [module.training for module in space.modules()]
    for each in (macs, flops, memory):
        each(space, (3, 8, 8))
    memory(space, (3, 8, 8), training=True)
    params(space)
    assert {path: set(vars(module)) for path, module in space.named_modules()} == attributes
    assert [module.training for module in space.modules()] == training
    after = space.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert space.freeze(oracle.architectures(space)[0]) is not None


def test_the_space_may_be_used_meanwhile():
    space = Elastic()
    arch = oracle.architectures(space)[-1]
    with space.activate(arch):
        expected = space.eval()(torch.ones(1, 3, 8, 8))
    results: list[Any] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with space.activate(arch), torch.no_grad():
                results.append(space(torch.ones(1, 3, 8, 8)))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        costs = [macs(copy.deepcopy(space), (3, 8, 8)) for _ in range(3)]
    finally:
        stop.set()
        thread.join()
    assert all(cost is costs[0] for cost in costs)
    assert all(torch.equal(result, expected) for result in results)


def test_a_space_is_followed_once_for_an_input_shape():
    space = Elastic()
    first = profile(space, (3, 8, 8))
    assert profile(space, (3, 8, 8)) is first
    assert profile(space, (3, 9, 9)) is not first
    assert macs(space, (3, 8, 8)) is macs(space, (3, 8, 8))


def test_memory_is_watched_where_it_is_asked_for_and_what_was_said_is_not_said_again():
    space = Concat()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        unwatched = profile(space, (3, 8, 8))
        assert (len(told), unwatched.held) == (len(unwatched.misread), None)
        cost = memory(space, (3, 8, 8))
        watched = profile(space, (3, 8, 8))
        assert watched is not unwatched
        assert watched.held
        assert memory(space, (3, 8, 8)) is cost
        assert profile(space, (3, 8, 8)) is watched
        assert len(told) == len(watched.misread) > 0


def test_memory_after_another_cost_runs_no_function_again(monkeypatch):
    ran: list[Any] = []
    run = Executor._run

    def counted(*args: Any) -> Any:
        ran.append(args[1].function)
        return run(*args)

    monkeypatch.setattr(Executor, "_run", counted)
    space = Elastic()
    alone = memory(Elastic(), (3, 8, 8))
    whole = len(ran)
    macs(space, (3, 8, 8))
    assert len(ran) == 2 * whole
    assert memory(space, (3, 8, 8)) is alone
    assert len(ran) == 2 * whole
    assert profile(space, (3, 8, 8)).executor is None  # nobody asks any more


def test_memory_after_another_cost_sees_what_the_space_is_then():
    def made() -> nn.Module:
        width = Categorical([2, 4], label="width")
        return nn.Sequential(MutableLinear(4, width), nn.ReLU())

    space, other = made(), made().double()
    before = memory(made(), (4,))
    macs(space, (4,))
    found = memory(space.double(), (4,))
    assert found is memory(other, (4,))
    assert found is not before


class _AlwaysTraining(nn.Linear):
    """A layer whose class says itself what a mode is to it."""

    def train(self, mode: bool = True) -> Any:
        return super().train(True)

    def forward(self, x: Any) -> Any:
        return super().forward(x) if self.training else x


def test_a_module_has_the_mode_that_its_class_says():
    assert macs(nn.Sequential(_AlwaysTraining(4, 4), nn.Linear(4, 2)), (4,)) == 16 + 8
    space = Elastic().eval()
    memory(space, (3, 8, 8), training=True, batch_size=2)
    assert not any(module.training for module in space.modules())


class Plain(ModelSpace):
    """A choice between layers that have one form each, and an operator in place."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)]
        self.op = LayerChoice(layers, label="op")

    def forward(self, x: Any) -> Any:
        return self.op(x).relu_().mean((2, 3))


def entered(work: Callable[[], Any]) -> set[str]:
    """The files of the profiler that something runs code of."""
    found: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parts[-3:-1] == ("nas_space", "profiler"):
            found.add(path.stem)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def test_what_is_rare_is_entered_where_it_is_met():
    rare = {"allocations", "failures", "formulas", "in_place_changes", "known_values", "memory"}
    rare |= {"misread", "named_conditions", "plain_layers"}
    assert entered(lambda: macs(Plain(), (3, 8, 8))) & rare == set()
    assert entered(lambda: memory(Plain(), (3, 8, 8))) & rare == {"allocations", "memory"}
    assert entered(lambda: macs(Elastic(), (3, 8, 8))) & rare == {"misread", "plain_layers"}


def test_a_space_that_was_changed_is_followed_again():
    space = nn.Sequential(nn.Linear(4, 4))
    assert macs(space, (4,)) == 16
    space[0] = nn.Linear(4, 8)
    assert macs(space, (4,)) == 32


def test_a_space_can_be_forgotten():
    space = Elastic()
    macs(space, (3, 8, 8))
    alive = weakref.ref(space)
    del space
    gc.collect()
    assert alive() is None


def test_a_profile_outlives_no_space():
    of = profile(Elastic(), (3, 8, 8))
    gc.collect()
    with pytest.raises(SpaceError, match="does not exist any more"):
        of.modules({})


def test_a_cost_prints_as_its_name_where_it_is_long():
    cost, count = macs(proxyless(), IMAGE), params(proxyless())
    assert str(cost) == "macs"
    assert str(cost / 1e6 + count) == "macs / 1000000.0 + params"
    with pytest.raises(InfeasibleError, match="no architecture has macs <= 320: the smallest is"):
        proxyless().where(cost <= 320)
    width = Categorical([2, 4], label="width")
    assert "width" in str(params(MutableLinear(8, width)))
    assert str(pickle.loads(pickle.dumps(cost))) == "macs"
    assert str(cost.titled("operations")) == "operations"  # another cost, of the same numbers
    assert str(macs(proxyless(), IMAGE)) == "macs"


def test_a_restricted_space_costs_what_the_space_does():
    space = Elastic()
    cost, count = macs(space, (3, 8, 8)), params(space)
    small = space.where(cost <= space.bounds(cost).maximum).where(count > 0)
    assert macs(small, (3, 8, 8)) is cost
    assert params(small) is count


def test_what_is_no_module_has_no_cost():
    with pytest.raises(UsageError, match="got Elastic, which is to be called first"):
        macs(Elastic, (3, 8, 8))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="of a space or a module, but got dict"):
        params({})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["elastic", "residual"])
def test_what_peaks_below_a_bound_is_exact(name):
    make, inputs = SPACES[name]
    space = make()
    peak = memory(space, inputs=inputs)
    found = sorted(value(peak, arch) for arch in oracle.architectures(space))
    for bound in (found[0], found[len(found) // 2], found[-1]):
        expected = sum(one <= bound for one in found)
        assert space.where(peak <= bound).count() == expected
    with pytest.raises(InfeasibleError, match="no architecture has"):
        space.where(peak < found[0])


def test_peaks_of_large_spaces_are_bounded_exactly():
    space = ProxylessNAS(width_mult=0.25)
    peak, cost = memory(space, (3, 64, 64)), macs(space, (3, 64, 64))
    batch = space.sample(4000, over="architectures", seed=0)
    bound = int(np.median(peak.evaluate(batch)))
    within = space.where(peak <= bound, cost <= int(np.median(cost.evaluate(batch))))
    share = float((peak.evaluate(batch) <= bound).mean())
    assert space.where(peak <= bound).count() / space.count() == pytest.approx(share, abs=0.04)
    assert peak.evaluate(within.sample(500, seed=0)).max() <= bound


def test_a_plain_network_has_plain_costs():
    space = Elastic()
    arch = oracle.architectures(space)[5]
    net = space.freeze(arch)
    assert macs(net, (3, 8, 8)) == macs(space, (3, 8, 8)).evaluate(arch)
    assert isinstance(memory(net, (3, 8, 8)), int)
    assert isinstance(params(net), int)


def test_strides_that_are_chosen_multiply():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            strides = [Categorical([1, 2], label=f"stride{i}") for i in range(12)]
            self.layers = nn.Sequential(
                *(MutableConv2d(1, 1, 3, stride=stride, padding=1) for stride in strides)
            )

        def forward(self, x: Any) -> Any:
            return self.layers(x)

    space = Net()
    cost = macs(space, (1, 64, 64))
    inputs = torch.zeros(1, 1, 64, 64)
    for arch in space.sample(20, seed=0):
        assert cost.evaluate(arch) * 2 == oracle.flops(space.freeze(arch), inputs)


def test_inputs_are_given_by_name_as_the_forward_takes_them():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.fc = MutableLinear(4, Categorical([2, 3], label="w"))

        def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(x) * scale
            return y

    x, scale = torch.zeros(1, 4), torch.ones(1)
    named: Any = macs(Net(), inputs={"x": x, "scale": scale})
    assert named.evaluate({"w": 3}) == 12
    assert macs(Net(), inputs=(x, {"scale": scale})).evaluate({"w": 3}) == 12


def test_a_peak_that_different_moments_reach_for_different_architectures_is_found():
    class Pick(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pick = InputChoice(2, n_chosen=1, reduction="sum", label="pick")
            self.branches = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))

        def forward(self, x: torch.Tensor) -> Any:
            return self.pick([branch(x) for branch in self.branches])

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            blocks = [Pick, lambda: nn.Conv2d(4, 4, 1)]
            self.body = Repeat(lambda index: blocks[index](), (1, 2), label="depth")

        def forward(self, x: torch.Tensor) -> Any:
            return self.body(self.stem(x)).mean((2, 3))

    space, x = Net(), torch.zeros(1, 3, 6, 6)
    peak = memory(space, inputs=x)
    for depth in (1, 2):
        arch = {"depth": depth, "pick": [0]}
        found = peak.evaluate(arch) if isinstance(peak, MutableExpression) else peak
        assert found == oracle.peak(space.freeze(arch), x)


def test_blocks_and_operators_that_positions_share_are_followed_once():
    calls = []

    class Block(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(self)
            return x * 2

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.body = Repeat(Block(), (0, 4), label="depth")
            self.cell = Cell([Block(), nn.Identity()], 2, num_predecessors=3, label="cell")

        def forward(self, x: torch.Tensor) -> Any:
            x = self.body(x)
            return self.cell(x, x + 1, x + 2)

    macs(Net(), (4,))
    assert len(calls) == 4 + 2


@pytest.mark.parametrize("kept", [False, True])
def test_the_memory_of_a_block_is_let_go_at_every_depth(kept):
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            blocks = [nn.Linear(4, 64), nn.ReLU(inplace=True), nn.Linear(64, 4), nn.Linear(4, 32)]
            self.body = Repeat(lambda index: blocks[index], (0, 4), label="depth")

        def forward(self, x: torch.Tensor) -> Any:
            y = self.body(x)
            return (y.sum(), x.sum()) if kept else y.sum()

    space, x = Net(), torch.zeros(3, 4)
    peak = memory(space, inputs=x)
    for depth in range(5):
        arch = {"depth": depth}
        assert peak.evaluate(arch) == oracle.peak(space.freeze(arch), x), depth


def test_what_is_changed_in_place_is_changed_wherever_it_may_have_come_from():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.pick = InputChoice(2, label="pick")
            self.body = Repeat(_Passed(), (0, 1), label="depth")

        def forward(self, x: torch.Tensor) -> Any:
            a, b = x * 1, x * 2
            self.body(self.pick([a, b])).t_()
            return a @ a.t(), b @ b.t()

    space, x = Net(), torch.zeros(2, 8)
    cost = macs(space, inputs=x)
    for pick, depth in itertools.product(([0], [1]), (0, 1)):
        arch = {"pick": pick, "depth": depth}
        assert cost.evaluate(arch) == macs(space.freeze(arch), inputs=x)


class _Passed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape)
