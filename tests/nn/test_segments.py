"""Segments: the form of a size says which elements of a dimension an architecture has."""

from __future__ import annotations

import copy
import importlib
import pickle
import warnings
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.mutable import Categorical, MutableExpression
from nas_space.nn import flattened
from nas_space.nn.decisions import Traced, misread
from nas_space.nn.places import Places, leading
from nas_space.nn.segments import layout_of
from nas_space.profiler import macs, params, profile
from nas_space.training.slices import used_slices

C = Categorical
WIDTHS = {"w": [1, 2, 4], "v": [1, 3], "u": [0, 2]}


def widths() -> dict[str, Any]:
    return {label: C(values, label=label) for label, values in WIDTHS.items()}


# -- layouts against torch's own cat and view -------------------------------------------------


class Plan:
    """A random size, beside the identities of its elements in the dimension that is owned."""

    def __init__(self, draw: Any, depth: int = 0) -> None:
        kinds = ["width", "number"] if depth > 2 else ["width", "number", "sum", "flat", "times"]
        self.kind = draw(st.sampled_from(kinds))
        self.value: Any = None
        self.parts: list[Plan] = []
        if self.kind == "width":
            self.value = draw(st.sampled_from("wvu"))
        elif self.kind == "number":
            self.value = draw(st.integers(1, 3))
        else:
            several = draw(st.integers(1, 3))
            self.parts = [Plan(draw, depth + 1) for _ in range(several)]

    def size(self, widths: dict[str, Any]) -> Any:
        if self.kind in ("width", "number"):
            return widths.get(self.value, self.value)
        parts = [part.size(widths) for part in self.parts]
        if self.kind == "sum":
            return sum(parts[1:], parts[0])
        if self.kind == "flat":
            return flattened(*parts)
        return parts[0] * 2  # an axis of two behind it

    def there(self, values: dict[str, int]) -> Tensor:
        """One for each element that is owned: whether it is there."""
        if self.kind == "width":
            return torch.arange(max(WIDTHS[self.value])) < values[self.value]
        if self.kind == "number":
            return torch.ones(self.value, dtype=torch.bool)
        parts = [part.there(values) for part in self.parts]
        if self.kind == "sum":
            return torch.cat(parts)
        if self.kind == "times":
            return (parts[0][:, None] & torch.ones(2, dtype=torch.bool)).flatten()
        made = torch.ones((), dtype=torch.bool)
        for part in parts:
            made = (made.reshape(-1, 1) & part).flatten()
        return made


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_sums_are_concatenated_and_axes_flattened(data: st.DataObject) -> None:
    plan = data.draw(st.builds(Plan, st.just(data.draw)))
    size = plan.size(widths())
    layout = layout_of(size)
    for combination in product(*WIDTHS.values()):
        values = dict(zip(WIDTHS, combination, strict=True))
        there = plan.there(values)
        places = layout.places(lambda e, values=values: e.evaluate(values))  # type: ignore[misc]
        assert layout.extent == len(there)
        assert int(places) == there.count_nonzero()
        kept = leading(torch.arange(layout.extent), [places])
        assert kept.tolist() == torch.arange(len(there))[there].tolist()


def places_of(size: Any, **values: Any) -> list[int]:
    found: list[int] = layout_of(size).indices(lambda e: e.evaluate(values)).tolist()
    return found


