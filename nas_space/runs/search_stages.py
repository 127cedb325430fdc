"""Stages that search: over trials, with inherited or fresh weights, or while training weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import optuna

from ..errors import UsageError, suggest
from ..executors import check_executor, executor_at
from ..mutable import MutableExpression, Sample
from ..strategy import ONE_SHOT, RegularizedEvolution, Strategy, get_strategy
from ..strategy.oneshot import OneShot, OneShotProgress, Penalty
from ..study import Outcome, SearchProgress, SearchResult, ShowProgress, from_scratch, inherited
from ..study.intermediate import check_pruner
from ..study.oneshot import search_oneshot
from ..study.search import search
from ..study.storage import open_storage
from ..training import save_weights
from .folder import ONE_SHOT_STATE, STUDY
from .plan import Limits
from .stage import OnProgress, Stage
from .weight_stages import SHARED_WEIGHTS
from .workspace import Candidate, Workspace

__all__ = ["PRUNERS", "inherited_search", "one_shot_search", "trained_search"]

PRUNERS: dict[str, type[optuna.pruners.BasePruner]] = {
    "halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "median": optuna.pruners.MedianPruner,
    "none": optuna.pruners.NopPruner,
}
"""Name to Optuna's class of what ends poor trials early."""

_TRIAL = 4.0
"""Steps of training that take the time of one trial with inherited weights, about."""

_ONE_SHOT_OPTIONS: dict[str, dict[str, Any]] = {
    "darts": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
    "enas": {"arc_learning_rate": 0.003, "warmup_epochs": 5, "batches_per_update": 4},
    "gumbel": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
    "proxyless": {"arc_learning_rate": 0.02, "warmup_epochs": 5},
}
"""What suits a search of minutes; the strategies' own defaults are those of papers, for days."""


