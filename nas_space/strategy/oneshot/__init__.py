"""One-shot strategies: one set of weights for all architectures, trained while searching."""

from typing import Literal

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

OneShotName = Literal["darts", "enas", "gumbel", "proxyless", "random-path", "sandwich"]

ONE_SHOT: dict[str, type[OneShot]] = {
    "darts": DARTS,
    "enas": ENAS,
    "gumbel": GumbelDARTS,
    "proxyless": Proxyless,
    "random-path": RandomOneShot,
    "sandwich": Sandwich,
}
"""Name to class of the strategies that share weights."""
