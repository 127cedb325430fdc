"""Layers that read a concatenation in another order than the sum which is their width says."""

from __future__ import annotations

from typing import Any

import torch

from ..elastic import ElasticModule
from .weighted import Weighted

__all__ = ["misread"]


def misread(space: Any, *inputs: Any, **keywords: Any) -> list[str]:
    """Return what layers read elements of their input by the weights of others.

    A layer of ``w + v`` inputs keeps its columns for ``w`` and for ``v`` apart.  Where the
    forward concatenates the other way round, or a product stands for a concatenation, each
    architecture is still exactly what it is, but columns are shared by channels that have
    nothing to do with each other.  This follows the forward, for all architectures at once.

    Parameters
    ----------
    space
        The space; its weights and statistics stay as they are.
    inputs, keywords
        What it is called with.

    Returns
    -------
    list of str
        A sentence for each such layer, with its path; none if all is well.

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
    last, of in_features=w + v, reads elements that lie otherwise than w + v says: write the \
addends in the order in which they are concatenated, or flattened(...) for axes made one
    """
    probabilities = {
        label: torch.full((symbol.size,), 1 / symbol.size)
        for label, symbol in space.symbols().items()
    }
    mixture = Weighted(probabilities)
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
    found = dict.fromkeys((id(layer), name) for layer, name in mixture.misread)
    layers: dict[int, ElasticModule] = {id(layer): layer for layer, _ in mixture.misread}
    return [
        f"{paths.get(key, type(layers[key]).__name__)}, of {name}={layers[key].args[name]}, reads "
        f"elements that lie otherwise than {layers[key].args[name]} says: write the addends in the "
        "order in which they are concatenated, or flattened(...) for axes made one"
        for key, name in found
    ]
