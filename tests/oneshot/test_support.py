"""Every strategy on every primitive: it works, or is refused by name before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import nas_space as ns
from nas_space import nn as mnn
from nas_space.cli import main
from nas_space.errors import SpaceError
from nas_space.runs import support
from nas_space.runs.support import PRIMITIVES, Support, tried
from nas_space.strategy import ONE_SHOT, STRATEGIES, get_strategy
from nas_space.strategy.oneshot import DARTS, GumbelDARTS, Proxyless, RandomOneShot, Run
from nas_space.training import Task
from tests.oneshot.test_run import ALL

ONE_BY_ONE: dict[str, Callable[[], Any]] = {
    name: lambda name=name: get_strategy(name)  # type: ignore[misc]
    for name in STRATEGIES
}
RELAXING = {"darts", "darts, second order", "gumbel", "gumbel, hard", "proxyless"}
"""They run several architectures at once."""

REFUSED = {
    *("stride", "dilation", "padding, another shape"),
    "channels set in place",
}
"""By those that relax, and by no other."""

NAMED = {
    "stride": "'stride'",
    "dilation": "'dilation'",
    "padding, another shape": "'padding'",
    "numerical label": "'share'",
    "channels set in place": "'other'",
}
BY_VALUES = RELAXING | {"fair", "proxyless, reinforce", "enas"}
"""They give each value of a label a probability, or a turn."""


@pytest.mark.parametrize("name", [*ALL, *ONE_BY_ONE])
def test_what_works_and_what_is_refused(name):
    for primitive in PRIMITIVES:
        found = tried({**ALL, **ONE_BY_ONE}[name](), primitive)
        refused = (name in RELAXING and primitive in REFUSED) or (
            name in BY_VALUES and primitive == "numerical label"
        )
        assert found.outcome == ("refused" if refused else "works"), (primitive, found.reason)
        if refused:
            assert NAMED[primitive] in found.reason


def test_the_table_is_made_by_trying(capsys, monkeypatch):
    def answer(strategy: Any, primitive: str) -> Support:
        if primitive == "stride":
            return Support("refused", f"{type(strategy).__name__} will not")
        return Support("fails" if primitive == "kernel" else "works")

    monkeypatch.setattr(support, "tried", answer)
    monkeypatch.setenv("COLUMNS", "72")  # too few for one line of all names
    with pytest.raises(SystemExit):
        main(["strategies", "--why"])
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 72
    lines = [line.split() for line in printed]
    heads = [
        place for place, line in enumerate(lines) if line and {*ONE_SHOT, *STRATEGIES} > {*line}
    ]
    assert [name for place in heads for name in lines[place]] == [
        *sorted(ONE_SHOT), *sorted(STRATEGIES)
    ]  # fmt: skip
    for place in heads:
        table = lines[place : place + len(PRIMITIVES) + 1]
        n = len(table[0])
        assert ["stride", *["no"] * n] in table
        assert ["kernel", *["fails"] * n] in table
        assert ["Repeat", *["yes"] * n] in table
    assert ["darts,", "stride:", "DARTS", "will", "not"] in lines


@pytest.mark.parametrize("strategy", [DARTS, GumbelDARTS, Proxyless])
@pytest.mark.parametrize(
    "layer",
    [
        lambda w, g: mnn.MutableGroupNorm(g, w),
        lambda w, g: mnn.MutableConv2d(w, w, 1, groups=g),
    ],
)
def test_what_constraints_forbid_is_refused_by_its_labels_before_the_first_step(strategy, layer):
    class Grouped(ns.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            w, g = ns.Categorical([4, 6], label="w"), ns.Categorical([1, 4], label="g")
            self.require(w % g == 0)
            self.body = nn.Sequential(mnn.MutableConv2d(3, w, 1), layer(w, g))
            self.last = mnn.MutableConv2d(w, 3, 1)

        def forward(self, x):
            return self.last(self.body(x)).mean((2, 3))

    data = TensorDataset(torch.randn(8, 3, 4, 4), torch.arange(8) % 3)
    task = Task.classification(data, validation=data, batch_size=4)
    said = r"cannot be mixed over the labels .*'w'.*constraints forbid.*RandomOneShot.*body\.1"
    with pytest.raises(SpaceError, match=said):
        Run(strategy(), Grouped(), task, steps=2)
    Run(RandomOneShot(candidates=2, calibration_batches=1), Grouped(), task, steps=1).advance()
