"""Training the shared weights of a space: one path to begin with, then random ones.

Random paths alone hardly train on small data: a layer meets another combination of
candidates before it in every step, and so nothing that it could rely on.  Therefore one path
is trained first, its weights are handed to all candidates of every choice, and blocks with a
residual connection begin as identities.  What all architectures compute is then alike and of
use, and random paths go on from there.  The idea is that of growing networks without changing
what they compute (Chen et al., *Net2Net*, arXiv 1511.05641).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..mutable import Sample
from ..nn import LayerChoice

__all__ = ["copy_to_candidates", "zero_last_norms"]


def zero_last_norms(space: nn.Module) -> None:
    """Set the last norm of each block that adds its input to zero: it begins as an identity.

    Goyal et al., arXiv 1706.02677, section 5.1.

    Parameters
    ----------
    space
        Blocks are its modules with an attribute ``has_skip`` that is true.
    """
    for module in space.modules():
        if getattr(module, "has_skip", False) is True:
            norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
            if norms and norms[-1].affine:
                nn.init.zeros_(norms[-1].weight)


@torch.no_grad()
def copy_to_candidates(space: nn.Module, arch: Sample) -> None:
    """Give the weights of the candidates on one path to the other candidates of each choice.

    Weights of the same name are copied as far as their shapes agree: the first channels, and
    the middle of kernels.  Where the receiver is larger, it computes the same all the same,
    as what its further inputs and the rims of its kernels add is zero.

    Parameters
    ----------
    space
        Is changed in place.
    arch
        The path.  Choices that are not on it stay as they are.

    Examples
    --------
    >>> from nas_space.nn import ModelSpace
    >>> class Net(ModelSpace):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.op = LayerChoice(
    ...             {"k3": nn.Conv2d(2, 4, 3, padding=1), "k5": nn.Conv2d(2, 4, 5, padding=2)},
    ...             label="op",
    ...         )
    ...
    ...     def forward(self, x):
    ...         return self.op(x)
    >>> space, x = Net(), torch.randn(1, 2, 8, 8)
    >>> copy_to_candidates(space, {"op": "k3"})
    >>> small, large = (space.freeze({"op": op}) for op in ("k3", "k5"))
    >>> torch.allclose(small(x), large(x), atol=1e-6)
    True
    """
    choices = [m for m in space.modules() if isinstance(m, LayerChoice) and m.label in arch]
    # Modules are listed from the outside in; the other way round, the choices within a candidate
    # have been given their weights by the time that the candidate hands on its own.
    for choice in reversed(choices):
        giver = choice[arch[choice.label]]
        given = dict(giver.named_parameters())
        for receiver in choice:
            if receiver is giver:
                continue
            # Statistics of batch norms are found anew for each architecture that is scored.
            for name, weight in receiver.named_parameters():
                if name in given and given[name].dim() == weight.dim():
                    _copy_common(given[name], weight)


def _copy_common(given: Tensor, taken: Tensor) -> None:
    """Copy what two tensors have in common."""
    if taken.dim() > 1:
        taken[: given.shape[0]] = 0
    here, there = [], []
    for axis, (mine, its) in enumerate(zip(taken.shape, given.shape, strict=True)):
        common = min(mine, its)
        # The first two axes are channels, the others those of a kernel, which has a middle. So a
        # kernel of 5 with zeros around that of 3 computes the same with its larger padding.
        offsets = ((mine - common) // 2, (its - common) // 2) if axis > 1 else (0, 0)
        here.append(slice(offsets[0], offsets[0] + common))
        there.append(slice(offsets[1], offsets[1] + common))
    taken[tuple(here)] = given[tuple(there)]
