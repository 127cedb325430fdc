"""Strategies by name, for the shell and for configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import UsageError, suggest
from ..lazy import LazyClasses

if TYPE_CHECKING:
    from .base import Strategy
    from .oneshot.algorithm import OneShot

__all__ = ["ONE_SHOT", "STRATEGIES", "OneShotName", "get_strategy"]

STRATEGIES: LazyClasses[Strategy] = LazyClasses(
    __package__,
    {
        "averaging": ".averaging:ModelAveraging",
        "evolution": ".evolution:RegularizedEvolution",
        "gp": ".gaussian_process:GP",
        "grid": ".grid:GridSearch",
        "local": ".local_search:LocalSearch",
        "nsga2": ".optuna_samplers:NSGAII",
        "nsga3": ".optuna_samplers:NSGAIII",
        "optuna-gp": ".optuna_samplers:OptunaGP",
        "policy": ".policy_based:PolicyBasedRL",
        "predictor": ".predictor:Predictor",
        "random": ".random:Random",
        "thompson": ".thompson:LinearThompson",
        "tpe": ".optuna_samplers:TPE",
    },
)
"""Name to class of the strategies that propose one architecture at a time."""

ONE_SHOT: LazyClasses[OneShot] = LazyClasses(
    __package__,
    {
        "darts": ".oneshot.differentiable:DARTS",
        "enas": ".oneshot.enas:ENAS",
        "gumbel": ".oneshot.differentiable:GumbelDARTS",
        "proxyless": ".oneshot.proxyless:Proxyless",
        "random-path": ".oneshot.random_path:RandomOneShot",
        "sandwich": ".oneshot.random_path:Sandwich",
    },
)
"""Name to class of the strategies that share weights."""

OneShotName = Literal["darts", "enas", "gumbel", "proxyless", "random-path", "sandwich"]


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
    known: dict[str, LazyClasses[Any]] = {
        key: kinds for kinds in (STRATEGIES, ONE_SHOT) for key in kinds
    }
    titles = {kinds.class_name(key): key for key, kinds in known.items()}
    folded = {title.casefold(): key for title, key in titles.items()}
    folded |= {key.casefold(): key for key in known}
    key = folded.get(name.casefold())
    if key is None:
        near = suggest(name, known) or suggest(name, titles)
        raise UsageError(
            f"there is no strategy {name!r}{near}; there are {', '.join(sorted(known))}"
        )
    try:
        return known[key][key](**arguments)
    except TypeError as error:
        raise UsageError(f"the strategy {name!r} cannot be made so: {error}") from None
