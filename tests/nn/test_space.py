"""Building a space, its labels, its constraints, and what it says of architectures."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import (
    ConstraintViolation,
    ExpressionError,
    InfeasibleError,
    LabelError,
    SampleMissingError,
    SampleValidationError,
    SpaceError,
    UsageError,
)
from nas_space.mutable import (
    Categorical,
    CategoricalMultiple,
    Constraint,
    ExpressionConstraint,
    MutableExpression,
    ensure_frozen,
    frozen_context,
    label_scope,
)
from nas_space.nn import LayerChoice, Repeat, active
from nas_space.nn.digests import network_digest
from tests.hash_seeds import printed_under

from .small import ARCH, Holding, Net, images


def space_of(build: Any, **options: Any) -> Any:
    """A space whose constructor is a function of it."""

    class Made(ns.ModelSpace, **options):
        def __init__(self) -> None:
            super().__init__()
            build(self)

    return Made()


# -- labels -----------------------------------------------------------------------------------


def test_without_a_prefix_every_choice_needs_a_label() -> None:
    with pytest.raises(LabelError, match=r"Made has a choice without a label.*label_prefix"):
        space_of(lambda self: setattr(self, "width", Categorical([1, 2])))


def test_with_a_prefix_choices_are_numbered_anew_each_time() -> None:
    def build(self: Any) -> None:
        self.a, self.b = Categorical([1, 2]), Categorical([3, 4])
        self.c = Categorical([5, 6], label="named")

    for _ in range(2):
        assert list(space_of(build, label_prefix="net").symbols()) == [
            "net/1",
            "net/2",
            "net/named",
        ]


class Cell(ns.ModelSpace, label_prefix="cell"):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.ReLU(), nn.Tanh()])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


class Bare(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.op(x)
        return y


def test_spaces_within_spaces_have_their_labels_within_theirs() -> None:
    def build(self: Any) -> None:
        self.cell, self.bare = Cell(), Bare()

    assert list(space_of(build, label_prefix="net").symbols()) == ["net/cell/1", "net/op"]
    assert list(space_of(build).symbols()) == ["cell/1", "op"]
    with label_scope("teacher"):
        assert list(Bare().symbols()) == ["teacher/op"]
        assert list(Cell().symbols()) == ["teacher/cell/1"]


def test_a_space_within_a_space_runs_and_freezes_with_it() -> None:
    class Outer(ns.ModelSpace, label_prefix="net"):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.ModuleList([Cell(), Cell()])
            with label_scope("other"):
                self.cells.append(Cell())

        def forward(self, x: Tensor) -> Tensor:
            for cell in self.cells:
                x = cell(x)
            return x

    space = Outer()
    arch = {"net/cell/1": 1, "net/other/cell/1": 0}
    assert set(space.symbols()) == set(arch)
    network = space.freeze(arch)
    assert [type(cell.op) for cell in network.cells] == [nn.Tanh, nn.Tanh, nn.ReLU]
    assert network.cells[0].architecture == {"net/cell/1": 1}
    with space.activate(arch):
        assert torch.equal(space(images()), network(images()))
    assert Outer.frozen_factory(arch)().architecture == arch


@pytest.mark.parametrize("other", [Categorical([16, 48], label="w"), Categorical([1.5], label="w")])
def test_two_different_choices_of_one_label_are_found_at_once(other: Any) -> None:
    def build(self: Any) -> None:
        self.first = mnn.MutableLinear(2, Categorical([16, 32], label="w"))
        self.inner = nn.Sequential(mnn.MutableDropout(other / 100))

    with pytest.raises(LabelError, match=r"two different choices.*'w'.*first, inner\.0"):
        space_of(build)


def test_the_same_choice_twice_is_one() -> None:
    def build(self: Any) -> None:
        self.first = mnn.MutableLinear(2, Categorical([16, 32], label="w"))
        self.second = mnn.MutableLinear(Categorical([16, 32], label="w"), 2)

    assert list(space_of(build).symbols()) == ["w"]


# -- expressions in the wrong place -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("Conv2d", lambda w: nn.Conv2d(3, w, 3)),
        ("Linear", lambda w: nn.Linear(w, 3)),
        ("BatchNorm2d", nn.BatchNorm2d),
        ("LayerNorm", nn.LayerNorm),
        ("Dropout", lambda w: nn.Dropout(w / 100)),
        ("MaxPool2d", nn.MaxPool2d),
        ("Softmax", nn.Softmax),
        ("Embedding", lambda w: nn.Embedding(10, w)),
        ("LSTM", lambda w: nn.LSTM(3, w)),
        ("MultiheadAttention", lambda w: nn.MultiheadAttention(w, 2)),
        ("GroupNorm", lambda w: nn.GroupNorm(2, w)),
    ],
)
def test_a_plain_layer_with_an_expression_is_refused_by_name(name: str, build: Any) -> None:
    with pytest.raises(ExpressionError, match=f"use nas_space.nn.Mutable{name} instead"):
        space_of(lambda self: setattr(self, "layer", build(Categorical([4, 8], label="w"))))


def test_a_refused_layer_that_torch_builds_is_named_with_its_path() -> None:
    def build(self: Any) -> None:
        kernel: Any = Categorical([2, 3], label="k")
        self.body = nn.Sequential(nn.ReLU(), nn.MaxPool2d(kernel))

    with pytest.raises(ExpressionError, match=r"got kernel_size=k, .*\(path: body\.1\)"):
        space_of(build)


def test_other_type_errors_of_a_constructor_pass() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'wdith'"):
        space_of(lambda self: nn.Linear(wdith=3))  # type: ignore[call-arg]  # noqa: ARG005


def test_an_attribute_must_not_hide_a_method() -> None:
    with pytest.raises(ExpressionError, match="cannot have an attribute 'freeze'"):
        space_of(lambda self: setattr(self, "freeze", Categorical([1, 2], label="a")))
    with pytest.raises(ExpressionError, match="add_mutable takes a mutable, but got 3"):
        space_of(lambda self: self.add_mutable(3))


# -- attributes -------------------------------------------------------------------------------


def test_an_expression_reads_as_itself_as_its_value_and_as_a_plain_value() -> None:
    space = Holding()
    assert space.width is Categorical([4, 8], label="width")
    with space.activate({"width": 8}):
        assert space.width == 8
        assert space.expression("width") is Categorical([4, 8], label="width")
        assert active(Categorical([4, 8], label="width") * 2) == 16
    assert space.freeze({"width": 4}).width == 4
    with pytest.raises(SpaceError, match="none is active here"):
        active(space.width)


def test_an_attribute_can_be_replaced_and_deleted() -> None:
    space = Holding(layer=nn.Linear(1, 1))
    space.layer = Categorical([1, 2], label="layer")
    assert not list(space.children())
    assert list(space.symbols()) == ["width", "layer"]
    space.width = 3
    assert space.width == 3
    assert list(space.symbols()) == ["layer"]
    del space.layer
    assert space.symbols() == {}
    assert not hasattr(space, "layer")
    space.several = [Categorical([1, 2], label="x")]
    assert list(space.symbols()) == ["x"]
    space.several = 0
    assert space.symbols() == {}


def test_what_changes_deep_inside_is_seen_after_a_refresh() -> None:
    space = Holding(body=nn.Sequential(nn.ReLU()))
    assert list(space.symbols()) == ["width"]
    space.body[0] = mnn.MutableLinear(2, Categorical([4, 6], label="new"))
    space.refresh()
    assert list(space.symbols()) == ["width", "new"]
    assert space.freeze({"width": 4, "new": 6}).body[0].out_features == 6
    space.body[0] = mnn.MutableLinear(2, Categorical([4, 7], label="width"))
    with pytest.raises(LabelError, match="two different choices"):
        space.refresh()


def test_plain_attributes_leave_the_structure_as_it_is() -> None:
    space = Net()
    structure = space.structure()
    space.epoch = 3
    space.train().eval()
    assert space.structure() is structure


def test_ensure_frozen_gives_defaults_while_a_space_is_built_and_values_for_one() -> None:
    class Sized(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.width = Categorical([4, 8], label="width")
            self.size = ensure_frozen(self.expression("width"))

    class Rebuilt(Sized):
        def freeze(self, sample: Any) -> Any:  # type: ignore[override]
            return type(self).frozen_factory(sample)()

    with frozen_context({"width": 8}):
        assert Rebuilt().size == 4
    assert Rebuilt.frozen_factory({"width": 8})().size == 8
    assert Rebuilt().freeze({"width": 8}).size == 8
    with pytest.raises(SpaceError, match=r"ensure_frozen\(width\).*Sized.*MutableLinear"):
        Sized()
    assert Sized.frozen_factory({"width": 8})().size == 8


# -- copies of a space ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_is_the_same_space_with_weights_of_its_own(how: str) -> None:
    space = Net()
    space.require(space.symbols()["width"] >= 4)
    other = copy.deepcopy(space) if how == "deepcopy" else pickle.loads(pickle.dumps(space))
    assert other.structure() is not None
    assert list(other.symbols()) == list(space.symbols())
    assert other.sample(3, seed=0)[1] == space.sample(3, seed=0)[1]
    network = other.freeze(ARCH)
    assert torch.equal(network(images()), space.freeze(ARCH)(images()))
    with torch.no_grad():
        other.head.bias.fill_(1)
    assert not torch.equal(other.head.bias, space.head.bias)


# -- architectures ----------------------------------------------------------------------------


def test_a_canonical_architecture_has_active_labels_only() -> None:
    space = Net()
    given = {"op2": "id", **dict(reversed(ARCH.items()))}
    assert list(space.canonical(given).items()) == list(ARCH.items())
    assert space.arch_id(given) == space.arch_id(ARCH)
    assert space.arch_id(ARCH) != space.arch_id({**ARCH, "width": 8})
    assert space.freeze(given).architecture == ARCH


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize(
    "held", [lambda x: [0, x], lambda x: (0, x), lambda x: {0, x}, lambda x: {0: [x]}, Holder]
)
def test_the_digest_of_a_network_covers_what_its_attributes_hold(held: Any) -> None:
    def digest(attribute: Any) -> str:
        network = nn.Identity()
        network.attribute = attribute
        return network_digest(network)

    assert digest(held("a")) == digest(held("a"))
    assert digest(held("a")) != digest(held("b"))


def test_the_digest_of_a_network_covers_its_tensors_but_not_their_values() -> None:
    def digest(first: Any, second: Any, *, buffers: bool = False) -> str:
        network = nn.Identity()
        for name, tensor in (("first", first), ("second", second)):
            if buffers:
                network.register_buffer(name, tensor)
            else:
                network.register_parameter(name, None if tensor is None else nn.Parameter(tensor))
        if first is second and not buffers:
            network.second = network.first
        return network_digest(network)

    one, other, longer = torch.zeros(2), torch.ones(2), torch.zeros(3)
    assert digest(one, other) == digest(other, one)
    digests = [
        digest(one, other), digest(one, one), digest(one, longer), digest(one, other.double()),
        digest(one, None), digest(None, one), digest(one, other, buffers=True),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_the_digest_of_an_architecture_is_pinned() -> None:
    # The same in every release, process and platform: stored results carry it.
    assert Net().arch_id(ARCH) == "23ca5604e3963e02"


def test_values_that_json_does_not_know_are_told_apart_by_their_number() -> None:
    space = space_of(lambda self: setattr(self, "act", Categorical([nn.ReLU, nn.Tanh], label="a")))
    ids = {space.arch_id({"a": value}) for value in (nn.ReLU, nn.Tanh)}
    assert len(ids) == 2


def test_inactive_labels_are_checked_and_dropped() -> None:
    space = Net()
    for build in (space.freeze, lambda arch: Net.frozen_factory(arch)()):
        assert build({**ARCH, "op2": "conv"}).architecture == ARCH
        with pytest.raises(SampleValidationError, match=r"'covn'.*'op2'.*\(path: body.blocks.2\)"):
            build({**ARCH, "op2": "covn"})
        with pytest.raises(SampleValidationError, match=r"no label 'op9' \(did you mean 'op.'"):
            build({**ARCH, "op9": "conv"})


def test_a_misspelt_label_is_pointed_out_where_the_right_one_is_missing() -> None:
    arch = {("widht" if name == "width" else name): value for name, value in ARCH.items()}
    space = Net()
    for build in (space.freeze, lambda arch: Net.frozen_factory(arch)()):
        with pytest.raises(SampleMissingError, match=r"'width' has no value.*'widht'") as caught:
            build(arch)
        assert caught.value.label == "width"
        assert caught.value.paths == ["stem, norm, body.blocks.0.conv, ..."]


@pytest.mark.parametrize("arch", [None, [("width", 4)], "width"])
def test_an_architecture_is_a_dict(arch: Any) -> None:
    for call in (Net().freeze, Net().activate, Net.frozen_factory):
        with pytest.raises(SampleValidationError, match="an architecture is a dict"):
            call(arch)


def test_a_retired_label_may_be_given_with_its_only_value() -> None:
    class Retired(Net):
        retired_labels = {"old": 1}  # noqa: RUF012

    space = Retired()
    for build in (space.freeze, lambda arch: Retired.frozen_factory(arch)()):
        assert build({**ARCH, "old": 1}).architecture == ARCH
        for wrong in (2, True, "1"):
            with pytest.raises(SampleValidationError, match="'old' is retired and can only be 1"):
                build({**ARCH, "old": wrong})


def test_a_retired_label_does_not_build_the_space(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    built = []

    class Retired(Net):
        retired_labels = {"old": 1}  # noqa: RUF012

        def __init__(self) -> None:
            built.append(self)
            super().__init__()

    Retired.frozen_factory({**ARCH, "old": 1})()
    assert len(built) == 1
    Retired.frozen_factory({**ARCH, "op2": "id"})()
    assert len(built) == 3  # the whole one as well, which knows the label


def test_a_factory_builds_only_what_is_chosen() -> None:
    made: list[str] = []

    def candidate(name: str) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            made.append(name)
            return nn.Identity()

        return build

    class Lazy(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.body = Repeat(
                lambda i: LayerChoice({n: candidate(f"{n}{i}") for n in "ab"}, label=f"op{i}"),
                (0, 3),
                label="depth",
            )

    Lazy()
    assert len(made) == 6
    made.clear()
    network = Lazy.frozen_factory({"depth": 2, "op0": "b", "op1": "a"})()
    assert made == ["b0", "a1"]
    assert len(network.body) == 2


def test_a_factory_draws_weights_and_leaves_the_architecture_given() -> None:
    arch = dict(ARCH)
    torch.manual_seed(0)
    first = Net.frozen_factory(arch)(classes=5)
    torch.manual_seed(0)
    second = Net.frozen_factory(arch)(5)
    assert arch == ARCH
    assert first.head.weight.shape == (5, 4)
    assert torch.equal(first.stem.weight, second.stem.weight)
    assert pickle.loads(pickle.dumps(Net.frozen_factory(arch)))().architecture == ARCH


def test_a_multiple_choice_may_be_given_as_yes_or_no_for_each_value() -> None:
    def build(self: Any) -> None:
        self.pick = mnn.InputChoice(3, n_chosen=None, label="pick")

    space = space_of(build)
    flags = {"pick/0": True, "pick/1": False, "pick/2": True}
    assert space.freeze(flags).pick.chosen == [0, 2]
    assert space.freeze(flags).architecture == {"pick": [0, 2]}
    with pytest.raises(SampleValidationError, match="no label 'pick/3'"):
        space.freeze({**flags, "pick/3": True})


# -- constraints ------------------------------------------------------------------------------

A, B = Categorical([1, 2, 3], label="a"), Categorical([1, 2, 3], label="b")


class Constrained(ns.ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = A, B
        self.require(A + B == 4, A <= B)


def test_a_required_condition_holds_for_every_architecture() -> None:
    space = Constrained()
    allowed = [{"a": 1, "b": 3}, {"a": 2, "b": 2}]
    assert all(arch in allowed for arch in space.sample(50, seed=0))
    assert all(space.sample(seed=seed) in allowed for seed in range(20))
    assert [net.architecture for net in space.grid()] == allowed
    assert space.random(seed=0).architecture == space.sample(seed=0) == space.sample(1, seed=0)[0]
    assert list(space.sample(3, seed=1)) == list(space.sample(9, seed=1))[:3]
    for build in (space.freeze, lambda arch: Constrained.frozen_factory(arch)()):
        with pytest.raises(ConstraintViolation, match=r"a \+ b == 4 does not hold.*'a': 1, 'b': 2"):
            build({"a": 1, "b": 2})


def test_a_condition_can_be_required_of_a_space_that_is_built() -> None:
    space = Constrained()
    assert space.require(A > 1) is space
    assert list(space.sample(5, seed=0)) == [{"a": 2, "b": 2}] * 5
    assert len(space.constraints()) == 3


def test_a_condition_that_nothing_meets_is_reported_and_not_waited_for() -> None:
    space = Constrained()
    with pytest.raises(InfeasibleError, match="the smallest is 1, the largest 3"):
        space.require(A > 3)
    space.add_mutable(ExpressionConstraint(A > 3, label="late"))
    for call in (lambda: space.sample(3, seed=0), lambda: space.sample(seed=0)):
        with pytest.raises(InfeasibleError, match="the smallest is 1, the largest 3"):
            call()


def test_a_condition_about_another_label_is_refused() -> None:
    other = Categorical([1, 2], label="ab")
    for condition in (other > 1, MutableExpression.condition(A > 1, other, 1) > 1):
        space = Constrained()
        with pytest.raises(LabelError, match=r"'ab', which the space does not have \(did you mean"):
            space.require(condition)
        assert len(space.constraints()) == 2
    with pytest.raises(LabelError, match="about another choice labelled 'a' than the space"):
        Constrained().require(Categorical([1, 9], label="a") > 1)
    with pytest.raises(ExpressionError, match="the same for every architecture"):
        Constrained().require(3 > 2)  # type: ignore[arg-type]  # noqa: PLR0133


class Deep(ns.ModelSpace):
    def __init__(self, guarded: bool | None = None) -> None:
        super().__init__()
        self.depth = Categorical([1, 2, 3], label="depth")
        self.body = Repeat(
            lambda i: mnn.MutableDropout(Categorical([0.1, 0.2], label=f"p{i}")),
            self.expression("depth"),
        )
        if guarded is not None:
            self.require(late(self, guarded=guarded))


def late(space: Any, *, guarded: bool) -> Any:  # noqa: ARG001
    """A condition on a label that is active from depth 3 on."""
    p2 = Categorical([0.1, 0.2], label="p2") > 0.1
    return (
        MutableExpression.condition(Categorical([1, 2, 3], label="depth") == 3, p2, True)
        if guarded
        else p2
    )


def test_a_condition_on_labels_that_are_not_always_active_must_be_guarded() -> None:
    space = Deep()
    with pytest.raises(SampleValidationError, match="needs the label 'p2'.*not active; guard it"):  # noqa: RUF043
        space.require(late(space, guarded=False))
    assert not space.constraints()
    with pytest.raises(SampleValidationError, match="guard it"):
        Deep(guarded=False)
    for guarded in (space.require(late(space, guarded=True)), Deep(guarded=True)):
        archs = [net.architecture for net in guarded.grid()]
        assert {"depth": 1, "p0": 0.1} in archs
        assert len(archs) == 2 + 4 + 4


def test_a_condition_of_a_candidate_holds_only_where_it_is_chosen() -> None:
    class Narrow(mnn.MutableModule):
        def __init__(self) -> None:
            super().__init__()
            self.width = Categorical([1, 2, 3], label="width")
            self.add_mutable(ExpressionConstraint(self.expression("width") < 2, label="narrow"))

    class Chosen(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.width = Categorical([1, 2, 3], label="width")
            self.op = LayerChoice([Narrow(), nn.Identity()], label="op")

    space = Chosen()
    archs = [net.architecture for net in space.grid()]
    assert archs == [{"width": w, "op": o} for w in (1, 2, 3) for o in (0, 1) if o or w < 2]
    assert all(arch in archs for arch in space.sample(100, seed=0))


def test_a_constraint_of_ones_own_sees_the_active_values() -> None:
    class Short(Constraint):
        def violation(self, values: Any) -> str | None:
            return "too long" if sum(values.values()) > 3 else None

    def build(self: Any) -> None:
        self.a, self.b = A, B
        self.rule = Short(label="short")

    space = space_of(build)
    archs = list(space.sample(200, seed=0))
    assert {sum(arch.values()) for arch in archs} == {2, 3}
    assert space.sample(seed=0) == archs[0]
    with pytest.raises(ConstraintViolation, match="too long"):
        space.freeze({"a": 2, "b": 2})


# -- drawing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-1, 1.5, True, "3"])
def test_the_number_of_samples_is_checked(n: Any) -> None:
    with pytest.raises(UsageError, match="must be 0 or more, but got"):
        Net().sample(n)


def test_samples_of_any_number() -> None:
    space = Net()
    assert len(space.sample(0)) == 0
    two: Any = np.int64(2)
    assert len(space.sample(two)) == 2
    assert len(Constrained().sample(0)) == 0


def test_values_already_chosen_are_kept() -> None:
    space = Net()
    memo = {"width": 8, "depth": 3}
    network = space.random(memo, seed=0)
    assert network.architecture == memo
    assert memo["width"] == 8
    assert memo["depth"] == 3
    assert len(memo) == 6


def test_the_same_seed_gives_the_same_under_any_hash_seed() -> None:
    program = (
        "from tests.nn.small import Net, Holding; from nas_space.mutable import Categorical as C;"
        "held = {C([1, 2], label='x'), C([1, 2], label='y'), C([1, 2], label='z')};"
        "print(list(Net().sample(5, seed=3)), list(Holding(held=held).sample(5, seed=3)))"
    )
    assert len(printed_under(program)) == 1


def test_a_space_without_published_architectures_has_none() -> None:
    with pytest.raises(UsageError, match="Net has no published architectures"):
        Net.load_searched_model("mobile")


# -- running ----------------------------------------------------------------------------------


def test_a_space_runs_only_as_one_architecture() -> None:
    space = Net()
    with pytest.raises(SpaceError, match=r"MutableConv2d\(.*none is active here"):
        space(images())
    with space.activate(ARCH):
        space(images())
        with space.activate({**ARCH, "width": 8}):
            assert space.stem.out_channels == 8
        assert space.stem.out_channels == 4
    with pytest.raises(SpaceError), space.activate(ARCH):
        raise SpaceError
    with pytest.raises(SpaceError, match="none is active"):
        space(images())


def test_an_activation_may_be_entered_again_and_by_several() -> None:
    space = Net().eval()
    activation = space.activate(ARCH)
    with activation, activation:
        first = space(images())
    with activation:
        assert torch.equal(space(images()), first)


def test_a_space_is_its_own_supernet() -> None:
    space = Net().train()
    with space.activate(ARCH):
        space(images()).sum().backward()
    gradient, mean = space.stem.weight.grad, space.norm.running_mean
    assert gradient is not None
    assert mean is not None
    inside = gradient[:4]
    assert inside.count_nonzero() > 0
    assert gradient.count_nonzero() == inside.count_nonzero()
    assert mean[4:].tolist() == [0] * 4
    assert all(mean[:4] != 0)


def test_multiple_choices_in_one_symbol() -> None:
    def build(self: Any) -> None:
        self.several = CategoricalMultiple([1, 2, 3], n_chosen=2, label="several")

    space = space_of(build)
    assert space.freeze({"several": (1, 3)}).several == [1, 3]


def test_what_is_frozen_in_inference_mode_can_be_trained() -> None:
    space = Bare()
    space.op = LayerChoice([nn.Linear(4, 4)], label="op")
    with torch.inference_mode():
        network = space.freeze({"op": 0})
    network(torch.ones(1, 4)).sum().backward()
    assert network.op.weight.grad is not None


@pytest.mark.parametrize("base", [ns.ModelSpace, mnn.MutableModule])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(2, 2),
        lambda: nn.Parameter(torch.zeros(2)),
        lambda: mnn.MutableLinear(2, ns.Categorical([1, 2], label="w")),
        lambda: ns.Categorical([1, 2], label="w"),
        lambda: 3,
    ],
)
def test_a_constructor_that_forgets_that_of_its_base_is_told_what_to_do(
    base: type[nn.Module], make: Callable[[], Any]
) -> None:
    def construct(self: Any) -> None:
        self.part = make()

    forgetful: Any = type("Forgetful", (base,), {"__init__": construct})
    with pytest.raises(SpaceError, match=r"Forgetful.__init__ must call super\(\).__init__\(\)"):
        forgetful()


def test_a_plain_part_that_forgets_it_is_named() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 2)

    class Whole(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()

    with pytest.raises(SpaceError, match=r"Part.__init__ must call"):
        Whole()
