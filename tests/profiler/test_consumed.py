"""What can be used up, or is changed in place, costs what it costs each time it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nas_space.errors import SpaceError, UsageError
from nas_space.mutable import Categorical
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear
from nas_space.profiler import flops, memory

from . import oracle


class Twice(ModelSpace):
    """Does something twice with a tensor of elastic shape.

    Parameters
    ----------
    between
        What it does: takes the space and ``(3, 5, width)``, gives ``(5, width)``.
    """

    def __init__(self, between: Callable[..., Any]) -> None:
        super().__init__()
        width = Categorical([3, 6], label="width")
        self.up, self.down = MutableLinear(4, width), MutableLinear(width, 4)
        self.act = LayerChoice(
            [nn.Identity(), nn.Sequential(nn.Linear(4, 4), nn.GELU())], label="act"
        )
        self.stacked = Stacked(width)
        self.between = between

    def forward(self, x: Any) -> Any:
        for _ in range(2):
            x = x + self.act(self.down(self.between(self, self.up(x))))
        return x


class Stacked(nn.Module):
    """A layer on each of what is given, which may be an iterator, and a choice of what then."""

    def __init__(self, width: Any) -> None:
        super().__init__()
        self.each = MutableLinear(width, width)
        self.then = Sum(width)

    def forward(self, items: Any) -> Any:
        return self.then(self.each(item) for item in items)


class Sum(LayerChoice):
    """A choice whose branches take a generator."""

    def __init__(self, width: Any) -> None:
        super().__init__([Total(), Total(MutableLinear(width, width))], label="sum")


class Total(nn.Module):
    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, items: Any) -> Any:
        return sum(item if self.layer is None else self.layer(item) for item in items)


def unpacked(_: Any, t: Any) -> Any:
    q, k, v = t
    return q * k + v


def starred(_: Any, t: Any) -> Any:
    first, *others = t
    return torch.stack([first, *others]).sum(0)


def frames(space: Any, t: Any) -> Any:
    return sum(space.up(space.down(frame)) for frame in t)


def zipped(_: Any, t: Any) -> Any:
    return sum(a * b for a, b in zip(t, t.flip(0), strict=True))


def enumerated(_: Any, t: Any) -> Any:
    return sum(i * frame for i, frame in enumerate(t))


def backwards(_: Any, t: Any) -> Any:
    return sum(frame.relu() for frame in reversed(t))


def over_width(_: Any, t: Any) -> Any:
    # As many items as the width has.
    return torch.stack([column.relu() for column in t.permute(2, 0, 1)], -1).sum(0)


def mutated_list(_: Any, t: Any) -> Any:
    parts = list(t.split(1))
    parts.append(parts.pop(0) * 2)
    sizes = list(t.shape)
    sizes.append(sizes.pop())
    return torch.cat(parts).reshape(sizes).sum(0)


def generator_argument(space: Any, t: Any) -> Any:
    return space.stacked(frame.relu() for frame in t)


def mapped(space: Any, t: Any) -> Any:
    return space.stacked(map(torch.tanh, t))


def added_in_place(_: Any, t: Any) -> Any:
    total = torch.zeros(t.shape[1:], device=t.device)
    for frame in t:
        total.add_(frame)
    return total * total


def copied_into_slices(_: Any, t: Any) -> Any:
    buffer = torch.zeros(3, 5, t.shape[2], device=t.device)
    before = buffer[0]
    for i, frame in enumerate(t):
        buffer[i].copy_(frame.tanh())
    return (buffer * buffer).sum(0) + before * before


def assigned(_: Any, t: Any) -> Any:
    buffer = torch.zeros(5, t.shape[2], device=t.device)
    half = buffer[:, : t.shape[2] // 2]
    buffer[:, 1:] = t[0, :, 1:]
    return buffer * buffer.sigmoid() + (half * half).sum()


def written_out(_: Any, t: Any) -> Any:
    with torch.no_grad():
        out = torch.empty(0, device=t.device)
        torch.mul(t[0], t[1], out=out)
    return out * t[2]


def written_out_last(_: Any, t: Any) -> Any:
    out = torch.empty(0, device=t.device)
    return torch.sum(t.detach(), 0, out=out)


def reshaped_in_place(_: Any, t: Any) -> Any:
    t = t.sin()
    t.transpose_(0, 1)
    return t.unsqueeze_(0).squeeze_(0).sum(1)


def given_other_data(_: Any, t: Any) -> Any:
    u = torch.zeros(1, device=t.device)
    u.data = t.detach().sum(0)
    w = u
    del t
    return w * w.sigmoid()


def detached_in_place(_: Any, t: Any) -> Any:
    u = t.sin().sum(0)
    u.detach_()
    return u * u.sigmoid()


DOES = {
    function.__name__: function
    for function in (
        unpacked, starred, frames, zipped, enumerated, backwards, over_width, mutated_list,
        generator_argument, mapped, added_in_place, copied_into_slices, assigned, written_out,
        written_out_last, reshaped_in_place, given_other_data, detached_in_place,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", DOES)
def test_it_costs_what_every_frozen_network_does(name):
    space, x = Twice(DOES[name]), torch.zeros(3, 5, 4)
    costs = {
        oracle.flops: flops(space, inputs=x),
        oracle.peak: memory(space, inputs=x),
        oracle.kept: memory(space, inputs=x, training=True),
    }
    for arch in oracle.architectures(space):
        for expected, cost in costs.items():
            assert cost.evaluate(arch) == expected(space.freeze(arch), x), (arch, expected)


def test_what_a_call_changes_in_the_space_itself_is_refused():
    def grows(space: Any, t: Any) -> Any:
        space.down.bias.data = torch.zeros(8, device=t.device)
        return t.sum(0)

    with pytest.raises(SpaceError, match="a tensor that the space holds"):
        flops(Twice(grows), inputs=torch.zeros(3, 5, 4))


def test_an_iterator_is_no_input():
    with pytest.raises(UsageError, match=r"can be gone through once.*give a list"):
        flops(Twice(unpacked), inputs=(iter([torch.zeros(3, 5, 4)]),))


@torch.jit.script  # not followed, so run as it stands
def scripted(x: torch.Tensor) -> torch.Tensor:
    return x.mm(x.t()).mm(x)


class Counting(nn.Module):
    """Costs more at each call, and puts what it makes into a list."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Any, seen: Any = None) -> Any:
        self.calls += 1
        for _ in range(self.calls):
            x = scripted(x)
        if seen is not None:
            seen.append(x)
        return x


def test_a_module_that_cannot_be_followed_is_run_at_each_call():
    net = nn.Sequential(counting := Counting(), counting)
    assert flops(net, inputs=torch.zeros(2, 3)) == 3 * 2 * (2 * 2 * 3 * 2)


def test_what_is_put_into_a_list_out_of_sight_is_refused():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counting = Counting()

        def forward(self, x: Any) -> Any:
            seen: list[Any] = []
            self.counting(x, seen)
            return seen[0]

    with pytest.raises(SpaceError, match="changes a list or dictionary that it is given"):
        flops(Net(), inputs=torch.zeros(2, 3))
