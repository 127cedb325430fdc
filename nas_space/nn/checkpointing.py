"""Gradient checkpointing: what runs again in the backward pass is the architecture that ran.

``torch.utils.checkpoint`` calls a part of the forward again when its gradients are asked for: after
the ``with`` that made an architecture active, within that of another one, or in a thread of
autograd, which has a context of its own. It restores the state of random numbers and of automatic
casts for that, and offers no way to add to these. So the two places where it keeps what it will
call again are extended here: with what is active when they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import checkpoint

from .activation import current

__all__ = ["install"]


def _as_active_here(function: Callable[..., Any], *, reentrant: bool) -> Callable[..., Any]:
    """Return a function that runs another one under what is active here, wherever it is called."""
    activation = current()
    if activation is None:
        return function
    captured = activation.for_recomputation(reentrant=reentrant)

    def again(*args: Any, **kwargs: Any) -> Any:
        with captured:
            return function(*args, **kwargs)

    return again


_make_frame: Any = checkpoint._CheckpointFrame.__init__
_run_reentrant: Any = checkpoint.CheckpointFunction.forward


def _frame(self: Any, recompute_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    if torch.is_grad_enabled():
        recompute_fn = _as_active_here(recompute_fn, reentrant=False)
    _make_frame(self, recompute_fn, *args, **kwargs)


def _reentrant(ctx: Any, run_function: Callable[..., Any], *args: Any) -> Any:
    again = _as_active_here(run_function, reentrant=True)
    outputs = _run_reentrant(ctx, run_function, *args)
    ctx.run_function = again
    return outputs


def install() -> None:
    """Have ``torch.utils.checkpoint`` keep what is active."""
    checkpoint._CheckpointFrame.__init__ = _frame  # type: ignore[method-assign]
    checkpoint.CheckpointFunction.forward = staticmethod(_reentrant)  # type: ignore[method-assign]
