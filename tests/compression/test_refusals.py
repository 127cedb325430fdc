"""`nas_space.elastic` refuses by name what it cannot do, and leaves everything as it was."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import InfeasibleError, NasSpaceError, UsageError
from nas_space.nn import ModelSpace, MutableLinear


def plain(width=16):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2)).eval()


X = torch.ones(1, 4)


class Branching(nn.Module):
    """A forward that takes a decision on a value, between two parts that do not."""

    def __init__(self):
        super().__init__()
        self.first, self.last = plain(), nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 3))

    def forward(self, x):
        x = self.first(x)
        if x.sum() > 100:
            x = x * 2
        return self.last(x)


def test_where_the_forward_branches_on_values_the_parts_that_do_not_vary():
    net = Branching().eval()
    space = ns.elastic(net, X)
    assert {group.label for group in space.groups()} == {"first.0.width", "last.0.width"}
    (note,) = space.groups().notes
    assert "test_refusals.py" in note
    small = space.freeze({"first.0.width": 8, "last.0.width": 8})
    with torch.no_grad(), space.activate({"first.0.width": 8, "last.0.width": 8}):
        assert torch.equal(small(X), space(X))


class Outside(nn.Module):
    """Looks at the values of parameters of its own in Python."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 16)
        self.table = nn.Parameter(torch.ones(16))

    def forward(self, x):
        return self.inner(x) * float(self.table.tolist()[0])


def test_where_nothing_can_be_followed_all_is_fixed_and_the_line_is_said():
    space = ns.elastic(Outside().eval(), X)
    assert not space.groups()
    assert any("test_refusals.py" in note for note in space.groups().notes)
    assert space.original == {}


@pytest.mark.parametrize(
    ("net", "inputs", "message"),
    [
        (lambda: nn.functional.relu, X, "takes a module"),
        (lambda: nn.Sequential(nn.LazyLinear(4)), X, r"0\.weight has no shape yet"),
        (lambda: plain().to("meta"), X, r"0\.weight is on the meta device"),
        (lambda: nn.Sequential(nn.DataParallel(plain())), X, "'0' is a DataParallel"),
        (lambda: torch.compile(plain()), X, "_orig_mod"),
        (lambda: nn.Sequential(cast(Any, torch.compile(plain()))), X, "'0' is compiled.*_orig_mod"),
        (lambda: torch.jit.script(plain()), X, "the network is compiled by torch.jit"),
        (
            lambda: nn.Sequential(cast(Any, torch.jit.trace(plain(), X))),
            X,
            "'0' is compiled by torch.jit",
        ),
        (plain, torch.ones(1, 4, device="meta"), "input 0 is on meta"),
        (plain, (X, X), "does not take these inputs"),
        (plain, {"wrong": X}, "does not take these inputs"),
        (plain, "text", "inputs are a tensor"),
        (plain, torch.ones(1, 5), "does not run on these inputs"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_no_network_or_does_not_fit_it_is_refused(net, inputs, message):
    with pytest.raises(UsageError, match=message):
        ns.elastic(net(), inputs)


def test_a_quantised_network_is_refused_with_what_to_do():
    net = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, torch.qint8)
    with pytest.raises(UsageError, match=r"'0', a Linear, is quantised.*small first"):
        ns.elastic(net, X)


def test_a_space_is_refused_and_so_is_a_part_that_is_one():
    class Space(ModelSpace):
        def __init__(self):
            super().__init__()
            self.inner = MutableLinear(4, ns.Categorical([2, 4], label="w"))

        def forward(self, x):
            return self.inner(x)

    with pytest.raises(UsageError, match="ModelSpace already"):
        ns.elastic(Space(), X)
    with pytest.raises(UsageError, match=r"the network was frozen.*class, Space, it still has"):
        ns.elastic(Space().freeze({"w": 2}), X)
    with pytest.raises(UsageError, match="'0', a Space, differs between architectures already"):
        ns.elastic(nn.Sequential(Space()), X)
    with pytest.raises(UsageError, match="ModelSpace already"):
        ns.elastic(ns.elastic(plain(), X), X)


@pytest.mark.parametrize(
    "name", ["groups", "freeze", "original", "sample", "_symbols", "_elastic", "_keep", "_order"]
)
def test_an_attribute_that_a_space_has_too_is_refused_by_name(name):
    net = plain()
    setattr(net, name, 3)
    with pytest.raises(UsageError, match=f"{name!r}.*rename it"):
        ns.elastic(net, X)
    inside = ns.elastic(nn.Sequential(net), X)
    assert getattr(inside.get_submodule("0"), name) == 3


class Remembering(nn.Module):
    """Keeps what it was made with under a name that layers of a space use, too."""

    def __init__(self, **given):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)
        vars(self).update(given)

    def forward(self, x):
        (factor,) = (vars(self)[name] for name in NAMES if name in vars(self))
        return self.last(self.first(x)) * factor


NAMES = ("args", "_mutables", "_expressions", "_blueprint", "_shared", "_instances", "_keep")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_part_keeps_under_a_name_of_ours_is_in_the_frozen_network(name):
    net = nn.Sequential(Remembering(**{name: 3.0})).eval()
    space = ns.elastic(net, X)
    small = space.freeze({"0.first.width": 8})
    with space.activate({"0.first.width": 8}):
        assert torch.equal(small(X), space(X))
    assert torch.equal(space.freeze(space.original)(X), net(X))


class Reserved(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(16))
        self.inner, self.outer = nn.Linear(4, 16), nn.Linear(16, 2)

    def default(self, x):
        return x * self.scale

    def forward(self, x):
        return self.outer(self.default(self.inner(x)))


def test_a_part_whose_method_a_mutable_has_too_keeps_it_and_what_varies_there_is_fixed():
    net = nn.Sequential(Reserved()).eval()
    space = ns.elastic(net, X)
    assert not space.groups()
    assert any("default" in (group.reason or "") for group in space.groups().fixed)
    assert torch.equal(space.freeze(space.original)(X), net(X))


def test_dropout_and_statistics_stay_as_they_are_in_training_mode():
    net = nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2)
    ).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.randn(8, 4)
    state = torch.random.get_rng_state()
    space = ns.elastic(net, x, in_place=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in space.modules())
    assert all(torch.equal(space.state_dict()[key], value) for key, value in before.items())


