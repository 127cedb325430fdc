"""What holds of every space: tried on random ones."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from nas_space.errors import SpaceError
from nas_space.mutable import MutableExpression
from nas_space.profiler import (
    LatencyTable,
    blocks,
    explore,
    flops,
    latency,
    macs,
    memory,
    params,
)

from . import oracle
from .random_spaces import SIZE, Net, spaces

INPUTS = torch.zeros(1, 3, SIZE, SIZE)

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def some(space: Net, most: int = 5) -> list[dict[str, Any]]:
    return list(space.sample(most, seed=0)) if space.simplify() else [{}]


def value(cost: Any, arch: Any) -> Any:
    return cost.evaluate(arch) if isinstance(cost, MutableExpression) else cost


def check(space: Net) -> None:
    try:
        costs = {
            oracle.flops: flops(space, inputs=INPUTS),
            oracle.peak: memory(space, inputs=INPUTS),
            oracle.kept: memory(space, inputs=INPUTS, training=True),
        }
    except SpaceError:
        return  # some architecture does not run: see below
    count = params(space)
    for arch in some(space):
        net = space.freeze(arch)
        assert value(count, arch) == oracle.params(net)
        for measure, cost in costs.items():
            assert value(cost, arch) == measure(net, INPUTS), measure.__name__


@SETTINGS
@given(spaces())
def test_costs_are_those_of_the_frozen_network(space):
    check(space)


@pytest.mark.slow
@settings(SETTINGS, max_examples=1000)
@given(spaces())
def test_costs_are_those_of_the_frozen_network_of_many_spaces(space):
    check(space)


@SETTINGS
@given(spaces())
def test_costs_are_exact_where_conditions_are_variables_of_their_own(space):
    with patch.object(explore, "_LARGE", 0):
        check(space)


@SETTINGS
@given(spaces())
def test_every_multiply_add_is_in_one_block(space):
    try:
        cost = macs(space, inputs=INPUTS)
    except SpaceError:
        return
    found = blocks(space, inputs=INPUTS)
    # A table in which each block takes as many microseconds as it has multiply-adds.
    table = LatencyTable({block.key: block.macs / 1000 for block in found})
    times = latency(space, table, inputs=INPUTS)
    for arch in some(space):
        assert value(times, arch) == value(cost, arch)


@SETTINGS
@given(spaces())
def test_a_space_is_refused_exactly_if_an_architecture_does_not_run(space):
    def runs(arch: Any) -> bool:
        net = space.freeze(arch, device="meta").eval()
        try:
            with torch.no_grad():
                net(INPUTS.to("meta"))
        except RuntimeError:
            return False
        return True

    try:
        macs(space, inputs=INPUTS)
    except SpaceError:
        refused = True
    else:
        refused = False
    if not refused:
        assert all(map(runs, some(space, 12)))
