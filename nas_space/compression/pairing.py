"""Find blocks that cannot be left out of a list, since the code tells them by their places.

Without one, all that come after it move up.  Where blocks run one after the other, nothing is lost
by that.  But experts among which a router chooses by number would take each other's part, and so
would scales, norms or embeddings that stand in a list of their own, one for each block.  Of both,
shapes say nothing, and whatever comes out is as good a network as any, only not the original
without the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .depth import OptionalBlocks
from .symbolic import leaves_of
from .trial import Trial, alike

__all__ = ["told_by_place"]


class _Reading(TorchFunctionMode):
    """Notes which parameters functions are given, and which elements of these are taken out."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.read: set[tuple[int, int | None]] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.names:
                self.read.add((id(leaf), None))
        if func is Tensor.__getitem__ and id(args[0]) in self.names:
            first = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
            if type(first) is int:
                self.read.add((id(args[0]), first))
        if func is nn.functional.embedding and args[0].numel() == 1 and id(args[1]) in self.names:
            self.read.add((id(args[1]), int(args[0])))
        return func(*args, **(kwargs or {}))


def told_by_place(trial: Trial, run: OptionalBlocks) -> str | None:
    """Return why no block of a run can be left out; ``None`` if they can.

    Parameters
    ----------
    trial
        Runs the network.
    run
        Its blocks, which run if some are left out.
    """
    children = list(trial.modules[run.path]._modules.values())
    place = run.optional[0]
    block = children[place]
    assert block is not None
    names = {key: _name(places) for key, (_, places) in trial.tensors.items()}
    with _Reading(names) as before:
        trial.run({})
    with trial.smaller({}, {run.path: [place]}, [run]), _Reading(names) as after:
        without = trial.run({})
    own = {id(tensor) for tensor in (*block.parameters(), *block.buffers())}
    unread = sorted((names[k], -1 if i is None else i) for k, i in before.read - after.read)
    unread = [(name, i) for name, i in unread if name not in {names[k] for k in own & names.keys()}]
    if unread:
        name, item = unread[0]
        which = name if item < 0 else f"{name}[{item}]"
        return f"{which} is paired with a block by its place, and would go with another one"
    following = children[place + 1] if place + 1 < len(children) else None
    first, second = (block, following) if following is not None else (children[place - 1], block)
    if first is None or second is None or _reaches(trial, first, second):
        return None
    if not trial.is_random and alike(without, _changed(trial, block, torch.zeros_like)):
        return None  # such as the terms of a sum
    return "they stand side by side, and the code tells them by their places, as experts"


def _name(places: list[tuple[str, str]]) -> str:
    path, name = places[0]
    return f"{path}.{name}" if path else name


def _reaches(trial: Trial, first: nn.Module, second: nn.Module) -> bool:
    """Whether what one block returns has an influence on what another one is given."""
    given: list[list[Tensor]] = []

    def note(_: nn.Module, args: Any, kwargs: Any) -> None:
        given.append([leaf.detach().clone() for leaf in leaves_of((args, list(kwargs.values())))])

    handle = second.register_forward_pre_hook(note, with_kwargs=True)
    try:
        trial.run({})
        usual = given.pop() if given else []
        _changed(trial, first, lambda x: x + 1 + x.abs())
        other = given.pop() if given else []
    finally:
        handle.remove()
    return len(usual) != len(other) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(usual, other, strict=True)
    )


def _changed(trial: Trial, block: nn.Module, change: Any) -> list[Tensor]:
    """Return what the network does if what a block returns is another one."""

    def hook(_: nn.Module, __: Any, result: Any) -> Any:
        if isinstance(result, Tensor):
            return change(result)
        if isinstance(result, (tuple, list)) and result and isinstance(result[0], Tensor):
            return type(result)((change(result[0]), *result[1:]))
        return result

    handle = block.register_forward_hook(hook)
    try:
        return trial.run({})
    finally:
        handle.remove()