def test_in_place_the_network_itself_becomes_the_space_and_a_refusal_leaves_it_alone():
    net = plain()
    weight = net[0].weight
    space = ns.elastic(net, X, in_place=True)
    assert space is net
    assert space.get_submodule("0").weight is weight
    other = plain()
    kinds = [type(module) for module in other.modules()]
    with pytest.raises(NasSpaceError):
        ns.elastic(other, torch.ones(1, 5), in_place=True)
    assert [type(module) for module in other.modules()] == kinds


def test_a_budget_below_the_smallest_architecture_says_what_is_possible():
    space = ns.elastic(plain(), X)
    macs = ns.profiler.macs(space, inputs=X)
    with pytest.raises(InfeasibleError):
        space.where(macs <= 10).sample(seed=0)


@pytest.mark.parametrize(
    "options",
    [{"widths": ()}, {"widths": (0.5, 1.5)}, {"widths": (0,)}, {"divisor": 0}, {"outputs": "some"},
     {"share": "all"}],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        ns.elastic(plain(), X, **options)


def test_patterns_choose_and_exclude_and_one_that_fits_nothing_is_refused():
    net = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(16, 16), nn.ReLU())))
    x = torch.ones(1, 16)
    assert set(ns.elastic(net, x).symbols()) == {"0.width", "2.width"}
    assert set(ns.elastic(net, x, fixed=["0.*"]).symbols()) == {"2.width"}
    assert set(ns.elastic(net, x, only=["0.*"]).symbols()) == {"0.width"}
    with pytest.raises(UsageError, match=r"'nothing'.*0\.width"):
        ns.elastic(net, x, fixed=["nothing"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_bad_input_leaves_the_network_as_it_was():
    lazy = nn.Sequential(nn.Linear(4, 16), nn.LazyLinear(4))
    cases: list[Any] = [
        (plain(), torch.ones(1, 5), {}),
        (plain(), torch.ones(1, 4, device="meta"), {}),
        (plain(), X, {"fixed": ["nothing"]}),
        (lazy, X, {}),
        (nn.Sequential(nn.Linear(4, 16), nn.DataParallel(nn.Linear(16, 2))), X, {}),
    ]
    for net, inputs, options in cases:
        before = [(type(m), list(vars(m)), m.training) for m in net.modules()]
        with pytest.raises(UsageError):
            ns.elastic(net, inputs, in_place=True, **options)
        assert [(type(m), list(vars(m)), m.training) for m in net.modules()] == before


class Sharded(torch.Tensor):
    """As a tensor that several devices hold parts of."""

    placements = ("shard",)


def test_a_sharded_network_is_refused_with_what_to_do():
    net = plain()
    part = nn.Parameter(torch.ones(16).as_subclass(Sharded))
    net[0].bias = part
    with pytest.raises(UsageError, match=r"0\.bias is sharded.*gather"):
        ns.elastic(net, X)


class Attention(nn.Module):
    """Whose kernel takes no head that is smaller than 8."""

    def __init__(self):
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        if q.shape[-1] < 8:
            raise RuntimeError("heads are multiples of 8")
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


def test_a_step_that_breaks_a_kernel_is_left_out_and_its_reason_said():
    x = torch.randn(2, 5, 32)
    space = ns.elastic(Attention().eval(), x)
    (group,) = [g for g in space.groups().fixed if "multiples of 8" in str(g.reason)]
    assert "does not run" in str(group.reason)
    assert {g.label for g in space.groups()} == {"heads"}


class Stepped(nn.Module):
    """Runs with widths from 12 on only."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x):
        y = self.first(x)
        if y.shape[-1] < 12:
            raise RuntimeError("too narrow")
        return self.last(y)


def test_where_the_smallest_value_does_not_run_the_next_that_does_is_offered():
    space = ns.elastic(Stepped().eval(), X, divisor=4)
    assert space.symbols()["first.width"].values == (12, 16)


class Shifting(nn.Module):
    """Treats quarters of its channels each in another way."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        y = self.first(x)
        n = y.shape[1] // 4
        parts = y[:, :n].roll(1, 2), y[:, n : 2 * n].roll(-1, 2), y[:, 2 * n :]
        return self.last(torch.cat(parts, 1))


class Positioned(nn.Module):
    """Adds a constant to each channel that follows from its place."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x):
        y = self.first(x)
        return self.last(y + torch.arange(y.shape[-1]) / y.shape[-1])


@pytest.mark.parametrize(
    ("net", "x"), [(Shifting, torch.randn(2, 3, 8, 8)), (Positioned, torch.randn(3, 4))]
)
def test_channels_that_code_knows_by_their_places_are_neither_cut_nor_sorted(net, x):
    space = ns.elastic(net().eval(), x)
    assert not space.groups()
    reasons = " ".join(str(group.reason) for group in space.groups().fixed)
    assert "same channels are silent" in reasons or "depends on their places" in reasons
