"""The commands.  Each imports what it needs when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .begin import resume, search
from .compress import compress
from .export import export
from .options import (
    ArgumentOption,
    MacsOption,
    MaxOption,
    SeedOption,
    SpaceOption,
    TableOption,
    TrustOption,
    said,
)
from .profiling import latency, profile
from .runs import report, runs, show
from .values import architecture, arguments_of, budgets_of, build, shape_of

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Describe spaces of neural networks, search them, and take away the network found.",
    epilog="Errors are one line; add --traceback to any command for the whole story.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nas-space {version('nas-space')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


for command in (search, compress, resume, export, runs, show, report, profile):
    app.command()(command)
app.add_typer(latency, name="latency")


@app.command()
def sample(
    space: SpaceOption = "proxylessnas",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many.")] = 1,
    most: MaxOption = None,
    max_macs: MacsOption = None,
    latency_table: TableOption = None,
    input_shape: Annotated[str, said("Of one image, for budgets.")] = "3,224,224",
    over: Annotated[str, said("labels, or architectures for equal odds.")] = "labels",
    seed: Annotated[int | None, said("Random by default.")] = None,
    arg: ArgumentOption = None,
) -> None:
    """Print random architectures, one line of JSON each."""
    if over not in ("labels", "architectures"):
        raise UsageError(f"--over is 'labels' or 'architectures', but got {over!r}")
    built: Any = build(space, arguments_of(arg))
    budgets = budgets_of(most, macs=max_macs)
    if budgets:
        from ..runs.costs import Costs

        built = Costs(built, shape_of(input_shape), latency_table).within(budgets)
    for arch in built.sample(number, over=over, seed=seed):
        typer.echo(json.dumps(arch))


@app.command()
def freeze(
    arch: Annotated[
        Path, typer.Argument(help="A JSON file: an architecture, or what a search wrote.")
    ],
    space: Annotated[
        str | None, said("As for search.", "what the file says, or proxylessnas")
    ] = None,
    weights: Annotated[
        Path | None, said("Weights of the space or of the network; fresh ones by default.")
    ] = None,
    out: Annotated[Path, said("The folder for the network's files.")] = Path("network"),
    input_shape: Annotated[
        str | None, said("Of one image.", "what the file says, or 3,224,224")
    ] = None,
    program: Annotated[
        bool, typer.Option("--program", help="Also as a program that needs no library but torch.")
    ] = False,
    seed: SeedOption = 0,
    arg: ArgumentOption = None,
    trust: TrustOption = False,
) -> None:
    """Write the network of an architecture: its weights, and with --program itself, to run."""
    import torch

    from ..hub.registry import check_trusted
    from ..runs.files import load_either, write_network

    # A space that is named on the command line is the user's word; one that only the file names is
    # the word of whoever wrote the file, and importing its module runs code.
    facts = architecture(arch)
    name = space or facts.get("space", "proxylessnas")
    if space is None:
        check_trusted(name, arch, trust=trust)
    arguments = facts.get("arguments", {}) if space is None else {}
    shape = facts.get("input_shape") if input_shape is None else shape_of(input_shape)
    torch.manual_seed(seed)
    built = build(name, {**arguments, **arguments_of(arg)})
    network = built.freeze(facts["arch"])
    if weights is not None:
        network = load_either(built, network, weights)
    written = {
        "space": name,
        "arguments": {**arguments, **arguments_of(arg)},
        "input_shape": list(shape or (3, 224, 224)),
        "arch": network.architecture,
        "arch_id": built.arch_id(network.architecture),
    }
    traced = tuple(written["input_shape"]) if program else None
    for path in write_network(out, network, traced, written):
        typer.echo(path)


@app.command()
def strategies(
    why: Annotated[bool, typer.Option("--why", help="Say why something is refused.")] = False,
) -> None:
    """Try every strategy on every primitive, and print which go together."""
    from ..runs.support import tries
    from .display import show_support

    show_support(dict(tries()), why=why)


@app.command()
def spaces() -> None:
    """List the spaces of the hub."""
    from rich.table import Table

    from ..hub.registry import SPACES
    from ..report.numbers import counted
    from .display import print_whole

    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("name", "class"):
        table.add_column(name, no_wrap=True)
    for name in ("labels", "architectures"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("published")
    for name, entry in SPACES.items():
        table.add_row(
            name, entry.address.rpartition(":")[2], str(entry.labels), counted(entry.architectures),
            ", ".join(entry.networks),
        )  # fmt: skip
    print_whole(table)


@app.command()
def migrate(
    files: Annotated[list[Path], typer.Argument(help="Modules written for NNI 3.0.")],
    write: Annotated[bool, typer.Option("--write", help="Change the files.")] = False,
) -> None:
    """Replace the imports of NNI in some files by this library's; print the change.

    Reports what no import covers: names without a counterpart, with what to write instead, and
    residuals that are decided by ``is``.
    """
    from ..files import replacing
    from ..interop.migrate import migrate_file

    done = [(path, migrate_file(path)) for path in files]  # all are read before any is written
    for path, migration in done:
        typer.echo(migration.diff(str(path)), nl=False)
        if write and migration.text != migration.source:
            with replacing(path) as file:
                file.write_bytes(migration.text.encode(migration.encoding))
    for path, migration in done:
        for finding in migration.findings:
            typer.echo(f"{path}:{finding}", err=True)
