"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ArgumentOption", "MacsOption", "RunArgument", "SeedOption", "SpaceOption"]

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

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The folder of a run, or a storage: a file or an address."),
]
