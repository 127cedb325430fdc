"""Cells."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_space.errors import DomainError, SpaceError
from nas_space.nn import (
    Cell,
    ModelSpace,
)
from nas_space.nn.decisions import Weighted
from nas_space.profiler import macs


class Times(nn.Module):
    """An operator that tells by what it computes where it stands."""

    def __init__(self, node: int, k: int, read: int | None) -> None:
        super().__init__()
        assert read is not None
        self.weight = nn.Parameter(torch.tensor(float(100 * node + 10 * k + read)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Net(ModelSpace):
    def __init__(self, merge_op: Any = "all", factory: bool = False) -> None:
        super().__init__()
        ops: Any = {"times": Times, "same": lambda *_: nn.Identity()}
        if not factory:
            ops = {"times": nn.PReLU(init=2.0), "same": nn.Identity()}
        self.cell = Cell(ops, 2, 2, 2, merge_op, label="cell")

    def forward(self, x: Tensor) -> Any:
        return self.cell(x, -x)


ONE = torch.ones(1, 1)


def arch_of(*pairs: tuple[str, int]) -> dict[str, Any]:
    """An architecture by operator and input, place by place."""
    places = [(node, k) for node in (2, 3) for k in (0, 1)]
    found: dict[str, Any] = {}
    for (node, k), (op, read) in zip(places, pairs, strict=True):
        found |= {f"cell/op_{node}_{k}": op, f"cell/input_{node}_{k}": [read]}
    return found


CHAIN = arch_of(("same", 0), ("same", 0), ("same", 2), ("times", 1))


def test_a_node_sums_what_its_operators_make_of_their_inputs() -> None:
    # Node 2 is 1 + 1, node 3 node 2 and -2 (PReLU of slope 2).
    assert Net().freeze(CHAIN)(ONE).tolist() == [[2.0, 0.0]]


def test_loose_ends_are_the_nodes_that_no_other_reads() -> None:
    space = Net("loose_end")
    assert space.freeze(CHAIN)(ONE).tolist() == [[0.0]]
    assert space.freeze(CHAIN).cell.output_node_indices == [3]
    apart = CHAIN | {"cell/input_3_0": [0]}
    assert space.freeze(apart).cell.output_node_indices == [2, 3]
    assert space.cell.output_node_indices == [2, 3]


def test_a_function_makes_an_operator_for_the_input_it_reads() -> None:
    space = Net(factory=True)
    network = space.freeze(CHAIN)
    assert network(ONE).tolist() == [[2.0, 2.0 - 311.0]]
    built = Net.frozen_factory(CHAIN)(factory=True)
    assert built.state_dict() == network.state_dict() == {"cell.ops.1.1.weight": 311.0}


@pytest.mark.parametrize("merge_op", ["all", "loose_end"])
@pytest.mark.parametrize("factory", [False, True])
def test_the_space_runs_as_each_of_its_networks(merge_op: str, factory: bool) -> None:
    space = Net(merge_op, factory)
    for arch in space.sample(20, seed=0):
        with space.activate(arch):
            assert torch.equal(space(ONE), space.freeze(arch)(ONE))
        assert Net.frozen_factory(arch)(merge_op, factory).simplify() == {}


def test_a_relaxed_cell_mixes_what_the_operators_make_of_each_input() -> None:
    space = Net(factory=True)
    sure = {label: torch.tensor([1.0, 0.0]) for label in space.symbols() if "op" in label}
    even = {f"cell/input_{n}_{k}": torch.full((n,), 1 / n) for n in (2, 3) for k in (0, 1)}
    with Weighted(sure | even):
        relaxed = space(ONE)
    # (200 - 201) / 2 and (210 - 211) / 2; then the mean over three inputs, twice.
    second = sum((300 + 10 * k) - (301 + 10 * k) - (302 + 10 * k) for k in (0, 1)) / 3
    assert torch.allclose(relaxed, torch.tensor([[-1.0, second]]))


def test_a_mixture_of_cells_with_loose_ends_is_refused() -> None:
    space = Net("loose_end")
    even = {n: torch.full((s.size or 0,), 1 / (s.size or 1)) for n, s in space.symbols().items()}
    with Weighted(even), pytest.raises(SpaceError, match="input_3_0"):
        space(ONE)


@pytest.mark.parametrize("factory", [False, True])
def test_the_costs_of_a_cell_are_those_of_its_networks(factory: bool) -> None:
    class Convolutions(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            ops: Any = [partial(nn.Conv2d, 2, 2, 1), partial(nn.Conv2d, 2, 2, 3, padding=1)]
            made = [lambda *_, op=op: op() for op in ops] if factory else [op() for op in ops]
            self.cell = Cell(made, 2, label="cell")

        def forward(self, x: Tensor) -> Any:
            return self.cell(x)

    space = Convolutions()
    cost = macs(space, (2, 4, 4))
    for arch in space.sample(8, seed=0):
        kernels = [1 if arch[f"cell/op_{node}_0"] == "0" else 9 for node in (1, 2)]
        assert cost.evaluate(arch) == 2 * 2 * 4 * 4 * sum(kernels)


def test_a_cell_pickles() -> None:
    space = Net(factory=True)
    again = pickle.loads(pickle.dumps(space))
    assert again.freeze(CHAIN).state_dict() == space.freeze(CHAIN).state_dict()


def test_pre_and_postprocessors_see_the_inputs() -> None:
    cell = Cell(
        [nn.Identity()],
        1,
        preprocessor=lambda inputs: [inputs[0] * 10],
        postprocessor=lambda output, inputs: (output, inputs),
        label="cell",
    )
    output, inputs = cell.freeze({"cell/op_1_0": "0", "cell/input_1_0": [0]})(ONE)
    assert output.item() == 10
    assert inputs == [ONE]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"op_candidates": [3]}, "an operator of a cell is"),
        ({"op_candidates": 3}, "operators of a cell are"),
        ({"op_candidates": [nn.ReLU()], "merge_op": "some"}, "merge_op"),
        ({"op_candidates": []}, "at least one candidate"),
    ],
)
def test_bad_cells_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        Cell(num_nodes=1, label="cell", **arguments)


def test_a_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(DomainError, match="2 predecessors, but got 1"):
        Net().freeze(CHAIN).cell(ONE)


def test_a_function_of_any_number_of_arguments_gets_all_and_one_with_defaults_none() -> None:
    given: list[Any] = []

    def any_number(*arguments: Any) -> nn.Module:
        given.append(arguments)
        return nn.Identity()

    Cell({"any": any_number, "relu": nn.ReLU}, 1, label="cell")
    assert given == [(1, 0, 0)]
