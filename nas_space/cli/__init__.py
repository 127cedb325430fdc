"""The shell: ``nas-space``."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error of the project is one line and exit status 2.

    Parameters
    ----------
    arguments
        Of the command line; those of the process by default.
    """
    # Before torch is loaded: where other work shares the cores, threads that spin while they
    # wait for each other make training several times slower than threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from ..errors import NasSpaceError
    from ..lazy import look_here_too
    from .app import app

    given = sys.argv[1:] if arguments is None else arguments
    look_here_too()
    try:
        app(args=[a for a in given if a != "--traceback"])
    except NasSpaceError as error:
        if "--traceback" in given:
            raise
        from rich.console import Console

        console = Console(stderr=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
