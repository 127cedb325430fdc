"""From a network and its inputs to what may vary: the steps in their order."""

from __future__ import annotations

import math
import random
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
from torch import nn

from ..nn.computed_tensors import PARAMETRIZATIONS, added_to
from ..nn.structure import is_plain_layer
from .channel_matching import listed_layouts
from .depth import OptionalBlocks, runs_of
from .equations import Solution, solve
from .groups import Group, Groups
from .identity import Misplaced
from .kernels import Kernel, kernels_of
from .layouts import Dimension, Layout, layouts_of
from .obstacles import Obstacles
from .options import Options
from .pairing import told_by_place
from .parts import follow_parts, said
from .polynomials import Polynomial
from .symbolic import Origin, Trace, follow
from .trial import BY_PLACE, Trial

__all__ = ["Analysis", "Width", "analyse"]


@dataclass
class Width:
    """A size that may vary.

    Attributes
    ----------
    name
        In the equations.
    label
        Of the choice.
    values
        What it may be, in ascending order; the last is the size in the original.
    uses
        What depends on it.
    """

    name: str
    label: str
    values: tuple[int, ...]
    uses: list[Origin]
    outer: bool


@dataclass
class Analysis:
    """What may vary, and how each dimension is laid out.

    Attributes
    ----------
    solution
        Sizes in terms of variables.
    widths
        The variables that are choices, by name.
    layouts
        By size, how it is laid out; by dimension, where that is of its own.
    runs
        The optional blocks.
    reasons
        Why the other variables are held, by name.
    """

    trace: Trace
    solution: Solution
    trial: Trial
    widths: dict[str, Width] = field(default_factory=dict)
    layouts: dict[Polynomial | Dimension, Layout] = field(default_factory=dict)
    runs: list[OptionalBlocks] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sortable: set[str] = field(default_factory=set)
    reasons_of_blocks: dict[str, str] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)
    reasons_of_kernels: dict[str, str] = field(default_factory=dict)


def analyse(net: nn.Module, args: Any, kwargs: Any, options: Options) -> Analysis:
    """Find what may vary in a network, which is left as it was."""
    try:
        trace = _follow(net, args, kwargs)
    except Exception as error:  # noqa: BLE001 - the parts of the network may have sizes
        trace = follow_parts(net, args, kwargs, _follow)
        trace.notes.insert(0, said("", error))
    solution = solve(trace)
    trial = Trial(net, args, kwargs, trace, solution)
    trial.record()
    found = Analysis(trace, solution, trial, notes=trace.notes)
    candidates = layouts_of(trace, solution)
    found.layouts.update((size, options_[0]) for size, options_ in candidates.items())
    _choose(found, options)
    for function, names in trial.lost().items():
        for name in names:
            _hold(found, name, f"what {function} does to the order of channels is not known")
    _try_widths(found, candidates)
    if options.depth:
        _try_runs(found, runs_of(net, trace, solution), options)
    _try_together(found)
    _try_orders(found)
    if options.kernels:
        _try_kernels(found, options)
    return found


def _follow(net: nn.Module, args: Any, kwargs: Any) -> Trace:
    """Follow a network; where code takes no symbol for an attribute, with its number."""
    fixed: set[str] = set()
    paths = {id(module): path for path, module in net.named_modules()}
    while True:
        try:
            return follow(net, args, kwargs, frozenset(fixed))
        except Exception as error:
            more = _modules_in(error, paths) - fixed
            if not more:
                raise
            fixed |= {max(more, key=len)}


def _modules_in(error: BaseException, paths: Mapping[int, str]) -> set[str]:
    found = set()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            found.add(paths[id(owner)])
    return found


# -- choosing ---------------------------------------------------------------------------------


