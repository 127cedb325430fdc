"""Progress and results of a search on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

from nas_space.cli.values import shown

__all__ = ["search_progress", "show_findings"]

_TRIAL = 4
"""How many steps of training a trial takes the time of, about."""


@contextmanager
def search_progress(recipe: Any, *, quiet: bool) -> Iterator[Callable[[str, int, int, str], None]]:
    """A bar for each stage and one for all, with the time that they will still take.

    Where there is no terminal, a line for every tenth of a stage instead.

    Parameters
    ----------
    recipe
        Says how long the stages are.
    quiet
        Whether to show nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _lines(console)
        return
    lengths = {
        "one path": recipe.first_steps,
        "shared weights": recipe.steps,
        "search": recipe.trials,
        "fine-tuning": recipe.fine_tuning * (1 + recipe.rivals),
    }
    work = {stage: n * (_TRIAL if stage == "search" else 1) for stage, n in lengths.items()}
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

        def show(stage: str, done: int, total: int, word: str) -> None:
            name = stage
            if stage.startswith("fine-tuning"):  # of the winner, or of random 1, random 2, ...
                name, number = "fine-tuning", stage.rpartition(" ")[2]
                done += total * int(number) if number.isdigit() else 0
            before = sum(work[s] for s in list(work)[: list(work).index(name)])
            jump = name not in begun
            begun.add(name)
            move(bars[name], done, jump=jump, word=word)
            move(whole, before + done * work[name] / lengths[name], jump=jump)

        yield show


def _lines(console: Console) -> Callable[[str, int, int, str], None]:
    began = monotonic()
    said: dict[str, int] = {}

    def show(stage: str, done: int, total: int, word: str) -> None:
        tenth = 10 * done // total
        if said.get(stage) != tenth:
            said[stage] = tenth
            seconds = f"{monotonic() - began:.0f} s"
            console.print(f"{seconds:>6}  {stage}: {done} of {total}, {word}", highlight=False)

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
    chosen = " ".join(f"{label}={value}" for label, value in findings.winner.arch.items())
    console.print(f"\n{chosen}", highlight=False)
    names = ", ".join(path.name for path in (*findings.files, *pictures))
    console.print(f"\nin {job.out}: {names}", highlight=False)