def inherited_search(run: Workspace, limits: Limits) -> Stage:
    """Return the stage that evolves architectures, scored with the weights of the space.

    Its candidates are the best that it found, of several with the same score those of the lowest
    loss, and as many random architectures as the plan wants rivals.
    """
    plan, objectives = run.plan, run.objectives
    _check(limits)
    # The first population is drawn at random, so half of the trials at least are children.
    population = min(plan.population, max(1, plan.trials // 2))
    strategy = RegularizedEvolution(
        population_size=population, sample_size=max(1, population // 3), mutation_prob=0.1
    )

    def do(on_progress: OnProgress) -> None:
        evaluate = inherited(run.task(0.0), batches=plan.calibration)
        result = _over_trials(run, limits, evaluate, strategy, on_progress, objectives=objectives)
        # Not while trials end: a run that goes on is only told of its new ones, and several workers
        # end theirs in any order. Here all are there, by their numbers.
        for outcome in result.outcomes:
            run.record.add(
                "search",
                outcome.number,
                state=outcome.state,
                arch_id=run.space.arch_id(outcome.arch),
                **{**run.costs.of(outcome.arch), **outcome.values, **outcome.metrics},
            )
        found = [dict(outcome.arch) for outcome in _ranked(result)[: plan.finalists]]
        archs = {f"found {number}": arch for number, arch in enumerate(found, start=1)}
        for number, arch in enumerate(_rivals(run, found), start=1):
            archs[f"random {number}"] = arch
        run.candidates = {
            role: Candidate(arch, f"fine-tuning {role}") for role, arch in archs.items()
        }

    return Stage("search", plan.trials, _TRIAL, do)


def trained_search(run: Workspace, limits: Limits) -> Stage:
    """Return the stage that trains each architecture from scratch; its candidate is the best.

    Raises
    ------
    UsageError
        There is no such strategy, option, pruner, objective or executor, or they do not go
        together.
    StorageError
        The storage cannot be reached.
    """
    plan, objectives = run.plan, run.objectives
    epochs = plan.epochs
    assert epochs is not None  # the plan of a kind of run has what its stages heed
    strategy: Strategy = get_strategy(plan.strategy, **plan.options)
    if plan.pruner not in PRUNERS:
        near = suggest(plan.pruner, PRUNERS)
        raise UsageError(
            f"there is no pruner {plan.pruner!r}{near}; there are {', '.join(PRUNERS)}"
        )
    pruner = PRUNERS[plan.pruner]()
    _check(limits)
    check_pruner(pruner, [objective.name for objective in objectives])
    strategy.check(run.within)
    if plan.storage is not None:
        open_storage(plan.storage)
    task = run.task(plan.learning_rate)

    def do(on_progress: OnProgress) -> None:
        evaluate = from_scratch(task, epochs, seed=run.seed)
        result = _over_trials(
            run, limits, evaluate, strategy, on_progress,
            objectives=objectives, name=plan.name, pruner=pruner,
        )  # fmt: skip
        best = result.winner()
        trained = f"training {run.space.arch_id(best.arch)} {plan.final_epochs}"
        facts = {"in_trial": {**best.values, **best.metrics}}
        run.candidates = {"found 1": Candidate(dict(best.arch), trained, facts=facts)}

    return Stage("search", plan.trials, float(epochs * task.steps(1)), do)


def one_shot_search(run: Workspace) -> Stage:
    """Return the stage that trains the shared weights while it searches; it finds one candidate.

    What is found is within the budgets. Strategies that learn a policy are given the costs as a
    :class:`~nas_space.strategy.Penalty` as well.

    Raises
    ------
    UsageError
        The strategy takes no such option.
    SpaceError
        The strategy cannot deal with the space.
    """
    plan, task = run.plan, run.task(run.plan.learning_rate)
    options = {**_one_shot_defaults(run), **plan.options}
    strategy: OneShot = get_strategy(plan.strategy, **options)
    strategy.check(run.within)

    def do(on_progress: OnProgress) -> None:
        def on_step(progress: OneShotProgress) -> None:
            step, total = progress.step, progress.total
            if step % 10 == 0 or step == total:
                run.record.add("search", step, loss=progress.loss, **progress.metrics)
                on_progress("search", step, total, str(progress))

        result = run.result = search_oneshot(
            run.within,
            task,
            strategy,
            steps=plan.steps,
            seed=run.seed,
            storage=run.folder.path / ONE_SHOT_STATE,
            every=50,
            resume=True,
            callbacks=[on_step],
            fabric=run.fabric,
        )
        save_weights(run.space, run.folder.path / SHARED_WEIGHTS)
        run.candidates = {"found 1": Candidate(result.best(), "fine-tuning")}

    # These run every candidate at each step, the others the ones on one or two paths.
    work = 6.0 if plan.strategy in ("darts", "gumbel") else 2.0
    return Stage("search", plan.steps, work, do)


def _check(limits: Limits) -> None:
    """Refuse limits that no search can have, before it begins."""
    if limits.timeout is not None and limits.timeout <= 0:
        raise UsageError(f"timeout must be positive, but got {limits.timeout}")
    if limits.executor is not None:
        check_executor(limits.executor)


def _over_trials(
    run: Workspace,
    limits: Limits,
    evaluate: Callable[[Any, Sample], Any],
    strategy: Strategy,
    on_progress: OnProgress,
    **options: Any,
) -> SearchResult:
    """Search the space of a run over trials, or go on with that."""
    # The storage says what has been done, so a run that goes on calls this with the same arguments.
    # The driver alone draws and shows; where trials are evaluated, and by how many, may change.
    trials, address, jobs = run.plan.trials, limits.executor, run.folder.work / "jobs"

    def show(progress: SearchProgress) -> None:
        on_progress("search", progress.done, trials, progress.findings)

    run.result = search(
        run.within,
        evaluate,
        strategy=strategy,
        trials=trials,
        storage=run.plan.storage or run.folder.path / STUDY,
        seed=run.seed,
        callbacks=[ShowProgress(trials, show, every=0.0)],
        keep_networks=0,  # what is found is trained further
        resume=True,
        workers=limits.workers,
        executor=None if address is None else partial(executor_at, address, jobs, limits.workers),
        timeout=limits.timeout,
        failures=limits.failures,
        **options,
    )
    assert isinstance(run.result, SearchResult)
    return run.result


def _ranked(result: SearchResult) -> Sequence[Outcome]:
    """Return the trials, the best first; of several objectives those on the Pareto front.

    Of trials with the same score, that of the lowest loss comes first.
    """
    # Accuracies on a few hundred images tie often; the loss tells apart what they do not.
    main = result.objectives[0]
    result.winner()  # says why there is none
    outcomes = result.front() if len(result.objectives) > 1 else result.complete

    def key(outcome: Outcome) -> tuple[float, float]:
        return -main.sign * outcome.values[main.name], {**outcome.metrics, **outcome.values}["loss"]

    return sorted(outcomes, key=key)


def _rivals(run: Workspace, found: Sequence[Sample]) -> list[Sample]:
    """Return random architectures of the budget, all different, and none that was found.

    In a space of few architectures there may be fewer than the plan wants.
    """
    others = {run.space.arch_id(arch): arch for arch in found}
    for arch in run.within.sample(4 * run.plan.rivals + 8, seed=run.seed + 1):
        if len(others) < len(found) + run.plan.rivals:
            others.setdefault(run.space.arch_id(arch), arch)
    return list(others.values())[len(found) :]


def _one_shot_defaults(run: Workspace) -> dict[str, Any]:
    """Return the options of a one-shot strategy, for a search as short as the plan's."""
    plan = run.plan
    options = dict(_ONE_SHOT_OPTIONS.get(plan.strategy, {}))
    if "warmup_epochs" in options:
        # However short the search: most of it is there to learn the policy.
        whole = plan.steps / run.task(plan.learning_rate).steps(1)
        options["warmup_epochs"] = min(options["warmup_epochs"], whole / 4)
    if penalty := _penalty(run):
        options["penalty"] = penalty
    return options


def _penalty(run: Workspace) -> Penalty | None:
    """Return the penalty that costs add to the loss of a policy; ``None`` if there is none.

    Costs of different units are made comparable by what they are divided by: those to be small by
    their mean over random architectures, the others by their budgets. The budgets themselves are
    kept by the restriction of the space, so a policy need only be drawn towards them: what is
    below counts nothing, unless a cost is to be small.
    """
    expressions = {o.name: o.expression for o in run.objectives[1:]}
    if "penalty" not in _arguments(run.plan.strategy):  # it draws within the budgets, and learns
        if expressions:  # no policy that could prefer what costs less
            raise UsageError(
                f"the strategy {run.plan.strategy!r} learns no policy, so it cannot make "
                f"{', '.join(expressions)} small; give a budget by --max, or take proxyless, spos "
                "or a strategy over trials"
            )
        return None
    for name, expression in expressions.items():
        if expression is None:
            raise UsageError(
                f"a one-shot search makes costs small, but {name!r} is a metric of the task"
            )
    if expressions:
        drawn = run.within.sample(1001, seed=0)
        scales = {name: float(run.costs.values(name, drawn).mean()) for name in expressions}
        return _joint(run, scales, "linear")
    limits = {
        name: limit
        for name, limit in run.budgets.items()
        if isinstance(run.costs[name], MutableExpression)
    }
    return _joint(run, limits, "positive") if limits else None


def _arguments(strategy: str) -> set[str]:
    """Return the arguments that the constructor of a one-shot strategy and its bases take."""
    bases = ONE_SHOT[strategy].__mro__
    return {name for base in bases for name in signature(base).parameters}


def _joint(run: Workspace, scales: dict[str, float], nonlinear: Any) -> Penalty:
    """Return a penalty on the mean of costs, each relative to a scale."""
    if len(scales) == 1:
        [(name, scale)] = scales.items()
        return Penalty(run.costs[name], scale, nonlinear=nonlinear)
    relative = sum(run.costs[name] * (1 / scale) for name, scale in scales.items())
    return Penalty(relative, float(len(scales)), nonlinear=nonlinear)
