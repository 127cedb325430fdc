"""``nas-space export``: what a run has found, for the runtimes that people deploy on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import NasSpaceError, UsageError
from .options import TrustOption, said

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")],
    to: Annotated[
        str, said("Runtimes: onnxruntime, openvino, executorch, litert, coreml, torch-export.")
    ] = "onnxruntime",
    out: Annotated[
        Path | None,
        said(
            "The folder for the files, one folder in it for each budget of a compression.",
            "export in the run's folder",
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantised as well, calibrated on the run's training data."),
    ] = False,
    threads: Annotated[int, said("On how many it is timed.", least=1)] = 1,
    trust: TrustOption = False,
) -> None:  # fmt: skip
    """Write the networks of a run for other runtimes, and compare them there with torch.

    Each is run on an example of the run's data; its difference from torch, its size and its times
    are printed. What one runtime cannot do hinders no other.
    """
    from ..runs.exporting import export_network, networks_of, note_exports
    from ..runtimes import find_runtime

    runtimes = [name.strip() for name in to.split(",")]
    for name in runtimes:
        find_runtime(name).require()  # before what takes long
    networks = networks_of(run, trust=trust)
    if not networks:
        raise UsageError(f"{run} has no network to export")
    failed, told = 0, dict[str, str]()
    for stored in networks:
        folder = out or run / "export"
        if len(networks) > 1:
            folder /= stored.name
        for name in runtimes:
            try:
                made = str(export_network(stored, name, folder, int8=int8, threads=threads))
                typer.echo(made)
                told[f"{stored.name} for {name}{', 8 bits' * int8}"] = made
            except NasSpaceError as error:
                failed += 1
                typer.echo(f"{stored.name} for {name}: {error}", err=True)
    note_exports(run, told)
    if failed:
        raise typer.Exit(1)
