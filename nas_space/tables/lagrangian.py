"""Lagrangian bounds: what an objective is at least, within windows on costs.

With a price on each unit of a cost, the objective plus what the costs come to, less what the ends
of the windows come to, is a sum again.  Within the windows it is never above the objective (each
price is paid for what a cost stays below its end), and its least value is quickly known by one
pass over the join tree: that is a lower bound, at any prices, overall and given any part of a
combination (Geoffrion, "Lagrangean relaxation for integer programming", 1974).  As a function of
the prices, the bound is concave and piecewise linear: each combination contributes a line, and
the one that attains the minimum has the slope ``cost - end``.  The best prices make it highest,
where it is nearly the best value within the windows: exactly as good as the linear relaxation.

For a single price, that maximum is found exactly by following lines: of two combinations, one on
either side of the end, the lines meet at a new price, and the combination that is least there
replaces one of them, until none lies below (Handler and Zang, "A dual algorithm for the
constrained shortest path problem", 1980).  For several, each combination seen so far bounds the
maximum from above by its line, and the next prices are those at which all of these bounds together
are highest, a small linear program (Kelley, "The cutting-plane method", 1960).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..mutable.factors import Array
from .effort import Meter
from .join_tree import CliqueVertex, Join, JoinTree

__all__ = ["Relaxation"]

_CUTS = 40
"""How many combinations are looked at for several prices; the bound is valid after any number."""

_CLOSE = 1e-9
"""Relative to its terms, how far the bound may be from the best there is."""


class Relaxation:
    """An objective with prices in the place of windows.

    Parameters
    ----------
    tree
        The cliques, joined.
    own
        For each clique, the objective of each state, and its cost for each window: arrays of
        shape ``(1 + windows, states)``.
    windows
        Bounds on the costs, with their constants taken off.
    meter
        Counts the work.

    Attributes
    ----------
    prices
        For one unit of each cost; positive where the upper end of its window matters, negative
        where the lower one does.
    bound
        No combination within the windows has a lower objective.
    """

    def __init__(
        self,
        tree: JoinTree,
        own: Sequence[Array],
        windows: Sequence[tuple[float, float]],
        meter: Meter,
    ) -> None:
        self.tree, self.own, self.meter = tree, own, meter
        self.low = np.array([low for low, _ in windows], np.float64)
        self.high = np.array([high for _, high in windows], np.float64)
        self.prices = np.zeros(len(windows))
        self.bound = -np.inf
        costs = self._try(self.prices)
        outside = (costs[1:] < self.low) | (costs[1:] > self.high)
        if len(windows) == 1 and outside[0]:
            self._follow_lines(costs)
        elif outside.any():
            self._cut_planes(costs)

    def offset(self, prices: Array) -> float:
        """Return what the ends of the windows come to."""
        return float(prices @ self._ends(prices)) if len(prices) else 0.0

    def _ends(self, prices: Array) -> Array:
        ends: Array = np.where(prices > 0, self.high, self.low)
        return ends

    def _try(self, prices: Array) -> Array:
        """Keep some prices if their bound is the best; gives what attains it."""
        costs = self._least(np.concatenate([[1.0], prices]))
        bound = float(costs[0] + prices @ costs[1:]) - self.offset(prices)
        if bound > self.bound:
            self.bound, self.prices = bound, prices
        return costs

    def _least(self, weights: Array) -> Array:
        """The objective and the costs of what is least in a weighted sum of them."""
        self.meter.spend(self.tree.work)
        below = self.tree.minima([(weights @ costs)[None] for costs in self.own])

        def split(_: int, join: Join, state: int) -> tuple[int, int]:
            a, b = join.pairs[:, join.starts[state] : join.starts[state + 1]]
            best = int(np.argmin(below[join.left][0, a] + below[join.right][0, b]))
            return int(a[best]), int(b[best])

        costs = np.zeros(len(weights))
        for place, state in self.tree.downward(0, split):
            if isinstance(self.tree.vertices[place], CliqueVertex):
                costs += self.own[place][:, state]
        return costs

    def _follow_lines(self, outside: Array) -> None:
        """Find the best single price, given what is least without one."""
        way = 1.0 if outside[1] > self.high[0] else -1.0
        end = self.high[0] if way > 0 else self.low[0]
        inside = self._least(np.array([0.0, way]))
        while way * (outside[1] - inside[1]) > 0:
            price = (inside[0] - outside[0]) / (outside[1] - inside[1])
            costs = self._try(np.array([price]))
            meeting, value = outside[0] + price * outside[1], costs[0] + price * costs[1]
            if value >= meeting - _CLOSE * (abs(outside[0]) + abs(price * outside[1])):
                return
            if way * (costs[1] - end) > 0:
                outside = costs
            else:
                inside = costs

    def _cut_planes(self, costs: Array) -> None:
        """Find good prices for several windows, given what is least without any."""
        from scipy.optimize import linprog

        # What a combination says of the bound, for a price on each end: of the upper ones, then
        # of the lower ones.  Costs are scaled, so that prices are comparable.
        number = len(self.prices)
        ends = np.concatenate([self.high, -self.low])
        scale = np.maximum(np.abs(np.tile(costs[1:], 2)), 1.0)
        planes = [costs, *(self._least(row) for row in np.eye(1 + number)[1:])]
        planes += [self._least(-row) for row in np.eye(1 + number)[1:]]
        span = max(abs(plane[0] - planes[0][0]) for plane in planes) + 1.0
        for _ in range(_CUTS):
            slopes = np.array([np.concatenate([p[1:], -p[1:]]) - ends for p in planes]) / scale
            found = linprog(
                np.append(np.zeros(2 * number), -1.0),
                A_ub=np.column_stack([-slopes, np.ones(len(planes))]),
                b_ub=np.array([plane[0] for plane in planes]),
                bounds=[*[(0, 1e3 * span)] * (2 * number), (None, None)],
            )
            if found.x is None:
                return
            both = found.x[:-1] / scale
            planes.append(self._try(both[:number] - both[number:]))
            if found.x[-1] - self.bound <= _CLOSE * (abs(self.bound) + span):
                return
