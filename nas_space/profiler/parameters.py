"""How many parameters the architectures of a space have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from ..mutable.factors import Factor
from ..mutable.piecewise import Piecewise
from ..nn.elastic import ElasticModule
from ..nn.freezing import Cut, Freezer
from ..nn.module import MutableModule
from .accumulation import Accumulator, largest, titled
from .contexts import Context
from .explore import Dead, Explorer
from .failures import check
from .profile import Space, module_of

__all__ = ["count_parameters", "params"]


def params(space: Space) -> Any:
    """Return how many learnable parameters each architecture has: numbers, not tensors.

    Every ``nn.Parameter`` of the frozen network counts, whether it is trained at the moment
    or not, and one that is used in several places counts once.

    Parameters
    ----------
    space
        A space; any other module counts as one of a single architecture.

    Returns
    -------
    MutableExpression[int]
        A plain ``int`` where all architectures have as many.

    Raises
    ------
    SpaceError
        If some architecture cannot be frozen.
    DecompositionError
        If too many labels determine together whether a parameter exists.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> from nas_space.nn import MutableLinear
    >>> cost = params(MutableLinear(8, Categorical([2, 4], label="width")))
    >>> cost.evaluate({"width": 4})
    36
    """
    return titled(count_parameters(space), "params")


def count_parameters(space: Space, counts: Callable[[nn.Module], bool] = lambda _: True) -> Any:
    """Do as :func:`params`, for the modules whose own parameters ``counts`` says count."""
    space = module_of(space)
    census = _Census(space, counts)
    with suppress(Dead):
        census.attempt(lambda: census.freezer.module(space))
    check(space, census.failures, "any inputs")
    return census.total(space)


def _tied(space: nn.Module) -> frozenset[int]:
    found = Counter(id(p) for module in space.modules() for p in module._parameters.values())
    return frozenset(key for key, number in found.items() if number > 1)


_Cut: TypeAlias = Callable[[torch.Tensor, Any], torch.Tensor | None]
"""What takes the part of a tensor that has some shape."""


class _ParameterUse(NamedTuple):
    """That some module has a parameter, or a part of it.

    Attributes
    ----------
    parameter
        The parameter of the space.
    rule
        What decides which part: by equal rules, an architecture has the same part.
    cut
        What takes the part of some shape.
    shapes
        The shape of the part; ``None`` where it is not there.
    context
        The architectures that have the module.
    """

    parameter: nn.Parameter
    rule: object
    cut: _Cut
    shapes: Piecewise
    context: Context

    def numbers(self) -> Factor:
        """Return how many numbers it has."""
        return self.shapes.quantity(lambda shape: 0 if shape is None else self._number(shape))

    def _number(self, shape: tuple[int, ...]) -> int:
        if len(shape) == self.parameter.dim() and 1 not in self.parameter.shape:
            return math.prod(shape)
        part = self.cut(torch.empty_like(self.parameter, device="meta"), shape)
        return 0 if part is None else part.numel()

    def parts(self) -> Iterator[tuple[Any, Context, int]]:
        """Yield the different parts: what tells each from others, who has it, and its size."""
        whole = torch.empty_like(self.parameter, device="meta")
        for place, shape in enumerate(self.shapes.values):
            part = None if shape is None else self.cut(whole, shape)
            if part is not None:
                context = self.context.within(self.shapes.where(place))
                yield (part.storage_offset(), tuple(shape)), context, part.numel()


class _Census(Explorer):
    """Freezes a space for all of its architectures at once, without making anything.

    Parameters
    ----------
    space
        The space.
    counts
        Whether the own parameters of a module count.
    """

    def __init__(self, space: nn.Module, counts: Callable[[nn.Module], bool]) -> None:
        super().__init__(space)
        self.tied = _tied(space)
        self.counts = counts
        self.freezer = _Counting(self)
        self.uses: list[_ParameterUse] = []

    @property
    def path(self) -> str:
        return ".".join(self.freezer.path)

    def mark(self) -> Any:
        return (len(self.failures), len(self.uses), len(self.freezer.path))

    def rollback(self, mark: Any) -> None:
        del self.failures[mark[0] :], self.uses[mark[1] :], self.freezer.path[mark[2] :]

    def merge(self, outcomes: Sequence[tuple[Factor, Any]]) -> Any:
        return outcomes[0][1]  # always the stub

    def total(self, space: nn.Module) -> Any:
        """Return the sum over all parameters that exist."""
        uses: dict[int, list[_ParameterUse]] = {}
        for use in self.uses:
            uses.setdefault(id(use.parameter), []).append(use)
        # Most parameters exist exactly where others do: those go together.
        together: dict[Any, _Numbers] = {}
        for group in uses.values():
            for found in _different(group):
                known = together.get(key := tuple(found))
                more = found if known is None else {at: known[at] + found[at] for at in found}
                together[key] = more
        accumulator = Accumulator(space)
        for found in together.values():
            # Each part counts once, in whichever of its places; where several hold, they agree.
            accumulator.add(largest(*(at[0].only(number) for at, number in found.items())))
        return accumulator.sum()


_Numbers: TypeAlias = "dict[tuple[Context, frozenset[Any]], Factor]"
"""How many numbers there are, by the architectures that have them and what they depend on."""


def _different(uses: list[_ParameterUse]) -> Iterator[_Numbers]:
    """How many numbers a parameter is, and where: parts that differ are told apart."""
    if all(use.rule == uses[0].rule for use in uses):
        yield {(use.context, frozenset(use.shapes.scope)): use.numbers() for use in uses}
        return
    parts: dict[Any, _Numbers] = {}
    for use in uses:
        for key, context, number in use.parts():
            parts.setdefault(key, {})[context, frozenset()] = Factor.constant(number)
    yield from parts.values()


class _Counting(Freezer):
    """Goes through what freezing would make, and counts parameters instead."""

    def __init__(self, census: _Census) -> None:
        super().__init__(census.values, "share")
        self.census = census
        self.inside: set[int] = set()
        self.stub = nn.Module()  # stands for all that would be made
        # By identity, with the modules: one made on the way must not give its identity to another.
        self.cloned: list[dict[int, nn.Module]] = []

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.inside:  # one may refer back to one that it is in
            self.inside.add(id(module))
            try:
                self.census.attempt(lambda: self._visit(module))
            finally:
                self.inside.discard(id(module))
        return self.stub

    def _visit(self, module: nn.Module) -> None:
        self.cloned.append({})
        try:
            if isinstance(module, MutableModule):
                module.freeze_module(self)
            else:
                self.clone(module)
        finally:
            self.cloned.pop()

    def elastic(self, layer: ElasticModule) -> nn.Module:
        """Count for all values of the layer's arguments at once: there may be many."""
        census, blueprint = self.census, layer.blueprint
        extents = census.over_arguments(layer, blueprint.extents)
        placed: Piecewise | None = None
        reparametrization = layer.reparametrization
        added = {} if reparametrization is None else reparametrization.added
        for prefix, holder in (("", layer), *layer._modules.items()):
            if holder is None or not census.counts(holder):
                continue
            for leaf, parameter in holder._parameters.items():
                if parameter is None:
                    continue
                name = f"{prefix}.{leaf}" if prefix else leaf
                if name not in extents.values[0]:
                    if id(parameter) not in added:
                        self._note(parameter)
                    continue
                shapes = extents.map(partial(_plain, name))
                if name in blueprint.segmented and id(parameter) in census.tied:
                    # Other elements of the same number are another part.
                    placed = placed or census.over_arguments(
                        layer,
                        lambda chosen: blueprint.extents(chosen, lambda a: a.places(chosen)),
                        blueprint.atoms,
                    )
                    shapes = placed.map(partial(_plain, name))
                self._note(parameter, (id(layer), name), partial(layer.cut, name), shapes)
        for parameter in layer.parameters() if added else ():
            if id(parameter) in added:
                its = added[id(parameter)]
                rule, cut = (id(layer), its.name, its.kind), partial(_cut_like, layer, its)
                self._note(parameter, rule, cut, extents.map(partial(_plain, its.name)))
        return self.stub

    def clone(
        self,
        module: nn.Module,
        kind: type[nn.Module] | None = None,
        attributes: Mapping[str, Any] | None = None,
        cuts: Mapping[str, Cut] | None = None,
    ) -> nn.Module:
        self.cloned[-1][id(module)] = module
        counts = self.census.counts(module)
        for name, parameter in module._parameters.items() if counts else ():
            if parameter is None:
                continue
            cut = None if cuts is None else cuts.get(name)
            part = parameter if cut is None else cut(torch.empty_like(parameter, device="meta"))
            if part is None:
                continue
            if cut is None or part.shape == parameter.shape:
                self._note(parameter)
            else:
                shapes = Piecewise.constant(tuple(part.shape))
                self._note(parameter, object(), partial(_whatever_shape, cut), shapes)
        for name, child in module._modules.items():
            if child is not None and id(child) not in self.cloned[-1]:
                self.child(name, child)
        return self.stub

    def _note(
        self,
        parameter: nn.Parameter,
        rule: object = "all of it",
        cut: _Cut | None = None,
        shapes: Piecewise | None = None,
    ) -> None:
        if cut is None or shapes is None:
            cut, shapes = _all_of_it, Piecewise.constant(tuple(parameter.shape))
        self.census.uses.append(_ParameterUse(parameter, rule, cut, shapes, self.census.context))

    def substitute(self, module: nn.Module, new: Any) -> Any:
        del module  # whose hooks it would get
        return new


def _plain(name: str, extents: Mapping[str, Any]) -> tuple[int, ...] | None:
    shape = extents[name]
    return None if shape is None else tuple(shape)


def _cut_like(
    layer: ElasticModule, added: Any, tensor: torch.Tensor, shape: Any
) -> torch.Tensor | None:
    part: torch.Tensor | None = added.cut(partial(layer.cut, added.name, shape=shape), tensor)
    return part


def _all_of_it(tensor: torch.Tensor, shape: Any) -> torch.Tensor:
    del shape
    return tensor


def _whatever_shape(cut: Cut, tensor: torch.Tensor, shape: Any) -> torch.Tensor | None:
    del shape
    return cut(tensor)
