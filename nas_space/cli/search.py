"""``nas-space search`` and ``nas-space resume``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError, suggest
from .options import ArgumentOption
from .values import amount, arguments_of, duration, shown

__all__ = ["resume", "search"]

SETTINGS = (
    *("space", "arguments", "data", "max_macs", "max_latency", "latency_table", "device", "seed"),
)
"""What a run keeps of the command line that began it, beside its plan."""

_SHARED, _SINGLY = "With shared weights", "With each candidate trained by itself"

WorkersOption = Annotated[int, typer.Option(min=1, help="Processes that evaluate side by side.")]
TrialsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Architectures to try.", show_default="100 with shared weights, otherwise 30"
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(help="Seconds after which no further trial begins.", rich_help_panel=_SINGLY),
]
FailuresOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="With how many failed trials to give up.", rich_help_panel=_SINGLY,
        show_default="a tenth, at least 10",
    ),
]  # fmt: skip
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def search(
    space: Annotated[
        str | None,
        typer.Option(
            help="A space of the hub (see `nas-space spaces`), or module:Class.",
            show_default="proxylessnas",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="'digits', an .npz of x and y, or module:function.", show_default="digits"
        ),
    ] = None,
    max_macs: Annotated[
        str | None,
        typer.Option(
            help="Budget of multiply-adds for one image, such as 320M; or none.",
            show_default="what half of random architectures need, unless there is --max-latency",
        ),
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Budget of time for one image, such as 60ms.")
    ] = None,
    latency_table: Annotated[
        Path | None,
        typer.Option(help="Times of blocks for --max-latency; see `nas-space latency`."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="spos trains shared weights first; random-path, darts, gumbel, proxyless and enas "
            "search while they train them; random, grid, evolution, tpe, gp, qmc, nsga2, ... "
            "train each candidate by itself.",
            show_default="spos",
        ),
    ] = None,
    trials: TrialsOption = None,
    workers: WorkersOption = 1,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:0, ...", show_default="auto")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", show_default="0")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for all that is written.")] = Path(
        "runs/search"
    ),
    again: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    arg: ArgumentOption = None,
    quiet: QuietOption = False,
    first_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of training one path.", show_default="150", rich_help_panel=_SHARED
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of training the weights.", rich_help_panel=_SHARED,
            show_default="1200, or 600 where that is the search",
        ),
    ] = None,
    finalists: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of those found, how many are fine-tuned.", show_default="5",
            rich_help_panel=_SHARED,
        ),
    ] = None,
    fine_tuning: Annotated[
        int | None,
        typer.Option(
            min=1, help="Steps for each finalist.", show_default="120", rich_help_panel=_SHARED
        ),
    ] = None,
    rivals: Annotated[
        int | None,
        typer.Option(
            min=0, help="Random architectures to compare with.", show_default="5",
            rich_help_panel=_SHARED,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of training each candidate.", show_default="5", rich_help_panel=_SINGLY
        ),
    ] = None,
    final_epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of training the best.", show_default="15", rich_help_panel=_SINGLY
        ),
    ] = None,
    minimize: Annotated[
        list[str] | None,
        typer.Option(
            help="What to make small as well: macs, params or loss; may be given repeatedly.",
            rich_help_panel=_SINGLY,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="An argument of the strategy, as name=value; may be given repeatedly.",
        ),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            help="What ends poor trials early: median, halving, hyperband or none.",
            show_default="none", rich_help_panel=_SINGLY,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where trials are kept: a file, or the address of a database that several "
            "machines share.",
            show_default="study.db in --out", rich_help_panel=_SINGLY,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Of the study in the storage.", show_default="search", rich_help_panel=_SINGLY
        ),
    ] = None,
    timeout: TimeoutOption = None,
    failures: FailuresOption = None,
) -> None:  # fmt: skip
    """Search a space for its best architecture, train it, and save the network.

    Interrupted at any point, the same command with --resume goes on to the same result.
    """
    given: dict[str, Any] = {
        "space": space,
        "arguments": arguments_of(arg) or None,
        "data": data,
        "max_macs": max_macs,
        "max_latency": duration(max_latency),
        "latency_table": None if latency_table is None else str(latency_table),
        "device": device,
        "seed": seed,
    }
    plan: dict[str, Any] = {
        "strategy": strategy,
        "trials": trials,
        "first_steps": first_steps,
        "steps": steps,
        "finalists": finalists,
        "fine_tuning": fine_tuning,
        "rivals": rivals,
        "epochs": epochs,
        "final_epochs": final_epochs,
        "minimize": None if minimize is None else tuple(minimize),
        "options": arguments_of(option, "--option") or None,
        "pruner": pruner,
        "storage": storage,
        "name": name,
    }
    given, plan = ({k: v for k, v in d.items() if v is not None} for d in (given, plan))
    if max_macs is not None:
        given["max_macs"] = None if max_macs.lower() in ("none", "0") else amount(max_macs)
    elif max_latency is not None:
        given["max_macs"] = None
    limits = {"workers": workers, "timeout": timeout, "failures": failures}
    _go(out, given, plan, limits, resume=again, quiet=quiet)


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run.")],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="In all, those that are done included.", show_default="as before"),
    ] = None,
    workers: WorkersOption = 1,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:0, ...", show_default="as before")
    ] = None,
    timeout: TimeoutOption = None,
    failures: FailuresOption = None,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run that was interrupted, by its own settings."""
    from ..study.stored import open_run

    if open_run(run).folder is None:
        raise UsageError(
            f"{run} was begun by a script: only that knows how to evaluate; there, "
            "ns.search(..., resume=True) goes on"
        )
    given, plan = ({} if value is None else {key: value} for key, value in (
        ("device", device), ("trials", trials),
    ))  # fmt: skip
    limits = {"workers": workers, "timeout": timeout, "failures": failures}
    _go(run, given, plan, limits, resume=True, quiet=quiet)


