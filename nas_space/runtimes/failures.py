"""What to say where a network cannot be written for a runtime: the operator, and the layer."""

from __future__ import annotations

import re
from traceback import walk_tb
from typing import Any

from torch import nn

from ..errors import SpaceError
from .exportable import Exportable

__all__ = ["explained", "first_line"]

_OPERATOR = re.compile(r"\b(aten|prims|torchvision|quantized)(?:::|\.)(\w+)")


def explained(error: Exception, runtime: str, source: Exportable) -> SpaceError:
    """Return an error that names the operator and the module that a runtime or its writer refuses.

    Parameters
    ----------
    error
        What the writer raised.
    runtime
        Its name.
    source
        What was written.
    """
    # There is no form in which writers say what they lack: some name the operator, one the node
    # that it made of it, some only let an exception through. So the text is searched for both, the
    # program for the modules that run these, and the traceback for the module that was running.
    kind = type(source.network).__name__
    named = re.findall(r"\bnode_(\w+)", str(error))  # what ONNX's exporter calls them
    operators = list(
        dict.fromkeys(f"{space}.{name}" for space, name in _OPERATOR.findall(str(error)))
    )
    where = [*_modules_of(operators, named, source), *_module_running(error, source.network)]
    told = f"{kind} cannot be written for {runtime}"
    if operators:
        told += f", which lacks {', '.join(operators[:5])}"
    if where:
        told += f", in {', '.join(dict.fromkeys(where))}"
    return SpaceError(f"{told}: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """Return the class of what caused an error, and the first line of what it says."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _modules_of(operators: list[str], named: list[str], source: Exportable) -> list[str]:
    """Return the innermost modules that run one of the operators or nodes, if one can follow."""
    found: list[str] = []
    for decomposed in (False, True):
        if found or not (operators or named):
            break
        try:
            program = source.program.run_decompositions() if decomposed else source.program
        except Exception:  # noqa: BLE001 - that it cannot be followed was said already
            break
        for node in program.graph.nodes:
            if node.name in named or _plain(str(node.target)) in map(_plain, operators):
                stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
                path = next((path for path, _ in reversed(stack.values())), "")
                found.append(_named(path, source.network))
    return found


def _plain(operator: str) -> str:
    """Return the name by which an operator goes in every namespace, overload and in-place form."""
    # ``aten.special_erf.default``, ``aten.erf_.default`` and ``erf`` are one for a person.
    name = operator.split(".")[1] if "." in operator else operator
    return re.sub(r"^(special|linalg)_|_$", "", name)


def _module_running(error: BaseException, network: nn.Module) -> list[str]:
    """Return the innermost module whose code was running when an error was raised."""
    paths = {module: path for path, module in network.named_modules()}
    found = []
    for frame, _ in walk_tb(error.__traceback__):
        running = frame.f_locals.get("self")
        if isinstance(running, nn.Module) and running in paths:
            found = [_named(paths[running], network)]
    return found


def _named(path: str, network: nn.Module) -> str:
    path = re.sub(r"^(L\['self'\]\.?)?(network\.?)?", "", path)
    try:
        return f"{path or 'the network itself'} ({type(network.get_submodule(path)).__name__})"
    except AttributeError:
        return path
