"""In which order an expression may ask for labels, so that it asks for none that is inactive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from torch import nn

from ..errors import DecompositionError
from ..mutable import Mutable
from ..mutable.factors import Factor
from ..mutable.node import Leaf, Node
from ..nn.structure import Survey
from ..tables.activity import Activity
from .cases import Label, Labels

Known = Mapping[Label, Sequence[int]]
"""Labels that were asked for, and which codes they may have after the answers."""


class Order:
    """What may be asked first of the architectures of a space.

    A table over labels says what something is, but not which of the labels an architecture has:
    ``t`` may be there since ``k`` is 1 or since ``op`` is, and the first question then depends on
    the answers before.

    Parameters
    ----------
    space
        The space, or any other module.
    """

    def __init__(self, space: nn.Module) -> None:
        self._space = space

    def first(self, labels: Labels, known: Known) -> Label:
        """A label that every architecture with some answers has, and that tells more of them.

        Parameters
        ----------
        labels
            On which labels something depends, given the answers.
        known
            The answers.

        Returns
        -------
        Label
            One of the labels if that may be; else one that decides whether they are active.
        """
        asked = list(labels)
        for label in asked:  # grows meanwhile
            reach = self._reach.get(label.symbol)
            if reach is None or (reach := _under(reach, known)).always:
                if label in labels or len(known.get(label, range(label.size))) > 1:
                    return label
                continue
            deciding = [Label.of(symbol) for symbol in reach.scope if isinstance(symbol, Leaf)]
            asked += [label for label in deciding if label not in asked]
        return labels[0]

    @cached_property
    def _reach(self) -> dict[Leaf, Factor]:
        space = self._space
        root: Node | None = space.structure() if isinstance(space, Mutable) else Survey()(space)
        try:
            return {} if root is None else Activity.of(root).reach
        except DecompositionError:
            return {}  # of something that no cost needs, or it would have been refused before


def _under(reach: Factor, known: Known) -> Factor:
    """A condition after some answers."""
    values = reach.values
    for axis, variable in enumerate(reach.scope):
        if isinstance(variable, Leaf) and (codes := known.get(Label.of(variable))) is not None:
            values = values.take(codes, axis)
    return Factor(reach.scope, values)
