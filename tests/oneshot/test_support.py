"""Every strategy on every primitive: it works, or is refused by name before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nas_space.cli import main
from nas_space.runs import support
from nas_space.runs.support import PRIMITIVES, Support, tried
from nas_space.strategy import ONE_SHOT, STRATEGIES, get_strategy
from tests.oneshot.test_run import ALL

ONE_BY_ONE: dict[str, Callable[[], Any]] = {
    name: lambda name=name: get_strategy(name)  # type: ignore[misc]
    for name in STRATEGIES
}
RELAXING = {"darts", "darts, second order", "gumbel", "gumbel, hard", "proxyless"}
"""They run several architectures at once."""

REFUSED = {
    *("stride", "dilation", "padding, another shape", "choice read as a number"),
    "channels set in place",
}
"""By those that relax, and by no other."""

NAMED = {
    "stride": "'stride'",
    "dilation": "'dilation'",
    "padding, another shape": "'padding'",
    "choice read as a number": "factor",
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
    with pytest.raises(SystemExit):
        main(["strategies", "--why"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for kind in (ONE_SHOT, STRATEGIES):
        assert sorted(kind) in lines
        assert [*["stride"], *["no"] * len(kind)] in lines
        assert ["kernel", *["fails"] * len(kind)] in lines
        assert ["Repeat", *["yes"] * len(kind)] in lines
    assert ["darts,", "stride:", "DARTS", "will", "not"] in lines
