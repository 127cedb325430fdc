"""Asking a space of networks about its costs, and restricting it by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import DecompositionError, DomainError
from ..mutable import Mutable, Sample
from ..mutable.bounds import combinations_of
from ..mutable.random_words import RandomState, words
from ..tables import Bounds, Restricted, Scored, Tradeoff, best, bounds, count, grid, pareto

if TYPE_CHECKING:
    from .activation import Activation
    from .explanation import Explanation
    from .space import ModelSpace  # noqa: F401


_FEW = 2**16
"""How many combinations are gone through in order, those that constraints forbid included."""


class Countable(Mutable):
    """What a space of networks answers exactly, by its labels alone.

    Costs are expressions over the labels, such as those of :mod:`nas_space.profiler`.
    """

    def where(self, *conditions: Any, attempts: int | None = None) -> RestrictedSpace:
        """The architectures that meet some conditions, as a space.

        See :func:`nas_space.tables.restrict`.  The space stays as it is, and its weights are
        those of the restricted one.  A cost is about labels: that of a space with other labels
        is refused, that of one with the same labels and other widths is taken as it is.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> from nas_space.mutable import MutableExpression
        >>> space = ProxylessNAS(width_mult=0.25)
        >>> depth = MutableExpression.sum(space.simplify()[f"s{i}_depth"] for i in range(2, 7))
        >>> space.where(depth <= 6).count()
        1446336
        """
        return RestrictedSpace.of(self, conditions, attempts)  # type: ignore[arg-type]

    def grid(self, memo: Sample | None = None, granularity: int | None = None) -> Iterator[Any]:
        combinations = combinations_of(list(self.symbols().values()))
        few = combinations is not None and combinations <= _FEW
        if memo or granularity is not None or few or not self.constraints():
            yield from super().grid(memo, granularity)
            return
        try:
            yield from self._allowed(memo)
        except (DecompositionError, DomainError):
            yield from super().grid(memo, granularity)

    def _allowed(self, memo: Sample | None) -> Iterator[Any]:
        """What the constraints allow, without going through what they do not."""
        for arch in grid(self):
            if memo is not None:
                memo.clear()
                memo.update(arch)
            yield self.freeze(arch)

    def count(self) -> int:
        """How many different architectures there are; see :func:`nas_space.tables.count`.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> ProxylessNAS(width_mult=0.25).count()
        54375883032510144
        """
        return count(self)

    def bounds(self, cost: Any) -> Bounds:
        """The lowest and the highest cost; see :func:`nas_space.tables.bounds`."""
        return bounds(self, cost)

    def best(self, objective: Any, k: int = 1, *, maximize: bool = False) -> list[Scored]:
        """The ``k`` best architectures by an objective; see :func:`nas_space.tables.best`."""
        return best(self, objective, k, maximize=maximize)

    def pareto(
        self, first: Any, second: Any, *, maximize: tuple[bool, bool] = (False, False)
    ) -> list[Tradeoff]:
        """The trade-offs between two objectives; see :func:`nas_space.tables.pareto`."""
        return pareto(self, first, second, maximize=maximize)


class RestrictedSpace(Restricted["ModelSpace"]):
    """The networks of a space that meet some conditions; what :meth:`ModelSpace.where` gives.

    What samples, freezes or searches a space takes this in its place.  To train the shared
    weights, train :attr:`space`, along architectures of this.
    """

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """As of the whole space, for an architecture that meets the conditions."""
        self.validate(arch)
        return self.space.canonical(arch)

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """As of the whole space: an architecture has one id, restricted or not."""
        self.validate(arch)
        return self.space.arch_id(arch)

    def network_id(self, arch: Mapping[str, Any]) -> str:
        """As of the whole space, for an architecture that meets the conditions."""
        self.validate(arch)
        return self.space.network_id(arch)

    def explain(
        self, arch: Mapping[str, Any], input_shape: tuple[int, ...] | None = None
    ) -> Explanation:
        """As of the whole space, for an architecture that meets the conditions."""
        self.validate(arch)
        return self.space.explain(arch, input_shape)

    def activate(self, arch: Mapping[str, Any]) -> Activation:
        """As of the whole space, for an architecture that meets the conditions."""
        self.validate(arch)
        return self.space.activate(arch)

    def random(
        self,
        memo: Sample | None = None,
        random_state: RandomState = None,
        *,
        seed: RandomState = None,
        **freezing: Any,
    ) -> nn.Module:
        """A random network within the restriction: :meth:`sample` and :meth:`freeze`.

        Parameters
        ----------
        memo
            Values already chosen; those chosen here are added.
        random_state, seed
            As for :meth:`sample`; two names for one thing.
        freezing
            Passed on to :meth:`freeze`.

        Raises
        ------
        ConstraintViolation
            If values already chosen, together with those drawn, do not meet the conditions.
        """
        source = words(random_state if seed is None else seed)
        sample: Sample = {} if memo is None else memo
        if sample:
            self.fill(sample, lambda symbol: symbol.draw(source(symbol.words)))
        else:
            sample.update(self.sample(seed=seed if random_state is None else random_state))
        frozen: nn.Module = self.freeze(sample, **freezing)
        return frozen
