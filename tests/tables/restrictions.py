"""Hypothesis strategies for restrictions of small spaces, gone through one by one."""

from __future__ import annotations

import operator as py
from typing import Any, NamedTuple

from hypothesis import assume
from hypothesis import strategies as st

from nas_space.mutable import ExpressionConstraint, MutableExpression, MutableList
from nas_space.tables import restrict
from tests.strategies import decoded
from tests.tables.brute import architectures
from tests.tables.limits import ways
from tests.tables.spaces import spaces

ME = MutableExpression
COMPARISONS = (py.le, py.ge, py.lt, py.gt, py.eq)


class Restriction(NamedTuple):
    """Conditions on a space, and what goes through all of it says is left."""

    whole: MutableList
    conditions: list[Any]
    costs: tuple[Any, ...]
    left: dict[str, dict[str, Any]]
    way: str

    def space(self) -> Any:
        """The space under the conditions."""
        return restrict(self.whole, *self.conditions) if self.conditions else self.whole


@st.composite
def restrictions(draw: st.DrawFn, *, empty: bool = False) -> Restriction:
    """A space, random conditions on it, and two costs; nothing is left of it if `empty`."""
    space, costed = draw(spaces(2))
    everything = architectures(space)
    assume(everything)
    conditions: list[Any] = []
    for cost in costed:
        if not isinstance(cost, ME):
            continue
        values = sorted({cost.evaluate(arch) for arch in everything.values()})
        for _ in range(draw(st.integers(0, 2))):
            compare = draw(st.sampled_from(COMPARISONS))
            bound = draw(st.sampled_from(values)) + draw(st.sampled_from([0, 0, 0.5, -1]))
            turned = _turned(compare, cost, bound)
            conditions.append(draw(st.sampled_from([compare(cost, bound), turned])))
    difference = costed[0] - costed[1]
    if isinstance(difference, ME) and draw(st.booleans()):
        conditions.append(costed[0] <= costed[1] + draw(st.integers(-3, 20)))
    symbols = space.symbols().values()
    always: list[Any] = [s for s in symbols if all(s.name in a for a in everything.values())]
    if draw(st.booleans()) and always:
        one, two = draw(st.sampled_from(always)), draw(st.sampled_from(always))
        allowed = (one != decoded(one)[0]) | (two == decoded(two)[-1])
        rule = ExpressionConstraint(allowed, label="rule")
        conditions.append(draw(st.sampled_from([allowed, rule])))
    left = {
        name: arch
        for name, arch in everything.items()
        if all(
            (c.expression if isinstance(c, ExpressionConstraint) else c).evaluate(arch)
            for c in conditions
        )
    }
    assume(bool(left) is not empty)
    return Restriction(space, conditions, costed, left, draw(ways))


def _turned(compare: Any, cost: Any, bound: float) -> Any:
    """The same comparison with the cost on the right, and divided by something."""
    other = {py.le: py.ge, py.ge: py.le, py.lt: py.gt, py.gt: py.lt, py.eq: py.eq}[compare]
    return other(bound / 4, cost / 4)
