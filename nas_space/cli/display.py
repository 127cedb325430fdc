"""Progress and results of a search on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..report.numbers import labelled, value_of, written
from ..runs import Stage
from ..runs.contents import Compressed
from ..runs.costs import title_of

__all__ = [
    "plain_console",
    "print_whole",
    "show_findings",
    "show_outcomes",
    "show_progress",
    "show_support",
]

_WATCHED = 1.0
"""Seconds of steps that say how long the others take."""


def plain_console(
    *, stderr: bool = False, quiet: bool = False, width: int | None = None
) -> Console:
    """Return a console that prints text as it is.

    Names of labels and messages of failures come from users: ``[/bold]`` in one of them is no
    instruction to rich. Styles are given as arguments instead.
    """
    return Console(stderr=stderr, quiet=quiet, width=width, markup=False, highlight=False)


def print_whole(table: Table) -> None:
    """Print a table as wide as the names in it are, where a terminal has no room as well.

    A name that is cut or broken in two can neither be copied nor searched for.
    """
    # Rich folds a table into 80 columns where there is no terminal, as in a pipe to grep. So lines
    # are drawn into a console of the width that is needed, and printed by themselves.
    console = plain_console()
    free = console.options.update(width=1000)
    needed = console.measure(table, options=free)
    least, most = needed.minimum, needed.maximum
    width = max(least, min(most, console.width)) if console.is_terminal else most
    wide = plain_console(width=width)
    with wide.capture() as drawn:
        wide.print(table, soft_wrap=False)
    for line in drawn.get().splitlines():
        typer.echo(line.rstrip())


@contextmanager
def show_progress(
    stages: Sequence[Stage], *, quiet: bool
) -> Iterator[Callable[[str, int, int, str], None]]:
    """Show a bar for each stage and one for all, with the time that they will still take.

    Where there is no terminal, a line for every tenth of a stage instead. The first line says how
    long it will take in all.

    Parameters
    ----------
    stages
        Of the run.
    quiet
        Whether to show nothing.
    """
    console = plain_console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _lines(console, _Forecast(stages))
        return
    columns = (
        TextColumn("{task.description:<15}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[word]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        bars = {
            stage.name: progress.add_task(stage.name, total=stage.length, word="", start=False)
            for stage in stages
        }
        whole = progress.add_task("in all", total=_work(stages), word="")
        begun: set[str] = set()
        forecast, moved = _Forecast(stages), False

        def move(bar: TaskID, done: float, *, jump: bool, word: str = "") -> None:
            if jump:
                progress.reset(bar, completed=int(done), word=word)
            progress.update(bar, completed=done, word=word)

        # What an interrupted run had done says nothing about the speed of this one, so a bar begins
        # where it is told to be first. That of the whole begins anew as long as stages are only
        # passed over; once one goes on step by step, its time is that of all stages.
        def show(stage: str, done: int, _: int, word: str) -> None:
            nonlocal moved
            jump = stage not in begun
            moved = moved or not jump
            begun.add(stage)
            move(bars[stage], done, jump=jump, word=word)
            move(whole, _work(stages, stage, done), jump=not moved)
            if said := forecast(stage, done):
                progress.console.print(said)

        yield show


def _work(stages: Sequence[Stage], stage: str | None = None, done: int = 0) -> float:
    """Return the work of all stages; or what is done of it at a step of one of them."""
    names = [one.name for one in stages]
    place = len(names) if stage is None else names.index(stage)
    before = sum(one.length * one.work for one in stages[:place])
    return before if stage is None else before + done * stages[place].work


class _Forecast:
    """Says once how long a run takes on this machine, by its first steps."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.said = False
        self._first: tuple[float, float] | None = None

    def __call__(self, stage: str, done: int) -> str | None:
        """Return the line, as soon as there is something to go by."""
        if self.said:
            return None
        at, now = _work(self.stages, stage, done), monotonic()
        # The first call sets the clock and counts nothing: what it reports may have been done on
        # another day, and where not, it includes what is done once (compiling, reading data).
        if self._first is None:
            self._first = now, at
        since, before = self._first
        ended = any(done == one.length for one in self.stages if one.name == stage)
        if at == before or (now - since < _WATCHED and not ended):
            return None
        self.said = True
        left = (now - since) / (at - before) * (_work(self.stages) - at)
        return f"this takes {_in_words(left)} more here, as its first steps go"


