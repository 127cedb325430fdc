"""``nas-space profile`` and ``nas-space latency``: what the architectures of a space cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DecompositionError, DomainError, SampleValidationError, UsageError
from .options import (
    ArgumentOption,
    CostOption,
    LatencyOption,
    MacsOption,
    MaxOption,
    ParamsOption,
    QuietOption,
    SeedOption,
    ShapeOption,
    SpaceOption,
    TableOption,
    ThreadsOption,
    said,
)
from .values import arguments_of, budgets_of, build, shape_of

if TYPE_CHECKING:
    from ..runs.costs import Costs

__all__ = ["latency", "profile"]

_DRAWN = 100_000
"""Random architectures behind a histogram."""

_BARS = 16
"""Bars of a histogram."""

BatchOption = Annotated[int, said("Images at a time.", least=1)]

latency = typer.Typer(
    invoke_without_command=True, help="Measure how long each block of a space takes on a device."
)


def profile(
    space: SpaceOption = "proxylessnas",
    most: MaxOption = None,
    max_macs: MacsOption = None,
    max_params: ParamsOption = None,
    max_latency: LatencyOption = None,
    latency_table: TableOption = None,
    cost: CostOption = None,
    input_shape: ShapeOption = None,
    plot: Annotated[Path | None, said("Also draw the histograms into this file.")] = None,
    arg: ArgumentOption = None,
) -> None:
    """Say how many architectures fit a budget, what they cost, and where known networks stand."""
    from ..runs.costs import Costs
    from .display import plain_console

    if plot is not None:
        from ..report.figures import check_format

        check_format(plot)  # before all the work for it is done
    built, shape = _space(space, arg, input_shape)
    limits = budgets_of(most, macs=max_macs, params=max_params, latency=max_latency) or {}
    misread = _misread(built, shape)
    costs = Costs(built, shape, latency_table, tuple(cost or ()))
    within = costs.within(limits)
    drawn = _drawn(within)
    values = {name: costs.values(name, drawn) for name in costs.shown}
    console = plain_console()
    for sentence in misread:
        console.print(sentence)
    console.print(_counted(built, within, costs, limits))
    console.print(_ranges(within, costs))
    for name, found in values.items():
        console.print(_histogram(name, found))
    named = _named(space, arguments_of(arg), built, costs)
    if named:
        console.print(_beside(named, costs, limits))
    if plot is not None:
        from ..report.histograms import costs_picture

        costs_picture(values, named, limits, plot)
        console.print(f"in {plot}")


def _space(name: str, arg: list[str] | None, shape: str | None) -> tuple[Any, tuple[int, ...]]:
    """Return the space of a command, and the shape of its images."""
    built = build(name, arguments_of(arg))
    return built, shape_of(shape) if shape else built.example_shape or (3, 224, 224)


def _misread(space: Any, shape: tuple[int, ...]) -> list[str]:
    """Return what following the space would warn of, which is printed instead."""
    import warnings

    from ..profiler import profile as followed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return followed(space, shape).misread


def _drawn(space: Any) -> Any:
    """Return random architectures, all as likely as each other where they are finitely many."""
    try:
        return space.sample(_DRAWN, over="architectures", seed=0)
    except DomainError:
        return space.sample(_DRAWN, seed=0)


def _counted(space: Any, within: Any, costs: Costs, limits: dict[str, float]) -> str:
    try:
        total = space.count()
        text = f"{total:,} architectures"
    except DomainError:  # of a continuous label
        total, text = 0, "infinitely many architectures"
    if within is space:
        return text
    try:
        fitting = within.count()
        return f"{text}, of which {fitting:,} ({fitting / total:.3%}) are within the budget"
    except (DecompositionError, DomainError):  # more than can be counted, so it is estimated
        batch = _drawn(space)
        good: Any = True
        for name, limit in limits.items():
            good = good & (costs.values(name, batch) <= limit)
        return (
            f"{text}, of which about {float(good.mean()):.1%} are within the budget, by "
            f"{_DRAWN:,} random ones"
        )


def _ranges(within: Any, costs: Costs) -> Any:
    from rich.table import Table

    from ..report.numbers import written
    from ..runs.costs import title_of

    table = Table("", "smallest", "largest", box=None)
    for name in costs.shown:
        ends = costs.range(name, within)
        table.add_row(title_of(name), *(written(name, end) for end in ends))
    return table


def _histogram(name: str, values: Any) -> str:
    import numpy as np

    from ..report.numbers import written
    from ..runs.costs import title_of

    counts, edges = np.histogram(values, bins=_BARS)
    lines = [f"\n{title_of(name)} of {len(values):,} random architectures"]
    for count, low in zip(counts.tolist(), edges.tolist(), strict=False):
        lines.append(f"{written(name, low):>10}  {'█' * round(40 * count / max(counts.tolist()))}")
    return "\n".join(lines)


def _named(name: str, given: dict[str, Any], space: Any, costs: Costs) -> dict[str, dict[str, Any]]:
    """Return the costs of the published networks of a space of the hub, by name.

    There are none of a network that the space does not have with the arguments that are given.
    """
    import torch

    from ..hub.registry import find_space

    entry, found = find_space(name), dict[str, dict[str, Any]]()
    for network, published in entry.published.items():
        try:
            if published.arguments.items() <= given.items():
                found[network] = costs.of(space.canonical(published.architecture))
                continue
            # Of another space, but only this network of it: all others need not be followed.
            factory = entry.space.frozen_factory(published.architecture)
            with torch.device("meta"):
                built = factory(**{**given, **published.arguments})
        except (SampleValidationError, UsageError):
            found[network] = {}
        else:
            found[network] = costs.of_network(built)
    return found


def _beside(named: dict[str, dict[str, Any]], costs: Costs, limits: dict[str, float]) -> Any:
    from rich.table import Table

    from ..report.numbers import written
    from ..runs.costs import title_of

    titles = [f"\n{title_of(name)}" for name in costs.shown]
    table = Table("\npublished", *titles, "\nwithin", box=None)
    for network, values in named.items():
        fits = all(values.get(name, limit) <= limit for name, limit in limits.items())
        cells = [written(name, values[name]) if name in values else "" for name in costs.shown]
        table.add_row(network, *cells, "no such network" if not values else "yes" if fits else "no")
    return table


# -- latency --------------------------------------------------------------------------------------


@latency.callback()
def measure(
    context: typer.Context,
    space: SpaceOption = "proxylessnas",
    runtime: Annotated[
        str, said("What networks are to run on: onnxruntime, openvino, ... or torch.")
    ] = "torch",
    threads: ThreadsOption = None,
    device: Annotated[str, said("Of torch: cpu, cuda, cuda:0, ...")] = "cpu",
    input_shape: ShapeOption = None,
    batch_size: BatchOption = 1,
    calibrate: Annotated[
        int | None,
        said(
            "Correct the table by so many whole networks, and 20 more that tell its error.", "none"
        ),
    ] = None,
    repeats: Annotated[int, said("Readings of each block.", least=1)] = 30,
    out: Annotated[Path, said("The table; blocks in it are kept.")] = Path("latency.yaml"),
    arg: ArgumentOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure each different block, correct that by whole networks, and write a table."""
    if context.invoked_subcommand is not None:
        return
    from ..profiler import LatencyTable, calibrate_latency, measure_latency

    built, shape = _space(space, arg, input_shape)
    known = LatencyTable.read(out) if out.exists() else None
    table = measure_latency(
        built, device, shape, runtime=runtime, threads=threads, batch_size=batch_size,
        repeats=repeats, known=known, progress=not quiet,
    )  # fmt: skip
    table.write(out)
    typer.echo(f"{len(table)} blocks in {out}")
    if calibrate is None:
        return
    table = calibrate_latency(
        built, table, calibrate, input_shape=shape, repeats=repeats, progress=not quiet
    )
    table.write(out)
    typer.echo(str(table.correction))


