"""``nas-space compress``: a network that exists made smaller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .options import QuietOption, RuntimeOption, SeedOption, TableOption, ThreadsOption, said
from .values import budget, check_rate

__all__ = ["compress", "go"]

_DEMO = ("nas_space.runs.demo:minilm", "nas_space.runs.demo:manual")

_PANEL = "Lengths of the stages"


def compress(
    model: Annotated[
        str | None,
        said(
            "A folder of save_pretrained of transformers, or module:function that returns the "
            "network.",
            "MiniLM, which nas-space[demo] brings",
        ),
    ] = None,
    data: Annotated[
        str | None,
        said(
            "'digits', an .npz of x and y, or module:function: a Task, Splits, or data sets "
            "without labels.",
            "the manual of Python, with MiniLM",
        ),
    ] = None,
    max_macs: Annotated[
        str | None,
        said(
            "Multiply-adds: shares of the original or amounts, one network for each.",
            "75%,50%,25%",
        ),
    ] = None,
    max_params: Annotated[str | None, said("As --max-macs, of parameters.")] = None,
    max_latency: Annotated[
        str | None, said("As --max-macs, of time; needs --runtime or --latency-table.")
    ] = None,
    most: Annotated[
        list[str] | None,
        typer.Option(
            "--max", help="Budgets of any cost, as name=50%,25%; may be given repeatedly."
        ),
    ] = None,
    latency_table: TableOption = None,
    runtime: RuntimeOption = None,
    threads: ThreadsOption = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Each network with 8 bits, too, for ONNX Runtime.")
    ] = False,
    out: Annotated[Path, said("The folder for all that is written.")] = Path("runs/small"),
    again: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    widths: Annotated[
        str | None,
        said("Which parts of a width are tried.", "0.25,0.5,0.75,1, and 0.125 by default"),
    ] = None,
    share: Annotated[
        str, said("One choice for each 'layer', or for all layers of a 'kind'.")
    ] = "layer",
    outputs: Annotated[str, said("'free' if sizes that reach an output may vary.")] = "fixed",
    steps: Annotated[int, said("Of training the shared weights.", panel=_PANEL, least=0)] = 0,
    trials: Annotated[
        int, said("Those that lose least, to try for each budget.", panel=_PANEL, least=1)
    ] = 1,
    fine_tuning: Annotated[
        int,
        said(
            "Steps for each network on average; smaller ones go on from larger ones.",
            panel=_PANEL, least=1,
        ),
    ] = 100,
    learning_rate: Annotated[float, said("The largest, of AdamW.")] = 1e-3,
    batch_size: Annotated[int, said("Examples in a batch.", least=1)] = 32,
    device: Annotated[str, said("auto, cpu, cuda, cuda:0, ...")] = "auto",
    seed: SeedOption = 0,
    quiet: QuietOption = False,
) -> None:  # fmt: skip
    """Make a network that exists smaller: to one budget or several.

    It is the teacher of what comes out, and each smaller network goes on from the larger one.
    Interrupted at any point, the same command with --resume goes on to the same result.
    """
    if (model is None) != (data is None):
        raise UsageError("--model and --data go together; without both, MiniLM is compressed")
    check_rate(learning_rate)
    arguments: dict[str, Any] = {
        "model": model or _DEMO[0],
        "data": data or _DEMO[1],
        "budgets": budgets_of(most, macs=max_macs, params=max_params, latency=max_latency),
        "latency_table": None if latency_table is None else str(latency_table),
        "runtime": runtime,
        "threads": threads,
        "int8": int8,
        "progress": not quiet,
        "device": device,
        "seed": seed,
    }
    parts = widths or ("0.125,0.25,0.5,0.75,1" if model is None else "0.25,0.5,0.75,1")
    options: dict[str, Any] = {"widths": _numbers(parts), "share": share, "outputs": outputs}
    if model is None:
        # Eighteen more to try, which cost more than they give: what is left of a head attends by
        # other products than it was trained for, and no fit of what follows undoes that.
        options["fixed"] = ["*.attention_head_size"]
    from ..runs.compression import CompressionRun
    from ..runs.plan import CompressionPlan

    plan = CompressionPlan(
        steps=steps, trials=trials, fine_tuning=fine_tuning, learning_rate=learning_rate,
        batch_size=batch_size, elastic=options,
    )  # fmt: skip
    go(lambda: CompressionRun(out, plan=plan, resume=again, **arguments), out, quiet=quiet)


def budgets_of(pairs: list[str] | None, **single: str | None) -> list[dict[str, float | str]]:
    """Return the budgets of each network, from lists of them for each cost.

    A cost with one budget has that for all networks.

    Raises
    ------
    UsageError
        One is no amount and no share, or the lists are of different lengths.

    Examples
    --------
    >>> budgets_of(["params=5M"], macs="50%,25%")
    [{'params': 5000000.0, 'macs': '50%'}, {'params': 5000000.0, 'macs': '25%'}]
    """
    given = [pair.rpartition("=")[::2] for pair in pairs or ()]
    given += [(name, text) for name, text in single.items() if text is not None]
    given = given or [("macs", "75%,50%,25%")]
    lists: dict[str, list[float | str]] = {}
    for name, text in given:
        if not name or not text or name in lists:
            raise UsageError(f"--max takes name=50%,25%, each name once, but got {name}={text}")
        parts = [part.strip() for part in text.split(",")]
        lists[name] = [part if part.endswith("%") else budget(name, part) for part in parts]
    count = max(map(len, lists.values()))
    for name, budgets in lists.items():
        if len(budgets) not in (1, count):
            raise UsageError(
                f"there are {len(budgets)} budgets of {name}, but {count} of another cost; give "
                "one, or as many"
            )
    return [
        {name: budgets[place % len(budgets)] for name, budgets in lists.items()}
        for place in range(count)
    ]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--widths takes numbers with commas, but got {text!r}") from None


def go(begin: Callable[[], Any], out: Path, *, quiet: bool) -> None:
    """Do what a compression has left to do, and show what it found."""
    from ..report.compression import write_compression_report
    from ..report.numbers import roughly
    from .display import plain_console, show_compressed, show_progress

    try:
        run = begin()
        groups = run.space.groups()
        typer.echo(
            f"{type(run.original).__name__}: {len(groups)} choices, {len(groups.fixed)} sizes are "
            f"fixed; {roughly(run.space.count())} networks"
        )
        with show_progress(run.stages, quiet=quiet) as on_progress:
            found = run.run(on_progress)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; nas-space resume {out} goes on", err=True)
        raise typer.Exit(130) from None
    file = write_compression_report(run, found, out / "report.html")
    show_compressed(plain_console(), found)
    typer.echo(f"networks in {out}/*/network, the report in {file}")
