"""The space of NAS-Bench-101: graphs, widths, keys and costs of cells."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch

import nas_space as ns
from nas_space.errors import UsageError
from nas_space.hub import NasBench101
from nas_space.hub.cell_graphs import canonical, cell_hash, channels_of, graphs, labellings

SMALL: dict[str, Any] = {
    "stem_out_channels": 8,
    "num_stacks": 2,
    "num_modules_per_stack": 1,
    "max_num_vertices": 4,
}

# The Inception-like cell of the benchmark's README.
MATRIX = [
    [0, 1, 1, 1, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]
OPERATIONS = ["conv1x1-bn-relu", *["conv3x3-bn-relu"] * 3, "maxpool3x3"]


def test_a_published_cell_has_the_published_parameters():
    arch = NasBench101.architecture_of(MATRIX, OPERATIONS)
    network = NasBench101.frozen_factory(arch)()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_694_282


def test_graphs_are_all_whose_vertices_are_used_once_whatever_their_order():
    for number in range(2, 6):
        known = set()
        pairs = [(u, v) for v in range(number) for u in range(v)]
        for bits in product((0, 1), repeat=len(pairs)):
            matrix = np.zeros((number, number), dtype=int)
            for (u, v), bit in zip(pairs, bits, strict=True):
                matrix[u, v] = bit
            if matrix.sum() <= 6 and matrix[:-1].any(1).all() and matrix[:, 1:].any(0).all():
                orders = [[0, *p, number - 1] for p in permutations(range(1, number - 1))]
                moved = (matrix[np.ix_(order, order)] for order in orders)
                known.add(min(str(m.tolist()) for m in moved if not np.tril(m).any()))
        assert sum(len(matrix) == number for matrix in graphs(5, 6)) == len(known)


def test_cells_are_alike_if_an_order_of_vertices_makes_one_of_the_other():
    for matrix in graphs(5, 9):
        keys = [
            cell_hash(matrix, [-1, *labelling, -2])
            for labelling in product(range(3), repeat=len(matrix) - 2)
        ]
        # The benchmark's hash tells all of them apart.
        assert len(set(keys)) == len(list(labellings(matrix, 3)))


@pytest.mark.slow
def test_there_are_as_many_cells_as_the_paper_says():
    assert len(graphs(7, 9)) == 2_494
    assert sum(1 for _ in NasBench101.unique_cells()) == 423_624


def test_channels_of_the_output_are_shared_by_those_that_it_reads():
    matrix = canonical(MATRIX)[0]
    assert sorted(channels_of(matrix, 128)) == [32, 32, 32, 32, 32]
    chain = ((0, 1, 1, 0), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0))
    assert channels_of(chain, 9) == [5, 4]


@pytest.mark.parametrize("order", [[0, 2, 1, 3, 4, 5, 6], [0, 3, 5, 1, 4, 2, 6]])
def test_the_order_of_vertices_makes_no_other_cell(order):
    matrix = np.array(MATRIX)[np.ix_(order, order)].tolist()
    operations = [OPERATIONS[vertex - 1] for vertex in order[1:-1]]
    found = NasBench101.architecture_of(matrix, operations)
    expected = NasBench101.architecture_of(MATRIX, ["input", *OPERATIONS, "output"])
    assert NasBench101.hash_of(found) == NasBench101.hash_of(expected)
    assert NasBench101.architecture_of(*NasBench101.matrix_of(found)) == found


def test_vertices_on_no_way_are_left_out_and_nnis_samples_are_read():
    # Vertex 2 leads nowhere, and nothing leads to vertex 3.
    sample = {
        "cell/num_nodes": 5,
        "cell/input1": [0],
        "cell/input2": [1],
        "cell/input3": [],
        "cell/input4": [0, 1],
        "cell/op1": "maxpool3x3",
        "cell/op2": "conv1x1-bn-relu",
        "cell/op3": "conv3x3-bn-relu",
    }
    assert NasBench101.architecture_of(sample) == {
        "cell/graph": "11/1",
        "cell/op1": "maxpool3x3",
    }


def test_every_architecture_freezes_to_plain_layers_that_compute_and_cost_the_same():
    space = NasBench101(**SMALL).eval()
    params, macs = ns.profiler.params(space), ns.profiler.macs(space, (3, 8, 8))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    archs = [dict(arch) for arch in space.sample(40, seed=0)]
    assert space.count() == 1 + 2 * 3 + 10 * 9
    for arch in archs[::7]:
        network = space.freeze(arch)
        with space.activate(arch):
            assert torch.equal(space(x), network(x))
        assert params.evaluate(arch) == sum(p.numel() for p in network.parameters())
        with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            network(x[:1])
        assert macs.evaluate(arch) == counter.get_total_flops() / 2
    assert 0 < space.where(params <= params.evaluate(archs[0])).count() <= space.count()


@pytest.mark.parametrize(
    ("matrix", "operations", "told"),
    [
        ([[0, 1], [0, 0]], ["maxpool3x3"], "square matrix"),
        ([[0, 1], [1, 0]], [], "square matrix"),
        ([[0, 2], [0, 0]], [], "square matrix"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["conv5x5"], "square matrix"),
        ([[0, 0], [0, 0]], [], "not connected"),
        ([], [], "square matrix"),
        ([[0]], ["input"], "square matrix"),
        ({"num_nodes": 3}, [], "cell/num_nodes"),
        ({"cell/num_nodes": 2, "cell/input1": 0}, [], "cell/num_nodes"),
        (np.triu(np.ones((5, 5), dtype=int), 1).tolist(), ["maxpool3x3"] * 3, "9 edges"),
    ],
)
def test_other_cells_are_refused(matrix, operations, told):
    with pytest.raises(UsageError, match=told):
        NasBench101.architecture_of(matrix, operations)


def test_architectures_of_other_spaces_are_refused():
    for arch in ({}, {"cell/graph": 3}, {"cell/graph": "10/1"}, {"cell/graph": "11/1"}):
        with pytest.raises(UsageError, match="cell/graph"):
            NasBench101.hash_of(arch)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_stacks", 0), ("max_num_vertices", 8), ("stem_out_channels", 3), ("num_labels", True)],
)
def test_senseless_arguments_are_refused(argument, value):
    with pytest.raises(UsageError, match=argument):
        NasBench101(**{argument: value})
