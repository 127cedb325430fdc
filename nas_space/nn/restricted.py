"""``RestrictedSpace``: the networks of a space that meet some conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..mutable import Sample
from ..mutable.random_words import RandomState, words
from ..tables import Restricted
from .activation import Activation

__all__ = ["RestrictedSpace", "random"]


def random(
    self: Any,
    memo: Sample | None = None,
    random_state: RandomState = None,
    *,
    seed: RandomState = None,
    **freezing: Any,
) -> nn.Module:
    """Return a random network of a space: ``sample`` and ``freeze``.

    Parameters
    ----------
    memo
        Values already chosen; those chosen here are added.
    random_state, seed
        As for ``sample``; two names for one thing.
    freezing
        Passed on to ``freeze``.

    Raises
    ------
    ConstraintViolation
        If values already chosen, together with those drawn, do not meet the conditions.
    """
    sample: Sample = {} if memo is None else memo
    seed = random_state if seed is None else seed
    if sample:
        source = words(seed)
        self.fill(sample, lambda symbol: symbol.draw(source(symbol.words)))
    else:
        sample.update(self.sample(seed=seed))
    network: nn.Module = self.freeze(sample, **freezing)
    return network


class RestrictedSpace(Restricted[Any]):
    """The networks of a space that meet some conditions; what :meth:`ModelSpace.where` gives.

    What samples, freezes or searches a space takes this in its place.  To train the shared
    weights, train :attr:`space`, along architectures of this.
    """

    random = random

    def canonical(self, arch: Mapping[str, Any]) -> Sample:
        """Return that of the whole space, for an architecture that meets the conditions."""
        found: Sample = self._whole(arch).canonical(arch)
        return found

    def arch_id(self, arch: Mapping[str, Any]) -> str:
        """Return that of the whole space: an architecture has one id, restricted or not."""
        found: str = self._whole(arch).arch_id(arch)
        return found

    def network_id(self, arch: Mapping[str, Any]) -> str:
        """Return that of the whole space, for an architecture that meets the conditions."""
        found: str = self._whole(arch).network_id(arch)
        return found

    def explain(self, arch: Mapping[str, Any], input_shape: tuple[int, ...] | None = None) -> Any:
        """Return that of the whole space, for an architecture that meets the conditions."""
        return self._whole(arch).explain(arch, input_shape)

    def activate(self, arch: Mapping[str, Any]) -> Activation:
        """Return that of the whole space, for an architecture that meets the conditions."""
        activation: Activation = self._whole(arch).activate(arch)
        return activation

    def _whole(self, arch: Mapping[str, Any]) -> Any:
        """Return the whole space, for an architecture that meets the conditions."""
        self.validate(arch)
        return self.space
