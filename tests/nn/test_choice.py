"""Choices between modules and inputs, repeats, and modules of one's own with expressions."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas_space as ns
from nas_space import nn as mnn
from nas_space.errors import DomainError, ExpressionError, SampleValidationError, SpaceError
from nas_space.mutable import Categorical
from nas_space.nn import (
    Activation,
    ChosenInputs,
    InputChoice,
    LayerChoice,
    MutableModule,
    ParametrizedModule,
    Repeat,
)


def run(module: MutableModule, arch: dict[str, Any], *args: Any) -> Any:
    with Activation(module.read(arch)):
        return module(*args)


# -- LayerChoice ------------------------------------------------------------------------------


def test_candidates_are_a_dict_or_a_list_of_modules_or_makers() -> None:
    made: Any = {"lin": nn.Linear(2, 2), "id": nn.Identity}
    by_name = LayerChoice(made, label="op")
    assert by_name.names == ["lin", "id"]
    assert by_name["lin"] is made["lin"]
    assert list(by_name.candidates) == ["lin", "id"]
    assert [type(m) for m in LayerChoice([nn.ReLU(), nn.Tanh], label="op")] == [nn.ReLU, nn.Tanh]
    in_list = LayerChoice(nn.ModuleList([nn.ReLU(), nn.Tanh()]), label="op")
    assert in_list.candidates == [in_list[0], in_list[1]]
    assert in_list.simplify() == {"op": Categorical([0, 1], label="op")}
    assert len(LayerChoice(nn.ModuleDict({"a": nn.ReLU()}), label="op")) == 1


def test_a_choice_runs_and_freezes_to_the_one_chosen() -> None:
    choice = LayerChoice({"double": nn.Linear(2, 4), "id": nn.Identity()}, label="op")
    x = torch.ones(1, 2)
    for name in ("double", "id"):
        frozen = choice.freeze({"op": name})
        assert type(frozen) is type(choice[name])
        assert torch.equal(run(choice, {"op": name}, x), frozen(x))


def test_choices_nest_and_only_what_is_reached_is_active() -> None:
    inner = LayerChoice([nn.ReLU(), nn.Tanh()], label="inner")
    outer = LayerChoice({"deep": nn.Sequential(inner), "flat": nn.Identity()}, label="outer")
    archs = [{"outer": "deep", "inner": 0}, {"outer": "deep", "inner": 1}, {"outer": "flat"}]
    memo: dict[str, Any] = {}
    assert [dict(memo) for _ in outer.grid(memo)] == archs


def test_weights_are_probabilities() -> None:
    choice = LayerChoice([nn.ReLU(), nn.Tanh()], weights=[1, 0], label="op")
    assert all(type(choice.random(random_state=seed)) is nn.ReLU for seed in range(10))


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "at least one candidate"),
        ({}, "at least one candidate"),
        ("ab", "a list or a dict of modules, but got str"),
        ([3], "candidate 0 of 'op' must be a module.*but got 3"),
        ([lambda: 3], "which made 3"),
        ({"a.b": nn.ReLU()}, "a string without dots, but got 'a.b'"),
        ({1: nn.ReLU()}, "a string without dots, but got 1"),
    ],
)
def test_malformed_candidates_are_refused(candidates: Any, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        LayerChoice(candidates, label="op")


def test_candidates_can_be_replaced_but_not_added_or_removed() -> None:
    choice = LayerChoice({"a": nn.ReLU(), "b": nn.Tanh()}, label="op")
    choice["a"] = nn.Sigmoid()
    assert type(choice.freeze({"op": "a"})) is nn.Sigmoid
    with pytest.raises(KeyError, match="'aa'.*did you mean 'a'"):  # noqa: RUF043
        choice["aa"]
    with pytest.raises(KeyError, match="replaced, not added"):
        choice["c"] = nn.ReLU()
    with pytest.raises(KeyError, match="build the choice without it"):
        del choice["a"]


def test_the_short_form_chooses_values_or_layers() -> None:
    assert isinstance(mnn.choice("op", [nn.ReLU(), nn.Tanh()]), LayerChoice)
    assert mnn.choice("width", [1, 2]) is Categorical([1, 2], label="width")


# -- InputChoice ------------------------------------------------------------------------------

INPUTS = [torch.full((1, 2), float(value)) for value in (1, 2, 4)]

EXPECTED = {
    "sum": lambda chosen: torch.stack(chosen).sum(0),
    "mean": lambda chosen: torch.stack(chosen).mean(0),
    "concat": lambda chosen: torch.cat(chosen, 1),
}


@pytest.mark.parametrize("reduction", ["sum", "mean", "concat", "none"])
@pytest.mark.parametrize("n_chosen", [None, 1, 2, 3])
def test_inputs_are_chosen_and_reduced(n_chosen: int | None, reduction: Any) -> None:
    pick = InputChoice(3, n_chosen, reduction, label="pick")
    sizes = range(4) if n_chosen is None else [n_chosen]
    subsets = [list(subset) for size in sizes for subset in combinations(range(3), size)]
    for subset in subsets:
        frozen = pick.freeze({"pick": subset})
        assert isinstance(frozen, ChosenInputs)
        result = frozen(INPUTS)
        active = run(pick, {"pick": subset}, INPUTS)
        chosen = [INPUTS[index] for index in subset]
        if reduction == "none":
            assert result == chosen
            assert active == chosen
        elif not chosen:
            assert result is None
            assert active is None
        else:
            assert torch.equal(result, EXPECTED[reduction](chosen))
            assert torch.equal(active, result)


def test_malformed_input_choices_are_refused() -> None:
    with pytest.raises(DomainError, match="reduction must be one of.*but got 'max'"):  # noqa: RUF043
        InputChoice(3, reduction="max", label="pick")  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="n_chosen of 'pick' must be.*between 1 and 3"):  # noqa: RUF043
        InputChoice(3, n_chosen=4, label="pick")
    pick = InputChoice(3, label="pick")
    with pytest.raises(DomainError, match="'pick' is among 3 inputs, but got 2"):
        run(pick, {"pick": [0]}, INPUTS[:2])
    assert "chosen=[1], reduction='sum'" in repr(pick.freeze({"pick": [1]}))


# -- Repeat -----------------------------------------------------------------------------------


class Add(nn.Module):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


@pytest.mark.parametrize(
    "blocks",
    [
        Add(),
        lambda index: Add(),  # noqa: ARG005
        [Add(), lambda index: Add(), Add()],  # noqa: ARG005
        (Add(), Add(), Add(), Add()),
    ],
    ids=["module", "builder", "list", "tuple"],
)
@pytest.mark.parametrize(
    "depth",
    [(0, 3), (1, 3), Categorical([1, 3], label="depth"), Categorical([0, 1], label="depth") * 3, 2],
    ids=str,
)
def test_as_many_blocks_run_as_are_chosen(blocks: Any, depth: Any) -> None:
    repeat = Repeat(blocks, depth, label="depth" if isinstance(depth, tuple) else None)
    x = torch.zeros(2)
    memo: dict[str, Any] = {}
    for frozen in repeat.grid(memo):
        wanted = repeat.expression("depth_choice")
        number = wanted if isinstance(wanted, int) else wanted.freeze(dict(memo))
        assert type(frozen) is nn.Sequential
        assert len(frozen) == number
        assert frozen(x).tolist() == [number] * 2
        assert run(repeat, dict(memo), x).tolist() == [number] * 2
        assert list(frozen.state_dict()) == [f"{i}.value" for i in range(number)]


def test_blocks_made_of_one_module_have_weights_of_their_own() -> None:
    repeat = Repeat(Add(), (1, 3), label="depth")
    assert len({id(block.value) for block in repeat}) == 3
    assert (len(repeat), repeat.min_depth, repeat.max_depth, repeat.label) == (3, 1, 3, "depth")
    assert repeat[1] is repeat.blocks[1]


def test_builders_are_told_the_index() -> None:
    repeat = Repeat(lambda index: Add(10.0**index), (1, 3), label="depth")
    assert repeat.freeze({"depth": 3})(torch.zeros(1)).item() == 111


@pytest.mark.parametrize(
    ("blocks", "depth", "message"),
    [
        (Add(), (2, 1), r"0 <= low <= high, but got \(2, 1\)"),
        (Add(), (-1, 1), "0 <= low <= high"),
        (Add(), (1, 2, 3), r"\(low, high\)"),
        (Add(), 1.5, "a number, a range .* or an expression, but got 1.5"),
        (Add(), True, "but got True"),
        (Add(), Categorical([0.5, 1], label="d"), "whole number, 0 or more, but .* can be 0.5"),
        (Add(), Categorical([1, 2], label="d") - 2, "can be -1"),
        ([Add()], (1, 2), "up to 2 blocks are needed, but only 1"),
        (nn.ModuleList([Add()]), (0, 1), "give the blocks as a list"),
        (lambda index: index, (0, 2), "block 0 must be a module, but the builder made 0"),
        (Add(), -1, "whole number, 0 or more"),
    ],
)
def test_malformed_repeats_are_refused(blocks: Any, depth: Any, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        Repeat(blocks, depth, label="d" if isinstance(depth, tuple) else None)


def test_a_label_is_for_a_range_only() -> None:
    with pytest.raises(DomainError, match="label='d' names a range"):
        Repeat(Add(), 2, label="d")


# -- modules of one's own ---------------------------------------------------------------------


class Power(ParametrizedModule):
    def __init__(self, exponent: Any, *, scale: Any = 1.0, steps: Any = ()) -> None:
        super().__init__()
        self.exponent, self.steps = exponent, steps
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.scale * x**self.exponent
        return y


def test_a_module_of_ones_own_takes_expressions() -> None:
    exponent = Categorical([1, 2, 3], label="p")
    power = Power(exponent, scale=exponent * 2.0)
    assert len(power.instances) == 3  # not nine: the scale follows the exponent
    assert power.exponent is exponent
    x = torch.tensor(3.0)
    for p in (1, 2, 3):
        frozen = power.freeze({"p": p})
        assert type(frozen) is Power
        assert (frozen.exponent, frozen.scale.item()) == (p, 2.0 * p)
        assert frozen(x) == run(power, {"p": p}, x) == 2 * p * 3**p
        with Activation(power.read({"p": p})):
            assert power.exponent == p
    with pytest.raises(AttributeError, match="only under an active architecture"):
        power.unknown  # noqa: B018


def test_each_instance_keeps_what_it_has_learned() -> None:
    power = Power(Categorical([1, 2], label="p"))
    run(power, {"p": 2}, torch.tensor(3.0)).backward()
    torch.optim.SGD(power.parameters(), lr=0.1).step()
    assert [round(net.scale.item(), 6) for net in power.grid()] == [1, 0.1]


def test_with_plain_arguments_it_is_an_ordinary_module() -> None:
    power = Power(2)
    assert not power.is_parametrized
    assert power.args == {}
    assert not hasattr(power, "instances")
    assert power(torch.tensor(3.0)) == 9
    assert type(power.freeze({})) is Power


def test_choices_within_instances_are_active_where_they_are_used() -> None:
    class Wrapped(ParametrizedModule):
        def __init__(self, wide: Any) -> None:
            super().__init__()
            self.op = LayerChoice([nn.ReLU(), nn.Tanh()], label="op") if wide else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.op(x)
            return y

    module = Wrapped(Categorical([True, False], label="wide"))
    memo: dict[str, Any] = {}
    kinds = [(dict(memo), type(net.op)) for net in module.grid(memo)]
    assert kinds == [
        ({"wide": True, "op": 0}, nn.ReLU),
        ({"wide": True, "op": 1}, nn.Tanh),
        ({"wide": False}, nn.Identity),
    ]


def test_the_limit_of_instances_can_be_raised() -> None:
    class Many(ParametrizedModule, max_instances=2):
        def __init__(self, value: Any) -> None:
            super().__init__()

    assert len(Many(Categorical([1, 2], label="v")).instances) == 2
    with pytest.raises(DomainError, match=r"Many cannot be sliced.*at most 2.*max_instances"):
        Many(Categorical([1, 2, 3], label="v"))


def test_a_class_of_somebody_else_is_wrapped() -> None:
    class MutableAdd(ParametrizedModule, Add, wraps=Add):
        pass

    add = MutableAdd(Categorical([1.0, 2.0], label="v"))
    assert isinstance(add, Add)
    assert type(add.freeze({"v": 2.0})) is Add
    assert type(MutableAdd(3.0).freeze({})) is Add


def test_arguments_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ExpressionError, match=r"Identity takes \*args"):
        mnn.MutableIdentity(Categorical([1, 2], label="v"))
    with pytest.raises(ExpressionError, match="hidden in a set given to Power"):
        Power(2, steps={Categorical([1, 2], label="v")})


def test_a_form_that_was_not_built_is_named() -> None:
    power = Power(Categorical([1, 2], label="p"))
    with pytest.raises(DomainError, match=r"Power was not built for the arguments \(3,\)"):
        power.instance_for((3,))


def test_what_is_never_active_is_refused_in_forward() -> None:
    for module in (
        LayerChoice([nn.ReLU(), nn.Tanh()], label="op"),
        Repeat(Add(), (0, 2), label="op"),
        Power(Categorical([1, 2], label="op")),
    ):
        with pytest.raises(SpaceError, match=rf"{type(module).__name__}\(.*op.*none is active"):
            module(torch.zeros(1))
        with pytest.raises(SampleValidationError):
            module.freeze({"op": 9})


def test_the_nearest_mutable_modules_are_found() -> None:
    inner = LayerChoice([nn.Sequential(Power(2)), nn.Tanh()], label="op")
    space = LayerChoice([nn.Sequential(nn.ReLU(), inner)], label="outer")
    assert list(space.mutable_descendants()) == [inner]
    assert [path for path, _ in space.named_mutable_descendants()] == ["0.1"]
    assert ns.active(nn.ReLU) is nn.ReLU
