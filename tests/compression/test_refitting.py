"""What a refit promises: on what it was fitted to, a layer is no further from the teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import nas_space as ns
from tests.compression.architectures import smallest


class Block(nn.Module):
    """A residual block whose sum is normalised, as those of BERT, or not."""

    def __init__(self, norm: nn.Module, *, in_place: bool = False) -> None:
        super().__init__()
        self.up = nn.Linear(8, 32)
        self.down = nn.Linear(32, 8)
        self.dropout = nn.Dropout(0.1)
        self.norm = norm
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(self.down(self.up(x).relu()))
        if self.in_place:
            out += x
            return self.norm(out)  # type: ignore[no-any-return]
        return self.norm(x + out)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def of(net: nn.Module, x: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    return ns.elastic(net, x, widths=(0.25, 0.5, 1.0), depth=False, **options)


def sums(net: Any, x: Tensor) -> list[Tensor]:
    """What is normalised in each block."""
    found: list[Tensor] = []
    handles = [
        block.norm.register_forward_pre_hook(lambda _, args: found.append(args[0].detach()))
        for block in net.blocks
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found


PAIR = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
PAIR_SPACE = of(PAIR, torch.ones(1, 6), only=("0.width",))


@settings(max_examples=25)
@given(
    rows=st.sampled_from([1, 3, 8, 200]),
    rank=st.integers(1, 6),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
    ridge=st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_on_its_calibration_data_a_layer_is_never_worse(rows, rank, size, ridge, seed):
    draw = torch.Generator().manual_seed(seed)
    x = size * torch.randn(rows, rank, generator=draw) @ torch.randn(rank, 6, generator=draw)
    small = PAIR_SPACE.freeze({"0.width": 8})
    with torch.no_grad():
        before = (small(x) - PAIR(x)).square().sum()
        PAIR_SPACE.refit(small, list(x.split(50)), teacher=PAIR, ridge=ridge)
        after = (small(x) - PAIR(x)).square().sum()
    assert after <= before * (1 + 1e-4) + 1e-9 * PAIR(x).square().sum()


def test_without_a_ridge_it_is_the_least_squares_solution():
    x = torch.randn(300, 6)
    small = PAIR_SPACE.freeze({"0.width": 8})
    PAIR_SPACE.refit(small, [x], teacher=PAIR, ridge=1e-12)
    with torch.no_grad():
        hidden = torch.cat([small[1](small[0](x)), torch.ones(300, 1)], 1).double().numpy()
        wanted = PAIR(x).double().numpy()
    solution = np.linalg.lstsq(hidden, wanted, rcond=None)[0]
    np.testing.assert_allclose(small[2].weight.detach(), solution[:-1].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(small[2].bias.detach(), solution[-1], rtol=1e-3, atol=1e-4)


def test_what_reads_all_channels_is_left_as_it_is():
    small = PAIR_SPACE.freeze(PAIR_SPACE.original)
    PAIR_SPACE.refit(small, [torch.randn(50, 6)], teacher=PAIR)
    for name, value in small.state_dict().items():
        assert torch.equal(value, PAIR.state_dict()[name])


@pytest.mark.parametrize("in_place", [False, True])
def test_a_sum_is_fitted_rather_than_the_addend_so_that_errors_do_not_add_up(in_place):
    torch.manual_seed(0)
    net: Any = Encoder(*(Block(nn.Identity(), in_place=in_place) for _ in range(4))).eval()
    x, probe = torch.randn(2, 400, 8)
    space = of(net, x, share="kind")
    small = space.freeze(smallest(space))
    with torch.no_grad():
        before = (small(probe) - net(probe)).square().mean()
        space.refit(small, [x], teacher=net)
        error = (small(probe) - net(probe)).square().mean()
        # Fitting each addend alone, on the same data, is what this is to better.
        other: Any = space.freeze(smallest(space))
        for place, block in enumerate(other.blocks):
            ours, theirs = x, x
            for index in range(place):
                ours, theirs = other.blocks[index](ours), net.blocks[index](theirs)
            a = torch.cat([block.up(ours).relu(), torch.ones(400, 1)], 1)
            b = net.blocks[place].down(net.blocks[place].up(theirs).relu())
            solution = torch.linalg.lstsq(a, b).solution
            block.down.weight.copy_(solution[:-1].T)
            block.down.bias.copy_(solution[-1])
        alone = (other(probe) - net(probe)).square().mean()
    assert error < 0.9 * alone < 0.9 * before


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_where_sums_are_normalised_a_few_huge_rows_are_not_all_that_is_fitted(norm):
    torch.manual_seed(1)
    net: Any = Encoder(Block(norm(8)), Block(norm(8))).eval()
    x = torch.randn(400, 8)
    with torch.no_grad():
        for block in net.blocks:  # on one direction of inputs, a unit answers a thousandfold
            block.up.weight[31] = 0
            block.up.weight[31, 0] = 30.0
            block.up.bias[31] = -60.0
            block.down.weight[3, 31] = 100.0
        space = of(net, x, share="kind")
        small = space.freeze(smallest(space))
        plain, wanted = sums(small, x), sums(net, x)
        before = (small(x) - net(x)).square().mean()
        space.refit(small, [x], teacher=net, ridge=1e-6)
        fitted = sums(small, x)
        after = (small(x) - net(x)).square().mean()
    weight = 1 / wanted[0].square().mean(1)
    old, new = ((weight * (s[0] - wanted[0]).square().sum(1)).sum() for s in (plain, fitted))
    assert new < old
    assert after < 0.8 * before


def test_padding_does_not_count():
    torch.manual_seed(0)
    net = Encoder(Block(nn.LayerNorm(8))).eval()
    mask = torch.ones(20, 6, dtype=torch.int64)
    mask[::2, 3:] = 0
    x = torch.randn(20, 6, 8)
    fitted, orders = [], []
    for padding in (0.0, 100.0):
        padded = x * mask[..., None] + padding * torch.randn(1, 1, 8) * (1 - mask[..., None])
        space = of(net, {"x": padded})
        data = [{"x": padded, "attention_mask": mask}]
        small = space.freeze(smallest(space))
        space.refit(small, data, teacher=net)
        fitted.append(small.state_dict())
        orders.append(space.sort_channels(data).state_dict())
    for mine, other in zip(fitted, orders, strict=True):
        assert mine.keys() == other.keys()
    for one, other in (fitted, orders):
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6)


class OwnPadding(nn.Conv2d):
    """As those of networks that came from TensorFlow: padded in the forward."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (0, 2, 0, 2)))


