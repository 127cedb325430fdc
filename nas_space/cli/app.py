"""The commands.  Each imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nas_space.cli.values import amount, architecture, shown
from nas_space.errors import UsageError

__all__ = ["app"]

SETTINGS = ("space", "arguments", "data", "max_macs", "device", "seed")
"""What a run keeps of the command line that began it, beside its recipe."""

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
            show_default="what half of random architectures need",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:0, ...", show_default="auto")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", show_default="0")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for all that is written.")] = Path(
        "runs/search"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    first_steps: Annotated[
        int | None, typer.Option(min=1, help="Of training one path first.", show_default="150")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Of training the shared weights.", show_default="1500"),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Architectures to try.", show_default="100")
    ] = None,
    fine_tuning: Annotated[
        int | None, typer.Option(min=1, help="Steps for each finalist.", show_default="150")
    ] = None,
    rivals: Annotated[
        int | None,
        typer.Option(min=0, help="Random architectures to compare with.", show_default="5"),
    ] = None,
    arg: ArgumentOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train the shared weights of a space, find its best architecture, and save the network.

    Interrupted at any point, the same command with --resume goes on to the same result.
    """
    from nas_space.cli.display import search_progress, show_findings
    from nas_space.study.job import Job, Recipe, settings_of

    given: dict[str, Any] = {
        "space": space,
        "arguments": arguments_of(arg) or None,
        "data": data,
        "max_macs": max_macs,
        "device": device,
        "seed": seed,
    }
    length: dict[str, Any] = {
        "first_steps": first_steps,
        "steps": steps,
        "trials": trials,
        "fine_tuning": fine_tuning,
        "rivals": rivals,
    }
    given, length = ({k: v for k, v in d.items() if v is not None} for d in (given, length))
    if max_macs is not None:
        given["max_macs"] = None if max_macs.lower() in ("none", "0") else amount(max_macs)
    if resume:
        there = settings_of(out) or {}
        given = {k: there[k] for k in SETTINGS if k in there} | given
        length = there.get("recipe", {}) | length
    recipe = Recipe(**length)
    try:
        job = Job(out, **given, recipe=recipe, resume=resume)
        with search_progress(recipe, quiet=quiet) as on_progress:
            findings = job.run(on_progress)
            pictures = draw(job, findings)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; nas-space search --resume --out {out} goes on", err=True)
        raise typer.Exit(130) from None
    show_findings(job, findings, pictures)


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
    built: Any = build(space, arguments_of(arg))
    budget = amount(max_macs)
    if budget is not None:
        from nas_space.profiler import macs

        built = built.where(macs(built, shape_of(input_shape)) <= budget)
    for arch in built.sample(number, over=over, seed=seed):
        typer.echo(json.dumps(arch))


@app.command()
def freeze(
    arch: Annotated[
        Path, typer.Argument(help="A JSON file: an architecture, or what a search wrote.")
    ],
    space: Annotated[
        str | None,
        typer.Option(help="As for search.", show_default="what the file says, or proxylessnas"),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the space or of the network; fresh ones by default."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the network's files.")] = Path(
        "network"
    ),
    input_shape: Annotated[
        str | None,
        typer.Option(help="Of one image.", show_default="what the file says, or 3,224,224"),
    ] = None,
    seed: SeedOption = 0,
    arg: ArgumentOption = None,
) -> None:
    """Write the network of an architecture: its weights, and a program that needs no library."""
    import torch

    from nas_space.study.finished import load_either, write_network

    facts = architecture(arch)
    name = space or facts.get("space", "proxylessnas")
    arguments = facts.get("arguments", {}) if space is None else {}
    shape = facts.get("input_shape") if input_shape is None else shape_of(input_shape)
    torch.manual_seed(seed)
    built = build(name, {**arguments, **arguments_of(arg)})
    network = built.freeze(facts["arch"])
    if weights is not None:
        network = load_either(built, network, weights)
    told = {
        "space": name,
        "arguments": {**arguments, **arguments_of(arg)},
        "input_shape": list(shape or (3, 224, 224)),
        "arch": network.architecture,
        "arch_id": built.arch_id(network.architecture),
    }
    for path in write_network(out, network, tuple(told["input_shape"]), told):
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


@app.command()
def migrate(
    files: Annotated[list[Path], typer.Argument(help="Modules written for NNI 3.0.")],
    write: Annotated[bool, typer.Option("--write", help="Change the files.")] = False,
) -> None:
    """Replace the imports of NNI in some files by this library's; print the change.

    Reports what no import covers: names without a counterpart, with what to write instead, and
    residuals that are decided by `is`.
    """
    from nas_space.interop.migrate import migrate_file

    done = [(path, migrate_file(path)) for path in files]  # all are read before any is written
    for path, migration in done:
        typer.echo(migration.diff(str(path)), nl=False)
        if write and migration.text != migration.source:
            path.write_bytes(migration.text.encode(migration.encoding))
    for path, migration in done:
        for finding in migration.findings:
            typer.echo(f"{path}:{finding}", err=True)


def build(space: str, arguments: dict[str, Any]) -> Any:
    """The space of a name, with arguments from the command line."""
    from nas_space.hub.registry import find_space

    try:
        return find_space(space).space(**arguments)
    except TypeError as error:
        raise UsageError(f"{space} cannot be made with {arguments}: {error}") from error


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


def draw(job: Any, findings: Any) -> list[Path]:
    """Pictures of a finished run, in its folder."""
    from nas_space.report import SearchPoint, architecture_picture, search_picture

    trials = [
        SearchPoint(row["macs"] / 1e6, row["accuracy"])
        for row in job.record.rows("search")
        if row["state"] == "complete"
    ]
    finalists = [
        SearchPoint(one.macs / 1e6, one.validation) for one in (findings.winner, *findings.rivals)
    ]
    pictures = [job.out / "search.png", job.out / "architecture.png"]
    budget = None if job.max_macs is None else job.max_macs / 1e6
    search_picture(trials, finalists[0], finalists[1:], pictures[0], budget=budget)
    winner = findings.winner
    title = (
        f"{type(job.space).__name__}: {shown(winner.macs)} MACs, {shown(winner.params)} "
        f"parameters, test accuracy {winner.test:.1%}"
    )
    architecture_picture(job.space, winner.arch, job.splits.input_shape, pictures[1], title)
    return pictures
