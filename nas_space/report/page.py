"""One HTML file about a search: pictures, the winner explained, the trials.  It needs no other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import replacing
from ..mutable.node import key_of
from ..runs.costs import title_of
from . import html
from .architecture import blocks_of
from .optunas import optunas_pictures
from .pictures import best_of, drift_pictures, front_picture, usage_picture
from .policy_page import oneshot_parts

if TYPE_CHECKING:
    from ..runs import StoredRun
    from ..study import Outcome, SearchResult

__all__ = ["write_report"]

_ENOUGH = 10
"""Of fewer trials nothing can be said about time."""


def write_report(run: StoredRun, file: Path | str) -> None:
    """Write what a run has found so far into one HTML file.

    Parameters
    ----------
    run
        As :func:`~nas_space.study.open_run` gives it.
    file
        What to write.

    Raises
    ------
    TrialError
        If no trial is complete.
    UsageError, StorageError
        If the space is another one by now, or the trials are out of reach.
    """
    result = run.result
    space = run.make_space()
    title = f"Search of {run.space_name}" + (
        f" on {run.settings['data']}" if "data" in run.settings else ""
    )
    body = [f"<h1>{escape(title)}</h1>", _facts(run)]
    if run.steps is not None:
        body += oneshot_parts(run, space)
    elif result is None or not result.complete:
        body.append("<p>No trial is complete yet.</p>")
    else:
        shape = tuple(run.settings.get("input_shape", ()))
        body += _winner(result, run.conclusion, space, shape)
        winner = _chosen(result, run.conclusion)
        body += _pictures(result, winner, _axis(run, result, space, shape))
        body += optunas_pictures(result)
    if result is not None:
        body += _trials(result, run.conclusion)
    path = Path(file)
    with replacing(path) as beside:
        beside.write_text(html.page(title, body), encoding="utf-8")


# -- words ---------------------------------------------------------------------------------------


def _facts(run: StoredRun) -> str:
    facts: dict[str, Any] = {"run": run.place, "state": run.state, "strategy": run.strategy}
    for name in ("arguments", "options", "budgets", "epochs", "pruner", "seed", "fingerprint"):
        if run.settings.get(name) not in (None, {}):
            facts[name.replace("_", " ")] = run.settings[name]
    if run.steps is not None:
        facts["steps"] = f"{run.steps[0]:,} of {run.steps[1]:,}"
    if run.result is not None:
        outcomes = run.result.outcomes
        of = "" if run.trials is None else f" of {run.trials}"
        states = ("complete", "pruned", "failed")
        counts = {state: sum(o.state == state for o in outcomes) for state in states}
        facts["trials"] = f"{len(outcomes)}{of} (" + (
            ", ".join(f"{n} {state}" for state, n in counts.items() if n) + ")"
        )
        facts["proposals repaired"] = run.result.repaired
        facts["objectives"] = ", ".join(f"{o.direction} {o.name}" for o in run.result.objectives)
    rows = [
        [name, f"{v:,}" if isinstance(v, (int, float)) else str(v)] for name, v in facts.items()
    ]
    return html.table([], rows)


def _chosen(result: SearchResult, conclusion: Mapping[str, Any]) -> Outcome:
    """The trial that a run ended with; before its end the best."""
    found = key_of(conclusion.get("arch", {}), loose=True)
    chosen = [outcome for outcome in result.complete if key_of(outcome.arch, loose=True) == found]
    return (chosen or result.ranked())[0]


def _winner(
    result: SearchResult, conclusion: Mapping[str, Any], space: Any, shape: tuple[int, ...]
) -> Iterator[str]:
    """What was found, and what speaks for each of its choices."""
    first = result.objectives[0]
    ranked = result.ranked()
    winner = _chosen(result, conclusion)
    values = [outcome.values[first.name] for outcome in ranked]
    mine = winner.values[first.name]
    rank = "the best" if mine == values[0] else f"number {1 + values.index(mine)}"
    words = (
        f"Of {len(ranked)} complete trials, trial {winner.number} is {rank} in {first.name}: "
        f"{html.number(mine)}. The median of all is {html.number(statistics.median(values))}."
    )
    if values.count(mine) > 1:
        words += f" It shares this value with {values.count(mine) - 1} others."
    if winner.standard_error is not None:
        words += f" The standard error is {html.number(winner.standard_error)}."
    yield "<h2>The winner</h2>"
    others = {k: v for k, v in {**winner.values, **winner.metrics}.items() if k != first.name}
    if others:
        words += f" It has {', '.join(f'{name} {html.number(v)}' for name, v in others.items())}."
    if len(result.objectives) > 1:
        words += f" It is one of {len(result.front())} that no other is better than in everything."
    costs = conclusion.get("costs", {})
    if costs:
        listed = ", ".join(f"{title_of(name)} {html.number(v)}" for name, v in costs.items())
        words += f" It costs: {listed}."
    if "test" in conclusion:
        scores = {name: f"{conclusion[name]:.1%}" for name in ("validation", "test")}
        words += (
            f" Trained by itself it reached {scores['validation']} on the validation split and "
        )
        words += f"{scores['test']} on the test split."
    yield f"<p>{escape(words)}</p>"
    if space is not None and shape:
        yield blocks_of(space, winner.arch, shape)
    best = best_of(ranked)
    rows = []
    for label, value in winner.arch.items():
        chosen = key_of(value, loose=True)
        same: list[float] = []
        other: list[float] = []
        for outcome in ranked:
            if label in outcome.arch:
                agrees = key_of(outcome.arch[label], loose=True) == chosen
                (same if agrees else other).append(outcome.values[first.name])
        among = [o for o in best if label in o.arch]
        share = sum(key_of(o.arch[label], loose=True) == chosen for o in among) / len(among)
        mean = [html.number(statistics.fmean(some)) if some else "" for some in (same, other)]
        rows.append([label, str(value), f"{share:.0%}", f"{len(same)}", *mean])
    yield (
        f"<p>For each of its choices: how many of the {len(best)} best agree, in how many trials "
        f"it was made, and what {escape(first.name)} was on average with it and with another "
        "value. Averages mix what else differs between trials.</p>"
    )
    names = ["label", "value", "of the best", "trials", "mean with it", "mean with another"]
    yield html.table(names, rows, numbers=slice(2, None))


def _trials(result: SearchResult, conclusion: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>The trials</h2>"
    objectives = [objective.name for objective in result.objectives]
    metrics = list(dict.fromkeys(name for o in result.outcomes for name in o.metrics))
    best = _chosen(result, conclusion).number if result.complete else None
    rows, kinds = [], []
    for outcome in result.outcomes:
        measured = {**outcome.values, **outcome.metrics}
        numbers = [
            html.number(measured[name]) if name in measured else "" for name in objectives + metrics
        ]
        arch = " ".join(f"{label}={value}" for label, value in outcome.arch.items())
        rows.append([str(outcome.number), outcome.state, *numbers, f"{outcome.seconds:.3g}", arch])
        kinds.append("best" if outcome.number == best else outcome.state)
    names = ["trial", "state", *objectives, *metrics, "seconds", "architecture"]
    yield html.table(names, rows, numbers=slice(2, -1), kinds=kinds)
    for outcome in result.outcomes:
        if outcome.failure:
            yield (
                f"<details><summary>Why trial {outcome.number} failed</summary>"
                f"<pre>{escape(outcome.failure)}</pre></details>"
            )


# -- pictures ------------------------------------------------------------------------------------


def _axis(
    run: StoredRun, result: SearchResult, space: Any, shape: tuple[int, ...]
) -> tuple[str, Callable[[Outcome], float]]:
    """Return what to draw the first objective against: a name, and its value for a trial.

    That is the second objective; else the cost that decides between equal scores, so that the
    winner is on the front: what the first budget limits, or the parameters.
    """
    if len(result.objectives) > 1:
        name = result.objectives[1].name
        return name, lambda outcome: outcome.values[name]
    costs = [outcome.cost for outcome in result.complete if outcome.cost is not None]
    if len(costs) == len(result.complete):
        known = next(iter(run.settings.get("budgets", {})), None)
        name = "parameters" if run.settings else "cost"
        return known or name, lambda outcome: float(outcome.cost or 0.0)
    if space is None or not shape:
        return "trial", lambda outcome: float(outcome.number)
    from ..profiler import macs

    cost = macs(space, shape)
    return "multiply-adds", lambda outcome: float(cost.evaluate(outcome.arch))


def _pictures(
    result: SearchResult, winner: Outcome, axis: tuple[str, Callable[[Outcome], float]]
) -> Iterator[str]:
    ranked, (cost_name, cost_of) = result.ranked(), axis
    first = result.objectives[0]
    yield "<h2>What was tried</h2>"
    points = [(f"#{o.number}", cost_of(o), o.values[first.name]) for o in ranked]
    if len(result.objectives) > 1:
        front = [f"#{outcome.number}" for outcome in result.front()]
    elif cost_name == "trial":
        front = []
    else:
        front = [
            name
            for name, cost_, score in points
            if not any(
                (c, s) != (cost_, score) and c <= cost_ and first.sign * (s - score) >= 0
                for _, c, s in points
            )
        ]
    figure = front_picture(points, front, (cost_name, first.name), f"#{winner.number}")
    caption = "The winner is the star." + (
        " The line joins those that nothing else is better than in both." if front else ""
    )
    if front and f"#{winner.number}" not in front:  # chosen by what the trials did not measure
        caption += " It was the best of the finalists once they were trained further."
    yield html.figure(figure, caption)
    varied = len({key_of(outcome.arch) for outcome in ranked}) > 1
    if varied:
        yield html.figure(
            usage_picture(ranked, best_of(ranked)),
            f"What the {len(best_of(ranked))} best have chosen, in percent of those in which the "
            "label is active. Orange: more often than all trials, violet: more rarely.",
        )
    if varied and len(result.outcomes) >= _ENOUGH:
        yield "<h2>What was proposed over time</h2>"
        for drawn in drift_pictures(result.outcomes):
            yield html.figure(drawn, "Shares of the values of each label, in parts of the trials.")
