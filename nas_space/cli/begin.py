"""``nas-space search`` and ``nas-space resume``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .options import (
    ArgumentOption,
    CostOption,
    LatencyOption,
    MaxOption,
    ParamsOption,
    QuietOption,
    RuntimeOption,
    TableOption,
    ThreadsOption,
    said,
)
from .values import arguments_of, budgets_of, check_rate

__all__ = ["resume", "search"]

SETTINGS = (
    "space", "arguments", "data", "budgets", "costs", "latency_table", "runtime", "threads",
    "device", "seed",
)  # fmt: skip
"""What a run keeps of the command line that began it, beside its plan."""

_SHARED, _SINGLY = "With shared weights", "With each candidate trained by itself"

WorkersOption = Annotated[
    int | None,
    said(
        "How many trials are evaluated at once, each in a process of its own.",
        "1, or as the executor says", least=1,
    ),
]  # fmt: skip
ExecutorOption = Annotated[
    str | None,
    said(
        "What evaluates trials: dask://host:port, ray://host:port, ray, or slurm.", "this machine"
    ),
]
TimeoutOption = Annotated[
    float | None, said("Seconds after which no further trial begins.", panel=_SINGLY)
]
FailuresOption = Annotated[
    int | None,
    said("With how many failed trials to give up.", "a tenth, at least 10", _SINGLY, least=1),
]


def search(
    space: Annotated[
        str | None,
        said("A space of the hub (see `nas-space spaces`), or module:Class.", "proxylessnas"),
    ] = None,
    data: Annotated[
        str | None, said("'digits', an .npz of x and y, or module:function.", "digits")
    ] = None,
    most: MaxOption = None,
    max_macs: Annotated[
        str | None,
        said(
            "As --max macs=..., such as 320M; or none.",
            "what half of random architectures need, unless there is another budget",
        ),
    ] = None,
    max_params: ParamsOption = None,
    max_latency: LatencyOption = None,
    latency_table: TableOption = None,
    runtime: RuntimeOption = None,
    threads: ThreadsOption = None,
    cost: CostOption = None,
    strategy: Annotated[
        str | None,
        said(
            "spos trains shared weights first; random-path, darts, gumbel, proxyless and enas "
            "search while they train them; random, grid, evolution, thompson, gp, tpe, nsga2, ... "
            "train each candidate by itself.",
            "spos",
        ),
    ] = None,
    trials: Annotated[
        int | None, said("Architectures to try.", "80 with shared weights, otherwise 30", least=1)
    ] = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = None,
    device: Annotated[str | None, said("auto, cpu, cuda, cuda:0, ...", "auto")] = None,
    seed: Annotated[int | None, said("Of everything random.", "0")] = None,
    out: Annotated[Path, said("The folder for all that is written.")] = Path("runs/search"),
    again: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    arg: ArgumentOption = None,
    quiet: QuietOption = False,
    first_steps: Annotated[
        int | None, said("Of training one path.", "60", _SHARED, least=1)
    ] = None,
    steps: Annotated[
        int | None,
        said("Of training the weights.", "400, or 600 where that is the search", _SHARED, least=1),
    ] = None,
    finalists: Annotated[
        int | None, said("Of those found, how many are fine-tuned.", "3", _SHARED, least=1)
    ] = None,
    fine_tuning: Annotated[
        int | None, said("Steps for each finalist.", "50 with spos, else 150", _SHARED, least=1)
    ] = None,
    rivals: Annotated[
        int | None, said("Random architectures to compare with.", "3", _SHARED, least=0)
    ] = None,
    epochs: Annotated[
        int | None,
        said(
            "Passes over the data: of training each candidate, or the shared weights.",
            "5, or as --steps says", least=1,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, said("Examples in a batch.", "128 with spos, else 64", least=1)
    ] = None,
    learning_rate: Annotated[
        float | None, said("The largest, at the beginning.", "0.1")
    ] = None,
    final_epochs: Annotated[
        int | None, said("Of training the best.", "15", _SINGLY, least=1)
    ] = None,
    minimize: Annotated[
        list[str] | None,
        said("What to make small as well: a cost as for --max, or loss; may be given repeatedly."),
    ] = None,
    option: Annotated[
        list[str] | None,
        said("An argument of the strategy, as name=value; may be given repeatedly."),
    ] = None,
    pruner: Annotated[
        str | None,
        said("What ends poor trials early: median, halving, hyperband or none.", "none", _SINGLY),
    ] = None,
    storage: Annotated[
        str | None,
        said(
            "Where trials are kept: a file, or the address of a database that several machines "
            "share.",
            "study.db in --out", _SINGLY,
        ),
    ] = None,
    name: Annotated[str | None, said("Of the study in the storage.", "search", _SINGLY)] = None,
    timeout: TimeoutOption = None,
    failures: FailuresOption = None,
) -> None:  # fmt: skip
    """Search a space for its best architecture, train it, and save the network.

    Interrupted at any point, the same command with --resume goes on to the same result.
    """
    # A parameter is called as the setting that it is, but for what has to be read first.
    said: dict[str, Any] = {
        **locals(),
        "arguments": arguments_of(arg) or None,
        "budgets": budgets_of(most, macs=max_macs, params=max_params, latency=max_latency),
        "costs": cost or None,
        "latency_table": None if latency_table is None else str(latency_table),
        "minimize": minimize or None,
        "options": arguments_of(option, "--option") or None,
    }
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs both say how long weights are trained; give one")
    if learning_rate is not None:
        check_rate(learning_rate)
    _go(out, said, resume=again, quiet=quiet)


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run.")],
    trials: Annotated[
        int | None, said("In all, those that are done included.", "as before", least=1)
    ] = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = None,
    device: Annotated[str | None, said("auto, cpu, cuda, cuda:0, ...", "as before")] = None,
    timeout: TimeoutOption = None,
    failures: FailuresOption = None,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run that was interrupted, by its own settings."""
    said = {**locals()}
    from ..runs import open_run
    from ..runs.compression import CompressionRun
    from .compress import go

    stored = open_run(run)
    if stored.folder is None:
        raise UsageError(
            f"{stored.name} was begun by a script: only that knows how to evaluate; there, "
            "ns.search(..., resume=True) goes on"
        )
    if stored.compressed is not None:
        if trials is not None:
            raise UsageError(f"{run} compresses a network: it tries as many as it was begun with")
        given = {} if device is None else {"device": device}
        go(lambda: CompressionRun.stored(run, stored.settings, **given), run, quiet=quiet)
        return
    _go(run, said, resume=True, quiet=quiet)