@pytest.mark.parametrize(
    ("first", "second", "shape"),
    [
        (nn.Conv1d(3, 16, 3, padding=1), nn.Conv1d(16, 5, 3, 2, 2, 2), (8, 3, 20)),
        (nn.Conv2d(3, 16, 3), nn.Conv2d(16, 5, 3, padding="same", dilation=2), (8, 3, 9, 9)),
        (
            nn.Conv2d(3, 16, 3),
            nn.Conv2d(16, 5, (3, 1), padding=(1, 0), padding_mode="reflect"),
            (8, 3, 9, 9),
        ),
        (nn.Conv3d(3, 16, 1), nn.Conv3d(16, 5, 2, padding=1, bias=False), (4, 3, 4, 4, 4)),
        (nn.Conv2d(3, 16, 3), OwnPadding(16, 5, 3), (8, 3, 9, 9)),
    ],
)
def test_convolutions_of_any_form_are_fitted_or_left_alone(first, second, shape):
    net = nn.Sequential(first, nn.ReLU(), second).eval()
    x = torch.randn(shape)
    space = of(net, x)
    small = space.freeze(smallest(space))
    with torch.no_grad():
        before = (small(x) - net(x)).square().mean()
        space.refit(small, list(x.split(4)), teacher=net)
        after = (small(x) - net(x)).square().mean()
    assert after == before if isinstance(second, OwnPadding) else after < 0.9 * before


class Twice(nn.Module):
    """One block, run twice, as in ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(nn.LayerNorm(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))  # type: ignore[no-any-return]


def test_a_layer_that_runs_more_than_once_is_fitted_to_all_of_its_calls():
    torch.manual_seed(0)
    net = Twice().eval()
    x = torch.randn(400, 8)
    space = of(net, x)
    small = space.freeze(smallest(space))
    with torch.no_grad():
        before = (small(x) - net(x)).square().mean()
        space.refit(small, [x], teacher=net)
        after = (small(x) - net(x)).square().mean()
    assert after < 0.7 * before


class Mixer(nn.Module):
    """A block that mixes tokens, whose rows are channels, and then channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 32), nn.LayerNorm(32)
        self.tokens = nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8))
        self.channels = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(x)).mean(1))  # type: ignore[no-any-return]


def test_a_layer_whose_rows_are_channels_that_were_cut_is_left_alone():
    torch.manual_seed(0)
    net = Mixer().eval()
    x = torch.randn(200, 8, 6)
    space = of(net, x)
    small = space.freeze(smallest(space))
    with torch.no_grad():
        before = (small(x) - net(x)).square().mean()
        space.refit(small, list(x.split(100)), teacher=net)
        after = (small(x) - net(x)).square().mean()
    assert after < 0.9 * before


class Squashed(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return torch.tanh(weight)


class Misled(Squashed):
    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


@pytest.mark.parametrize("kind", [None, Squashed, Misled])
def test_a_weight_that_is_computed_is_fitted_by_its_parts_or_left_alone(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    if kind is None:
        weight_norm(net[2])
    else:
        parametrize.register_parametrization(net[2], "weight", kind())
    x = torch.randn(300, 6)
    space = of(net, x)
    small = space.freeze(smallest(space))
    keys = list(small.state_dict())
    with torch.no_grad():
        before = (small(x) - net(x)).square().mean()
        space.refit(small, [x], teacher=net)
        after = (small(x) - net(x)).square().mean()
    assert list(small.state_dict()) == keys
    assert after < 0.9 * before if kind is None else after == before
