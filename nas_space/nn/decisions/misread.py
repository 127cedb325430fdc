"""Layers that read a concatenation in another order than the sum which is their width says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np
import torch

from ...errors import NasSpaceError
from ...mutable.node import Node, key_of, leaves
from ..elastic import ElasticModule
from ..places import Indices
from ..segments import addends, flattened
from .mixed_axis import MixedAxis, axis_of
from .mixed_tensor import MixedTensor
from .mixer import Atoms, Values, readers_of, union
from .refusals import CannotMixError
from .weighted import Weighted

__all__ = ["misread"]

Found: TypeAlias = dict[str, dict[str, None]]
"""The paths of the layers that each sentence is true of."""

_MOST_TURNS = 8
"""How often a space is followed at most, each time with other values of what is no width."""

_MOST_ADDENDS = 4
"""Up to how many addends all orders are tried, to say which one is right."""


def misread(space: Any, *inputs: Any, **keywords: Any) -> list[str]:
    """Return what layers read elements of their input by the weights of others.

    A layer of ``w + v`` inputs keeps its columns for ``w`` and for ``v`` apart.  Where the
    forward concatenates the other way round, or a product stands for a concatenation, each
    architecture is still exactly what it is, but columns are shared by channels that have
    nothing to do with each other.  This follows the forward, for all widths at once.
    :func:`nas_space.profiler.profile`, and so every count of multiply-adds, warns of the same.

    Of every label that is not of a width, such as a candidate or a stride, one value is taken at
    a time, and each has its turn, up to a limit; and so of what cannot be mixed.

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
        well, as far as the space runs.

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
    # Labels of input widths are mixed, as the question is whether elements meet in *all* values of
    # these.  Every other label has one value at a time, for a mixture over candidates would run
    # combinations by the thousand: in turn t, its t-th value from the last, so that as many turns
    # as the largest label has values show each value once.  A label that turns out not to be
    # mixable is taken one value at a time as well, and the turn is repeated.
    found: Found = {}
    widths = _labels_of_inputs(space)
    sizes = {
        label: symbol.size for label, symbol in space.symbols().items() if symbol.size is not None
    }
    single = set(sizes) - widths
    turn = 0
    while turn == 0 or turn < min(max(sizes[label] for label in single), _MOST_TURNS):
        while (more := _turn(found, space, sizes, turn, single, inputs, keywords)) - single:
            single |= more
        turn += 1
        if not single:
            break
    return _sentences(found)


def _labels_of_inputs(space: Any) -> set[str]:
    layers = [module for module in space.modules() if isinstance(module, ElasticModule)]
    sizes = [
        value
        for layer in layers
        for name, value in layer.args.items()
        if layer.widths is None or name == layer.widths.inputs
    ]
    return {leaf.name for leaf in leaves(*[size for size in sizes if isinstance(size, Node)])}


def _turn(
    found: Found,
    space: Any,
    sizes: Mapping[str, int],
    turn: int,
    single: Set[str],
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
) -> Set[str]:
    """Run a space as a mixture, and note each layer that pairs weights with other elements.

    Returns
    -------
    set of str
        The labels of what could not be mixed, because of which it has ended early.
    """
    support = {label: ((sizes[label] - 1 - turn) % sizes[label],) for label in sorted(single)}
    mixture = _Look(
        {label: _even(size, support.get(label, range(size))) for label, size in sizes.items()},
        support,
    )
    training = {module: module.training for module in space.modules()}
    try:
        space.eval()
        with torch.no_grad(), mixture:
            space(*inputs, **keywords)
    except CannotMixError as error:
        return sizes.keys() & set(error.labels)
    except NasSpaceError:
        pass
    finally:
        for module, mode in training.items():
            module.training = mode
        paths = {id(module): path for path, module in space.named_modules()}
        for layer, name, axis in mixture.misread or ():
            path = paths.get(id(layer), type(layer).__name__)
            size = layer.args[name]
            if str(size).startswith("listed("):
                continue  # whoever lists places has seen to it, and has no other way to write them
            said = _said(name, size, axis, mixture)
            found.setdefault(said, {}).setdefault(path)
    return frozenset()


