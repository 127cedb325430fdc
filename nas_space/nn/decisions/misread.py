"""Layers that read a concatenation in another order than the sum which is their width says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import permutations
from typing import Any, TypeAlias

import torch

from ...errors import NasSpaceError
from ...mutable.node import Node, leaves
from ..elastic import ElasticModule
from ..segments import addends, flattened
from .mixed_axis import MixedAxis, axis_of
from .weighted import Weighted

__all__ = ["misread", "misread_as_far_as_it_runs"]

Found: TypeAlias = dict[str, dict[str, None]]
"""What is said of layers, and the paths of those it is said of."""

_MOST_TURNS = 8
"""How often a space is followed at most, each time with other values of what is no width."""

_MOST_ADDENDS = 4
"""Up to how many addends all orders are tried, to say which one is right."""


def misread(space: Any, *inputs: Any, **keywords: Any) -> list[str]:
    """Return what layers read elements of their input by the weights of others.

    A layer of ``w + v`` inputs keeps its columns for ``w`` and for ``v`` apart.  Where the
    forward concatenates the other way round, or a product stands for a concatenation, each
    architecture is still exactly what it is, but columns are shared by channels that have
    nothing to do with each other.  This follows the forward, for all architectures at once.
    :func:`nas_space.profiler.profile`, and so every count of multiply-adds, warns of the same.

    Parameters
    ----------
    space
        The space; its weights and statistics stay as they are.
    inputs, keywords
        What it is called with.

    Returns
    -------
    list of str
        A sentence for such layers, with the path of the first that it is true of; none if all is
        well.

    Raises
    ------
    SpaceError
        If the space cannot run as a mixture.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import ModelSpace, MutableLinear
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         w, v = (Categorical([1, 3], label=label) for label in "wv")
    ...         self.a, self.b = MutableLinear(2, w), MutableLinear(2, v)
    ...         self.last = MutableLinear(w + v, 1)
    ...
    ...     def forward(self, x):
    ...         return self.last(torch.cat([self.b(x), self.a(x)], -1))
    >>> print(*misread(Net(), torch.zeros(1, 2)))
    last, of in_features=w + v, reads elements that lie otherwise than w + v says: write v + w
    """
    found: Found = {}
    _follow(found, space, {}, inputs, keywords)
    return _sentences(found)


def misread_as_far_as_it_runs(
    space: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> list[str]:
    """As :func:`misread`, for spaces that no mixture can run too, and in less time.

    What layers read differs by the labels of their widths.  Of every other label, such as a
    candidate or a stride, one value is taken at a time, and each has its turn, up to a limit; so
    what is followed is as long as one architecture, and what is found before something is refused
    counts.
    """
    found: Found = {}
    widths = _labels_of_inputs(space)
    others = {
        label: symbol.size
        for label, symbol in space.symbols().items()
        if symbol.size is not None and label not in widths
    }
    for turn in range(min(max(others.values(), default=1), _MOST_TURNS)):
        support: dict[str, tuple[int, ...]] = {
            label: ((size - 1 - turn) % size,) for label, size in others.items()
        }
        with suppress(NasSpaceError):
            _follow(found, space, support, inputs, keywords)
    return _sentences(found)


def _labels_of_inputs(space: Any) -> set[str]:
    layers = [module for module in space.modules() if isinstance(module, ElasticModule)]
    sizes = [layer.args.get(str(layer.widths.inputs)) for layer in layers if layer.widths]
    return {leaf.name for leaf in leaves(*[size for size in sizes if isinstance(size, Node)])}


def _follow(
    found: Found,
    space: Any,
    support: dict[str, tuple[int, ...]],
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> None:
    """Run a space as a mixture, and note each layer that reads what lies otherwise."""
    mixture = Weighted(
        {
            label: _even(symbol.size, support.get(label, range(symbol.size)))
            for label, symbol in space.symbols().items()
            if symbol.size is not None
        },
        support,
    )
    mixture.misread = []
    training = {module: module.training for module in space.modules()}
    try:
        space.eval()
        with torch.no_grad(), mixture:
            space(*inputs, **keywords)
    finally:
        for module, mode in training.items():
            module.training = mode
        paths = {id(module): path for path, module in space.named_modules()}
        for layer, name, axis in mixture.misread:
            path = paths.get(id(layer), type(layer).__name__)
            said = _said(name, layer.args[name], axis, mixture)
            found.setdefault(said, {}).setdefault(path)


def _even(size: int, codes: Any) -> torch.Tensor:
    vector = torch.zeros(size)
    vector[list(codes)] = 1 / len(codes)
    return vector


def _sentences(found: Found) -> list[str]:
    return [
        next(iter(paths)) + (f" (and {len(paths) - 1} more)" if len(paths) > 1 else "") + said
        for said, paths in found.items()
    ]


def _said(name: str, size: Any, axis: MixedAxis, mixture: Weighted) -> str:
    width = size[-1] if isinstance(size, (tuple, list)) else size
    support = mixture.marginals.support
    for other in _written_otherwise(width):
        its = axis_of(other, support)
        if its is not None and its.always_meets(axis):
            advice = f"write {other}"
            break
    else:
        advice = (
            "write the addends in the order in which they are concatenated, or flattened(...) for "
            "axes made one"
        )
    return f", of {name}={size}, reads elements that lie otherwise than {width} says: {advice}"


def _written_otherwise(width: Any) -> Iterator[Any]:
    """Yield the sizes of equal value that are likely to be meant."""
    terms = addends(width)
    if 1 < len(terms) <= _MOST_ADDENDS:
        for order in permutations(terms):
            yield sum(order[1:], order[0])
    factors = _factors(width)
    if 1 < len(factors) <= _MOST_ADDENDS:
        for order in permutations(factors):
            yield flattened(*order)


def _factors(width: Any) -> list[Any]:
    """Return what a product is a product of; plain numbers as one."""
    if not isinstance(width, Node) or width.operator is None or width.operator.name != "mul":
        return [width]
    found = [factor for argument in width.arguments for factor in _factors(argument)]
    plain = [factor for factor in found if isinstance(factor, int)]
    return [*([math.prod(plain)] if plain else []), *(f for f in found if isinstance(f, Node))]
