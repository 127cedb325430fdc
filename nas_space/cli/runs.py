"""``nas-space runs``, ``show`` and ``report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import StorageError, UsageError
from .options import RunArgument, said

__all__ = ["report", "runs", "show"]


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the folders of runs are.")] = Path("runs"),
) -> None:
    """List the runs in a folder, the latest first."""
    from rich.table import Table
    from rich.text import Text

    from ..runs import find_runs
    from .display import print_whole

    found = find_runs(folder)
    if not found:
        typer.echo(f"there are no runs in {folder}; nas-space search begins one")
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("run", "space", "data", "strategy", "trials", "best", "state"):
        table.add_column(name, no_wrap=name != "best", overflow="fold")
    damaged: list[StorageError] = []
    for place in found:
        try:
            row = _row(place)
        except StorageError as error:
            damaged.append(error)
            row = (str(place), "", "", "", "", "", "damaged")
        table.add_row(*map(Text, row))
    print_whole(table)
    for each in damaged:
        typer.echo(each, err=True)


def _row(place: Path) -> tuple[str, ...]:
    """Return what the list of runs says of one."""
    from ..report.numbers import value_of
    from ..runs import open_run

    run, done, best = open_run(place), "", ""
    try:
        state, result = run.state, run.result
    except StorageError:
        state, result = "storage out of reach", None
    if result is not None:
        done = f"{len(result.outcomes)}/{run.trials}"
        ranked = result.ranked()[:1]
        if ranked:
            best = ", ".join(f"{k} {value_of(v)}" for k, v in ranked[0].values.items())
    if run.compressed:
        best = f"{len(run.compressed) - 1} networks"
    if run.steps is not None:
        done = f"{run.steps[0]}/{run.steps[1]} steps"
        best = f"accuracy {run.conclusion['validation']:.4g}" if run.conclusion else ""
    space, data = run.space_name.rpartition(":")[2], Path(run.settings["data"]).name
    return run.place, space, data, run.strategy, done, best, state


def show(
    run: RunArgument,
    top: Annotated[int, said("How many of the best trials.", least=1)] = 10,
    trial: Annotated[
        int | None, said("Print the architecture of this trial only, as JSON.")
    ] = None,
) -> None:
    """Show what a run has found so far."""
    from ..report.numbers import labelled
    from ..runs import open_run
    from .display import plain_console, show_compressed, show_outcomes

    console = plain_console()
    found = open_run(run)
    result = found.result
    if trial is not None:
        archs = {outcome.number: outcome.arch for outcome in result.outcomes} if result else {}
        if trial not in archs:
            raise UsageError(
                f"{found.name} has no trial {trial}; it has {len(archs)}, counted from 0"
            )
        typer.echo(json.dumps(archs[trial]))
        return
    for name, value in _facts(found).items():
        console.print(f"{name:>12}  {value}")
    if found.compressed is not None:
        if found.compressed:
            show_compressed(console, found.compressed)
        return
    if found.steps is not None:
        if found.conclusion:
            console.print(f"\n{labelled(found.conclusion['arch'])}")
        return
    if result is None:
        console.print("\nno trials yet")
        return
    if not result.outcomes:
        console.print("\nno trial has ended yet")
    if result.complete:
        console.print()
        show_outcomes(console, result, top)
        console.print(f"\n{labelled(result.best())}")
    failed = [outcome for outcome in result.outcomes if outcome.failure]
    if failed:
        last = str(failed[-1].failure).strip().splitlines()[-1]
        console.print(
            f"\n{len(failed)} trials failed, the last ({failed[-1].number}) because of {last}"
        )


def _facts(run: Any) -> dict[str, str]:
    """What there is to say of a run, in a line each."""
    from ..report.numbers import written
    from ..study.passwords import without_password

    facts = {"run": run.name, "state": run.state, "space": run.space_name}
    for name in ("data", "strategy", "seed", "storage"):
        value = run.settings.get(name)
        if value is not None:
            facts[name] = without_password(value) if name == "storage" else str(value)
    budgets = run.settings.get("budgets")
    if budgets:
        facts["budget"] = ", ".join(f"{cost} {written(cost, v)}" for cost, v in budgets.items())
    facts |= run.facts
    if run.steps is not None:
        scores = ("inherited", "validation", "test")
        told = run.conclusion or {}
        reached = {name: told[name] for name in scores if name in told}
        if reached:
            facts["accuracy"] = ", ".join(f"{name} {score:.4g}" for name, score in reached.items())
    result = run.result
    if result is not None:
        if result.complete:
            sharing, error = len(result.sharing()), result.standard_error
            words = [f"{sharing} trials share it"] if sharing > 1 else []
            words += [f"standard error {error:.2g}"] if error is not None else []
            facts["best score"] = ", ".join(
                [f"{result.winner().values[result.objectives[0].name]:.6g}", *words]
            )
        if len(result.objectives) > 1:
            facts["front"] = f"{len(result.front())} architectures"
    return facts


def report(
    run: RunArgument,
    out: Annotated[
        Path | None, said("The file to write.", "report.html in the run's folder")
    ] = None,
) -> None:
    """Write one HTML file with pictures, the table of trials, and the winner explained."""
    from ..report.page import write_report
    from ..runs import open_run

    found = open_run(run)
    file = out or (found.folder or Path()) / "report.html"
    write_report(found, file)
    typer.echo(file)
