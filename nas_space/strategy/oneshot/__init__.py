"""One-shot strategies: one set of weights for all architectures, trained while searching."""

from typing import Literal

from nas_space.strategy.oneshot.base import OneShot
from nas_space.strategy.oneshot.differentiable import DARTS, GumbelDARTS
from nas_space.strategy.oneshot.enas import ENAS
from nas_space.strategy.oneshot.penalty import Penalty
from nas_space.strategy.oneshot.policy import Policy, most_likely
from nas_space.strategy.oneshot.proxyless import Proxyless
from nas_space.strategy.oneshot.rewards import advantage
from nas_space.strategy.oneshot.run import OneShotProgress, Run
from nas_space.strategy.oneshot.sampling import RandomOneShot

__all__ = [
    "DARTS",
    "ENAS",
    "ONE_SHOT",
    "GumbelDARTS",
    "OneShot",
    "OneShotName",
    "OneShotProgress",
    "Penalty",
    "Policy",
    "Proxyless",
    "RandomOneShot",
    "Run",
    "advantage",
    "most_likely",
]

OneShotName = Literal["darts", "enas", "gumbel", "proxyless", "random-path"]

ONE_SHOT: dict[str, type[OneShot]] = {
    "darts": DARTS,
    "enas": ENAS,
    "gumbel": GumbelDARTS,
    "proxyless": Proxyless,
    "random-path": RandomOneShot,
}
"""Name to class of the strategies that share weights."""