def _choose(found: Analysis, options: Options) -> None:
    """Which variables are choices, by what is known before anything is tried."""
    solution = found.solution
    outer = {name for shape in found.trial.outputs for size in shape for name in size.names}
    obstacles = Obstacles(found.trial.net)
    uses: dict[str, list[tuple[Origin, Polynomial]]] = {}
    for name, origin in solution.origins.items():
        size = solution.resolve(Polynomial.name(name))
        for free in sorted(size.names):  # so that labels come in the same order anywhere
            uses.setdefault(free, []).append((origin, size))
    for name, used in uses.items():
        dims = [(origin, size) for origin, size in used if origin.dim is not None]
        if not dims:
            continue  # an attribute that nothing reads
        label = found.labels[name] = _label(name, used, found.trial.modules)
        step, values = _values(solution.sizes[name], name, dims, options)
        is_outer = name in outer
        reason = next((r for o, _ in used if (r := obstacles.of(o))), None)
        if reason is not None:
            pass
        elif options.excludes(label):
            reason = "the caller wants it so"
        elif is_outer and options.outputs == "fixed":
            reason = "it reaches an output of the network; outputs='free' lets it vary"
        elif len(dims) == 1:
            reason = "nothing else has this size, so its elements are read by their places"
        elif len(values) == 1:
            reason = f"no smaller size is a multiple of {step}, which divisor asks for"
        if reason is not None:
            found.reasons[name] = reason
        else:
            origins = [origin for origin, _ in used]
            found.widths[name] = Width(name, label, values, origins, is_outer)
    _make_unique(found)


def _label(
    name: str, used: Sequence[tuple[Origin, Polynomial]], modules: Mapping[str, nn.Module]
) -> str:
    """Where the size comes from: an attribute that is it, or the first layer that has it.

    What is only a factor of dimensions is a number of heads, or of groups.  A layer of torch's that
    has no tensor, as a norm without weights, gives its size to none.
    """
    exact = [origin for origin, size in used if size.as_name() == name]
    layers = [origin for origin, _ in used if origin.dim is not None]
    of_layers = {origin.path for origin in layers}
    attributes = [
        o
        for o in exact
        if o.dim is None and o.path not in of_layers and not _is_leaf(modules[o.path])
    ]
    dims = [o for o in exact if o.dim is not None]
    if attributes:
        origin, part = attributes[0], attributes[0].name
    elif dims:
        origin = dims[0]
        is_computed = PARAMETRIZATIONS in origin.path
        added = added_to(modules[origin.path])
        part = next((name for name in added if origin.name in added[name]), origin.name)
        part = "width" if is_computed or part in ("weight", "bias") else part
    else:
        origin, part = layers[0], "heads"
    path = origin.path.partition(f".{PARAMETRIZATIONS}")[0]
    return f"{path}.{part}" if path else part


def _is_leaf(module: nn.Module) -> bool:
    return is_plain_layer(module) and not module._modules


def _values(
    size: int, name: str, dims: Sequence[tuple[Origin, Polynomial]], options: Options
) -> tuple[int, tuple[int, ...]]:
    cofactor = 0
    for _, total in dims:
        for monomial, c in total.terms.items():
            if name in monomial:
                cofactor = math.gcd(cofactor, c)
    step = options.divisor // math.gcd(options.divisor, cofactor or 1)
    while step > 1 and step > size * min(options.widths):
        step = (step + 1) // 2
    values = {max(step, round(size * width / step) * step) for width in options.widths}
    return step, tuple(sorted({value for value in values if 1 <= value < size} | {size}))


def _make_unique(found: Analysis) -> None:
    seen: dict[str, int] = {}
    for width in found.widths.values():
        count = seen[width.label] = seen.get(width.label, 0) + 1
        if count > 1:
            width.label = f"{width.label}.{count}"
            found.labels[width.name] = width.label


