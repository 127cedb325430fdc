"""Training the shared weights of a space along random paths, from small beginnings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_space.mutable import Sample
from nas_space.mutable.randomness import Words, words
from nas_space.study.fingerprint import unrestricted

__all__ = ["calm_residuals", "widening_paths"]


def calm_residuals(space: nn.Module) -> None:
    """Sets the last norm of each block that adds its input to zero, so that it begins as an identity.

    Paths of different depths then agree at the start (Goyal et al., arXiv 1706.02677, section
    5.1); without it, shared weights of deep spaces hardly train on small data.
    """
    for module in space.modules():
        if getattr(module, "has_skip", False) is True:
            norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            if norms and norms[-1].affine:
                torch.nn.init.zeros_(norms[-1].weight)


def widening_paths(
    space: Any, steps: int, seed: int, *, begin: float = 0.05, end: float = 0.6
) -> Callable[[int], AbstractContextManager[Any]]:
    """A random path for each step: at first one architecture, in the end any.

    Each label is drawn at random with a probability that rises from 0 to 1 between two shares
    of the steps, and else has the value of an architecture drawn at the beginning.  From then
    on paths are drawn as ``space.sample`` does.  What step ``t`` runs depends on the seed and
    on ``t`` alone.

    Parameters
    ----------
    space
        A space, or a restriction of one, from which the first architecture is drawn.
    steps
        How many there are.
    seed
        Of the paths.
    begin, end
        Shares of the steps at which paths begin to widen, and at which they are fully random.

    Returns
    -------
    callable
        For the ``path`` of :func:`nas_space.training.fit`.
    """
    whole = unrestricted(space)
    anchor: Sample = space.sample(seed=seed)

    def path(step: int) -> AbstractContextManager[Any]:
        share = (step / max(1, steps) - begin) / (end - begin)
        return whole.activate(_mixed(whole, anchor, min(1.0, max(0.0, share)), seed, step))  # type: ignore[no-any-return]

    return path


def _mixed(space: Any, anchor: Sample, share: float, seed: int, step: int) -> Sample:
    source: Words = words(np.random.SeedSequence([seed, step]))
    limit = int(share * 2**32)

    def choose(symbol: Any) -> Any:
        random = symbol.draw(source(symbol.words))
        keep = int(source(1)[0]) >> 32 >= limit
        return anchor[symbol.label] if keep and symbol.label in anchor else random

    arch: Sample = {}
    space.fill(arch, choose)
    return arch
