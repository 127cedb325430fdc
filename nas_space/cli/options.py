"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "ArgumentOption",
    "CostOption",
    "LatencyOption",
    "MacsOption",
    "MaxOption",
    "ParamsOption",
    "QuietOption",
    "RunArgument",
    "RuntimeOption",
    "SeedOption",
    "ShapeOption",
    "SpaceOption",
    "TableOption",
    "ThreadsOption",
    "TrustOption",
    "said",
]


def said(
    words: str,
    default: str | bool = True,
    panel: str | None = None,
    *,
    least: int | None = None,
) -> Any:
    """Return an option that is described by words; its flag is made of the parameter's name.

    Parameters
    ----------
    words
        What it is for.
    default
        What holds where it is not given, in words; ``True`` for its default value.
    panel
        Under which title ``--help`` has it.
    least
        The least that a number may be.
    """
    return typer.Option(help=words, show_default=default, rich_help_panel=panel, min=least)


SpaceOption = Annotated[str, said("A space of the hub (see `nas-space spaces`), or module:Class.")]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option("--arg", help="An argument of the space, as name=value; may be given repeatedly."),
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust", help="Import the module that the file names, which runs its code."),
]
SeedOption = Annotated[int, said("Of everything random.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
MaxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--max",
        help="Budget of any cost, as name=value: macs=320M, memory=2M, latency=60ms, or of your "
        "own, as module:name=value; may be given repeatedly.",
    ),
]
MacsOption = Annotated[str | None, said("As --max macs=..., such as 320M.")]
ParamsOption = Annotated[str | None, said("As --max params=..., such as 5M.")]
LatencyOption = Annotated[str | None, said("As --max latency=..., such as 60ms.")]
CostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cost", help="A cost to report as well: a name as for --max. May be given repeatedly."
    ),
]
TableOption = Annotated[
    Path | None, said("Times of blocks: what `nas-space latency` writes, or a CSV.")
]
RuntimeOption = Annotated[
    str | None,
    said(
        "What networks are to run on: onnxruntime, openvino, ... or torch. Without a table, times "
        "of blocks are measured there and corrected by whole networks, and what is found is "
        "written for it and timed.",
        "nothing in particular",
    ),
]
ThreadsOption = Annotated[
    int | None, said("How many the runtime has.", "1, or as torch has them", least=1)
]
ShapeOption = Annotated[str | None, said("Of one image.", "that of the space, or 3,224,224")]

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The folder of a run, or a storage: a file or an address."),
]
