"""Constraints that a space declares hold everywhere, however few architectures they leave."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from nas_space.errors import ConstraintViolation, InfeasibleError
from nas_space.hub import ProxylessNAS
from nas_space.mutable import Categorical, ExpressionConstraint, MutableExpression
from nas_space.nn import ModelSpace, MutableLinear
from nas_space.profiler import macs


class Chain(ModelSpace):
    """Many widths."""

    def __init__(self, length: int = 30) -> None:
        super().__init__()
        widths: list[Any] = [Categorical([1, 2, 3, 4], label=f"w{i}") for i in range(length)]
        self.first = MutableLinear(2, widths[0])
        self.widths = MutableExpression.sum(widths)
        for i in range(1, length):
            setattr(self, f"layer{i}", MutableLinear(widths[i - 1], widths[i]))

    def forward(self, x: Any) -> Any:
        raise NotImplementedError


def total(arch: Any) -> int:
    return sum(arch.values())


def test_what_hardly_any_architecture_meets_is_met_everywhere() -> None:
    space = Chain()
    space.require(space.expression("widths") <= 32)
    assert space.count() == 1 + 30 + 30 * 29 // 2 + 30
    batch = space.sample(50, seed=0)
    assert all(total(arch) <= 32 for arch in batch)
    assert dict(batch[0]) == dict(space.sample(seed=0)) == dict(space.sample(3, seed=0)[0])
    assert len({space.arch_id(arch) for arch in batch}) > 30
    uniform = space.sample(50, over="architectures", seed=0)
    assert all(total(arch) <= 32 for arch in uniform)
    assert total(space.random(seed=1).architecture) <= 32
    memo: dict[str, Any] = {}
    networks = list(islice(space.grid(memo), 40))
    assert len({space.arch_id(net.architecture) for net in networks}) == 40
    assert memo == networks[-1].architecture
    assert len(list(space.grid())) == space.count()
    large = {f"w{i}": 4 for i in range(30)}
    assert not space.contains(large)
    with pytest.raises(ConstraintViolation):
        space.freeze(large)
    assert space.best(space.expression("widths"), maximize=True)[0].value == 32
    assert space.where(space.expression("widths") >= 32).count() == 30 * 29 // 2 + 30


def test_what_no_architecture_meets_is_refused_at_once_wherever_it_is_asked() -> None:
    space = ProxylessNAS(width_mult=0.25)
    cost = macs(space, (3, 32, 32))
    free = ProxylessNAS(width_mult=0.25)
    smallest = free.bounds(macs(free, (3, 32, 32))).minimum
    with pytest.raises(InfeasibleError, match=f"the smallest is {smallest}"):
        space.require(cost <= 1000)
    space.add_mutable(ExpressionConstraint(cost <= 1000, label="late"))
    for ask in (
        lambda: space.sample(seed=0),
        lambda: space.sample(5, seed=0),
        lambda: space.sample(5, over="architectures", seed=0),
        lambda: space.random(seed=0),
        lambda: space.best(cost),
        lambda: space.where(cost <= 500),
    ):
        with pytest.raises(InfeasibleError, match=f"the smallest is {smallest}"):
            ask()
    assert list(space.grid()) == []
    assert space.count() == 0
