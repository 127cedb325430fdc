"""What is decided where: the rows that pictures of an architecture, and of a space, consist of."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..errors import DecompositionError
from ..mutable import CategoricalMultiple, Mutable, Numerical
from ..mutable.node import Node, key_of, leaves
from ..nn import LayerChoice, MutableModule, Repeat
from ..profiler import LatencyTable, ModuleCost, Profile, profile
from ..profiler.blocks import timed
from ..strategy.base import unrestricted

__all__ = ["Decision", "beside_space", "decisions_of", "labels_of", "shape_in_words"]

_LISTED = 64
"""Of a numerical label with more values the range is shown, and where in it the value is."""

_DRAWN = 32
"""Random architectures that say where the cost of a space is."""


@dataclass(frozen=True)
class Decision:
    """One label: where it decides, between what, what was chosen, and what that costs.

    Attributes
    ----------
    label
        Its name; empty for the last row, which stands for everything fixed.
    path, kind
        The first module that it decides, and its class.
    more
        How many further modules it decides.
    group
        The path of the repeat whose block it is in; empty outside of repeats.
    values
        All that may be chosen, in words; of a range its two ends.
    chosen
        The places of what is chosen; none of what the architecture does not ask for.
    position
        Where in a range the value is, from 0 to 1; ``None`` where values are listed.
    text
        What is chosen, in words.
    used
        Whether the architecture asks for it.
    shape
        What comes out of the module, in words.
    share
        Which part of the cost is of the modules that it decides.
    spread
        Of a space the smallest and the largest share among random architectures.
    """

    label: str
    path: str
    kind: str
    values: tuple[str, ...]
    more: int = 0
    group: str = ""
    chosen: tuple[int, ...] = ()
    position: float | None = None
    text: str = ""
    used: bool = True
    shape: str = ""
    share: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)


def decisions_of(
    space: Any,
    arch: Mapping[str, Any] | None,
    input_shape: tuple[int, ...] | None = None,
    *,
    inputs: Any = None,
    cost: str | LatencyTable = "macs",
) -> list[Decision]:
    """Return a row for each label, in the order in which modules run, and one for what is fixed.

    The cost of a module counts where it is decided: at the last new label that it depends on; a
    module without a label at the choice or the repeat that it is in.

    Parameters
    ----------
    space
        A space, or a restriction of one.
    arch
        The architecture; ``None`` for the space as a whole.
    input_shape, inputs
        As of :func:`~nas_space.profiler.macs`; without either there are no shapes and no shares
        but of parameters.
    cost
        ``'macs'``, ``'params'``, or a table of measured times.
    """
    # A space as a whole is drawn by a few random architectures, of which rows have the mean of the
    # shares and their range; a restriction's are drawn within it, and all else is that of the
    # space.
    whole, space = space, unrestricted(space)
    archs = [whole.canonical(arch)] if arch is not None else whole.sample(_DRAWN, seed=0)
    shape = space.example_shape if input_shape is None else input_shape
    followed = _followed(space, shape, inputs)
    places = list(_places(space))
    tables = [_costs(space, one, followed, cost) for one in archs]
    ran = followed.modules(archs[0]) if followed is not None else []
    order = {row.path: place for place, row in reversed(list(enumerate(ran)))}
    places = _in_order(places, order)
    owner: dict[str, int] = {}
    rows: list[Decision] = []
    seen: dict[str, int] = {}
    symbols = space.symbols()
    for place in places:
        for label in place.labels:
            if label in seen:
                rows[seen[label]] = replace(rows[seen[label]], more=rows[seen[label]].more + 1)
            elif label in symbols:
                seen[label] = len(rows)
                rows.append(_row(symbols[label], place, archs[0] if arch is not None else None))
        # Of several labels that decide a module the last row is given its cost, so that each cost
        # counts once: with the ones above it known, that label is what still changes the cost.
        known = [seen[label] for label in place.labels if label in seen]
        if known:
            owner[place.path] = max(known)
    for label, symbol in symbols.items():
        if label not in seen:  # used by code, and not as an argument of a module
            rows.append(
                _row(symbol, _DecidedModule("", "", "", ()), None if arch is None else archs[0])
            )
    fixed = Decision("", "", "output, and all that is fixed", ())
    rows.append(fixed)
    shares = [_shares(table, owner, len(rows)) for table in tables]
    outputs = {row.path: row.outputs for row in ran}
    kinds = {row.path: row.kind for row in ran}
    return [
        replace(
            row,
            share=statistics.fmean(column),
            spread=(min(column), max(column)),
            shape=""
            if arch is None or not row.used
            else shape_in_words(outputs.get(row.path, []), row.path, kinds),
        )
        for row, column in zip(rows, zip(*shares, strict=True), strict=True)
    ]


def _followed(space: Any, shape: tuple[int, ...] | None, inputs: Any) -> Profile | None:
    """Return the profile of a space; ``None`` where too many labels decide a shape together."""
    if shape is None and inputs is None:
        return None
    try:
        return profile(space, shape, inputs=inputs)
    except DecompositionError:
        return None


def _in_order(places: Sequence[_DecidedModule], order: Mapping[str, int]) -> list[_DecidedModule]:
    """Return modules in the order of the trace; one that does not run follows its predecessor."""
    keys: list[tuple[int, int]] = []
    last = 0
    for number, place in enumerate(places):
        last = order.get(place.path, last)
        keys.append((last, number))
    return [place for _, place in sorted(zip(keys, places, strict=True), key=lambda pair: pair[0])]


@dataclass(frozen=True)
class _DecidedModule:
    """A module that labels decide."""

    path: str
    kind: str
    group: str
    labels: tuple[str, ...]


def _places(space: nn.Module) -> Iterator[_DecidedModule]:
    """Yield the modules of a space that labels decide, parents before children."""
    waiting: list[tuple[str, str, nn.Module]] = [("", "", space)]
    while waiting:
        path, group, module = waiting.pop()
        if isinstance(module, MutableModule):
            labels = tuple(labels_of(module))
            if labels:
                yield _DecidedModule(path, type(module).__name__, group, labels)
        inner = path if isinstance(module, Repeat) else group
        children = [
            (f"{path}.{name}".lstrip("."), inner, child) for name, child in module.named_children()
        ]
        waiting.extend(reversed(children))


def labels_of(module: MutableModule) -> dict[str, None]:
    """Return the labels that decide what a module itself is, in order."""
    found: dict[str, None] = {}
    for mutable in module.own_expressions():
        structure = mutable.structure() if isinstance(mutable, Mutable) else None
        for leaf in leaves(structure) if isinstance(structure, Node) else ():
            found.setdefault(leaf.name)
    return found


def _row(symbol: Any, place: _DecidedModule, arch: Mapping[str, Any] | None) -> Decision:
    label = symbol.name
    row = Decision(label, place.path, place.kind, (), group=place.group)
    used = arch is None or label in arch
    value = arch[label] if arch is not None and label in arch else None
    text = "" if value is None else _written(value)
    if isinstance(symbol, CategoricalMultiple):
        values = tuple(symbol.values)
        wanted = {key_of(one, loose=True) for one in value or ()}
    elif isinstance(symbol, Numerical) and not _is_listed(symbol):
        ends = symbol.interval()
        low, high = (float(ends[0]), float(ends[1]))
        wide = high - low
        position = None if value is None else (float(value) - low) / wide if wide else 0.5
        return replace(
            row, values=(_written(low), _written(high)), text=text, used=used,
            position=-1.0 if position is None else position,
        )  # fmt: skip
    else:
        values = tuple(symbol.value(code) for code in range(symbol.size))
        wanted = {key_of(value, loose=True)} if value is not None else set()
    chosen = tuple(i for i, one in enumerate(values) if key_of(one, loose=True) in wanted)
    return replace(row, values=tuple(map(_written, values)), chosen=chosen, text=text, used=used)


def _is_listed(symbol: Any) -> bool:
    return symbol.size is not None and 0 < symbol.size <= _LISTED


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _costs(
    space: Any, arch: Mapping[str, Any], followed: Any, cost: str | LatencyTable
) -> dict[str, float]:
    """Return the cost of each module without its children, by path."""
    if isinstance(cost, LatencyTable):
        if followed is None:
            return {}
        found: dict[str, float] = {}
        for place in timed(followed):
            if place.context.has(arch):
                block = place.blocks.at(arch)
                found[block.path] = found.get(block.path, 0.0) + cost.microseconds(block.key)
        return found
    if cost == "params":
        return _parameters(space, space.freeze(arch, device="meta"), space.canonical(arch))
    return {} if followed is None else _own(followed.modules(arch))


def _own(rows: Sequence[ModuleCost]) -> dict[str, float]:
    """Return the multiply-adds of each module without those of its children."""
    # Rows are in the order in which modules begin, each with its depth, and what a module costs
    # includes those in it. So the row above is the innermost module that has not ended.
    found: dict[str, float] = {}
    above: list[ModuleCost] = []
    for row in rows:
        del above[row.depth :]
        found[row.path] = found.get(row.path, 0.0) + row.macs
        if above:
            found[above[-1].path] -= row.macs
        above.append(row)
    return found


def _parameters(space: nn.Module, network: nn.Module, arch: Mapping[str, Any]) -> dict[str, float]:
    """Return the parameters of modules by their paths in the space; what is shared counts once."""
    found: dict[str, float] = {}
    counted: set[int] = set()
    for _, place, _, module in beside_space(space, network, arch):
        own = [p for p in module._parameters.values() if p is not None and id(p) not in counted]
        counted.update(map(id, own))
        found[place] = found.get(place, 0.0) + sum(p.numel() for p in own)
    return found


def beside_space(
    space: nn.Module, network: nn.Module, arch: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[Any], nn.Module]]:
    """Yield the modules of a network, beside those of the space that they come from.

    Of each the path in the network, that in the space, the choices that led to it and the module
    that they chose, and itself; each module before those in it.
    """
    waiting: list[tuple[str, str, Any, nn.Module]] = [("", "", space, network)]
    while waiting:
        path, place, origin, module = waiting.pop()
        origins = [origin]
        while isinstance(origin, LayerChoice):
            name = origin.expression("choice").evaluate(arch)
            place, origin = f"{place}.{name}".lstrip("."), origin[name]
            origins.append(origin)
        if isinstance(origin, Repeat):
            place, origin = f"{place}.blocks".lstrip("."), origin.blocks
        yield path, place, origins, module
        for name, child in reversed(list(module.named_children())):
            inner = None if origin is None else origin._modules.get(name)
            here, there = (f"{each}.{name}".lstrip(".") for each in (path, place))
            waiting.append((here, there, inner, child))


def _shares(costs: Mapping[str, float], owner: Mapping[str, int], rows: int) -> list[float]:
    """Return the share of each row, that of everything fixed last."""
    found = [0.0] * rows
    for path, cost in costs.items():
        place, above = owner.get(path), path
        while place is None and above:
            above = above.rpartition(".")[0]
            place = owner.get(above)
        found[rows - 1 if place is None else place] += cost
    total = sum(found) or 1.0
    return [cost / total for cost in found]


def shape_in_words(
    shapes: Sequence[tuple[int, ...]], path: str = "", kinds: Mapping[str, str] | None = None
) -> str:
    """Return the shape of a tensor without its batch, in the words of what it is.

    Parameters
    ----------
    shapes
        Of what a module gives, the batch included.
    path
        Of the module.
    kinds
        The classes of the modules by their paths, which say whether three axes are tokens or a
        signal: what a convolution, or a norm of channels, gives has its channels first.

    Examples
    --------
    >>> shape_in_words([(1, 64, 28, 28)]), shape_in_words([(1, 10)])
    ('64 channels, 28×28', '10 features')
    >>> shape_in_words([(1, 16, 32)])
    '16 tokens × 32 features'
    """
    if not shapes:
        return ""
    _, *rest = shapes[0]
    inside = [k for p, k in (kinds or {}).items() if p == path or p.startswith(f"{path}.")]
    signal = any("Conv1d" in k or "BatchNorm1d" in k or "Pool1d" in k for k in inside)
    last = next((k for k in reversed(inside) if "Linear" in k or "Norm" in k or "Conv" in k), "")
    more = f" (+{len(shapes) - 1})" if len(shapes) > 1 else ""
    if len(rest) == 1:
        return f"{rest[0]} features{more}".replace("1 features", "1 feature", rest[0] == 1)
    if len(rest) == 2 and not signal:
        return f"{rest[0]} tokens × {rest[1]} features{more}"
    if len(rest) >= 3 and ("Linear" in last or "LayerNorm" in last):
        return f"{'×'.join(map(str, rest[:-1]))} × {rest[-1]} features{more}"
    if len(rest) >= 2:
        word = "channel" if rest[0] == 1 else "channels"
        return f"{rest[0]} {word}, {'×'.join(map(str, rest[1:]))}{more}"
    return "a number" + more
