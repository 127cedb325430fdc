"""``Costs``: the costs of the architectures of one space, by their names in the registry."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InfeasibleError, UsageError
from ..mutable import MutableExpression
from ..profiler import COSTS, LatencyTable, find_cost

__all__ = ["Costs", "amount_of", "title_of", "unit_of"]

_USUAL = ("macs", "params")


def title_of(cost: str) -> str:
    """Return what a cost is called in tables and pictures.

    Examples
    --------
    >>> title_of("macs"), title_of("memory"), title_of("latency")
    ('MACs', 'memory (bytes)', 'latency')
    """
    short, unit = cost.rpartition(":")[2], unit_of(cost)
    if cost in _USUAL:
        return unit
    return short if unit in ("", "us", short) else f"{short} ({unit})"


def unit_of(cost: str) -> str:
    """Return the unit of a cost; ``''`` of one that is not known, or of a module not imported.

    The files of runs name costs, and what a file names is not imported to show it.
    """
    module, colon, _ = cost.partition(":")
    known = module in sys.modules if colon else cost in COSTS
    return find_cost(cost).unit if known else ""


def amount_of(wanted: float | str, whole: float) -> float:
    """Return an amount that is wanted, or that share of the whole.

    Raises
    ------
    UsageError
        A share is not written as one.

    Examples
    --------
    >>> amount_of(3, 8), amount_of("50%", 8)
    (3.0, 4.0)
    """
    if not isinstance(wanted, str):
        return float(wanted)
    number, percent, rest = wanted.strip().partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = 0.0
    if not percent or rest or not 0 < share <= 1:
        raise UsageError(f"a share of the original is written as 50%, but got {wanted!r}")
    return share * whole


class Costs:
    """The costs of a space, each made when it is first asked for.

    Parameters
    ----------
    space
        Whose architectures cost something.
    shape
        Of one sample, without the batch; ``None`` where ``inputs`` are given.
    table
        The times of blocks that ``latency`` needs, or the file with them.
    more
        The names of costs to show beside the usual ones, and beside those that are asked for.
    inputs
        What the space is called with for one sample, where that is more than a tensor.
    runtime, threads
        What the table has to be measured with; whatever it says by default.

    Raises
    ------
    UsageError
        There is no such cost.
    """

    def __init__(
        self,
        space: Any,
        shape: tuple[int, ...] | None,
        table: LatencyTable | Path | str | None = None,
        more: Sequence[str] = (),
        inputs: Any = None,
        runtime: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._space, self._shape, self._table, self._inputs = space, shape, table, inputs
        self._measured = {"runtime": runtime, "threads": threads}
        self._known: dict[str, Any] = {}
        for name in (*_USUAL, *(["latency"] if table is not None else []), *more):
            self[name]

    def __getitem__(self, name: str) -> Any:
        """Return a cost as an expression; or a number, if all architectures cost the same.

        Raises
        ------
        UsageError
            There is none of this name, or what it needs is missing.
        """
        if name not in self._known:
            found, given = find_cost(name), dict[str, Any]()
            if self._inputs is not None:
                given["inputs"] = self._inputs
            if "table" in found.needs:
                if self._table is None:
                    raise UsageError(
                        f"the cost {name!r} needs the times of blocks: give --latency-table FILE; "
                        "search and compress measure them with --runtime"
                    )
                given["table"] = self._table
                given |= {key: value for key, value in self._measured.items() if value is not None}
            self._known[name] = found(self._space, self._shape, **given)
        return self._known[name]

    @staticmethod
    def are_named(name: str) -> bool:
        """Tell whether a name is that of a cost, rather than of a metric."""
        return name in COSTS or ":" in name

    @property
    def shown(self) -> list[str]:
        """The names of the costs that were asked for so far."""
        return list(self._known)

    def values(self, name: str, archs: Any) -> Any:
        """Return a cost of an architecture, or an array of those of a batch."""
        cost = self[name]
        if isinstance(cost, MutableExpression):
            return cost.evaluate(archs)
        return cost if isinstance(archs, Mapping) else np.full(len(archs), cost)

    def of(self, arch: Mapping[str, Any]) -> dict[str, float]:
        """Return the costs of an architecture that are :attr:`shown`."""
        return {name: self.values(name, arch) for name in self._known}

    def range(self, name: str, space: Any) -> tuple[float, float]:
        """Return the least and the most that an architecture of a space costs."""
        cost = self[name]
        if not isinstance(cost, MutableExpression):
            return cost, cost
        ends = space.bounds(cost)
        return ends.minimum, ends.maximum

    def within(self, budgets: Mapping[str, float]) -> Any:
        """Return the part of the space that is within budgets.

        Raises
        ------
        InfeasibleError
            No architecture is within one of the budgets; the error names the smallest possible.
        """
        # One by one, for the error to name the budget that is too small. Budgets that are kept
        # alone, but by no architecture together, are the restriction's to refuse.
        conditions = []
        for name, limit in budgets.items():
            cost, (smallest, _) = self[name], self.range(name, self._space)
            if limit < smallest:
                unit = find_cost(name).unit or name
                raise InfeasibleError(
                    f"no architecture is within {limit:,.10g} {unit} for one sample; the smallest "
                    f"is {smallest:,.10g}",
                    smallest=smallest,
                )
            if isinstance(cost, MutableExpression):
                conditions.append(cost <= limit)
        return self._space.where(*conditions) if conditions else self._space

    def of_network(self, network: Any) -> dict[str, float]:
        """Return the same costs of a network; not the latency: a table may not know its blocks."""
        names = [name for name in self._known if name != "latency"]
        return Costs(network, self._shape, None, names, self._inputs).of({})
