"""Strategies: propose the next architecture of a search.

>>> from nas_space.strategy import RegularizedEvolution, get_strategy
>>> isinstance(get_strategy("evolution"), RegularizedEvolution)
True
"""

from .base import Evaluated, Searchable, SearchState, Strategy
from .evolution import RegularizedEvolution
from .grid import GridSearch
from .oneshot import (
    DARTS,
    ENAS,
    ONE_SHOT,
    GumbelDARTS,
    OneShot,
    Penalty,
    Proxyless,
    RandomOneShot,
)
from .policy_based import PolicyBasedRL
from .random import Random
from .registry import STRATEGIES, get_strategy
from .samplers import GP, NSGAII, NSGAIII, QMC, TPE, OptunaSampler

__all__ = [
    "DARTS",
    "ENAS",
    "GP",
    "NSGAII",
    "NSGAIII",
    "ONE_SHOT",
    "QMC",
    "STRATEGIES",
    "TPE",
    "Evaluated",
    "GridSearch",
    "GumbelDARTS",
    "OneShot",
    "OptunaSampler",
    "Penalty",
    "PolicyBasedRL",
    "Proxyless",
    "Random",
    "RandomOneShot",
    "RegularizedEvolution",
    "SearchState",
    "Searchable",
    "Strategy",
    "get_strategy",
]
