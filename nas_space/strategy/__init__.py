"""Strategies: who proposes the next architecture.

>>> from nas_space.strategy import RegularizedEvolution, get_strategy
>>> isinstance(get_strategy("evolution"), RegularizedEvolution)
True
"""

from nas_space.strategy.base import Evaluated, Round, Searchable, Strategy
from nas_space.strategy.evolution import RegularizedEvolution
from nas_space.strategy.grid import GridSearch
from nas_space.strategy.oneshot import (
    DARTS,
    ENAS,
    ONE_SHOT,
    GumbelDARTS,
    OneShot,
    Penalty,
    Proxyless,
    RandomOneShot,
)
from nas_space.strategy.policy_based import PolicyBasedRL
from nas_space.strategy.random import Random
from nas_space.strategy.registry import STRATEGIES, get_strategy
from nas_space.strategy.samplers import GP, NSGAII, NSGAIII, QMC, TPE, OptunaSampler

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
    "Round",
    "Searchable",
    "Strategy",
    "get_strategy",
]
