"""What constructors do with choices that are not made yet, and with those that are."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import nn

import nas_space.nn as mnn
from nas_space.errors import (
    DomainError,
    InfeasibleError,
    LabelError,
    SampleMissingError,
    SampleValidationError,
    SpaceError,
)
from nas_space.mutable import Categorical, Constraint, ExpressionConstraint, ensure_frozen
from nas_space.nn import Cell, LayerChoice, ModelSpace, MutableModule, ParametrizedModule, Repeat
from nas_space.nn.decisions import Gated, Weighted
from nas_space.profiler import macs, params
from nas_space.strategy.oneshot import DARTS, Proxyless, RandomOneShot, Run
from tests.oneshot.planted import task


def width() -> Any:
    return Categorical([2, 4], label="width")


# -- ensure_frozen ------------------------------------------------------------------------------


class Direct(ModelSpace):
    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.width = width()
        self.layer = nn.Linear(ensure_frozen(self.expression("width"), strict=strict), 3)


class InPart(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part(width())


class Part(MutableModule):
    def __init__(self, n: Any) -> None:
        super().__init__()
        self.n = n
        self.token = nn.Parameter(torch.zeros(ensure_frozen(2 * n + 1)))


class InPlain(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.part = Plain(self.add_mutable(width()))


class Plain(nn.Module):
    def __init__(self, n: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(ensure_frozen(n), 1)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (Direct, "Direct"),
        (lambda: Direct(strict=False), "Direct"),
        (InPart, "Part"),
        (InPlain, "InPlain"),
    ],
)
def test_a_default_that_every_architecture_would_get_is_refused(make, where):
    with pytest.raises(SpaceError, match=rf"ensure_frozen\(.*{where}.*MutableLinear"):
        make()


def test_what_is_built_for_one_architecture_has_its_values():
    assert Direct.frozen_factory({"width": 4})().layer.in_features == 4
    assert InPart.frozen_factory({"width": 4})().part.token.shape == (9,)

    class Sized(ParametrizedModule):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.layer = nn.Linear(ensure_frozen(n), 3)

    assert Sized(width()).freeze({"width": 4}).layer.in_features == 4


class Rebuilt(Part):
    """As NNI's code does: its own freeze builds it anew."""

    def freeze(self, sample: Any) -> Any:
        return Rebuilt.built(self.expression("n").freeze(sample))

    @classmethod
    def built(cls, n: int) -> Any:
        made = nn.Module()
        made.token = nn.Parameter(torch.zeros(2 * n + 1))
        return made


def test_a_part_that_is_built_anew_for_each_architecture_may_use_it():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.part = Rebuilt(width())

    for n in (2, 4):
        assert Net().freeze({"width": n}).part.token.shape == (2 * n + 1,)


# -- a space with its own freeze ----------------------------------------------------------------


