"""Find the blocks that a network can do without: those whose output is shaped like their input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .equations import Solution
from .symbolic import Trace

__all__ = ["OptionalBlocks", "runs_of"]


@dataclass
class OptionalBlocks:
    """Optional blocks of one kind in one container.

    Attributes
    ----------
    path
        Of the container.
    label
        Of their number.
    optional
        The places of the blocks that can be left out.
    total
        How many blocks there are.
    counters
        Attributes that number the blocks, with the path of their module within a block.
    """

    path: str
    label: str
    optional: list[int]
    total: int
    counters: list[tuple[str, str]]


def runs_of(net: nn.Module, trace: Trace, solution: Solution) -> list[OptionalBlocks]:
    """Return the runs of optional blocks, outermost first; none within another."""
    found: list[OptionalBlocks] = []
    paths = {id(module): path for path, module in net.named_modules()}
    for path, module in net.named_modules():
        inside = any(path == run.path or path.startswith(f"{run.path}.") for run in found)
        if not inside and _is_run(module):
            found += _runs(path, module, trace, solution, paths)
    return found


def _is_run(module: nn.Module) -> bool:
    """Whether a module is a list of blocks, or runs its children one after the other."""
    if isinstance(module, nn.ModuleList):
        return True
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _has_blocks(module: nn.Module) -> bool:
    """Whether a module is a run of several blocks of one class."""
    if not _is_run(module):
        return False
    kinds = [type(child) for child in module.children() if any(True for _ in child.children())]
    return len(kinds) > len(set(kinds))


def _is_stage(module: nn.Module, trace: Trace, paths: Mapping[int, str]) -> bool:
    """Whether a module does no more than run blocks one after the other.

    A block may hold layers of one class as well, but adds something to what these give.
    """
    returned = trace.calls[paths[id(module)]].returned
    for run in filter(_has_blocks, module.modules()):
        last = trace.calls.get(paths[id(list(run.children())[-1])])
        if last is not None and last.returned is returned:
            return True
    return False


def _runs(
    path: str, module: nn.Module, trace: Trace, solution: Solution, paths: Mapping[int, str]
) -> Iterator[OptionalBlocks]:
    children = list(module._modules.items())
    alike: dict[Any, list[int]] = {}
    for place, (name, child) in enumerate(children):
        call = trace.calls.get(f"{path}.{name}" if path else name)
        # Something is left out of a block only if it is more than one layer: norms and activations
        # are shaped like their input as well, and the network is nothing without them.
        if call is None or child is None or not any(True for _ in child.children()):
            continue
        if call.count != 1 or call.inputs is None or call.outputs is None:
            continue
        if _is_stage(child, trace, paths):
            continue  # its blocks are optional, not all of it
        if _resolved(call.inputs, solution) == _resolved(call.outputs, solution):
            # A block that has more than the others, such as the table of positions that all of
            # them use, is not one that can be left out.
            signature = (type(child), *((n, tuple(p.shape)) for n, p in child.named_parameters()))
            if len(signature) > 1:
                alike.setdefault(signature, []).append(place)
    counters = list(_counters([child for _, child in children if child is not None]))
    for places in alike.values():
        parts = [path] if path else []
        if len(alike) > 1:
            parts.append(children[places[0]][0])
        if len(children) > 1:
            yield OptionalBlocks(path, ".".join([*parts, "depth"]), places, len(children), counters)


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
