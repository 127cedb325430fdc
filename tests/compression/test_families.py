"""What holds for the networks of the list holds for other families, down to their costs."""

from __future__ import annotations

import pytest
import torch

import nas_space as ns
from nas_space.errors import SpaceError
from tests.compression.families import FAMILIES
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import assert_equal, run

QUICK = ("packed gates", "one key", "halves")


def check_costs(space, inputs) -> None:
    """Multiply-adds are those of the frozen network, at the smallest and anywhere."""
    macs = ns.profiler.macs(space, inputs=inputs)
    smallest = {label: symbol.values[0] for label, symbol in space.symbols().items()}
    for arch in (space.canonical(smallest), space.sample(seed=1)):
        assert macs.evaluate(arch) == ns.profiler.macs(space.freeze(arch), inputs=inputs)
    whole = macs.evaluate(space.original)
    (least,) = space.best(macs)
    if least.value < 0.8 * whole:
        assert macs.evaluate(space.where(macs <= 0.8 * whole).sample(seed=0)) <= 0.8 * whole


FIXED = {
    "a permutation": "out of bounds",
    "attention over channels": "depends on their places",
}
"""Networks in which the places of channels matter to the code, and what is said of them."""

UNCOUNTED = ("DeBERTa",)
"""Whose forward takes parts of a table of which the ends are numbers that it computes."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
def test_other_families_convert_and_are_exact(name):
    try:
        net, inputs = FAMILIES[name]()
    except (ImportError, AttributeError) as error:
        pytest.skip(f"not installed: {error}")
    space = ns.elastic(net, inputs)
    if name in FIXED:
        assert not space.groups()
        assert any(FIXED[name] in str(group.reason) for group in space.groups().fixed)
        return
    assert len(space.groups()) > 0
    with torch.no_grad(), space.activate(space.original):
        assert_equal(run(space, inputs), run(net, inputs))
    params = ns.profiler.params(space)
    smallest = {label: symbol.values[0] for label, symbol in space.symbols().items()}
    for arch in (space.canonical(smallest), space.sample(seed=0)):
        frozen = space.freeze(arch)
        with torch.no_grad(), space.activate(arch):
            assert_equal(run(space, inputs), run(frozen, inputs))
        assert params.evaluate(arch) == sum(p.numel() for p in frozen.parameters())
    if name in UNCOUNTED:
        with pytest.raises(SpaceError, match=r"encoder\.layer\.0\.attention"):
            ns.profiler.macs(space, inputs=inputs)
    else:
        check_costs(space, inputs)
    with torch.no_grad():
        reference = run(net, inputs)
        space.sort_channels([inputs])
        with space.activate(space.original):
            for ours, theirs in zip(run(space, inputs), reference, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_costs_of_a_space_are_those_of_the_networks_that_it_freezes_to(name):
    try:
        net, inputs = NETWORKS[name]()
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")
    check_costs(ns.elastic(net, inputs), inputs)
