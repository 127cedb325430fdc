"""Strategies: propose the next architecture of a search.

>>> from nas_space.strategy import RegularizedEvolution, get_strategy
>>> isinstance(get_strategy("evolution"), RegularizedEvolution)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazily

if TYPE_CHECKING:
    from .averaging import ModelAveraging
    from .base import Evaluated, Searchable, SearchState, Strategy
    from .evolution import RegularizedEvolution
    from .gaussian_process import GP
    from .grid import GridSearch
    from .local_search import LocalSearch
    from .oneshot import (
        DARTS,
        ENAS,
        GumbelDARTS,
        OneShot,
        Penalty,
        Proxyless,
        RandomOneShot,
    )
    from .optuna_samplers import NSGAII, NSGAIII, TPE, OptunaGP, OptunaSampler
    from .policy_based import PolicyBasedRL
    from .predictor import Predictor
    from .random import Random
    from .registry import ONE_SHOT, STRATEGIES, get_strategy
    from .score_model import ScoreModel
    from .thompson import LinearThompson

__all__ = [
    "DARTS",
    "ENAS",
    "GP",
    "NSGAII",
    "NSGAIII",
    "ONE_SHOT",
    "STRATEGIES",
    "TPE",
    "Evaluated",
    "GridSearch",
    "GumbelDARTS",
    "LinearThompson",
    "LocalSearch",
    "ModelAveraging",
    "OneShot",
    "OptunaGP",
    "OptunaSampler",
    "Penalty",
    "PolicyBasedRL",
    "Predictor",
    "Proxyless",
    "Random",
    "RandomOneShot",
    "RegularizedEvolution",
    "ScoreModel",
    "SearchState",
    "Searchable",
    "Strategy",
    "get_strategy",
]

__getattr__, __dir__ = lazily(__name__)
