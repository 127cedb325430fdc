"""``search``: the one entry point of every search."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from itertools import count
from numbers import Integral
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import optuna
from torch import nn

from ..errors import UsageError, suggest
from ..mutable import Mutable
from ..strategy import Strategy, get_strategy
from ..strategy.base import unrestricted
from ..tables import Restricted
from .driver import Callback, Driver, Evaluate
from .evaluation import Evaluator
from .ledger import FAILURE, Ledger
from .networks import KeptNetworks
from .objectives import Objective, Objectives, objectives_of
from .result import SearchResult
from .studies import in_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from ..strategy import OneShot
    from ..strategy.oneshot import OneShotName, OneShotProgress
    from ..training import Task
    from .oneshot import OneShotResult
    from .remote import MakeExecutor
    from .storage import Storage

__all__ = ["search"]

_QUIET = 30.0
"""Seconds of a search in a plain log before anything is told of it."""


@overload
def search(
    space: Any,
    target: Task,
    *,
    strategy: OneShot | OneShotName,
    steps: int | None = None,
    epochs: float | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    every: int = 100,
    resume: bool = False,
    callbacks: Sequence[Callable[[OneShotProgress], object]] = (),
    fabric: Fabric | None = None,
    progress: bool | None = None,
    loggers: Sequence[Any] = (),
) -> OneShotResult: ...
@overload
def search(
    space: Any,
    target: Evaluate | Task,
    *,
    strategy: Strategy | str | None = None,
    objectives: Objectives | None = None,
    trials: int = 100,
    storage: Storage = None,
    name: str = "search",
    seed: int = 0,
    workers: int | None = None,
    executor: Executor | MakeExecutor | None = None,
    timeout: float | None = None,
    failures: int | None = None,
    callbacks: Sequence[Callback] = (),
    weights: Literal["inherit", "fresh", "none"] | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    keep_networks: int = 1,
    resume: bool = False,
    progress: bool | None = None,
    loggers: Sequence[Any] = (),
) -> SearchResult: ...
def search(
    space: Any,
    target: Evaluate | Task,
    *,
    strategy: Strategy | OneShot | str | None = None,
    objectives: Objectives | None = None,
    trials: int = 100,
    storage: Storage = None,
    name: str = "search",
    workers: int | None = None,
    executor: Executor | MakeExecutor | None = None,
    seed: int = 0,
    callbacks: Sequence[Callable[..., object]] = (),
    timeout: float | None = None,
    failures: int | None = None,
    weights: Literal["inherit", "fresh", "none"] | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    keep_networks: int = 1,
    resume: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    every: int = 100,
    fabric: Fabric | None = None,
    progress: bool | None = None,
    loggers: Sequence[Any] = (),
) -> Any:
    """Search a space for its best architectures.

    Parameters
    ----------
    space
        A space, or a restriction of one (``space.where(...)``).
    target
        ``evaluate(network, arch)``, which returns a number, or a dict of them.  Or a
        :class:`~nas_space.training.Task`: then each network is trained on it from scratch
        (:func:`from_scratch` and :func:`inherited` say more).
    strategy
        Proposes architectures; or its name, see :func:`~nas_space.strategy.get_strategy`;
        :class:`~nas_space.strategy.ModelAveraging` by default.  Or a one-shot strategy,
        which trains the weights of the space on the task while it searches: then what is about
        trials has no meaning, and :func:`~nas_space.study.oneshot.search_oneshot` says more.
    objectives
        What to look for: names of what is measured, to be maximised; or made by
        :func:`maximize` and :func:`minimize`, which take expressions too.  By default the main
        metric of the task, or ``'value'``.
    trials
        How many architectures to try, those of an earlier run that is resumed included.
    storage
        Where trials are kept: ``None`` for memory, a path that ends in ``.db`` or
        ``.journal``, or the address of a database, see :func:`open_storage`.
    name
        Of the study in the storage.
    workers
        How many trials are evaluated at once: by default one, in this process; or as many as an
        ``executor`` says that it has room for.  More than one are evaluated by processes of this
        machine, which need ``evaluate`` and the classes of the space at the top level of a module.
    executor
        What evaluates instead of this process: a ``concurrent.futures.Executor`` (Dask's, loky's,
        those of :mod:`nas_space.executors`), or a function that makes one, for the search to make
        another one should it break.
    seed
        Of proposals and evaluations.  With one worker, the same seed gives the same search.
    callbacks
        Called as ``callback(study, trial)`` after each trial, as Optuna does.
    timeout
        Seconds after which no further trial is begun.
    failures
        With how many trials that fail the search gives up; by default a tenth, at least 10, and
        with the first three, if these all fail for the same reason.
    weights
        Which weights networks have: ``'inherit'`` those of the space, ``'fresh'`` new ones,
        ``'none'`` for no network at all (``evaluate`` gets ``None``).  By default what the
        evaluator wants; for a function of your own ``'inherit'``.
    pruner
        One of Optuna's, to end poor trials early, by what they :func:`report`; for a single
        objective only.
    keep_networks
        Of how many of the best trials the weights are kept, for :meth:`SearchResult.network` to
        give the network that was scored, bit for bit: beside the file of the storage, or in memory.
    resume
        Whether to go on with a study of this name, or to join others that work on it, on
        other machines, too.  If there is none, one is begun.
    steps, epochs, every, fabric
        Of a one-shot strategy.
    progress
        Whether to show how far the search is, the best so far and the time left: one line that is
        written anew on a terminal and in a notebook, elsewhere a line every 30 seconds. By default
        so too, but nothing of a search that is over sooner than 30 seconds in a plain log.
    loggers
        Of Lightning, to be told of every trial or step, of the architecture and its picture; see
        :class:`~nas_space.study.callbacks.Tracked`.

    Returns
    -------
    SearchResult or OneShotResult
        Of a one-shot strategy the latter.  Fewer trials than asked for if time ran out or no
        architecture is left.

    Raises
    ------
    StorageError
        If the storage cannot be reached, or the study there is of another space or for other
        objectives.
    TrialError
        If more trials fail than may, or none is complete in the end; with the first failure.
    UsageError
        If an argument makes no sense, ``evaluate`` returns what is no number, or a network of the
        space cannot be trained and scored on one batch of the task.

    Examples
    --------
    >>> from nas_space.hub import ProxylessNAS
    >>> from nas_space.study import minimize
    >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
    >>> def size(network, arch):
    ...     return sum(p.numel() for p in network.parameters())
    >>> result = search(space, size, trials=20, objectives=minimize("size"))
    >>> len(result.outcomes)
    20
    """
    _check_kinds(space, strategy)
    _check_forms(
        seed=seed, name=name, resume=resume, callbacks=callbacks, pruner=pruner, executor=executor,
        timeout=timeout, weights=weights, progress=progress,
    )  # fmt: skip
    if strategy is None or isinstance(strategy, str):
        strategy = cast(
            "Strategy | OneShot", get_strategy("averaging" if strategy is None else strategy)
        )
    watching = [*callbacks, *(() if loggers == () else _tracked(loggers, target))]
    if not isinstance(strategy, Strategy):
        from .oneshot import search_oneshot

        _refuse_trials(
            strategy, objectives=objectives is None, trials=trials == 100, workers=workers is None,
            executor=executor is None, timeout=timeout is None, failures=failures is None,
            weights=weights is None, pruner=pruner is None, keep_networks=keep_networks == 1,
        )  # fmt: skip
        _show(watching, progress)
        _tell(watching, "on_begin", space, {"strategy": type(strategy).__name__, "seed": seed})
        found = search_oneshot(
            space,
            cast("Task", target),
            strategy,
            steps=steps,
            epochs=epochs,
            seed=seed,
            storage=cast("str | Path | None", storage),
            every=every,
            resume=resume,
            callbacks=watching,
            fabric=fabric,
        )
        _tell(watching, "on_end", found)
        return found
    if steps is not None or epochs is not None or fabric is not None:
        raise UsageError("steps, epochs and fabric are of one-shot strategies; see trials=")
    _check_numbers(
        trials=(trials, 1), workers=(workers, 1), failures=(failures, 1),
        keep_networks=(keep_networks, 0),
    )  # fmt: skip
    evaluate = _evaluator_of(target)
    if objectives is None:
        objectives = getattr(evaluate, "objectives", None) or "value"
    wanted = objectives_of(objectives)
    weights = weights or getattr(evaluate, "weights", "inherit")
    _check_objectives(space, evaluate, wanted)
    if pruner is not None:
        from .intermediate import check_pruner

        check_pruner(pruner, [objective.name for objective in wanted])
    strategy.check(space)
    is_here = executor is None and workers in (None, 1)
    if storage is not None or not is_here:
        from .stored import open_ledger, storable

        storable(space)
    if isinstance(evaluate, Evaluator):
        evaluate.check(space)
    _show(watching, progress, trials)
    known = {"strategy": type(strategy).__name__, "trials": trials, "seed": seed}
    _tell(watching, "on_begin", space, known)
    if storage is None:
        ledger = Ledger(in_memory(name, wanted, pruner), wanted, KeptNetworks(keep_networks))
    else:
        ledger = open_ledger(
            storage, name, space, wanted, pruner, weights=str(weights),
            keep_networks=keep_networks, resume=resume, elsewhere=not is_here,
        )  # fmt: skip
    engine: tuple[Executor | None, MakeExecutor | None, int] = (None, None, 1)
    if not is_here:
        from .remote import engine_of

        engine = engine_of(executor, workers)
    Driver(
        *engine, ledger=ledger, space=space, evaluate=evaluate, strategy=strategy,
        objectives=wanted, trials=trials, seed=seed, weights=str(weights), callbacks=watching,
        failures=max(10, trials // 10) if failures is None else failures,
        patient=failures is not None,
        deadline=None if timeout is None else time.monotonic() + timeout,
    ).run()  # fmt: skip
    result = SearchResult(ledger.study, space, wanted, str(weights), ledger.networks, taken_up=True)
    with ledger.reaching():
        _check_found(result)
    _tell(watching, "on_end", result)
    return result


def _tell(callbacks: Sequence[Any], what: str, *told: Any) -> None:
    """Tell those callbacks that are more than functions."""
    for callback in callbacks:
        if not isinstance(callback, FunctionType):
            from .callbacks import SearchCallback

            if isinstance(callback, SearchCallback):
                getattr(callback, what)(*told)


def _tracked(loggers: Any, target: Any) -> list[Any]:
    """Return the callback that tells loggers."""
    from .callbacks import Tracked, check_loggers
    from .live import shape_of

    check_loggers(loggers)
    return [Tracked(loggers, shape_of(target))] if loggers else []


def _show(watching: list[Any], progress: bool | None, trials: int | None = None) -> None:
    """Add what shows how far a search is: in a plain log, once it has taken some time."""
    if progress is None and not sys.stderr.isatty() and "IPython" not in sys.modules:
        began, untold = time.monotonic(), count()

        def wait(*told: object) -> None:
            missed = next(untold)
            if time.monotonic() - began >= _QUIET:
                from .live import shown

                watching[watching.index(wait)] = shown(True, trials, (began, missed))
                watching[-1](*told)

        watching.append(wait)
    elif progress is not False:
        from .live import shown

        watching.append(shown(progress, trials))


_NO_STRATEGY = (
    "which is none of nas_space.strategy; a sampler of Optuna's becomes one by "
    "nas_space.strategy.OptunaSampler(lambda seed: TPESampler(seed=seed)), and a class of your own "
    "by deriving from nas_space.strategy.Strategy"
)


def _check_kinds(space: Any, strategy: Any) -> None:
    """Refuse classes in place of their objects, and what is no space."""
    if not isinstance(strategy, Strategy | str | None):
        _check_oneshot(strategy)
    if isinstance(space, type):
        raise UsageError(f"{space.__name__} is a class; give a space, such as {space.__name__}()")
    if isinstance(space, Mutable | Restricted) and hasattr(space, "freeze"):
        return
    if isinstance(space, nn.Module):
        raise UsageError(
            f"{type(space).__name__} is one network, not a space of networks: derive its class "
            "from nas_space.ModelSpace and put choices in it"
        )
    what = f"a {type(space).__name__}" if isinstance(space, list | tuple | dict) else repr(space)
    raise UsageError(f"a space is a ModelSpace, or a restriction of one, but got {what}")


def _check_oneshot(strategy: Any) -> None:
    """Refuse what is no one-shot strategy either, of which the others need load none."""
    from ..strategy import OneShot

    if isinstance(strategy, type):
        if not issubclass(strategy, Strategy | OneShot):
            raise UsageError(f"strategy is the class {strategy.__name__}, {_NO_STRATEGY}")
        name = strategy.__name__
        raise UsageError(f"strategy is the class {name}; give an object of it: {name}()")
    if not isinstance(strategy, OneShot):
        raise UsageError(f"strategy is {strategy!r}, {_NO_STRATEGY}")


def _check_forms(
    *, seed: Any, name: Any, resume: Any, callbacks: Any, pruner: Any, executor: Any, timeout: Any,
    weights: Any, progress: Any,
) -> None:  # fmt: skip
    """Refuse what would be misread, or lead to an error in the midst of the search."""
    is_list = isinstance(callbacks, Iterable) and not isinstance(callbacks, str)
    is_made = callable(executor) and not isinstance(executor, type)
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    for fits, form, given in (
        (_is_whole(seed), "seed is a whole number", seed),
        (isinstance(name, str) and name, "name is that of the study, a string", name),
        (isinstance(resume, bool), "resume is True or False", resume),
        (is_list and all(map(callable, callbacks)),
         "callbacks is a list of functions callback(study, trial)", callbacks),
        (isinstance(pruner, optuna.pruners.BasePruner | None),
         "pruner is one of Optuna's, such as optuna.pruners.HyperbandPruner()", pruner),
        (is_made or isinstance(executor, Executor | None),
         "executor is a concurrent.futures.Executor, or a function that makes one", executor),
        (timeout is None or (is_number and timeout > 0),
         "timeout must be positive, a number of seconds", timeout),
        (weights in (None, "inherit", "fresh", "none"),
         "weights must be 'inherit', 'fresh' or 'none'", weights),
        (isinstance(progress, bool | None),
         "progress is True, False, or None for wherever people look on", progress),
    ):  # fmt: skip
        if not fits:
            raise UsageError(f"{form}, but got {given!r}")


def _is_whole(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _refuse_trials(strategy: OneShot, **unset: bool) -> None:
    """Refuse arguments that are about trials, which a one-shot strategy does not make."""
    refused = [argument for argument, is_unset in unset.items() if not is_unset]
    if refused:
        words = ", ".join(f"{argument}=" for argument in refused)
        raise UsageError(
            f"{type(strategy).__name__} makes no trials, so leave out {words}; how long it trains "
            "is said by steps= or epochs="
        )


def _check_numbers(**numbers: tuple[Any, int]) -> None:
    """Refuse what is no whole number, or less than the least that makes sense."""
    for name, (number, least) in numbers.items():
        if number is None and name in ("failures", "workers"):
            continue
        if not _is_whole(number):
            raise UsageError(f"{name} is a whole number, but got {number!r}")
        if number < least:
            what = "positive" if least else "0 or more"
            raise UsageError(f"{name} must be {what}, but got {number}")


def _evaluator_of(target: Any) -> Evaluate:
    """Return what scores networks: a function as it is; on a task, each is trained."""
    if not callable(target):
        from ..training import Task
        from .evaluators import from_scratch

        if isinstance(target, Task):
            return from_scratch(target)
        raise UsageError(
            "what to search for is a function evaluate(network, arch), or a Task, "
            f"but got {target!r}"
        )
    if isinstance(target, nn.Module) or _is_scored(target):
        what = target.__name__ if isinstance(target, type) else type(target).__name__
        raise UsageError(
            f"what to search for is a function evaluate(network, arch), or a Task such as "
            f"Task.classification(train, validation=...), but got {what}, which scores no network"
        )
    return cast("Evaluate", target)


def _is_scored(kind: Any) -> bool:
    """Return whether a class is one of what is scored, or of what says how, by mistake."""
    if not isinstance(kind, type):
        return False
    from ..training import Task

    return issubclass(kind, nn.Module | Task)


def _check_found(result: SearchResult) -> None:
    """Raise if trials have ended and none is complete: then nothing was found."""
    if not result.outcomes or result.complete:
        return
    trials = [t for t in result.study.get_trials(deepcopy=False) if FAILURE in t.user_attrs]
    number = len(result.outcomes)
    if trials:
        from .failures import failure_error

        raise failure_error(
            f"none of {number} trials is complete", trials, "Mend it, and search again or resume"
        )
    warnings.warn(
        f"all {number} trials were stopped early by the pruner, so none is complete and there is "
        "no best; give it more trials to compare with before it stops any",
        stacklevel=3,
    )


def _check_objectives(space: Any, evaluate: Any, objectives: tuple[Objective, ...]) -> None:
    """Refuse objectives that the space does not have, or the task does not measure."""
    known = unrestricted(space).simplify()
    measured = getattr(evaluate, "measured", None)
    for objective in objectives:
        if objective.expression is None:
            if measured is not None and objective.name not in measured:
                raise UsageError(
                    f"the objective {objective.name!r} is none of what the task measures: "
                    f"{list(measured)}{suggest(objective.name, measured)}"
                )
            continue
        for label in objective.expression.symbols():
            if label not in known:
                raise UsageError(
                    f"the objective {objective.name!r} is about the label {label!r}, which the "
                    f"space does not have{suggest(label, known)}"
                )