def _go(out: Path, said: dict[str, Any], *, resume: bool, quiet: bool) -> None:
    """Begin a run, or go on with one, by settings that are said, and show what it found.

    What is ``None`` is not said: a run has its own defaults, and one that goes on its own settings.
    """
    from ..runs import Limits, Plan, StagedRun, plan_of
    from ..runs.folder import settings_of
    from ..runs.kinds import kind_of
    from .display import show_findings, show_progress

    # What a run of an earlier version does not say is what that did: the defaults of a plan, not
    # those of the kind, which have changed since.
    older = vars(Plan())
    given, plan, limits = (
        {name: said[name] for name in names if said.get(name) is not None}
        for names in (SETTINGS, older, vars(Limits()))
    )
    there = (settings_of(out) or {}) if resume else {}
    # What is said now counts first, then what the run was begun with, then the defaults of its
    # kind. Whether a change is allowed says the run itself, which compares (see ``Kind.flexible``).
    strategy = plan.setdefault("strategy", there.get("strategy", "spos"))
    kind = kind_of(strategy)
    given = {key: there[key] for key in SETTINGS if key in there} | given
    foreign = sorted(plan.keys() - kind.defaults.keys() - {"strategy"})
    foreign += [key for key in limits if key not in kind.limits]
    if foreign:
        names = ", ".join(f"--{key.replace('_', '-')}" for key in foreign)
        raise UsageError(
            f"{names.replace('--options', '--option')}: the strategy {strategy!r} has no use for it"
        )
    before = {key: there.get(key, older[key]) for key in kind.defaults if there}
    plan = before | plan
    plan["minimize"] = tuple(plan.get("minimize", ()))
    given["costs"] = tuple(given.get("costs", ()))
    given["progress"] = not quiet
    try:
        run = StagedRun(out, plan=plan_of(**plan), limits=Limits(**limits), resume=resume, **given)
        with show_progress(run.stages, quiet=quiet) as on_progress:
            findings = run.run(on_progress, partial(_draw, run))
        show_findings(run, findings, [file for file in _pictures(run, findings) if file.exists()])
    except KeyboardInterrupt:
        typer.echo(f"interrupted; nas-space search --resume --out {out} goes on", err=True)
        raise typer.Exit(130) from None


def _pictures(run: Any, findings: Any) -> list[Path]:
    """Return the pictures that there are of what a run has found."""
    names = [*(["search.png"] if findings.rivals else []), "architecture.png"]
    return [run.workspace.folder.path / name for name in names]


def _draw(run: Any, findings: Any) -> None:
    """Draw what was found."""
    from ..report import architecture_picture
    from ..report.decisions import decisions_of
    from ..report.figures import missing
    from ..report.numbers import shown
    from ..runs.files import write_json
    from ..runs.folder import DECISIONS

    work, winner = run.workspace, findings.winner
    title = (
        f"{type(work.space).__name__}: {shown(winner.costs['macs'])} MACs, "
        f"{shown(winner.costs['params'])} parameters, test accuracy {winner.test:.1%}"
    )
    *search, picture = _pictures(run, findings)
    rows = decisions_of(work.space, winner.arch, work.splits.input_shape)
    write_json(work.folder.path / DECISIONS, [asdict(row) for row in rows])
    why = missing()
    if why is not None:
        typer.echo(f"no pictures: {why}", err=True)
        return
    architecture_picture(work.space, winner.arch, work.splits.input_shape, picture, title)
    for file in search:
        _draw_search(work, findings, file)


def _draw_search(work: Any, findings: Any, file: Path) -> None:
    """Draw what was tried with shared weights, and the finalists, against the first budget."""
    from ..report import SearchPoint, search_picture
    from ..runs.costs import title_of

    cost = next(iter(work.budgets), "macs")
    finalists = [findings.winner, *findings.rivals]
    millions = max(one.costs[cost] for one in finalists) >= 1e5
    unit = 1e6 if millions else 1.0
    metric = work.objectives[0].name
    rows = [row for row in work.record.rows("search") if row["state"] == "complete"]
    winner, *rivals = [SearchPoint(one.costs[cost] / unit, one.validation) for one in finalists]
    search_picture(
        [SearchPoint(row[cost] / unit, row[metric]) for row in rows],
        winner,
        rivals,
        file,
        budget=work.budgets[cost] / unit if cost in work.budgets else None,
        cost_name=f"{title_of(cost)} (millions)" if millions else title_of(cost),
        score_name=metric,
    )
