"""The NASNet family against published counts, and against what its cells say of themselves."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import nas_space as ns
from nas_space.errors import CheckpointError, UsageError
from nas_space.hub import AmoebaNetSpace, DARTSSpace, ENASSpace, NASNetSpace, PNASSpace
from nas_space.hub.cells import OPERATIONS, DropPath, FactorizedReduce
from nas_space.mutable import MutableExpression
from nas_space.nn import Cell, MutableConv2d
from nas_space.nn.decisions import Marginals, Weighted, misread
from nas_space.profiler import macs, params
from nas_space.strategy.oneshot import DARTS, Proxyless, RandomOneShot
from nas_space.tables import tabulate
from nas_space.training import Task

FAMILY = [AmoebaNetSpace, DARTSSpace, ENASSpace, NASNetSpace, PNASSpace]


class Tiny(ENASSpace):
    operations = ("skip_connect", "conv_1x1", "max_pool_3x3")
    num_nodes = 2


class Whole(Tiny):
    merge_op = "all"


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# In millions, papers say 3.3 (DARTS), 3.4 (P-DARTS), 3.6 (PC-DARTS) and 2.8 with an auxiliary head
# or 2.7 without (SNAS); these are what the authors' own code counts, its auxiliary head left out.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("darts-v1", 3_169_414),
        ("darts-v2", 3_349_342),
        ("p-darts", 3_433_798),
        ("pc-darts", 3_634_678),
        ("snas", 2_661_382),
    ],
)
def test_published_cells_have_the_published_parameters(name, parameters):
    net = DARTSSpace.load_searched_model(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_darts_at_the_size_for_imagenet_has_the_published_parameters():
    net = DARTSSpace.load_searched_model("darts-v2", width=48, num_cells=14, dataset="imagenet")
    # arXiv 1806.09055 says 4.7M. (And 574M multiply-adds, where convolutions have 530M.)
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(
        4.7e6, rel=0.01
    )


@pytest.mark.parametrize("kind", FAMILY)
def test_two_kinds_of_cells_are_searched_with_two_operations_for_each_node(kind):
    space = kind(width=8, num_cells=3)
    nodes = range(2, 2 + kind.num_nodes)
    wanted = {
        f"{cell}/{what}_{node}_{place}"
        for cell in ("normal", "reduce")
        for what in ("op", "input")
        for node in nodes
        for place in (0, 1)
    }
    assert set(space.symbols()) == wanted
    each = 1
    for node in nodes:
        each *= (len(kind.operations) * node) ** 2
    assert space.count() == each**2


def test_widths_and_numbers_of_cells_are_choices_where_several_are_given():
    space = Tiny(width=(4, 8), num_cells=(3, 5, 8))
    width: Any = space.symbols()["width"]
    assert list(width.values) == [4, 8]
    assert space.count() == 6 * Tiny(width=4, num_cells=3).count()
    depths = {3: [1, 1, 1], 5: [1, 2, 2], 8: [2, 3, 3]}
    for depth, expected in depths.items():
        net: Any = space.freeze(space.sample(seed=0) | {"depth": depth})
        assert [len(stage) for stage in net.stages] == expected


@pytest.mark.parametrize("dataset", ["cifar", "imagenet"])
@pytest.mark.parametrize("depth", [3, 4, 5, 6])
def test_every_depth_runs_as_it_freezes_with_loose_ends(dataset, depth):
    space = Tiny(width=(4, 8), num_cells=(3, 4, 5, 6), dataset=dataset, num_labels=3).eval()
    x = torch.randn(2, 3, 64, 64)
    for seed in range(4):
        arch = space.sample(seed=seed) | {"depth": depth}
        with space.activate(arch):
            expected = space(x)
        assert torch.equal(space.freeze(arch)(x), expected)


def test_weights_of_a_node_stay_when_another_is_no_longer_a_loose_end():
    space = Tiny(width=4, num_cells=3)
    arch = space.sample(seed=0)
    arch |= {"normal/input_3_0": [0], "normal/input_3_1": [1]}
    both: Any = space.freeze(arch)
    only: Any = space.freeze(arch | {"normal/input_3_0": [2]})
    # What reads the cell's output has columns for node 2, which is loose in one of them, and 3.
    mine = both.stages[1][0].preprocessor.pre1[1].weight
    other = only.stages[1][0].preprocessor.pre1[1].weight
    assert mine.shape[1] == 8
    assert torch.equal(mine[:, 4:], other)


class Deep(ENASSpace):
    """What its cells concatenate depends on more labels than one table may."""

    operations = ("skip_connect", "conv_1x1")
    num_nodes = 4


@pytest.mark.parametrize("dataset", ["cifar", "imagenet"])
def test_narrower_cells_keep_the_channels_that_they_share_with_others(dataset):
    # The halves of a factorized reduction would otherwise be read as if they were one width.
    space = DARTSSpace(width=(8, 12), num_cells=(3, 4), dataset=dataset)
    assert misread(space, torch.zeros(1, 3, 64, 64)) == []


def test_costs_of_loose_ends_are_sums_over_nodes():
    space = Deep(width=(4, 8), num_cells=(3, 4, 5))
    cost, count = macs(space, (3, 32, 32)), params(space)
    terms = tabulate(cost).terms
    assert max(term.values.size for term in terms) <= 2**12
    batch = space.sample(8, seed=0)
    for arch, said in zip(batch, cost.evaluate(batch).tolist(), strict=True):
        net = space.freeze(arch).eval()
        with FlopCounterMode(display=False) as counter:
            net(images(1))
        assert said == counter.get_total_flops() // 2 == cost.evaluate(arch)
        assert count.evaluate(arch) == sum(parameter.numel() for parameter in net.parameters())
    budget = cost.evaluate(batch[0])
    small = space.where(cost <= budget, count <= 30_000)
    assert all(
        cost.evaluate(arch) <= budget and count.evaluate(arch) <= 30_000
        for arch in small.sample(10, seed=0)
    )
    (found,) = small.best(cost, maximize=True)
    assert cost.evaluate(found.arch) == found.value <= budget


def test_the_auxiliary_head_joins_in_training_only():
    space = Tiny(width=4, num_cells=3, auxiliary_loss=True)
    arch = space.sample(seed=0)
    net = space.freeze(arch)
    scores, auxiliary = net(images())
    assert scores.shape == auxiliary.shape == (2, 10)
    with space.activate(arch):
        torch.testing.assert_close(space(images())[1], auxiliary)
    assert net.eval()(images()).shape == (2, 10)


def test_operations_are_dropped_for_whole_examples_in_training():
    drop = DropPath(0.5)
    x = torch.ones(64, 2, 3, 3)
    y = drop(x)
    assert {value.item() for value in y.unique()} == {0.0, 2.0}
    assert torch.equal(y, y[:, :1, :1, :1].expand_as(y))
    assert torch.equal(drop.eval()(x), x)
    space = Tiny(width=4, num_cells=3, drop_path_prob=0.3)
    space.set_drop_path_prob(0.1)
    drops = [module for module in space.modules() if isinstance(module, DropPath)]
    assert drops
    assert {module.drop_prob for module in drops} == {0.1}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_the_width_and_a_stride_halves_the_image(name):
    x = torch.randn(2, 4, 8, 8)
    assert OPERATIONS[name](4, 1)(x).shape == x.shape
    assert OPERATIONS[name](4, 2)(x).shape == (2, 4, 4, 4)


def test_a_factorized_reduction_reads_even_and_odd_places():
    reduction = FactorizedReduce(1, 2).eval()
    for conv in (reduction.conv_1, reduction.conv_2):
        nn.init.ones_(conv.weight)
    y = reduction(torch.arange(16.0).view(1, 1, 4, 4)) * (1 + 1e-5) ** 0.5
    torch.testing.assert_close(y[0, 0], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    torch.testing.assert_close(y[0, 1], torch.tensor([[5.0, 7.0], [13.0, 15.0]]))


def vectors(space: Any, codes: dict[str, int]) -> dict[str, torch.Tensor]:
    """Probabilities that are all on one code."""
    return {
        label: nn.functional.one_hot(torch.tensor(codes[label]), symbol.size).double()
        for label, symbol in space.symbols().items()
    }


def as_codes(space: Any, arch: dict[str, Any]) -> dict[str, int]:
    symbols = space.symbols().items()
    return {label: s.code(arch[label]) if label in arch else 0 for label, s in symbols}


@pytest.mark.parametrize("depth", [3, (3, 4, 6)])
@pytest.mark.parametrize("differentiated", [False, True])
def test_a_mixture_of_one_architecture_with_loose_ends_is_that(depth, differentiated):
    space = Tiny(width=(4, 8), num_cells=depth, num_labels=3).double()
    for seed, training in product(range(2), (False, True)):
        space.train(training)
        arch = space.sample(seed=seed)
        sure = vectors(space, as_codes(space, arch))
        with Weighted({k: v.requires_grad_(differentiated) for k, v in sure.items()}):
            mixed = space(images().double())
        with space.activate(arch):
            torch.testing.assert_close(mixed, space(images().double()))


class Loose(ns.ModelSpace):
    """A cell without anything between sums, and a layer that reads its loose ends."""

    def __init__(self, nodes: int, reads: int) -> None:
        super().__init__()
        skip = [nn.Identity()]
        self.cell = Cell(skip, nodes, reads, 1, merge_op="loose_end", label="cell")
        widths = [MutableExpression.condition(loose, 2, 0) for loose in self.cell.loose_ends]
        self.last = MutableConv2d(sum(widths), 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.last(self.cell(x))


def test_what_reads_loose_ends_weights_each_by_the_probability_that_it_is_one():
    # Whether a node is one is for later nodes to say: so this is the mean over architectures.
    space, x = Loose(3, 1).double(), torch.randn(2, 2, 3, 3, dtype=torch.double)
    likely = {
        label: torch.rand(symbol.size, dtype=torch.double).softmax(0)
        for label, symbol in space.symbols().items()
    }
    with Weighted(likely):
        mixed = space(x)
    total = torch.zeros_like(mixed)
    arch: dict[str, Any] = {}
    for net in space.grid(arch):
        weight = torch.ones(()).double()
        for label, code in as_codes(space, arch).items():
            weight = weight * likely[label][code]
        total = total + weight * net(x)
    torch.testing.assert_close(mixed, total)


def test_probabilities_of_more_combinations_than_are_listed_are_those_of_each_label():
    space = Loose(6, 2)
    likely = {
        label: torch.rand(symbol.size, dtype=torch.double).softmax(0)
        for label, symbol in space.symbols().items()
    }
    outcomes, found = Marginals(likely).of(tuple(space.cell.loose_ends[:-1]))
    assert outcomes.places.size > 2**16
    expected = math.prod(
        [1 - likely[f"cell/input_{n}_{k}"][1] for n in range(2, 7) for k in (0, 1)]
    )
    there = [values[0] for values in outcomes.values]
    torch.testing.assert_close(found[there].sum(), expected)
    torch.testing.assert_close(found.sum(), torch.ones(()).double())


@pytest.mark.parametrize("strategy", [DARTS, Proxyless])
def test_cells_are_relaxed_and_sampled_whatever_their_ends_and_their_number(strategy):
    data = TensorDataset(images(4), torch.arange(4))
    task = Task.classification(data, data, batch_size=4)
    for space in (Whole(width=4, num_cells=3), Tiny(width=(4, 8), num_cells=(3, 4))):
        for chosen in (strategy(), RandomOneShot(candidates=2)):
            assert space.contains(ns.search(space, task, strategy=chosen, steps=1).best())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"width": 7}, "width is a whole number, even"),
        ({"width": (8, 0)}, "width is a whole number"),
        ({"num_cells": 2}, "at least 3"),
        ({"num_cells": ()}, "num_cells is a whole number"),
        ({"dataset": "mnist"}, "'cifar' or 'imagenet'"),
    ],
)
def test_senseless_arguments_are_refused(arguments, told):
    with pytest.raises(UsageError, match=told):
        DARTSSpace(**{"width": 8, "num_cells": 3, **arguments})


def test_weights_that_nobody_published_are_refused_by_name():
    with pytest.raises(CheckpointError, match="p-darts was published without weights"):
        DARTSSpace.load_searched_model("p-darts", pretrained=True)
