"""How many parameters the architectures of a space have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from ..nn.freezing import Cut, Freezer
from ..nn.module import MutableModule
from .cases import Array, Context, Guard, ordered, sizes, spread
from .explore import Dead, Explorer
from .failures import check
from .profile import Space, module_of
from .terms import Tables, titled


def params(space: Space) -> Any:
    """How many learnable parameters each architecture has: numbers, not tensors.

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


def count_parameters(space: Space, *, normalization: bool = True) -> Any:
    """As :func:`params`; those of normalisations may be left out."""
    space = module_of(space)
    census = _Census(() if normalization else _NORMALIZATIONS)
    with suppress(Dead):
        census.attempt(lambda: census.freezer.module(space))
    check(space, census.failures, "any inputs")
    return census.total(space)


_NORMALIZATIONS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


class _Census(Explorer):
    """Freezes a space for all of its architectures at once, without making anything.

    Parameters
    ----------
    ignored
        Classes of modules whose own parameters do not count.
    """

    def __init__(self, ignored: tuple[type[nn.Module], ...] = ()) -> None:
        super().__init__()
        self.ignored = ignored
        self.freezer = _Counting(self)
        self.uses: list[tuple[Any, int, Context]] = []

    @property
    def path(self) -> str:
        return ".".join(self.freezer.path)

    def mark(self) -> Any:
        return (len(self.failures), len(self.uses), len(self.freezer.path))

    def rollback(self, mark: Any) -> None:
        del self.failures[mark[0] :], self.uses[mark[1] :], self.freezer.path[mark[2] :]

    def merge(self, outcomes: Sequence[tuple[Guard, Any]]) -> Any:
        return outcomes[0][1]  # always the stub

    def total(self, space: nn.Module) -> Any:
        """The sum over all parameters that exist."""
        extents: dict[Any, int] = {}
        contexts: dict[Any, dict[int, Context]] = {}
        for key, extent, context in self.uses:
            extents[key] = extent
            contexts.setdefault(key, {})[id(context)] = context
        # Most parameters exist exactly where others do: those go together.
        together: dict[tuple[int, ...], tuple[int, list[Context]]] = {}
        for key, where in contexts.items():
            known = together.get(tuple(where), (0, []))[0]
            together[tuple(where)] = (known + extents[key], list(where.values()))
        tables = Tables(space)
        for extent, group in together.values():
            tables.add(Context(), *_anywhere(group, extent))
        return tables.sum()


def _anywhere(contexts: list[Context], number: int) -> tuple[Any, Array]:
    """A number where any of some contexts holds, else 0."""
    labels = ordered(*(context.labels for context in contexts))
    found: Array = np.zeros(sizes(labels), dtype=np.bool_)
    for context in contexts:
        mine, mask = context.exact(())
        found = found | spread(mask, mine, labels)
    return labels, np.where(found, number, 0)


class _Counting(Freezer):
    """Goes through what freezing would make, and counts parameters instead."""

    def __init__(self, census: _Census) -> None:
        super().__init__(census.values, "share")
        self.census = census
        self.inside: set[int] = set()
        self.stub = nn.Module()  # stands for all that would be made
        self.cloned: list[set[int]] = []

    def module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.inside:  # one may refer back to one that it is in
            self.inside.add(id(module))
            try:
                self.census.attempt(lambda: self._visit(module))
            finally:
                self.inside.discard(id(module))
        return self.stub

    def _visit(self, module: nn.Module) -> None:
        self.cloned.append(set())
        try:
            if isinstance(module, MutableModule):
                module.freeze_module(self)
            else:
                self.clone(module)
        finally:
            self.cloned.pop()

    def clone(
        self,
        module: nn.Module,
        kind: type[nn.Module] | None = None,
        attributes: Mapping[str, Any] | None = None,
        cuts: Mapping[str, Cut] | None = None,
    ) -> nn.Module:
        context = self.census.context
        self.cloned[-1].add(id(module))
        ignored = isinstance(module, self.census.ignored)
        for name, parameter in module._parameters.items():
            if parameter is None or ignored:
                continue
            cut = None if cuts is None else cuts.get(name)
            key: Any = id(parameter)
            extent = parameter.numel()
            if cut is not None:
                part = cut(torch.empty_like(parameter, device="meta"))
                if part is None:
                    continue
                if part.shape != parameter.shape:
                    key, extent = (key, part.storage_offset(), part.shape), part.numel()
            self.census.uses.append((key, extent, context))
        for name, child in module._modules.items():
            if child is not None and id(child) not in self.cloned[-1]:
                self.child(name, child)
        return self.stub

    def substitute(self, module: nn.Module, new: Any) -> Any:
        del module  # whose hooks it would get
        return new
