"""What happens while NNI makes a supernet: weights move in, and limits of NNI are named."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import SpaceError
from ..nn import ElasticModule
from ..nn.segments import layout_of

__all__ = ["hooks_for", "unconditional"]


def unconditional(strategy: str) -> str:
    """Return what to say where a strategy of NNI's cannot deal with the conditions of a space."""
    return (
        f"NNI's {strategy} does not know constraints; the limit is NNI's: give it the space "
        "without its conditions, or use NNI's Random, GridSearch or RegularizedEvolution, or "
        "nas_space.strategy, where they hold"
    )


def hooks_for(space: nn.Module, strategy: Any, *, constrained: bool) -> list[Callable[..., Any]]:
    """Return the hooks that a space asks NNI to call on each of its modules, before NNI's own.

    Parameters
    ----------
    space
        Whose weights the supernet gets.
    strategy
        One of NNI's.
    constrained
        Whether the space has conditions.

    Raises
    ------
    SpaceError
        If the space is constrained: NNI's one-shot strategies would not hold the conditions.
    """
    if constrained:
        raise SpaceError(unconditional(type(strategy).__name__))
    return [partial(prepare, space, type(strategy).__name__)]


def prepare(
    space: nn.Module, strategy: str, module: nn.Module, name: str, memo: Any, options: Any
) -> nn.Module | None:
    """Return what takes the place of a module, with the weights of the space.

    Called by NNI with everything from ``module`` on.

    Raises
    ------
    SpaceError
        If NNI cannot do it.
    """
    import nni.nas.nn.pytorch as nas_nn
    from nni.nas.oneshot.pytorch.supermodule.operation import NATIVE_MIXED_OPERATIONS

    # What NNI would do without a word, or refuse by a message about its own parts, is refused here
    # in words about the space.
    found: Any = module
    if type(found) is nas_nn.Repeat and found.min_depth == 0 and strategy != "Proxyless":
        raise _limit(strategy, name, "it cannot leave out all blocks of a Repeat")
    if type(module) is nas_nn.InputChoice:
        _check_inputs(module, strategy, name)
    if not (isinstance(module, nas_nn.ParametrizedModule) and module.mutables):
        return None
    if strategy == "Proxyless":
        raise _limit(strategy, name, "it chooses between layers, not between values of arguments")
    mine = space.get_submodule(name)
    if isinstance(mine, ElasticModule):
        # NNI cuts the leading elements of a weight. Where a width is a concatenation, the leading
        # ones of each part are meant, and so its supernet would share weights of other channels.
        for size in mine.wanted:
            if not layout_of(size).is_prefix:
                what = f"it takes the first so many of {size}, wherever these come from"
                raise _limit(strategy, name, what)
    for operation in NATIVE_MIXED_OPERATIONS:
        if isinstance(module, operation.bound_type):
            try:
                mixed: nn.Module = operation.mutate(module, name, memo, options)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise _limit(strategy, name, str(error)) from error
            copy_weights(mine, mixed, strategy, name)
            mixed.training = module.training
            return mixed
    kinds = ", ".join(operation.bound_type.__name__ for operation in NATIVE_MIXED_OPERATIONS)
    raise _limit(strategy, name, f"only {kinds} have weights that NNI shares")


def _check_inputs(module: Any, strategy: str, name: str) -> None:
    by_path = strategy in {"RandomOneShot", "ENAS"}
    if by_path and module.n_chosen is None:
        raise _limit(strategy, name, "it chooses a fixed number of inputs (n_chosen)")
    known = ["sum", "mean", *(["concat"] if by_path else [])]
    if module.reduction not in known:
        raise _limit(strategy, name, f"it reduces inputs by one of {', '.join(known)}")


def copy_weights(mine: nn.Module, mixed: nn.Module, strategy: str, name: str) -> None:
    """Copy the tensors of one of our layers into the one that NNI shares."""
    theirs = mixed.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, tensor in mine.state_dict(keep_vars=True).items():
            if theirs[key].shape != tensor.shape:
                what = (
                    f"it keeps {key} in the shape {tuple(theirs[key].shape)}, where "
                    f"{tuple(tensor.shape)} has all architectures"
                )
                raise _limit(strategy, name, what)
            theirs[key].copy_(tensor)


def _limit(strategy: str, name: str, what: str) -> SpaceError:
    return SpaceError(
        f"NNI's {strategy} cannot handle {name!r}: {what}; the limit is NNI's, and "
        f"nas_space.strategy has strategies without it"
    )