def _in_words(seconds: float) -> str:
    """Return a time as people say it.

    >>> _in_words(48.0), _in_words(100.0), _in_words(9000.0)
    ('about 50 seconds', 'about 1.7 minutes', 'about 2.5 hours')
    """
    if seconds < 60:
        return f"about {max(10.0, round(seconds, -1)):.0f} seconds"
    if seconds < 3600:
        return f"about {seconds / 60:.2g} minutes"
    return f"about {seconds / 3600:.2g} hours"


def _lines(console: Console, forecast: _Forecast) -> Callable[[str, int, int, str], None]:
    began = monotonic()
    said: dict[str, int] = {}
    first: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int, word: str) -> None:
        now = monotonic()
        since, before = first.setdefault(stage, (now, done))
        tenth = 10 * done // total
        if told := forecast(stage, done):
            console.print(told)
        if (forecast.said or done == total) and said.get(stage) != tenth:
            said[stage] = tenth
            left = ""
            if before < done < total:
                left = f", {(now - since) / (done - before) * (total - done):.0f} s left"
            seconds = f"{now - began:.0f} s"
            console.print(f"{seconds:>6}  {stage}: {done} of {total}, {word}{left}")

    return show


def show_findings(run: Any, findings: Any, pictures: Sequence[Path]) -> None:
    """Show the finalists of a run beside what they are compared with, and where everything is."""
    from ..study import SearchResult

    console, work, winner = plain_console(), run.workspace, findings.winner
    if not isinstance(findings.result, SearchResult):
        _show_policy(console, work.space, findings)
    elif not findings.rivals:
        show_outcomes(console, findings.result, 5)
        outcomes = findings.result.outcomes
        pruned, failed = (sum(o.state == s for o in outcomes) for s in ("pruned", "failed"))
        console.print(f"\n{len(outcomes)} trials, {pruned} of them stopped early, {failed} failed")
    if findings.rivals or findings.neighbour is not None:
        _show_finalists(console, work, findings)
    else:
        costs = ", ".join(f"{written(c, v)} {title_of(c)}" for c, v in winner.costs.items())
        inherited = "" if winner.inherited is None else (
            f"{winner.inherited:.1%} with the weights of the search, "
        )  # fmt: skip
        console.print(
            f"\naccuracy: validation {inherited}{winner.validation:.1%} after training; "
            f"test {winner.test:.1%}; {costs}"
        )
    if findings.deployed is not None:
        console.print(f"\n{findings.deployed}")
    console.print(f"\n{labelled(winner.arch)}")
    names = ", ".join(path.name for path in (*findings.files, *pictures))
    console.print(f"\nin {work.folder.path}: {names}")


