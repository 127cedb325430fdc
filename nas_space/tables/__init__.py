"""Costs as sums of small tables, and what follows exactly from that.

>>> from nas_space.mutable import Categorical, MutableList
>>> from nas_space.tables import restrict, tabulate
>>> widths = [Categorical([8, 16, 32], label=f"w{i}") for i in range(20)]
>>> cost = sum(a * b for a, b in zip(widths, widths[1:]))
>>> tabulate(cost).bounds().maximum
19456
>>> restrict(MutableList(widths), cost <= 2000).count()
60598
"""

from .effort import effort
from .model import Over
from .queries import Scored, Tradeoff, best, bounds, count, default, grid, pareto
from .restriction import Restricted, restrict
from .rounded import rounded
from .sampler import sample
from .table import Bounds, Table
from .tabulation import tabulate

__all__ = [
    "Bounds",
    "Over",
    "Restricted",
    "Scored",
    "Table",
    "Tradeoff",
    "best",
    "bounds",
    "count",
    "default",
    "effort",
    "grid",
    "pareto",
    "restrict",
    "rounded",
    "sample",
    "tabulate",
]
