"""The commands.  Each imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nas_space.cli.values import amount, architecture, shown
from nas_space.errors import UsageError

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Describe spaces of neural networks, search them, and take away the network found.",
    epilog="Errors are one line; add --traceback to any command for the whole story.",
)

SpaceOption = Annotated[
    str, typer.Option(help="A space of the hub (see `nas-space spaces`), or module:Class.")
]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option("--arg", help="An argument of the space, as name=value; may be given repeatedly."),
]
SeedOption = Annotated[int, typer.Option(help="Of everything random.")]
MacsOption = Annotated[
    str | None, typer.Option(help="Budget of multiply-adds for one image, such as 320M.")
]


@app.command()
def search(
    space: SpaceOption = "proxylessnas",
    data: Annotated[
        str, typer.Option(help="'digits', an .npz of x and y, or module:function.")
    ] = "digits",
    max_macs: MacsOption = "0.8M",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, ...")] = "auto",
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option(help="The folder for all that is written.")] = Path(
        "runs/search"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Of training the shared weights.")] = 1200,
    trials: Annotated[int, typer.Option(min=1, help="Architectures to try.")] = 100,
    fine_tuning: Annotated[int, typer.Option(min=1, help="Steps for each finalist.")] = 150,
    rivals: Annotated[int, typer.Option(min=0, help="Random architectures to compare with.")] = 5,
    arg: ArgumentOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train the shared weights of a space, find its best architecture, and save the network.

    With --max-macs 0 there is no budget.
    """
    from nas_space.cli.display import search_progress, show_outcome
    from nas_space.study.job import Job, Recipe

    recipe = Recipe(steps=steps, trials=trials, fine_tuning=fine_tuning, rivals=rivals)
    with search_progress(recipe, quiet=quiet) as on_progress:
        job = Job(
            out,
            space=space,
            arguments=arguments_of(arg),
            data=data,
            max_macs=None if max_macs == "0" else amount(max_macs),
            device=device,
            seed=seed,
            recipe=recipe,
            resume=resume,
        )
        outcome = job.run(on_progress)
        draw(job, outcome)
    show_outcome(job, outcome)


@app.command()
def sample(
    space: SpaceOption = "proxylessnas",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many.")] = 1,
    max_macs: MacsOption = None,
    input_shape: Annotated[str, typer.Option(help="Of one image, for --max-macs.")] = "3,224,224",
    over: Annotated[str, typer.Option(help="labels, or architectures for equal odds.")] = "labels",
    seed: Annotated[int | None, typer.Option(help="Random by default.")] = None,
    arg: ArgumentOption = None,
) -> None:
    """Print random architectures, one line of JSON each."""
    if over not in ("labels", "architectures"):
        raise UsageError(f"--over is 'labels' or 'architectures', but got {over!r}")
    built: Any = build(space, arg)
    budget = amount(max_macs)
    if budget is not None:
        from nas_space.profiler import macs

        built = built.where(macs(built, shape_of(input_shape)) <= budget)
    for arch in built.sample(number, over=over, seed=seed):
        typer.echo(json.dumps(arch))


@app.command()
def freeze(
    arch: Annotated[Path, typer.Argument(help="A JSON file with the architecture.")],
    space: SpaceOption = "proxylessnas",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the space; fresh ones by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the network's files.")] = Path("network"),
    input_shape: Annotated[str, typer.Option(help="Of one image.")] = "3,224,224",
    seed: SeedOption = 0,
    arg: ArgumentOption = None,
) -> None:
    """Write the network of an architecture: its weights, and a program that needs no library."""
    import torch

    from nas_space.study.finished import write_network
    from nas_space.training import load_weights

    chosen = architecture(arch)
    torch.manual_seed(seed)
    built = build(space, arg)
    if weights is not None:
        load_weights(built, weights)
    network = built.freeze(chosen).eval()
    facts = {"space": space, "arch": built.canonical(chosen), "arch_id": built.arch_id(chosen)}
    for path in write_network(out, network, shape_of(input_shape), facts):
        typer.echo(path)


@app.command()
def spaces() -> None:
    """List the spaces of the hub."""
    from rich.console import Console
    from rich.table import Table

    from nas_space.hub.registry import SPACES

    table = Table("name", "class", "labels", "architectures", "published", box=None)
    for name, entry in SPACES.items():
        built = entry.space()
        table.add_row(
            name, entry.space.__name__, str(len(built.simplify())), shown(built.count()),
            ", ".join(entry.published),
        )  # fmt: skip
    Console().print(table)


def build(space: str, arguments: list[str] | None) -> Any:
    """The space of a name, with arguments from the command line."""
    from nas_space.hub.registry import find_space

    given = arguments_of(arguments)
    try:
        return find_space(space).space(**given)
    except TypeError as error:
        raise UsageError(f"{space} cannot be made with {given}: {error}") from error


def arguments_of(pairs: list[str] | None) -> dict[str, Any]:
    """Arguments given as ``name=value``; values are JSON, or else strings."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arg takes name=value, but got {pair!r}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def shape_of(text: str) -> tuple[int, ...]:
    """A shape such as ``3,224,224``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"a shape is positive whole numbers with commas, but got {text!r}")
    return shape


def draw(job: Any, outcome: Any) -> None:
    """Pictures of a finished run, into its folder."""
    from nas_space.report import SearchPoint, architecture_picture, search_picture

    rows = [json.loads(line) for line in (job.out / "metrics.jsonl").read_text().splitlines()]
    trials = [
        SearchPoint(row["macs"] / 1e6, row["accuracy"])
        for row in rows
        if row["stage"] == "search" and row["state"] == "complete"
    ]
    finalists = [
        SearchPoint(one.macs / 1e6, one.validation) for one in (outcome.winner, *outcome.rivals)
    ]
    pictures = [job.out / "search.png", job.out / "architecture.png"]
    budget = None if job.max_macs is None else job.max_macs / 1e6
    search_picture(trials, finalists[0], finalists[1:], pictures[0], budget=budget)
    title = f"{type(job.space).__name__}, {shown(outcome.winner.macs)} MACs, test accuracy {outcome.winner.test:.3f}"
    architecture_picture(
        job.space, outcome.winner.arch, job.splits.input_shape, pictures[1], title
    )
    outcome.files.extend(pictures)
