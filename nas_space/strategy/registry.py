"""Strategies by name, for the shell and for configurations."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError, suggest
from .averaging import ModelAveraging
from .base import Strategy
from .evolution import RegularizedEvolution
from .gaussian_process import GP
from .grid import GridSearch
from .local_search import LocalSearch
from .oneshot import ONE_SHOT, OneShot
from .policy_based import PolicyBasedRL
from .predictor import Predictor
from .random import Random
from .samplers import NSGAII, NSGAIII, TPE, OptunaGP
from .thompson import LinearThompson

__all__ = ["STRATEGIES", "get_strategy"]

STRATEGIES: dict[str, type[Strategy]] = {
    "averaging": ModelAveraging,
    "evolution": RegularizedEvolution,
    "gp": GP,
    "grid": GridSearch,
    "local": LocalSearch,
    "nsga2": NSGAII,
    "nsga3": NSGAIII,
    "optuna-gp": OptunaGP,
    "policy": PolicyBasedRL,
    "predictor": Predictor,
    "random": Random,
    "thompson": LinearThompson,
    "tpe": TPE,
}
"""Name to class of the strategies that propose one architecture at a time."""


def get_strategy(name: str, **arguments: Any) -> Any:
    """Return the strategy of a name, over trials or one-shot.

    Parameters
    ----------
    name
        One of :data:`STRATEGIES` or :data:`ONE_SHOT`, or the name of its class, in any case.
    arguments
        Of its constructor.

    Raises
    ------
    UsageError
        If there is none of that name, or it takes no such argument.

    Examples
    --------
    >>> get_strategy("evolution", population_size=20).population_size
    20
    >>> get_strategy("evolutoin")
    Traceback (most recent call last):
    ...
    nas_space.errors.UsageError: there is no strategy 'evolutoin' (did you mean 'evolution'?); \
there are averaging, darts, enas, evolution, gp, grid, gumbel, local, nsga2, nsga3, optuna-gp, \
policy, predictor, proxyless, random, random-path, sandwich, thompson, tpe
    """
    known: dict[str, type[Strategy] | type[OneShot]] = {**STRATEGIES, **ONE_SHOT}
    names = {kind.__name__: kind for kind in known.values()} | known
    folded = {key.casefold(): kind for key, kind in names.items()}
    kind = folded.get(name.casefold())
    if kind is None:
        near = suggest(name, known) or suggest(name, names)
        raise UsageError(
            f"there is no strategy {name!r}{near}; there are {', '.join(sorted(known))}"
        )
    try:
        return kind(**arguments)
    except TypeError as error:
        raise UsageError(f"the strategy {name!r} cannot be made so: {error}") from None
