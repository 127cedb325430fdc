"""Run the blocks of a network once for all networks that have them unchanged.

Networks that differ from an original in one place compute the same as that up to there.  Where
many of them are compared on the same data, most of the time would go into what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from ..training.result_cache import ResultCache
from .calling import call
from .symbolic import leaves_of

__all__ = ["BlockCache"]


class BlockCache:
    """What the blocks of a network return, for that and for others that have the same blocks.

    Blocks are the children of lists and sequences, the outermost ones.  One is passed over if the
    other network has it under the same path with the same values, it is given what it was given
    before, it is not in training mode, and no hook was put into it meanwhile, to watch it.

    Parameters
    ----------
    net
        The original, in evaluation mode.  A block of it that is changed in place is run again.
    batch
        Inputs of it.  If with all blocks passed over it returns anything else on them, such as
        where a block notes something for another, no block ever is.
    most
        Bytes that may be kept.

    Examples
    --------
    >>> net = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2)) for _ in range(3))).eval()
    >>> x = torch.ones(1, 2)
    >>> blocks = BlockCache(net, x, 1 << 10)
    >>> with blocks.of(net):
    ...     y = net(x)
    >>> torch.equal(y, net(x))
    True
    """

    def __init__(self, net: nn.Module, batch: Any, most: int) -> None:
        self.net = net
        self.paths = list(_blocks(net, ""))
        self.cache = ResultCache(most)
        with torch.no_grad():
            usual = leaves_of(call(net, batch))
            with self.of(net):
                call(net, batch)
                again = leaves_of(call(net, batch))
        if len(usual) != len(again) or not all(map(torch.equal, usual, again)):
            self.paths = []

    @contextmanager
    def of(self, network: nn.Module) -> Iterator[None]:
        """Enter a context in which a network passes over what the original has computed."""
        theirs, ours = dict(self.net.named_modules()), dict(network.named_modules())
        blocks = {path: ours[path] for path in self.paths if path in ours}
        before = {path: vars(block).get("forward") for path, block in blocks.items()}
        for path, block in blocks.items():
            run = partial(self._run, path, theirs[path], block, _hooks(block), block.forward)
            vars(block)["forward"] = run
        try:
            yield
        finally:
            for path, block in blocks.items():
                if before[path] is None:
                    del vars(block)["forward"]
                else:
                    vars(block)["forward"] = before[path]

    def _run(
        self,
        path: str,
        model: nn.Module,
        block: nn.Module,
        hooks: set[int],
        forward: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if torch.is_grad_enabled() or any(module.training for module in block.modules()):
            return forward(*args, **kwargs)
        if not _hooks(block) <= hooks or not _is_same(block, model):
            return forward(*args, **kwargs)
        leaves, form = tree_flatten((args, kwargs))
        versions = [tensor._version for tensor in _tensors(model).values()]
        given = [path, str(form), *versions, *leaves]
        known = self.cache.find(given)
        if known is None:
            known = forward(*args, **kwargs)
            if block is model:
                self.cache.keep(given, tree_map(_copied, known))
            return known
        return tree_map(_copied, known)  # for what is returned may be changed in place


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _blocks(module: nn.Module, path: str) -> Iterator[str]:
    for name, child in module.named_children():
        below = f"{path}.{name}" if path else name
        if isinstance(module, nn.ModuleList | nn.Sequential) and any(child.children()):
            yield below
        else:
            yield from _blocks(child, below)


def _hooks(block: nn.Module) -> set[int]:
    """The hooks in a block: libraries have some of their own everywhere."""
    return {
        key
        for module in block.modules()
        for key in (*module._forward_hooks, *module._forward_pre_hooks)
    }


def _is_same(block: nn.Module, model: nn.Module) -> bool:
    if block is model:
        return True
    ours, theirs = _tensors(block), _tensors(model)
    return ours.keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[name]) for name, tensor in ours.items()
    )


def _tensors(block: nn.Module) -> dict[str, Tensor]:
    return {**dict(block.named_parameters()), **dict(block.named_buffers())}
