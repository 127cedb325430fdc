"""Networks that share their parameters with the space they came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import nn

__all__ = ["SharedWeights"]


class SharedWeights(nn.Module):
    """What a network does that was frozen with ``weights='share'``: it copies before it changes.

    Evaluating it needs no copy.  What would train, move, load or save the network gives it
    parameters of its own first, after which the space and the network know nothing of each
    other.  This holds for what is asked of the network itself; what reaches into one of its
    parameters in place, past these methods, reaches the space's.
    """

    def _share(self, parameters: list[tuple[nn.Parameter, bool]]) -> None:
        """Note which parameters are views of others, and whether these are trained."""
        self.__dict__["_shared"] = parameters

    def own_weights(self) -> Self:
        """Give the network parameters of its own, if it shares them; return it.

        Examples
        --------
        >>> from nas_space.hub import ProxylessNAS
        >>> space = ProxylessNAS(num_labels=10, width_mult=0.25)
        >>> net = space.freeze(space.sample(seed=0), weights="share")
        >>> net.classifier.weight.data_ptr() == space.classifier.weight.data_ptr()
        True
        >>> net.own_weights().classifier.weight.data_ptr() == space.classifier.weight.data_ptr()
        False
        """
        for parameter, trains in self.__dict__.pop("_shared", ()):
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(trains)
        return self

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.own_weights()
        return super().train(mode)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        if requires_grad:
            self.own_weights()
        return super().requires_grad_(requires_grad)

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        return super(SharedWeights, self.own_weights()).apply(fn)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        moved: Self = super(SharedWeights, self.own_weights())._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return super(SharedWeights, self.own_weights()).state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return super(SharedWeights, self.own_weights()).load_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super(SharedWeights, self.own_weights()).__getstate__()  # type: ignore[no-untyped-call]
        return dict(state)