def test_what_is_no_sum_is_what_comes_first():
    w, v, _ = widths().values()
    for size in (w, w * 49, 2 * w, w * v, MutableExpression.to_int(w + v), w - 0 * v, w // 2, 3):
        assert layout_of(size).is_prefix
    assert layout_of(16 + w).is_prefix  # what comes before w is always there
    assert type(layout_of(w + v).places(lambda e: {"w": 4, "v": 1}[e.name])) is int


def test_a_group_reads_its_share_of_a_repeated_size():
    w, v, _ = widths().values()
    assert places_of((w + v + w + v) // 2, w=1, v=1) == [0, 4]
    assert places_of(flattened(4, w) // 2, w=1) == [0, 4]
    assert places_of((w + v) // 1, w=1, v=1) == [0, 4]
    groups = C([1, 2], label="g")
    assert places_of((w + w) // groups, w=1, g=1) == [0, 4]
    assert places_of((w + w) // groups, w=1, g=2) == [0]


def test_a_branch_is_laid_out_as_what_it_is():
    w, v, _ = widths().values()
    both = C([True, False], label="both")
    size = MutableExpression.condition(both, w + v, v)
    assert places_of(size, both=True, w=1, v=1) == [0, 4]
    assert places_of(size, both=False, v=3) == [0, 1, 2]  # w is not there to be asked
    op = C(["one", "two"], label="op")
    size = MutableExpression.switch_case(op, {"one": w, "two": w + w})
    assert places_of(size, op="two", w=2) == [0, 1, 4, 5]
    size = MutableExpression.case([(op == "one", w), (both, w + w), (True, v)])
    assert places_of(size, op="two", both=True, w=2) == [0, 1, 4, 5]


def test_sizes_that_depend_on_each_other_have_room_for_all():
    w = C([1, 4], label="w")
    layer = mnn.MutableLinear(w + (5 - w), 2)
    assert layer.weight.shape == (2, 8)
    assert layer.freeze({"w": 1}).weight.equal(layer.weight[:, [0, 4, 5, 6, 7]])


def test_a_long_sum_and_shared_parts_are_laid_out_in_time():
    w, v, _ = widths().values()
    long: Any = w
    for _ in range(3000):
        long = long + v
    assert layout_of(long).extent == 4 + 9000
    shared: Any = w
    for _ in range(100):
        shared = MutableExpression.condition(shared > 2, shared, shared + v)
    assert len(layout_of(shared).atoms) < 500


def test_places_are_told_apart_where_there_are_as_many():
    w, v, _ = widths().values()
    values = (w + v).read({"w": 1, "v": 3})
    some, first = layout_of(w + v).places(values), layout_of(v + w).places(values)
    assert isinstance(some, Places)
    assert int(some) == first == 4
    assert some != first
    assert some == pickle.loads(pickle.dumps(some))
    assert some != layout_of(w + w + v).places((w + v).read({"w": 1, "v": 3}))


# -- networks against the whole one with channels silenced ------------------------------------


class Joined(ns.ModelSpace):
    """Two elastic branches, what joins them, and who reads it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        w, v, _ = widths().values()
        self.a, self.b = mnn.MutableConv2d(3, w, 1), mnn.MutableConv2d(3, v, 1)
        self.join, reader, *_ = JOINS[name]
        self.reader = nn.Sequential(*reader(w, v))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reader(self.join(self.a(x), self.b(x)))
        return y


def cat(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, 1)


def heads(a: Tensor, _: Tensor) -> Tensor:
    """Each pixel a head, whose size is the number of channels."""
    return a.flatten(2).transpose(1, 2).flatten(1)


JOINS: dict[str, Any] = {
    "sum": (cat, lambda w, v: [mnn.MutableConv2d(w + v, 4, 3)]),
    "sum of three": (
        lambda a, b: cat(a, b, a),
        lambda w, v: [mnn.MutableConv2d(MutableExpression.sum([w, v, w]), 4, 1)],
    ),
    "halves": (lambda _, b: cat(b, b), lambda _, v: [mnn.MutableConv2d(flattened(2, v), 4, 1)]),
    "interleaved": (
        lambda _, b: b.repeat_interleave(2, 1),
        lambda _, v: [mnn.MutableConv2d(v * 2, 4, 1)],
    ),
    "norms": (
        cat,
        lambda w, v: [
            mnn.MutableBatchNorm2d(w + v),
            mnn.MutablePReLU(w + v),
            mnn.MutableConv2d(w + v, 4, 1),
        ],
    ),
    "transposed": (cat, lambda w, v: [mnn.MutableConvTranspose2d(w + v, 4, 2)]),
    "depthwise": (
        cat,
        lambda w, v: [
            mnn.MutableConv2d(w + v, w + v, 3, groups=w + v),
            mnn.MutableConv2d(w + v, 4, 1),
        ],
    ),
    "flattened": (
        lambda a, b: cat(a, b).flatten(1),
        lambda w, v: [mnn.MutableLinear((w + v) * 9, 4)],
    ),
    "channels last": (
        lambda a, b: cat(a, b).movedim(1, -1).flatten(1),
        lambda w, v: [mnn.MutableLinear(flattened(3, 3, w + v), 4)],
    ),
    "heads": (heads, lambda w, _: [mnn.MutableLinear(flattened(9, w), 4)]),
    "groups": (
        lambda a, b: cat(a, b, a, b),
        lambda w, v: [mnn.MutableConv2d(w + v + w + v, 4, 1, groups=2)],
    ),
    "groups out": (
        lambda a, _: cat(a, a),
        lambda w, v: [
            mnn.MutableConv2d(w + w, v + v, 1, groups=2),
            mnn.MutableConv2d(v + v, 4, 1),
        ],
        lambda _, v: [*range(v), *range(3, 3 + v)],
    ),
    "wide between": (
        cat,
        lambda w, v: [mnn.MutableConv2d(w + v, v + w, 1), mnn.MutableConv2d(v + w, 4, 1)],
        lambda w, v: [*range(v), *range(3, 3 + w)],
    ),
}
"""What joins the branches; who reads that; and which rows the first of these has, if it differs."""


def silenced(space: Any, name: str, w: int, v: int, x: Tensor) -> Tensor:
    """The output of the largest network with the channels that an architecture lacks at zero."""
    network = space.freeze({"w": 4, "v": 3})
    kept = {network.a: range(w), network.b: range(v)}
    for rows in JOINS[name][2:]:
        kept[network.reader[0]] = rows(w, v)
    for module, rows in kept.items():
        there = torch.zeros(len(module.bias), dtype=module.bias.dtype)
        there[list(rows)] = 1
        with torch.no_grad():
            module.weight *= there.view(-1, 1, 1, 1)
            module.bias *= there
    y: Tensor = network.eval()(x)
    return y


@pytest.mark.parametrize("name", JOINS)
def test_a_narrower_network_is_the_widest_with_channels_silenced(name):
    """Columns stay with the channels that they read, whatever the other branches' widths are."""
    torch.manual_seed(0)
    space = Joined(name).double()
    if name in ("norms", "depthwise"):  # what is silent must stay so
        nn.init.zeros_(space.reader[0].get_parameter("bias"))
    x = torch.randn(2, 3, 3, 3, dtype=torch.double)
    for w, v in product(WIDTHS["w"], WIDTHS["v"]):
        frozen = space.freeze({"w": w, "v": v}).eval()
        torch.testing.assert_close(frozen(x), silenced(space, name, w, v, x))


@pytest.mark.parametrize("name", JOINS)
def test_active_frozen_counted_and_built_alike(name):
    space = Joined(name)
    count = params(space)
    x = torch.randn(2, 3, 3, 3)
    for w, v in product(WIDTHS["w"], WIDTHS["v"]):
        arch = {"w": w, "v": v}
        frozen = space.freeze(arch).train()
        with space.train().activate(arch):
            assert torch.equal(space(x), frozen(x))
        again = space.freeze(arch).state_dict()
        assert all(torch.equal(again[key], found) for key, found in frozen.state_dict().items())
        assert count.evaluate(arch) == sum(p.numel() for p in frozen.parameters())
        built = Joined.frozen_factory(arch)(name)
        shapes = {key: tensor.shape for key, tensor in built.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in frozen.state_dict().items()}
    for other in (pickle.loads(pickle.dumps(copy.deepcopy(space.reader))), space.reader):
        for made, its in zip(other.parameters(), space.reader.parameters(), strict=True):
            assert made.equal(its)


def test_only_the_segments_that_were_used_are_updated():
    space = Joined("norms")
    weight = space.reader[2].get_parameter("weight")
    before = weight.detach().clone()
    optimizer = torch.optim.AdamW(space.parameters(), lr=0.1, weight_decay=0.1)
    arch = {"w": 2, "v": 1}
    with Traced(space.read(arch)) as path:
        space(torch.randn(2, 3, 3, 3)).square().sum().backward()
    with used_slices(optimizer, path.used):
        optimizer.step()
    moved = weight.ne(before).any(0).flatten()
    assert moved.tolist() == [True, True, False, False, True, False, False]


def test_tied_parameters_of_other_segments_count_apart():
    class Tied(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            w, v, _ = widths().values()
            self.first = mnn.MutableLinear(w + v, 2, bias=False)
            self.second = mnn.MutableLinear(v + w, 2, bias=False)
            self.third = mnn.MutableLinear(w + v, 2, bias=False)
            self.second.weight = self.third.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return x

    space = Tied()
    count = params(space)
    for w, v in product(WIDTHS["w"], WIDTHS["v"]):
        frozen = space.freeze({"w": w, "v": v})
        assert frozen.first.weight is frozen.third.weight
        expected = sum(p.numel() for p in frozen.parameters())
        assert count.evaluate({"w": w, "v": v}) == expected


def test_one_segment_stays_a_view():
    space = Joined("sum")
    form = space.a.form(lambda e: e.evaluate({"w": 2, "v": 1}))
    taken = form.parts[""].cuts["weight"](space.a.weight.detach())
    assert taken is not None
    assert taken._is_view()


def test_what_is_concatenated_in_another_order_is_said_with_its_path():
    space = Joined("sum")
    space.reader.eval()
    modes = [module.training for module in space.modules()]
    assert misread(space, torch.zeros(1, 3, 3, 3)) == []
    assert [module.training for module in space.modules()] == modes
    assert set(modes) == {True, False}
    space.join = lambda a, b: cat(b, a)
    (said,) = misread(space, torch.zeros(1, 3, 3, 3))
    assert said.startswith("reader.0, of ")
    assert said.endswith("write v + w")


def otherwise() -> dict[str, Any]:
    """Sizes of readers and what they read: no two agree, and what should be written."""
    w, v, _ = widths().values()
    return {
        "order": (w + v, lambda a, b: torch.cat([b, a], 1), "write v + w"),
        "hstack": (w + v, lambda a, b: torch.hstack([b, a]), "write v + w"),
        "one of four": (
            w + v + w + w,
            lambda a, b: torch.cat([a, a, a, b], 1),
            "write w + w + w + v",
        ),
        "one of three": (w + v + w, lambda a, b: torch.cat([a, a, b], 1), "write w + w + v"),
        "a product": (3 * w, lambda a, _: torch.cat([a] * 3, 1), "write flattened(3, w)"),
        "tiled": (3 * w, lambda a, _: torch.stack([a] * 3, 1).flatten(1, 2), "flattened(3, w)"),
        "channels last": (w * 4, lambda a, _: flat(a.permute(0, 2, 3, 1)), "flattened(4, w)"),
        "rolled": (w, lambda a, _: a.roll(1, 1), "write the addends in the order"),
    }


def alike() -> dict[str, Any]:
    w, v, _ = widths().values()
    return {
        "order": (w + v, lambda a, b: torch.cat([a, b], 1)),
        "interleaved": (3 * w, lambda a, _: a.repeat_interleave(3, 1)),
        "a product": (flattened(3, w), lambda a, _: torch.cat([a] * 3, 1)),
        "channels first": (w * 4, lambda a, _: flat(a)),
    }


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :, None, None]


class Read(mnn.ModelSpace):
    def __init__(self, size: Any, join: Any, stride: Any = 1) -> None:
        super().__init__()
        w, v, _ = widths().values()
        self.a = mnn.MutableConv2d(3, w, 1, stride=stride)
        self.b = mnn.MutableConv2d(3, v, 1, stride=stride)
        self.last: torch.nn.Module = mnn.MutableConv2d(size, 2, 1)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.join(self.a(x), self.b(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", otherwise())
def test_counting_warns_of_what_is_read_otherwise(case):
    size, join, advice = otherwise()[case]
    with pytest.warns(UserWarning, match=r"^last, of in_channels=") as told:
        macs(Read(size, join), (3, 2, 2))
    assert advice in str(told[0].message)
    assert len(told) == 1


def test_a_space_that_no_mixture_runs_is_looked_at_too():
    size, join, _ = otherwise()["order"]
    with pytest.warns(UserWarning, match="write v [+] w"):
        macs(Read(size, join, stride=C([1, 2], label="stride")), (3, 2, 2))


def test_candidates_have_their_turns_and_layers_of_one_fault_are_told_together():
    """No mixture runs it: the candidates give different shapes."""
    size, join, _ = otherwise()["order"]

    class Chosen(Read):
        def __init__(self) -> None:
            super().__init__(size, join)
            reads = [mnn.MutableConv2d(size, 2, 1, padding=p) for p in (0, 1)]
            self.last = mnn.LayerChoice([*reads, torch.nn.Identity()], label="op")

    with pytest.warns(UserWarning, match="write v [+] w"):
        (told,) = profile(Chosen(), (3, 2, 2)).misread
    assert told.startswith("last.1 (and 1 more), of in_channels=w + v, reads elements")


@pytest.mark.parametrize("case", alike())
def test_nothing_is_said_of_what_lies_as_the_size_says(case):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        macs(Read(*alike()[case]), (3, 2, 2))


class Sequences(mnn.ModelSpace):
    """Two elastic embeddings, put together, and read by a layer without one width."""

    def __init__(self, last: Any, between: Any, swapped: bool) -> None:
        super().__init__()
        w, v, _ = widths().values()
        self.a, self.b = mnn.MutableLinear(3, w), mnn.MutableLinear(3, v)
        self.last = last(w, v)
        self.between, self.swapped = between, swapped

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.between(self.a(x)), self.between(self.b(x))
        both = torch.cat([b, a] if self.swapped else [a, b], -1)
        times = 3 if isinstance(self.last, torch.nn.MultiheadAttention) else 1
        found = self.last(*[both] * times)
        return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


LASTS = {
    "linear": lambda w, v: mnn.MutableLinear(w + v, 2),
    "recurrent": lambda w, v: mnn.MutableLSTM(w + v, 4),
    "recurrent of elastic size": lambda w, v: mnn.MutableGRU(w + v, w),
    "attention": lambda w, v: mnn.MutableMultiheadAttention(w + v, 1),
    "a norm": lambda w, v: mnn.MutableLayerNorm(w + v),
    "bilinear": lambda w, v: Doubled(w + v),
}


class Doubled(torch.nn.Module):
    def __init__(self, size: Any) -> None:
        super().__init__()
        self.inner = mnn.MutableBilinear(size, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x.new_ones(*x.shape[:-1], 3))  # type: ignore[no-any-return]


BETWEEN = {
    "nothing": lambda x: x,
    "a softmax": lambda x: x.softmax(-1),
    "a mean subtracted": lambda x: x - x.mean(-1, keepdim=True),
    "a function nobody knows": lambda x: torch.special.log_ndtr(x.cumsum(-1)),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("last", LASTS)
def test_layers_of_every_kind_and_what_is_run_case_by_case_are_looked_at(last, between):
    x = torch.zeros(2, 5, 3)
    assert misread(Sequences(LASTS[last], BETWEEN[between], False), x) == []
    (said,) = misread(Sequences(LASTS[last], BETWEEN[between], True), x)
    assert said.startswith("last")
    assert said.endswith("write v + w")


def test_a_number_that_the_forward_needs_plain_takes_one_value_at_a_time():
    class Branching(Sequences):
        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x), self.b(x)
            if a.shape[-1] > 1:
                b = b + 1
            return self.last(torch.cat([b, a], -1))  # type: ignore[no-any-return]

    space = Branching(LASTS["linear"], None, False)
    (said,) = misread(space, torch.zeros(2, 3))
    assert said.startswith("last, of in_features=w + v")


def test_loose_ends_do_not_hide_what_is_behind_them():
    class Behind(mnn.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            w, v, _ = widths().values()
            self.cell = mnn.Cell([torch.nn.Identity()], 2, merge_op="loose_end", label="cell")
            self.a, self.b = mnn.MutableLinear(1, w), mnn.MutableLinear(1, v)
            self.last = mnn.MutableLinear(w + v, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.cell(x).sum(1, keepdim=True)
            return self.last(torch.cat([self.b(x), self.a(x)], -1))  # type: ignore[no-any-return]

    (said,) = misread(Behind(), torch.zeros(1, 2))
    assert said.startswith("last, of in_features=w + v")


def test_following_costs_no_more_where_nothing_is_put_together(monkeypatch):
    looked: list[Any] = []
    look = importlib.import_module("nas_space.nn.decisions")

    def note(*args: Any) -> list[str]:
        looked.append(args)
        return []

    monkeypatch.setattr(look, "misread", note)
    w = widths()["w"]
    profile(Read(w, lambda a, _: a.relu()), (3, 2, 2))
    assert looked == []
    profile(Read(w, lambda a, _: a.roll(1, 1)), (3, 2, 2))
    assert len(looked) == 1