class Elastic(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.up = mnn.MutableLinear(4, width())
        self.down = mnn.MutableLinear(width(), 3)

    def forward(self, x: Any) -> Any:
        return self.down(self.up(x))


class Fresh(Elastic):
    def freeze(self, sample: Any, **_: Any) -> Any:
        return Elastic.frozen_factory(sample)()


class FreshBelow(Fresh):
    """Inherits it."""


class Marked(Elastic):
    """Adds to what the library makes."""

    def freeze(self, sample: Any, **more: Any) -> Any:
        network = super().freeze(sample, **more)
        network.mark = 1
        return network


class MarkedBelow(Marked):
    pass


@pytest.mark.parametrize("kind", [Fresh, FreshBelow])
def test_a_space_whose_own_freeze_builds_it_anew_shares_no_weights(kind):
    space = kind()
    assert space.freeze({"width": 2}).up.out_features == 2
    with pytest.raises(SpaceError, match=r"'the space', a Fresh.*own freeze.*no weights"):
        space.activate({"width": 2})
    with pytest.raises(SpaceError, match="own freeze"):
        Run(RandomOneShot(candidates=2, calibration_batches=1), space, task(), steps=2)


@pytest.mark.parametrize("kind", [Marked, MarkedBelow])
def test_a_space_whose_own_freeze_adds_to_ours_shares_weights(kind):
    space, x = kind(), torch.randn(1, 4)
    with space.activate({"width": 2}):
        network = space.freeze({"width": 2})
        assert torch.equal(network(x), space(x))
    assert network.mark == 1
    Run(RandomOneShot(candidates=2, calibration_batches=1), space, task(), steps=1).advance()


class Changed(Elastic):
    def freeze(self, sample: Any, **more: Any) -> Any:
        network = super().freeze(sample, **more)
        network.down.bias.data.zero_()
        return network


class Chosen(Elastic):
    """Calls a freeze, but no network's."""

    def freeze(self, sample: Any, **_: Any) -> Any:
        return OfSize(self.up.expression("out_features").freeze(sample))


class OfSize(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, size), nn.Linear(size, 3)


class Other(Elastic):
    def freeze(self, sample: Any, **more: Any) -> Any:
        return nn.Sequential(super().freeze(sample, **more), nn.Linear(3, 3))


class Inner(ModelSpace):
    """Somebody's own freeze far below."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.ReLU(), Rebuilt(width())])


@pytest.mark.parametrize("kind", [Fresh, Changed, Chosen, Other, Inner])
def test_what_becomes_something_else_by_its_own_freeze_has_no_costs_and_shares_no_weights(kind):
    space = kind()
    with pytest.raises(SpaceError, match=r"says by its own freeze.*shares no weights"):
        space.activate({"width": 2})
    for cost in (params, lambda it: macs(it, (1, 4))):
        with pytest.raises(SpaceError, match=r"own freeze.*do not tell what an architecture costs"):
            cost(space)
    assert params(space.freeze({"width": 2})) >= 5


def test_an_own_freeze_that_puts_values_in_the_place_of_expressions_adds_nothing():
    class Attention(MutableModule):
        def __init__(self) -> None:
            super().__init__()
            self.heads = width()
            self.layer = mnn.MutableLinear(4, self.expression("heads"))

        def freeze(self, sample: Any) -> Any:
            made = super().freeze(sample)
            made.heads = self.expression("heads").freeze(sample)
            return made

        def forward(self, x: Any) -> Any:
            return self.layer(x) * self.heads

    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.part = Attention()

        def forward(self, x: Any) -> Any:
            return self.part(x)

    space, x = Net(), torch.randn(1, 4)
    state = torch.get_rng_state()
    with space.activate({"width": 2}):
        assert torch.equal(space(x), space.freeze({"width": 2})(x))
    assert params(space).evaluate({"width": 2}) == 10
    assert torch.equal(state, torch.get_rng_state())


# -- frozen_factory -------------------------------------------------------------------------------


class Loose(ModelSpace, label_prefix="net"):
    def __init__(self) -> None:
        super().__init__()
        ops = [lambda *_: nn.Identity(), lambda *_: nn.Identity()]
        self.cell = Cell(ops, 3, 1, 2, merge_op="loose_end", label="cell")
        self.body = Repeat(lambda _: nn.Identity(), (1, 4), label="depth")
        self.seen = len(self.cell.output_node_indices), len(self.body)
        self.head = nn.ModuleList(nn.Linear(1, 1) for _ in self.cell.output_node_indices)


def test_a_cell_and_a_repeat_built_for_one_architecture_are_those_of_it():
    space = Loose()
    assert space.seen == (3, 4)
    for seed in range(12):
        arch = space.sample(seed=seed)
        network = Loose.frozen_factory(arch)()
        ends = space.cell.freeze({**arch}).output_node_indices
        depth = arch["net/depth"]
        assert network.seen == (len(ends), depth)
        assert len(network.head) == len(ends)
        assert len(space.freeze(arch).body) == depth


class DropPath(ModelSpace):
    """The drop-path idiom: numbers are read from a tensor."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        self.rates = read()
        inner = LayerChoice([nn.Identity(), nn.Tanh()], label="inner")
        self.op = LayerChoice([nn.ReLU(), inner], label="op")


@pytest.mark.parametrize(
    "read",
    [
        lambda: [x.item() for x in torch.linspace(0, 0.2, 3)],
        lambda: torch.linspace(0, 0.2, 3).tolist(),
        lambda: torch.ones(3).numpy().sum(),
        lambda: float(torch.ones(3).sum()),
        lambda: "yes" if torch.ones(1) > 0 else "no",
    ],
)
def test_labels_that_are_not_active_are_checked_whatever_constructors_read(read):
    build = DropPath.frozen_factory({"op": 0, "inner": 1})
    assert isinstance(build(read).op, nn.ReLU)
    with pytest.raises(SampleValidationError, match="inner"):
        DropPath.frozen_factory({"op": 0, "inner": 7})(read)
    with pytest.raises(SampleValidationError, match="other"):
        DropPath.frozen_factory({"op": 0, "other": 7})(read)


# -- arguments ------------------------------------------------------------------------------------


def test_a_space_tells_its_arguments_unless_it_has_something_of_that_name():
    class Net(ModelSpace):
        def __init__(self, a: Any, b: int = 2, *, c: int = 3) -> None:
            super().__init__()

    class Own(Net):
        def __init__(self, args: Any) -> None:
            super().__init__(1)
            self.args = args

    assert Net(1, c=5).args == {"a": 1, "b": 2, "c": 5}
    assert Own("mine").args == "mine"
    assert not hasattr(Net(1).freeze({}), "args")


# -- constraints ----------------------------------------------------------------------------------


class Small(MutableModule):
    def __init__(self, a: Any, b: Any, most: int) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.add_mutable(ExpressionConstraint(a + b <= most, label="small"))


class TwoCells(ModelSpace):
    def __init__(self, *most: int) -> None:
        super().__init__()
        a, b = Categorical([1, 2, 3], label="a"), Categorical([2, 4], label="b")
        self.cells = nn.ModuleList(Small(a, b, each) for each in most)


def test_the_same_constraint_of_two_parts_is_one():
    space = TwoCells(5, 5)
    assert space.count() == 4
    assert len(space.constraints()) == 1
    twin = pickle.loads(pickle.dumps(space))
    assert twin.count() == 4
    assert not twin.contains({"a": 3, "b": 4})
    with pytest.raises(LabelError, match="small"):
        TwoCells(5, 6)


class OnlyOdd(Constraint):
    """Written in Python."""

    def __init__(self, a: Any) -> None:
        super().__init__(label="odd")
        self.a = a

    def leaf_mutables(self, is_leaf: Any) -> Any:
        yield from self.a.leaf_mutables(is_leaf)
        yield self

    def violation(self, values: Any) -> str | None:
        return None if values["a"] % 2 else "even"


def evens() -> Any:
    return Categorical([2, 4, 6], label="a")


@pytest.mark.parametrize(
    "limits",
    [
        lambda a, b: [a + b <= 3],
        lambda a, _: [a > 6],
        lambda a, _: [(a == 2) & (a == 4)],
        lambda a, _: [OnlyOdd(a)],
    ],
)
def test_a_constraint_that_nothing_meets_is_refused_where_the_space_is_built(limits):
    kept: list[Any] = []

    class Net(ModelSpace):
        def __init__(self, declared: bool) -> None:
            super().__init__()
            self.a, self.b = evens(), Categorical([2, 3], label="b")
            made = [
                each if isinstance(each, Constraint) else ExpressionConstraint(each, label="lim")
                for each in limits(self.a, self.b)
            ]
            kept.extend(made)
            if declared:
                self.require(*made)

    with pytest.raises(InfeasibleError, match=r"constraint '(lim|odd)' is met by no.*loosen it"):
        Net(True)
    kept.clear()
    later = Net(False)
    with pytest.raises(InfeasibleError, match=r"'(lim|odd)'"):
        later.require(*kept)
    assert later.count() == 6
    assert later.constraints() == []


def test_constraints_that_leave_nothing_together_are_the_ones_named():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = evens(), Categorical([1, 2], label="b"), width()
            for name, condition in {
                "small": self.a <= 2,
                "even": self.b == 2,
                "sum": self.a + self.b >= 5,
                "apart": self.c <= 4,
            }.items():
                self.add_mutable(ExpressionConstraint(condition, label=name))

    with pytest.raises(InfeasibleError, match=r"constraints 'small' and 'sum' are met by no"):
        Net()


class Told(nn.Linear):
    """Refuses to be built with what the constraint of its space forbids."""

    def __init__(self, a: int, b: int, device: Any = None, dtype: Any = None) -> None:
        assert a + b == 5, (a, b)
        super().__init__(a, b, device=device, dtype=dtype)


class MutableTold(mnn.ElasticModule, Told, wraps=Told):
    @classmethod
    def shapes(cls, arguments: Any) -> Any:
        return {"weight": (arguments["b"], arguments["a"]), "bias": (arguments["b"],)}


class InstancesTold(ParametrizedModule, Told, wraps=Told):
    pass


class Summed(ModelSpace):
    def __init__(self, layer: Any, where: str) -> None:
        super().__init__()
        a, b = Categorical([1, 2, 3], label="a"), Categorical([1, 2, 3], label="b")
        rule = ExpressionConstraint(a + b == 5, label="five")
        if where == "attribute":
            self.rule = rule
        elif where == "required":
            self.require(a + b == 5)
        else:
            self.add_mutable(rule)
        self.up, self.layer = mnn.MutableLinear(4, a), layer(a, b)
        self.down = mnn.MutableLinear(b, 3)

    def forward(self, x: Any) -> Any:
        return self.down(self.layer(self.up(x)))


@pytest.mark.parametrize("where", ["attribute", "required", "added"])
@pytest.mark.parametrize("layer", [MutableTold, InstancesTold])
def test_layers_are_tried_with_values_that_the_constraints_so_far_allow(layer, where):
    space, x = Summed(layer, where), torch.randn(2, 4)
    for arch in ({"a": 2, "b": 3}, {"a": 3, "b": 2}):
        with space.activate(arch):
            here = space(x)
        assert torch.equal(here, space.freeze(arch)(x))
    assert space.count() == 2
    cost = macs(space, (4,))
    assert cost.evaluate({"a": 2, "b": 3}) == 8 + 6 + 9
    assert params(space).evaluate({"a": 2, "b": 3}) == 10 + 9 + 12
    with pytest.raises(SampleValidationError):
        space.freeze({"a": 1, "b": 3})


def one_hot(arch: dict[str, int]) -> dict[str, torch.Tensor]:
    return {label: torch.eye(3)[value - 1] for label, value in arch.items()}


def test_a_layer_keeps_no_instances_of_what_constraints_forbid_and_mixtures_ask_for_none():
    space, x = Summed(InstancesTold, "added"), torch.randn(2, 4)
    layer: Any = space.layer
    assert len(layer.instances) == 2
    for arch in ({"a": 2, "b": 3}, {"a": 3, "b": 2}):
        with space.activate(arch):
            expected = space(x)
        with Weighted(one_hot(arch)):
            torch.testing.assert_close(space(x), expected)
    Run(DARTS(), space, task(), steps=1).advance()
    Run(Proxyless(), Summed(InstancesTold, "added"), task(), steps=1).advance()


def test_a_mixture_counts_instances_by_their_probability_among_those_there_are():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            a, b = Categorical([1, 2, 3], label="a"), Categorical([1, 2, 3], label="b")
            self.require(a + b == 5)
            self.layer = Powers(a, b)

        def forward(self, x: Any) -> Any:
            return self.layer(x)

    with Weighted({"a": torch.tensor([0.5, 0.3, 0.2]), "b": torch.tensor([0.2, 0.3, 0.5])}):
        found = Net()(torch.tensor([2.0]))
    # (2, 3) with 0.3 * 0.5 and (3, 2) with 0.2 * 0.3
    torch.testing.assert_close(found.item(), (0.15 * 2**23 + 0.06 * 2**32) / 0.21)


class Powers(ParametrizedModule):
    def __init__(self, a: Any, b: Any) -> None:
        super().__init__()
        self.exponent = 10 * a + b

    def forward(self, x: Any) -> Any:
        return x**self.exponent


def test_a_path_of_gates_that_constraints_forbid_is_refused():
    half = {label: torch.zeros(3) for label in "ab"}
    space = Summed(InstancesTold, "added")
    with (
        pytest.raises(SpaceError, match="the active path is none that the constraints"),
        Gated(half, {"a": (0, 1), "b": (0, 1)}),
    ):
        space(torch.randn(2, 4))


def test_mixtures_of_slices_that_constraints_forbid_are_refused_where_these_cannot_be_built():
    with pytest.raises((SpaceError, DomainError), match=r"refuses Told"):
        Run(DARTS(), Summed(MutableTold, "added"), task(), steps=1).advance()
    run = Run(RandomOneShot(candidates=2, calibration_batches=1), Summed(MutableTold, "added"),
              task(), steps=2)  # fmt: skip
    run.advance()


@pytest.mark.parametrize("layer", [MutableTold, InstancesTold])
def test_what_a_class_refuses_is_refused_unless_a_constraint_forbids_it(layer):
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            a, b = (Categorical([1, 2], label=name) for name in "ab")
            self.layer = layer(a, b)

    with pytest.raises((AssertionError, SpaceError), match="1, 1"):
        Net()


def test_attention_may_have_the_heads_that_constraints_leave():
    class Attending(ModelSpace):
        def __init__(self, declared: bool) -> None:
            super().__init__()
            width, heads = Categorical([4, 6], label="w"), Categorical([2, 3, 4], label="h")
            if declared:
                self.require(width % heads == 0)
            self.layer = mnn.MutableMultiheadAttention(width, heads)

    with pytest.raises(SpaceError, match=r"cannot have [34] heads"):
        Attending(False)
    assert Attending(True).count() == 4


def test_a_default_that_a_constructor_reads_meets_the_constraints_so_far():
    class Net(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.part = Rebuilding(
                Categorical([1, 2, 3], label="a"), Categorical([1, 4], label="b")
            )

    class Rebuilding(MutableModule):
        def __init__(self, a: Any, b: Any) -> None:
            super().__init__()
            self.a, self.b = a, b
            self.add_mutable(ExpressionConstraint(a + b == 6, label="six"))
            self.layer = Told6(ensure_frozen(a), ensure_frozen(b))

        def freeze(self, sample: Any) -> Any:
            raise NotImplementedError

    def Told6(a: int, b: int) -> nn.Module:  # noqa: N802
        assert a + b == 6
        return nn.Linear(a, b)

    assert Net().part.layer.in_features == 2


def test_a_condition_of_a_constructor_about_a_label_that_may_be_inactive_is_refused():
    class Optional(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            inner = Categorical([2, 4], label="inner")
            deep = nn.Sequential(mnn.MutableLinear(4, inner), mnn.MutableLinear(inner, 4))
            self.layer = mnn.LayerChoice({"skip": nn.Identity(), "deep": deep}, label="layer")
            self.require(inner > 2)

    with pytest.raises(SampleMissingError, match=r"needs the label 'inner' where it is not active"):
        Optional()