def kind_of(label: str) -> str:
    """Return the label with numbers of layers left out: what layers of a kind have in common."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)", "*", label)


# -- trying -----------------------------------------------------------------------------------


def _hold(found: Analysis, name: str, reason: str) -> None:
    if found.widths.pop(name, None) is not None:
        found.reasons[name] = reason


def _try_widths(found: Analysis, candidates: Mapping[Polynomial, list[Layout]]) -> None:
    """Cut each width at its smallest; where that does not run, at the next that does."""
    first = dict(found.layouts)
    for width in list(found.widths.values()):
        error = _try_layouts(found, width, candidates)
        if error is not None and _try_listed(found, width):
            continue
        while error is not None and len(width.values) > 2:  # such as a head that is no head then
            width.values = width.values[1:]
            if _try_layouts(found, width, candidates) is None:
                break
        else:
            if error is not None:
                _hold(found, width.name, f"the smaller network does not run: {error}")
    # An order that was found for one variable must be right for those before it, too.
    for width in list(found.widths.values()) if found.layouts != first else ():
        error = _attempt(found, {width.name: width.values[0]})
        if error is not None:
            _hold(found, width.name, f"the smaller network does not run: {error}")


def _try_layouts(
    found: Analysis, width: Width, candidates: Mapping[Polynomial, list[Layout]]
) -> str | None:
    """Cut a width at its smallest, in each order that its elements may have; keep one that runs."""
    values = {width.name: width.values[0]}
    error = _attempt(found, values)
    if error is None:
        return None
    involved = [
        size for size in candidates if width.name in size.names and len(candidates[size]) > 1
    ]
    before = dict(found.layouts)
    for choice in islice(product(*(candidates[size] for size in involved)), 1, 48):
        found.layouts.update(zip(involved, choice, strict=True))
        if _attempt(found, values) is None:
            return None
    found.layouts = before
    return error


def _try_listed(found: Analysis, width: Width) -> bool:
    """Cut a width to channels that go the same way; return whether that runs for all values."""
    before = dict(found.layouts)
    try:
        listed = listed_layouts(found.trial, width.name, width.values, found.layouts)
    except Exception:  # noqa: BLE001 - whatever the code of a smaller network raises
        listed = None
    if listed is None:
        return False
    found.layouts.update(listed)
    if all(_attempt(found, {width.name: value}) is None for value in width.values[:-1]):
        return True
    found.layouts = before
    return False


def _attempt(
    found: Analysis,
    values: Mapping[str, int],
    without: Mapping[str, Sequence[int]] | None = None,
    runs: Sequence[OptionalBlocks] = (),
    orders: Mapping[str, Any] | None = None,
) -> str | None:
    return _error_of(lambda: found.trial.attempt(values, found.layouts, without, runs, orders))


def _error_of(attempt: Callable[[], None]) -> str | None:
    """What an attempt raises, in words."""
    try:
        attempt()
    except Misplaced as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the code of a network raises is a reason
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _try_runs(found: Analysis, runs: Sequence[OptionalBlocks], options: Options) -> None:
    """Leave out each block alone, and all that can be at once; keep what runs."""
    for run in runs:
        if options.excludes(run.label):
            found.reasons_of_blocks[run.label] = "the caller wants it so"
            continue
        for place in list(run.optional):
            error = _attempt(found, {}, {run.path: [place]}, [run])
            if error is not None:
                found.reasons_of_blocks[f"{run.path}.{place}"] = f"without it: {error}"
                run.optional.remove(place)
        try:
            reason = told_by_place(found.trial, run) if run.optional else None
        except Exception as raised:  # noqa: BLE001 - whatever the code of a network raises
            reason = f"whether the code tells blocks by their places is not known: {raised}"
        if reason is not None:
            found.reasons_of_blocks[run.label] = reason
        elif run.optional:
            found.runs.append(run)
    for path in {run.path for run in found.runs}:
        here = [run for run in found.runs if run.path == path]
        everything = sorted(place for run in here for place in run.optional)
        if len(everything) == here[0].total:  # something must be left
            everything.remove(here[0].optional[0])
        error = _attempt(found, {}, {path: everything}, here)
        if error is not None:
            for run in here:
                found.runs.remove(run)
                found.reasons_of_blocks[run.label] = f"without all of them: {error}"


def _try_kernels(found: Analysis, options: Options) -> None:
    """All kernels at their smallest at once; where that does not run, one by one."""
    kernels, found.reasons_of_kernels = kernels_of(found.trial.net, options.kernels)
    for kernel in list(kernels):
        if options.excludes(kernel.label):
            found.reasons_of_kernels[kernel.label] = "the caller wants it so"
            kernels.remove(kernel)
    if kernels and _error_of(lambda: found.trial.attempt_kernels(kernels)) is not None:
        for kernel in list(kernels):
            error = _error_of(partial(found.trial.attempt_kernels, [kernel]))
            if error is not None:
                reason = f"the smaller network does not run: {error}"
                found.reasons_of_kernels[kernel.label] = reason
                kernels.remove(kernel)
    found.kernels = kernels


def _try_together(found: Analysis) -> None:
    """All at their smallest, and at random; what breaks it is held, one by one."""
    rng = random.Random(0)
    draws = [{w.name: w.values[0] for w in found.widths.values()}]
    draws += [{w.name: rng.choice(w.values) for w in found.widths.values()} for _ in range(3)]
    for draw in draws:
        if _attempt(found, draw) is None:
            continue
        kept: dict[str, int] = {}
        for name, value in draw.items():
            if name not in found.widths:
                continue
            error = _attempt(found, {**kept, name: value})
            if error is None:
                kept[name] = value
            else:
                _hold(found, name, f"with others, the smaller network does not run: {error}")


def _try_orders(found: Analysis) -> None:
    """Which channels may come in another order: one in which all that meets has met.

    Where all that meets has met, and yet something else comes out, the code knows channels by
    their places in a way that was not followed.
    """
    for width in list(found.widths.values()):
        # The others the other way round.  The first stays, for it stands for all where channels
        # are summed; so nothing is known of two.
        order = np.roll(np.arange(width.values[-1])[::-1], 1)
        error = _attempt(found, {}, orders={width.name: order}) if len(order) > 2 else None
        if error == BY_PLACE:
            _hold(found, width.name, f"the smaller network is another one: {error}")
        elif error is None and len(order) > 2 and not width.outer:
            found.sortable.add(width.name)  # of an output, who reads it knows channels by places


# -- reporting --------------------------------------------------------------------------------


def report(found: Analysis, labels: Mapping[str, str], depths: Sequence[Group]) -> Groups:
    """Return the report of an analysis.

    Parameters
    ----------
    labels
        By name of a variable, the label of its choice.
    depths
        The groups of optional blocks, and of kernels.
    """
    solution = found.solution
    varying: dict[str, list[Width]] = {}
    for width in found.widths.values():
        varying.setdefault(labels[width.name], []).append(width)
    groups = [
        Group(
            label,
            "width",
            widths[0].values[-1],
            widths[0].values,
            tuple(str(origin) for width in widths for origin in width.uses),
            any(width.outer for width in widths),
        )
        for label, widths in varying.items()
    ]
    return Groups(
        (*groups, *depths), tuple(_fixed(found)), tuple(solution.restrictions), tuple(found.notes)
    )


def _fixed(found: Analysis) -> Iterator[Group]:
    solution = found.solution
    for label, reason in found.reasons_of_blocks.items():
        yield Group(label, "depth", 1, (1,), reason=reason)
    for label, reason in found.reasons_of_kernels.items():
        module: Any = found.trial.modules[label.rpartition(".")[0]]
        size = max(module.kernel_size)
        yield Group(label, "kernel", size, (size,), reason=reason)
    for name, reason in found.reasons.items():
        size = solution.sizes[name]
        places = tuple(
            str(origin)
            for other, origin in solution.origins.items()
            if name in solution.resolve(Polynomial.name(other)).names
        )
        yield Group(found.labels[name], "width", size, (size,), places, reason=reason)
    for name, reason in solution.reasons.items():
        origin = solution.origins.get(name)
        if origin is not None and origin.dim is not None:
            yield Group(
                str(origin), "width", origin.size, (origin.size,), (str(origin),), reason=reason
            )
