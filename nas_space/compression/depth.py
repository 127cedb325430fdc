"""Find the blocks that a network can do without: those whose output is shaped like their input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .equations import Solution
from .symbolic import Trace

__all__ = ["Run", "runs_of"]


@dataclass
class Run:
    """The optional blocks of one container.

    Attributes
    ----------
    path
        Of the container.
    optional
        The places of the blocks that can be left out.
    total
        How many blocks there are.
    counters
        Attributes that number the blocks, with the path of their module within a block.
    reasons
        Why other blocks are not optional, by place.
    """

    path: str
    optional: list[int]
    total: int
    counters: list[tuple[str, str]]
    reasons: dict[int, str] = field(default_factory=dict)


def runs_of(net: nn.Module, trace: Trace, solution: Solution) -> list[Run]:
    """The runs of optional blocks, outermost first; none within another."""
    found: list[Run] = []
    for path, module in net.named_modules():
        inside = any(path == run.path or path.startswith(f"{run.path}.") for run in found)
        if not inside and _is_run(module) and (run := _run(path, module, trace, solution)):
            found.append(run)
    return found


def _is_run(module: nn.Module) -> bool:
    """Whether a module is a list of blocks, or runs its children one after the other."""
    if isinstance(module, nn.ModuleList):
        return True
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _run(path: str, module: nn.Module, trace: Trace, solution: Solution) -> Run | None:
    children = list(module.children())
    alike: dict[Any, list[int]] = {}
    for place, child in enumerate(children):
        at = f"{path}.{list(module._modules)[place]}" if path else list(module._modules)[place]
        call = trace.calls.get(at)
        # Something is left out of a block only if it is more than one layer: norms and activations
        # are shaped like their input as well, and the network is nothing without them.
        if call is None or call.count != 1 or not any(True for _ in child.children()):
            continue
        if _is_run(child) and any(True for inner in child.children() for _ in inner.children()):
            continue  # a stage: its blocks are optional, not all of it
        if call.inputs is None or call.outputs is None:
            continue
        if _resolved(call.inputs, solution) == _resolved(call.outputs, solution):
            signature = (type(child), *((n, tuple(p.shape)) for n, p in child.named_parameters()))
            if len(signature) > 1:
                alike.setdefault(signature, []).append(place)
    if not alike:
        return None
    # Several kinds of blocks in one container: the most frequent one, widths apart.
    optional = max(alike.values(), key=len)
    if len(optional) == len(children) == 1:
        return None
    return Run(path, optional, len(children), list(_counters(children)))


def _resolved(shape: tuple[Any, ...], solution: Solution) -> tuple[Any, ...]:
    *sizes, dtype = shape
    return (*map(solution.of, sizes), dtype)


def _counters(children: list[nn.Module]) -> Iterator[tuple[str, str]]:
    if len(children) < 2:
        return
    below = [dict(child.named_modules()) for child in children]
    for path, module in below[0].items():
        others = [each.get(path) for each in below]
        for name, value in vars(module).items():
            if type(value) is int and all(
                other is not None and type(vars(other).get(name)) is int and vars(other)[name] == i
                for i, other in enumerate(others)
            ):
                yield path, name