def _go(
    out: Path,
    given: dict[str, Any],
    plan: dict[str, Any],
    limits: dict[str, Any],
    *,
    resume: bool,
    quiet: bool,
) -> None:
    """Begins a run, or goes on with one, and shows what it found."""
    from ..study.run import settings_of
    from .display import show_progress

    if resume:
        there = settings_of(out) or {}
        given = {key: there[key] for key in SETTINGS if key in there} | given
        plan = there | there.get("recipe", {}) | plan
        plan = {key: plan[key] for key in _known(plan.get("strategy", "spos")) if key in plan}
    strategy = plan.setdefault("strategy", "spos")
    foreign = sorted(plan.keys() - _known(strategy))
    foreign += [key for key, unset in _unused(strategy).items() if limits[key] != unset]
    if foreign:
        names = ", ".join(f"--{key.replace('_', '-')}" for key in foreign)
        raise UsageError(
            f"{names.replace('--options', '--option')}: the strategy {strategy!r} has no use for it"
        )
    try:
        run = _make(out, given, plan, limits, resume=resume)
        with show_progress(run.stages, quiet=quiet) as on_progress:
            findings = run.run(on_progress)
        _conclude(run, findings)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; nas-space search --resume --out {out} goes on", err=True)
        raise typer.Exit(130) from None


def _unused(strategy: str) -> dict[str, Any]:
    """The limits that mean nothing to a strategy, and what they are where they are not given."""
    from ..strategy import ONE_SHOT

    limits: dict[str, Any] = {"timeout": None, "failures": None, "workers": 1}
    if strategy == "spos":
        limits.pop("workers")
        return limits
    return limits if strategy in ONE_SHOT else {}


def _known(strategy: str) -> set[str]:
    """What a plan of a strategy may say."""
    from ..strategy import ONE_SHOT, STRATEGIES
    from ..study.job import Recipe
    from ..study.oneshot_run import OneShotPlan
    from ..study.trials import Plan

    if strategy == "spos":
        return {"strategy", *(field.name for field in fields(Recipe))}
    if strategy in ONE_SHOT:
        return {field.name for field in fields(OneShotPlan)}
    names = ["spos", *ONE_SHOT, *STRATEGIES]
    if strategy not in names:
        near = suggest(strategy, names)
        raise UsageError(f"there is no strategy {strategy!r}{near}; there are {', '.join(names)}")
    return {field.name for field in fields(Plan)}


def _make(
    out: Path, given: dict[str, Any], plan: dict[str, Any], limits: dict[str, Any], *, resume: bool
) -> Any:
    """The run, of the kind that its strategy is of."""
    from ..strategy import ONE_SHOT
    from ..study.job import Job, Recipe
    from ..study.oneshot_run import OneShotPlan, OneShotRun
    from ..study.trials import Plan, TrialsRun

    if plan["strategy"] == "spos":
        recipe = Recipe(**{key: value for key, value in plan.items() if key != "strategy"})
        return Job(out, **given, recipe=recipe, workers=limits["workers"], resume=resume)
    if plan["strategy"] in ONE_SHOT:
        return OneShotRun(out, **given, plan=OneShotPlan(**plan), resume=resume)
    plan["minimize"] = tuple(plan.get("minimize", ()))
    return TrialsRun(out, **given, plan=Plan(**plan), **limits, resume=resume)


def _conclude(run: Any, findings: Any) -> None:
    """Draws and says what was found."""
    from ..report import architecture_picture
    from ..study.job import Findings
    from ..study.oneshot_run import OneShotFindings
    from .display import (
        show_findings,
        show_oneshot_findings,
        show_trials_findings,
    )

    shared = isinstance(findings, Findings)
    winner = findings.winner if shared else findings
    pictures = [run.out / "architecture.png"]
    title = (
        f"{type(run.space).__name__}: {shown(winner.macs)} MACs, {shown(winner.params)} "
        f"parameters, test accuracy {winner.test:.1%}"
    )
    architecture_picture(run.space, winner.arch, run.splits.input_shape, pictures[0], title)
    if shared:
        pictures.insert(0, run.out / "search.png")
        _draw_search(run, findings, pictures[0])
        show_findings(run, findings, pictures)
    elif isinstance(findings, OneShotFindings):
        show_oneshot_findings(run, findings, pictures)
    else:
        show_trials_findings(run, findings, pictures)


def _draw_search(run: Any, findings: Any, file: Path) -> None:
    """What was tried with shared weights, and the finalists."""
    from ..report import SearchPoint, search_picture

    trials = [
        SearchPoint(row["macs"] / 1e6, row["accuracy"])
        for row in run.record.rows("search")
        if row["state"] == "complete"
    ]
    finalists = [
        SearchPoint(one.macs / 1e6, one.validation) for one in (findings.winner, *findings.rivals)
    ]
    budget = None if run.max_macs is None else run.max_macs / 1e6
    search_picture(trials, finalists[0], finalists[1:], file, budget=budget)
