"""Progress and results of a search on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from nas_space.cli.values import shown

__all__ = ["search_progress", "show_outcome"]


@contextmanager
def search_progress(
    recipe: Any, *, quiet: bool
) -> Iterator[Callable[[str, int, int, str], None]]:
    """A bar for each stage, with the time that it will still take."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[word]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, word: str) -> None:
            name = "fine-tuning" if stage.startswith("fine-tuning") else stage
            if name not in bars:
                every = total * (1 + recipe.rivals) if name == "fine-tuning" else total
                bars[name] = progress.add_task(name, total=every, word="")
            offset = 0
            if name == "fine-tuning" and "random" in stage:
                offset = total * int(stage.split()[2])
            progress.update(bars[name], completed=offset + done, word=word)

        yield show


def show_outcome(job: Any, outcome: Any) -> None:
    """The finalists, the nearest neighbour, and where everything is."""
    console = Console()
    table = Table("", "MACs", "parameters", "inherited", "validation", "test", box=None)

    def row(name: str, one: Any) -> None:
        table.add_row(
            name, shown(one.macs), shown(one.params), f"{one.inherited:.3f}",
            f"{one.validation:.3f}", f"{one.test:.3f}",
        )  # fmt: skip

    row("[bold]found by the search[/]", outcome.winner)
    for number, rival in enumerate(outcome.rivals, start=1):
        row(f"random {number}, treated alike", rival)
    if outcome.rivals:
        middle = median(rival.test for rival in outcome.rivals)
        table.add_row("median of random ones", "", "", "", "", f"{middle:.3f}")
    if outcome.neighbour is not None:
        table.add_row("nearest neighbour", "", "", "", "", f"{outcome.neighbour:.3f}")
    console.print(table)
    chosen = " ".join(f"{label}={value}" for label, value in outcome.winner.arch.items())
    console.print(f"\n{chosen}", highlight=False)
    console.print(f"\nin {job.out}: " + ", ".join(path.name for path in outcome.files), highlight=False)
