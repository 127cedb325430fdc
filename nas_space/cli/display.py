"""Progress and results of a search on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

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

from .values import shown

__all__ = [
    "show_findings",
    "show_oneshot_findings",
    "show_outcomes",
    "show_progress",
    "show_support",
    "show_trials_findings",
    "value_of",
    "written",
]


@contextmanager
def show_progress(
    stages: Mapping[str, tuple[int, float]], *, quiet: bool
) -> Iterator[Callable[[str, int, int, str], None]]:
    """A bar for each stage and one for all, with the time that they will still take.

    Where there is no terminal, a line for every tenth of a stage instead.

    Parameters
    ----------
    stages
        Of each how long it is, and the work of one step of it.
    quiet
        Whether to show nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _lines(console)
        return
    lengths = {stage: length for stage, (length, _) in stages.items()}
    work = {stage: length * each for stage, (length, each) in stages.items()}
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[word]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars = {
            stage: progress.add_task(stage, total=n, word="", start=False)
            for stage, n in lengths.items()
        }
        whole = progress.add_task("in all", total=sum(work.values()), word="")
        begun: set[str] = set()

        def move(bar: TaskID, done: float, *, jump: bool, word: str = "") -> None:
            # What an interrupted run had done says nothing about the speed of this one.
            if jump:
                progress.reset(bar, completed=int(done), word=word)
            progress.update(bar, completed=done, word=word)

        def show(stage: str, done: int, _: int, word: str) -> None:
            before = sum(work[s] for s in list(work)[: list(work).index(stage)])
            jump = stage not in begun
            begun.add(stage)
            move(bars[stage], done, jump=jump, word=word)
            move(whole, before + done * work[stage] / lengths[stage], jump=jump)

        yield show


def _lines(console: Console) -> Callable[[str, int, int, str], None]:
    began = monotonic()
    said: dict[str, int] = {}
    first: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int, word: str) -> None:
        now = monotonic()
        since, before = first.setdefault(stage, (now, done))
        tenth = 10 * done // total
        if said.get(stage) != tenth:
            said[stage] = tenth
            left = ""
            if before < done < total:
                left = f", {(now - since) / (done - before) * (total - done):.0f} s left"
            seconds = f"{now - began:.0f} s"
            console.print(
                f"{seconds:>6}  {stage}: {done} of {total}, {word}{left}", highlight=False
            )

    return show


def show_findings(job: Any, findings: Any, pictures: Sequence[Path]) -> None:
    """The finalists, the nearest neighbour, and where everything is."""
    console = Console()
    budget = "no budget" if job.max_macs is None else f"budget {shown(job.max_macs)} MACs"
    table = Table(
        "", *(("MACs", "parameters", "inherited", "validation", "test")),
        title=f"Accuracy on {job.splits.name}, {budget}", title_justify="left", box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"

    def row(name: str, one: Any) -> None:
        table.add_row(
            name, shown(one.macs), shown(one.params), f"{one.inherited:.1%}",
            f"{one.validation:.1%}", f"{one.test:.1%}",
        )  # fmt: skip

    row("[bold]found by the search[/]", findings.winner)
    for rival in findings.rivals:
        row(f"{rival.role}, treated alike", rival)
    if findings.rivals:
        middle = median(rival.test for rival in findings.rivals)
        table.add_row("median of the random ones", "", "", "", "", f"{middle:.1%}")
    if findings.neighbour is not None:
        table.add_row("nearest neighbour", "", "", "", "", f"{findings.neighbour:.1%}")
    console.print(table)
    console.print("inherited and validation: on the validation split, before and after fine-tuning")
    console.print(f"\n{written(findings.winner.arch)}", highlight=False)
    names = ", ".join(path.name for path in (*findings.files, *pictures))
    console.print(f"\nin {job.out}: {names}", highlight=False)


def show_trials_findings(run: Any, findings: Any, pictures: Sequence[Path]) -> None:
    """What was found by training one by one, and where everything is."""
    console = Console()
    result = findings.result
    show_outcomes(console, result, 5)
    failed = sum(outcome.state == "failed" for outcome in result.outcomes)
    pruned = sum(outcome.state == "pruned" for outcome in result.outcomes)
    console.print(
        f"\n{len(result.outcomes)} trials, {pruned} of them stopped early, {failed} failed"
    )
    console.print(
        f"the best, trained for {run.plan.final_epochs} epochs: validation "
        f"{findings.validation:.1%}, test {findings.test:.1%}, {shown(findings.macs)} MACs, "
        f"{shown(findings.params)} parameters"
    )
    console.print("\n" + written(findings.arch), highlight=False)
    names = ", ".join(path.name for path in (*findings.files, *pictures))
    console.print(f"\nin {run.out}: {names}", highlight=False)


def show_oneshot_findings(run: Any, findings: Any, pictures: Sequence[Path]) -> None:
    """What was found while training shared weights, how sure the policy is, where it all is."""
    console = Console()
    policy = {
        label: over_time[-1][1] for label, over_time in findings.result.probabilities().items()
    }
    symbols = run.space.symbols()
    table = Table("label", "found", "probability", title="Of each label", box=None)
    for label, value in findings.arch.items():
        share = policy[label][symbols[label].code(value)] if label in policy else None
        table.add_row(label, str(value), "" if share is None else f"{share:.2f}")
    console.print(table, highlight=False)
    console.print(
        f"\naccuracy: validation {findings.inherited:.1%} with the weights of the search, "
        f"{findings.validation:.1%} after {run.plan.fine_tuning} steps of fine-tuning; test "
        f"{findings.test:.1%}; {shown(findings.macs)} MACs, {shown(findings.params)} parameters"
    )
    names = ", ".join(path.name for path in (*findings.files, *pictures))
    console.print(f"\nin {run.out}: {names}", highlight=False)


def show_support(tried: Mapping[str, Mapping[str, Any]], *, why: bool) -> None:
    """Primitives against strategies, those that share weights and those that do not."""
    from ..strategy import ONE_SHOT

    console = Console()
    marks = {"works": "[green]yes[/]", "refused": "[yellow]no[/]", "fails": "[bold red]fails[/]"}
    names = list(next(iter(tried.values())))
    kinds = {
        "Strategies that search while they train shared weights": [
            name for name in names if name in ONE_SHOT
        ],
        "Strategies that try one architecture after another": [
            name for name in names if name not in ONE_SHOT
        ],
    }
    for title, some in kinds.items():
        table = Table("", *some, title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        for primitive, row in tried.items():
            table.add_row(primitive, *(marks[row[name].outcome] for name in some))
        console.print(table)
        console.print()
    console.print("yes: two steps of a search, and its network runs; no: refused before the first")
    for primitive, row in tried.items() if why else ():
        for name, support in row.items():
            if support.outcome != "works":
                console.print(f"\n[bold]{name}, {primitive}:[/] ", end="")
                console.print(support.reason, markup=False, highlight=False)


def show_outcomes(console: Console, result: Any, most: int) -> None:
    """The best trials; those on the front where there are several objectives."""
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
    console.print(table, highlight=False)


def value_of(number: float) -> str:
    """A value of an objective: fractions to four digits, large numbers with a unit."""
    return shown(number) if abs(number) >= 1000 else f"{number:.4g}"


def written(arch: Mapping[str, Any]) -> str:
    """An architecture on one line."""
    return " ".join(f"{label}={value}" for label, value in arch.items())
