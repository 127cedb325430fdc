"""The path of the module that runs at this moment, for messages: found when one is needed."""

from __future__ import annotations

import sys
from traceback import walk_stack

from torch import nn

__all__ = ["running_module"]


def running_module() -> str:
    """Return the path of the innermost module that runs, within the outermost; '' if there is none.

    It is looked for among the frames that are being run, so that it costs nothing before.
    """
    running: list[nn.Module] = []
    for frame, _ in walk_stack(sys._getframe(1)):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and not (running and running[-1] is owner):
            running.append(owner)
    for module in running:
        for path, inner in running[-1].named_modules() if running else ():
            if inner is module and path:
                return str(path)
    return ""
