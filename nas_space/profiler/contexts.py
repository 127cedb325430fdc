"""``Context``: the architectures for which something runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..mutable.factors import TRUE, Array, Factor, Scope, joint_scope
from ..mutable.piecewise import codes_in

__all__ = ["EVERYWHERE", "Context", "met"]


class Context:
    """The architectures that meet all of some conditions.

    Parameters
    ----------
    conditions
        Factors of truth values, outermost first.
    around
        A context within which this one lies.
    """

    def __init__(self, conditions: tuple[Factor, ...] = (), around: Context | None = None) -> None:
        self.conditions = conditions
        self.around = around
        self._possible: dict[tuple[int, ...], tuple[Scope, Array]] = {}
        self._exact: Factor | None = None

    def within(self, *conditions: Factor) -> Context:
        """Return the context of the architectures that meet further conditions."""
        return Context((*self.conditions, *conditions), self) if conditions else self

    def instead(self, condition: Factor) -> Context:
        """Return the context with a condition in place of its last one, which it implies."""
        return Context((*self.conditions[:-1], condition), self)

    def reaches_into(self, inner: Context | None) -> bool:
        """Return whether another context was made within this one."""
        while inner is not None and inner is not self:
            inner = inner.around
        return inner is self

    def has(self, arch: Mapping[str, Any]) -> bool:
        """Return whether an architecture is in it, whatever labels it does not have."""
        return all(met(condition, arch) for condition in self.conditions)

    def possible(self, scope: Scope) -> Array:
        """Return which combinations of codes occur; may include some that do not.

        Each condition is looked at on its own, since all of them together may be about too many
        labels for one array.
        """
        if not self.conditions:  # of all architectures; that context outlives every symbol
            return np.ones([variable.size for variable in joint_scope(scope)], dtype=np.bool_)
        key = tuple(map(id, scope))
        known = self._possible.get(key)
        found = None if known is None else known[1]
        if found is None:
            found = np.ones([variable.size for variable in joint_scope(scope)], dtype=np.bool_)
            wanted = set(scope)
            for condition in self.conditions:
                others = [variable for variable in condition.scope if variable not in wanted]
                part = condition.eliminated(others, np.logical_or)
                if part.scope:
                    found = found & part.over(scope)
            # With the symbols, whose identities must not become those of others.
            self._possible[key] = scope, found
        return found

    @property
    def exact(self) -> Factor:
        """Which combinations of codes occur, over the labels of all conditions."""
        if self._exact is None:
            found = TRUE
            for condition in self.conditions:
                found = found.combine(condition, np.logical_and)
            self._exact = found
        return self._exact

    def only(self, factor: Factor) -> Factor:
        """Return a factor that is 0 for architectures that are not in the context."""
        if not self.conditions:
            return factor
        return self.exact.combine(factor, lambda here, values: np.where(here, values, 0))


EVERYWHERE = Context()
"""All architectures."""


def met(condition: Factor, arch: Mapping[str, Any]) -> bool:
    """Return whether an architecture meets a condition, whatever labels it does not have."""
    return condition.given(codes_in(condition.scope, arch)).always