@latency.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    space: SpaceOption = "proxylessnas",
    runtime: Annotated[str, said("Whose files they are.")] = "onnxruntime",
    input_shape: ShapeOption = None,
    batch_size: BatchOption = 1,
    arg: ArgumentOption = None,
) -> None:
    """Write each different block as a file, to be timed elsewhere, and a list to fill in."""
    from ..profiler import export_blocks

    built, shape = _space(space, arg, input_shape)
    typer.echo(export_blocks(built, shape, folder, runtime=runtime, batch_size=batch_size))


@latency.command("device-kit")
def kit(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    space: SpaceOption = "proxylessnas",
    runtime: Annotated[str, said("onnxruntime, openvino or litert.")] = "onnxruntime",
    networks: Annotated[
        int, said("Random architectures to time whole, for calibration.", least=0)
    ] = 0,
    input_shape: ShapeOption = None,
    batch_size: BatchOption = 1,
    seed: SeedOption = 0,
    arg: ArgumentOption = None,
) -> None:
    """Write a folder that measures the blocks on a device which has Python and the runtime only.

    There, python measure.py writes the table latency.yaml, and fills in blocks.csv.
    """
    from ..profiler import device_kit

    built, shape = _space(space, arg, input_shape)
    typer.echo(
        device_kit(
            built, shape, folder,
            runtime=runtime, networks=networks, seed=seed, batch_size=batch_size,
        )
    )  # fmt: skip


@latency.command()
def diff(
    one: Annotated[Path, typer.Argument(help="A table.")],
    other: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Print the blocks of which two tables say something else, in milliseconds."""
    from ..profiler import LatencyTable

    differing = LatencyTable.read(one).diff(LatencyTable.read(other))
    for key, times in differing.items():
        left, right = ("-" if time is None else f"{time:g}" for time in times)
        typer.echo(f"{left:>12} {right:>12}  {key}")
    typer.echo(f"{len(differing)} blocks differ")


@latency.command()
def merge(
    tables: Annotated[list[Path], typer.Argument(help="Tables of one device.")],
    out: Annotated[Path, said("The table that holds all blocks.")],
) -> None:
    """Write one table of the blocks of several; where two disagree, the later one counts."""
    from functools import reduce

    from ..profiler import LatencyTable

    table = reduce(LatencyTable.merge, [LatencyTable.read(path) for path in tables])
    table.write(out)
    typer.echo(f"{len(table)} blocks in {out}")
