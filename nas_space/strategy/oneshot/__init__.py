"""One-shot strategies: one set of weights for all architectures, trained while searching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazily

if TYPE_CHECKING:
    from ..registry import ONE_SHOT, OneShotName
    from .algorithm import OneShot
    from .differentiable import DARTS, GumbelDARTS
    from .enas import ENAS
    from .penalty import Penalty
    from .policy import Policy, most_likely
    from .progress import OneShotProgress
    from .proxyless import Proxyless
    from .random_path import RandomOneShot, Sandwich
    from .ranking import MainEffects, Ranking
    from .rewards import advantage
    from .run import Run

__all__ = [
    "DARTS",
    "ENAS",
    "ONE_SHOT",
    "GumbelDARTS",
    "MainEffects",
    "OneShot",
    "OneShotName",
    "OneShotProgress",
    "Penalty",
    "Policy",
    "Proxyless",
    "RandomOneShot",
    "Ranking",
    "Run",
    "Sandwich",
    "advantage",
    "most_likely",
]

__getattr__, __dir__ = lazily(__name__)