class _Look(Weighted):
    """A mixture whose axes are followed, and whose numbers are not.

    So what is run case by case is not kept apart: it gets the axes of what it was made of, where
    these are as long.  This is a guess, as a function may reorder elements; it is the best one for
    a diagnosis, and nothing is computed with it.
    """

    def __init__(
        self, probabilities: Mapping[str, torch.Tensor], support: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__(probabilities, support)
        self.said: list[tuple[Any, str, Any]] = []
        self.misread = self.said
        self._seen: dict[Any, tuple[Any, Any, list[tuple[str, Any]]]] = {}

    def whole(self, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return run(*args, **kwargs)

    def elastic(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the output of a layer; of layers that are alike, and read alike, the same one.

        Without numbers, what a layer gives follows from its arguments and from how its input lies.
        Networks repeat cells, whose layers differ in nothing but their weights.
        """
        # The outcomes are one object for all contexts in which the same is possible.
        x = args[0] if len(args) == 1 and not kwargs else None
        wide, axes = (x.wide, x.axes) if isinstance(x, MixedTensor) else (x, ())
        if not isinstance(wide, torch.Tensor) or layer.reparametrization is not None:
            return super().elastic(layer, *args, **kwargs)
        atoms = union(layer.blueprint.wanted, layer.blueprint.atoms, *(a.atoms for a in axes if a))
        outcomes = self.marginals.outcomes(atoms, self.known)
        arguments = key_of(dict(layer.args))
        key = (type(layer), arguments, id(outcomes), wide.shape, wide.dtype, *map(id, axes))
        found = self._seen.get(key)
        if found is None:
            before = len(self.said)
            output = super().elastic(layer, x)
            said = [(name, axis) for _, name, axis in self.said[before:]]
            # With what the identities in the key are of.
            found = self._seen[key] = output, (layer, outcomes, axes), said
        else:
            self.said += [(layer, name, axis) for name, axis in found[2]]
        return found[0]

    def called(self, module: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return run(*args, **kwargs)  # numbers that are read have one value at a time

    def gathered(
        self,
        atoms: Atoms,
        cases: dict[Any, torch.Tensor],
        inputs: Sequence[Any],
        own: Sequence[MixedAxis],
    ) -> Any:
        first = next(iter(cases.values()))
        if len({case.dim() for case in cases.values()}) > 1:
            return super().gathered(atoms, cases, inputs, own)
        axes = [self._axis(atoms, cases, dim, inputs, own) for dim in range(first.dim())]
        sizes = [
            n if axis is None else axis.size for n, axis in zip(first.shape, axes, strict=True)
        ]
        return MixedTensor.of(self, first.new_zeros(sizes), axes)

    def _axis(
        self,
        atoms: Atoms,
        cases: dict[Any, torch.Tensor],
        dim: int,
        inputs: Sequence[Any],
        own: Sequence[MixedAxis],
    ) -> MixedAxis | None:
        sizes = {key: case.shape[dim] for key, case in cases.items()}
        if len(set(sizes.values())) == 1:
            return None
        readers = {
            key: values
            for values in readers_of(atoms, self.marginals.support)
            if (key := key_of(tuple(map(values, atoms)))) in sizes
        }
        known = set(map(id, atoms))
        back = dim - next(iter(cases.values())).dim()
        for axis in (*_candidates(inputs, dim, back), *own):
            if known.issuperset(map(id, axis.atoms)) and all(
                len(axis.indices(values)) == sizes[key] for key, values in readers.items()
            ):
                return axis

        def first_ones(values: Values) -> Indices:
            return np.arange(sizes.get(key_of(tuple(map(values, atoms))), 0))

        longest = max(sizes.values())
        return MixedAxis(atoms, longest, first_ones, self.marginals.support, is_known=False)


def _candidates(inputs: Sequence[Any], dim: int, back: int) -> Iterator[MixedAxis]:
    """Yield the axes of inputs, those of the same dimension first, counted from the end."""
    every = [item.axes for item in inputs if isinstance(item, MixedTensor) and item.axes]
    same = [axes[back] for axes in every if len(axes) >= -back]
    same += [axes[dim] for axes in every if len(axes) > dim]
    for axis in (*same, *(axis for axes in every for axis in axes)):
        if axis is not None:
            yield axis


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
