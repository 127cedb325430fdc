"""Follow the parts of a network that can be followed, where all of it cannot.

A forward that branches on values has no sizes to speak of; the modules in it may.  Each is
followed on the inputs that it has in a real run, and what leaves it keeps its size.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch import nn

from ..errors import UsageError
from .calling import undisturbed
from .symbolic import Equation, Origin, Trace, Where, forgetting_caches, is_own_code, tensors_of

__all__ = ["follow_parts", "running", "said"]

Follow = Callable[[nn.Module, Any, Any], Trace]


def follow_parts(net: nn.Module, args: Any, kwargs: Any, follow: Follow) -> Trace:
    """Follow what can be followed of the children of a network, and of theirs.

    Parameters
    ----------
    follow
        Follows one module, or raises.
    """
    calls = _calls(net, args, kwargs)
    merged = Trace()
    covered: dict[str, Trace] = {}
    _go_below(net, "", calls, follow, covered, merged)
    for number, (path, trace) in enumerate(covered.items()):
        _merge(merged, trace, path, f"p{number}")
    _tie(net, merged)
    return merged


def _go_below(
    module: nn.Module,
    path: str,
    calls: Mapping[str, list[Any]],
    follow: Follow,
    covered: dict[str, Trace],
    merged: Trace,
) -> None:
    for name, child in module._modules.items():
        at = f"{path}.{name}" if path else name
        if child is None or not any(True for _ in child.parameters()):
            continue
        called = calls.get(at, [])
        if len(called) == 1:
            try:
                covered[at] = follow(child, *called[0])
            except Exception as error:  # noqa: BLE001 - whatever it is, its parts are tried
                merged.notes.append(said(at, error))
            else:
                continue
        elif len(called) > 1 and not any(True for _ in child.children()):
            merged.notes.append(f"{at}: runs {len(called)} times in what cannot be followed")
        _go_below(child, at, calls, follow, covered, merged)


def _calls(net: nn.Module, args: Any, kwargs: Any) -> dict[str, list[Any]]:
    """By path, the inputs of each call in a real run."""
    found: dict[str, list[Any]] = {}

    def watch(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            found.setdefault(path, []).append((args, kwargs))

        return hook

    handles = [
        module.register_forward_pre_hook(watch(path), with_kwargs=True)
        for path, module in net.named_modules()
    ]
    try:
        with torch.no_grad(), forgetting_caches(net), undisturbed(net):
            net(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _merge(into: Trace, trace: Trace, path: str, prefix: str) -> None:
    """Take over a trace of a part, under its path, with names of its own."""
    renamed: dict[Any, Any] = {}
    for symbol, origin in trace.origins.items():
        new = sympy.Symbol(f"{prefix}{symbol.name}", positive=True, integer=True)
        renamed[symbol] = new
        at = ".".join(part for part in (path, origin.path) if part)
        into.origins[new] = Origin(at, origin.name, origin.dim, origin.size, origin.place)

    def moved(size: Any) -> Any:
        return size.xreplace(renamed) if hasattr(size, "xreplace") else size

    def place(where: Where) -> Where:
        return Where(".".join(part for part in (path, where.path) if part), where.line)

    into.equations += [Equation(moved(e.zero), place(e.where)) for e in trace.equations]
    boundary = Where(path, "its boundary, for what is around it cannot be followed,")
    values = {new: into.origins[new].size for new in renamed.values()}
    for shape in trace.outputs:
        for size in map(moved, shape):
            if getattr(size, "free_symbols", None):
                into.equations.append(Equation(size - size.xreplace(values), boundary))
    for inner, call in trace.calls.items():
        at = ".".join(part for part in (path, inner) if part)
        for name in ("inputs", "outputs"):
            shape = getattr(call, name)
            if shape is not None:
                setattr(call, name, tuple(map(moved, shape)))
        into.calls[at] = call
    into.compositions += [
        (kind, moved(whole), tuple(map(moved, parts))) for kind, whole, parts in trace.compositions
    ]


def _tie(net: nn.Module, merged: Trace) -> None:
    """Tensors that stand in several parts are one; in what is not followed, they are fixed."""
    by_place: dict[tuple[str, str, int], Any] = {
        (o.path, o.name, o.dim): symbol for symbol, o in merged.origins.items() if o.dim is not None
    }
    paths = {path for path, _, _ in by_place}
    for _, places in tensors_of(net).values():
        for dim in range(8):
            symbols = [by_place[*p, dim] for p in places if (*p, dim) in by_place]
            for one, other in pairwise(symbols):
                merged.equations.append(
                    Equation(one - other, Where(places[0][0], "shared tensors"))
                )
            if symbols and not all(path in paths for path, _ in places):
                size = merged.origins[symbols[0]].size
                where = Where(places[0][0], "a part that cannot be followed and shares it,")
                merged.equations.append(Equation(symbols[0] - size, where))


def said(path: str, error: BaseException) -> str:
    """Return what went wrong where, with the line of code that is neither torch's nor ours."""
    line = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        if is_own_code(frame.f_code.co_filename):
            line = f" at {'/'.join(Path(frame.f_code.co_filename).parts[-2:])}:{number}"
    message = str(error).strip().splitlines()
    first = message[0] if message else ""
    return f"{path or 'the network'}: {type(error).__name__}{line}: {first}"


@contextmanager
def running(who: str) -> Iterator[None]:
    """Enter a context in which a network runs on what a user gave, which may not fit it.

    Raises
    ------
    UsageError
        It does not; where its code stopped.
    """
    try:
        yield
    except (MemoryError, UsageError):
        raise
    except Exception as error:
        raise UsageError(f"{who} does not run on these inputs: {said('', error)}") from error
