"""Values that follow from constants are followed; others are refused when code asks for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import nas_space as ns
from nas_space.errors import SpaceError


class Deciding(nn.Module):
    """Calls its layer as often as a decision says."""

    def __init__(self, times):
        super().__init__()
        self.layer, self.times = nn.Linear(4, 4), times

    def forward(self, x, *more):
        for _ in range(int(self.times(x, *more))):
            x = self.layer(x)
        return x


ONCE = 2 * 4 * 4
X = torch.ones(2, 4)


def write_in_place(x):
    values = torch.zeros(4, dtype=torch.long, device=x.device)
    values[1] = 3
    return values.sum().item()


def write_chosen(x):
    values = torch.arange(4, device=x.device)
    values[values == 1] = 2
    return (values == 2).sum()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (lambda x: torch.arange(x.shape[0] + 1, device=x.device).max(), 2),
        (lambda x: torch.ones_like(x, dtype=torch.bool).all() * 2, 2),
        (lambda x: len(torch.arange(5, device=x.device)[torch.tensor([1, 3])]), 2),
        (lambda x: torch.arange(5, device=x.device).gt(1).nonzero().shape[0], 3),
        (lambda x: torch.arange(3, device=x.device).tolist()[-1], 2),
        (lambda x: torch.full((3,), 1.0, device=x.device).sum().item(), 3),
        (write_in_place, 3),
        (write_chosen, 2),
    ],
)
def test_a_decision_on_constants_is_taken_as_the_forward_takes_it(times, expected):
    assert int(times(X)) == expected
    assert ns.profiler.macs(Deciding(times), inputs=X) == expected * ONCE


def test_values_of_masks_that_are_given_are_followed_and_other_masks_are_other_inputs():
    net = Deciding(lambda _, mask: mask.sum())
    for mask in ([True, False, True], [True, True, True]):
        given = torch.tensor(mask)
        assert ns.profiler.macs(net, inputs=(X, given)) == sum(mask) * ONCE


def look_at_base(x):
    values = torch.zeros(4, dtype=torch.long, device=x.device)
    values[1:3].add_(1)
    return values.sum()


def look_at_view(x):
    values = torch.zeros(4, dtype=torch.long, device=x.device)
    view = values[1:3]
    values.add_(1)
    return view.sum()


@pytest.mark.parametrize(
    "times",
    [
        lambda x: x.sum(),
        lambda x: torch.ones(2, device=x.device).add(x[:, 0]).sum(),
        lambda x: torch.rand(2, device=x.device).gt(0.5).sum(),
        lambda x: torch.empty(2, dtype=torch.long, device=x.device).sum(),
        look_at_base,
        look_at_view,
    ],
    ids=["input", "mixed", "random", "unset", "written through a view", "written below a view"],
)
def test_what_does_not_follow_from_constants_is_refused_and_never_a_stale_value(times):
    with pytest.raises(SpaceError, match="values in tensors are not"):
        ns.profiler.macs(Deciding(times), inputs=X)


def test_random_numbers_are_drawn_as_without_it():
    torch.manual_seed(0)
    expected = torch.rand(3)
    net = Deciding(lambda x: torch.randn(2, device=x.device).shape[0])
    torch.manual_seed(0)
    ns.profiler.macs(net, inputs=X)
    assert torch.equal(torch.rand(3), expected)
