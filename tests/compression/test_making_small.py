"""What makes a network small well: the order of channels, and the fit of what reads them."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import UsageError
from tests.compression.networks import NETWORKS
from tests.compression.test_elastic import assert_equal, run

ORDERS = ("magnitude", "activation", "taylor")


def _called(net: Any, x: Any) -> Any:
    return net(x)


def fresh(name):
    try:
        net, inputs = NETWORKS[name]()
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")
    return net, inputs, ns.elastic(net, inputs)


@pytest.mark.parametrize(
    "name", ["UNet", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "UNet")]
)
def test_sorting_changes_the_function_by_rounding_only_and_the_order_of_channels(name):
    net, inputs, space = fresh(name)
    if not space.groups():
        pytest.skip("nothing varies")
    before = {key: value.clone() for key, value in space.state_dict().items()}
    with torch.no_grad():
        reference = run(net, inputs)
        for by in ORDERS[: 1 if name != "UNet" else 3]:
            space.sort_channels([inputs], by=by)
            with space.activate(space.original):
                for ours, theirs in zip(run(space, inputs), reference, strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    moved = [k for k, v in space.state_dict().items() if not torch.equal(v, before[k])]
    assert moved or not space._state.plan.sortable
    arch = space.sample(seed=3)
    with torch.no_grad(), space.activate(arch):
        assert_equal(run(space, inputs), run(space.freeze(arch), inputs))


@pytest.mark.parametrize("by", [*ORDERS, lambda _, tensor: tensor.abs()])
def test_channels_that_do_nothing_come_last(by):
    first, last = nn.Linear(4, 16), nn.Linear(16, 2)
    net = nn.Sequential(first, nn.ReLU(), last).eval()
    dead = torch.tensor([0, 1, 3, 5, 6, 9, 12, 15])
    with torch.no_grad():
        for tensor in (first.weight, first.bias):
            tensor[dead] = 0
        last.weight[:, dead] = 0
    x = torch.randn(32, 4)
    space = ns.elastic(net, x).sort_channels([x], by=by)
    with torch.no_grad():
        torch.testing.assert_close(_called(space.freeze({"0.width": 8}), x), net(x))


def test_heads_move_as_wholes_in_queries_keys_values_and_what_reads_them():
    pytest.importorskip("transformers")
    net, inputs, _ = fresh("GPT-2")
    attention = net.transformer.h[1].attn
    with torch.no_grad():  # the last two of four heads are all that this layer does
        attention.c_proj.weight[:32] = 0
    space = ns.elastic(net, inputs).sort_channels([inputs])
    small = space.freeze(space.original | {"transformer.h.1.attn.c_attn.heads": 2})
    with torch.no_grad():
        for ours, theirs in zip(run(small, inputs), run(net, inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sorting_asks_for_data_and_a_known_order_before_anything_moves():
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    space = ns.elastic(net, torch.ones(1, 4))
    before = space.state_dict()["0.weight"].clone()
    with pytest.raises(UsageError, match="data is needed"):
        space.sort_channels(by="activation")
    with pytest.raises(UsageError, match="magnitud"):
        cast(Any, space).sort_channels(by="magnitud")
    assert torch.equal(space.state_dict()["0.weight"], before)


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("own_teacher", [False, True])
def test_a_refitted_network_is_nearer_to_its_teacher(is_sorted, own_teacher):
    net, _, space = fresh("ResNet")
    data = [torch.randn(8, 3, 16, 16) for _ in range(4)]
    if is_sorted:
        space.sort_channels(data)
    arch = {
        name: min(space.symbols()[name].values) if name.endswith("width") else value
        for name, value in space.original.items()
    }
    small = space.freeze(arch)
    held = {key: value.clone() for key, value in net.state_dict().items()}
    probe = torch.randn(16, 3, 16, 16)
    with torch.no_grad():
        before = (small(probe) - net(probe)).square().mean()
        space.refit(small, data, teacher=net if own_teacher else None)
        after = (small(probe) - net(probe)).square().mean()
    assert after < 0.8 * before
    assert_equal(list(net.state_dict().values()), list(held.values()))


def test_what_is_redundant_is_recovered_by_a_refit():
    first = nn.Linear(4, 16)
    net = nn.Sequential(first, nn.ReLU(), nn.Linear(16, 2)).eval()
    with torch.no_grad():  # each channel twice: what reads one can do what reads both did
        for tensor in (first.weight, first.bias):
            tensor[8:] = tensor[:8]
    x = torch.randn(256, 4)
    space = ns.elastic(net, x)
    small = space.freeze({"0.width": 8})
    space.refit(small, [x], ridge=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(_called(small, x), net(x), rtol=1e-3, atol=1e-3)


def test_refit_takes_what_the_space_was_frozen_to():
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    space = ns.elastic(net, torch.ones(1, 4))
    with pytest.raises(UsageError, match="frozen"):
        space.refit(net, [torch.ones(1, 4)])
    with pytest.raises(UsageError, match="data"):
        space.refit(space.freeze(space.original), [])