def _show_finalists(console: Console, work: Any, findings: Any) -> None:
    limits = ", ".join(f"{written(c, v)} {title_of(c)}" for c, v in work.budgets.items())
    costs = list(findings.winner.costs)
    table = Table(
        "", *map(title_of, costs), "inherited", "validation", "test",
        title=f"Accuracy on {work.splits.name}, budget {limits or 'none'}",
        title_justify="left", box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"

    def row(name: str | Text, one: Any) -> None:
        scores = [f"{score:.1%}" for score in (one.inherited, one.validation, one.test)]
        table.add_row(name, *(written(c, one.costs[c]) for c in costs), *scores)

    row(Text("found by the search", style="bold"), findings.winner)
    for rival in findings.rivals:
        row(f"{rival.role}, treated alike", rival)
    blank = [""] * (len(costs) + 2)
    if findings.rivals:
        middle = median(rival.test for rival in findings.rivals)
        table.add_row("median of the random ones", *blank, f"{middle:.1%}")
    if findings.neighbour is not None:
        table.add_row("nearest neighbour", *blank, f"{findings.neighbour:.1%}")
    console.print(table)
    console.print("inherited and validation: on the validation split, before and after fine-tuning")


def _show_policy(console: Console, space: Any, findings: Any) -> None:
    """Show the architecture of a one-shot search, with the final probability of each value."""
    policy = {
        label: over_time[-1][1] for label, over_time in findings.result.probabilities().items()
    }
    symbols = space.symbols()
    table = Table("label", "found", "probability", title="Of each label", box=None)
    for label, value in findings.winner.arch.items():
        share = policy[label][symbols[label].code(value)] if label in policy else None
        table.add_row(label, str(value), "" if share is None else f"{share:.2f}")
    console.print(table)


def show_compressed(console: Console, found: Sequence[Compressed]) -> None:
    """Show costs and scores of the original and of the networks that it was compressed to."""
    costs = [name for name in found[0].costs if name != "latency"]
    metrics = list(found[0].scores)
    deployed = [one.deployed for one in found if one.deployed is not None]
    where = deployed[0].runtime if deployed else "torch"
    table = Table("network", *map(title_of, costs), f"ms in {where}, here", *metrics, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in found:
        table.add_row(
            Text(one.name),
            *(written(name, one.costs[name]) for name in costs),
            f"{one.costs['latency'] / 1000:.3g}",
            *(f"{one.scores[metric]:.4g}" for metric in metrics),
        )
    console.print(table, highlight=False)
    for one in found:
        if one.deployed is not None:
            console.print(f"{one.name} {one.deployed}", highlight=False)


def show_support(tried: Mapping[str, Mapping[str, Any]], *, why: bool) -> None:
    """Show which strategies deal with which primitives, those that share weights first."""
    from ..strategy import ONE_SHOT

    console = plain_console()
    marks = {
        "works": Text("yes", style="green"),
        "refused": Text("no", style="yellow"),
        "fails": Text("fails", style="bold red"),
    }
    names = list(next(iter(tried.values())))
    kinds = {
        "Strategies that search while they train shared weights": [
            name for name in names if name in ONE_SHOT
        ],
        "Strategies that try one architecture after another": [
            name for name in names if name not in ONE_SHOT
        ],
    }
    room = console.width - max(map(len, tried)) - 1
    for title, some in kinds.items():
        console.print(title, style="italic")
        for part in _that_fit(some, room):
            table = Table("", *part, box=None, padding=(0, 1, 0, 0))
            for primitive, row in tried.items():
                table.add_row(primitive, *(marks[row[name].outcome] for name in part))
            console.print(table)
            console.print()
    console.print("yes: two steps of a search, and its network runs; no: refused before the first")
    for primitive, row in tried.items() if why else ():
        for name, support in row.items():
            if support.outcome != "works":
                console.print(f"\n{name}, {primitive}: ", end="", style="bold")
                console.print(support.reason)


def _that_fit(names: Sequence[str], room: int) -> list[list[str]]:
    """Return names in groups, each of which fits into a number of columns with spaces between."""
    groups: list[list[str]] = [[]]
    for name in names:
        if groups[-1] and len(" ".join([*groups[-1], name])) >= room:
            groups.append([])
        groups[-1].append(name)
    return groups


def show_outcomes(console: Console, result: Any, most: int) -> None:
    """Show the best trials; those on the front where there are several objectives."""
    several = len(result.objectives) > 1
    outcomes = (result.front() if several else result.ranked())[:most]
    title = "No other trial is better in everything" if several else "The best trials"
    names = [objective.name for objective in result.objectives]
    metrics = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    table = Table("trial", *names, *metrics, "seconds", title=title, title_justify="left", box=None)
    for column in table.columns:
        column.justify = "right"
    for outcome in outcomes:
        measured = {**outcome.values, **outcome.metrics}
        values = [
            value_of(measured[name]) if name in measured else "" for name in (*names, *metrics)
        ]
        table.add_row(str(outcome.number), *values, f"{outcome.seconds:.3g}")
    console.print(table)
