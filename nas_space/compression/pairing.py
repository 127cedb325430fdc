"""Find blocks that cannot be left out of a list, since the code tells them by their places.

Without one, all that come after it move up.  Where blocks run one after the other, nothing is lost
by that.  But experts among which a router chooses by number would take each other's part, and so
would scales, norms, embeddings, kinds of masks that stand in a list of their own, one for each
block.  Of these, shapes say nothing, and whatever comes out is as good a network as any, only not
the original without the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .blocks import below
from .depth import OptionalBlocks
from .symbolic import leaves_of
from .trial import Trial, alike

__all__ = ["told_by_place"]


class _Reading(TorchFunctionMode):
    """Notes which parameters functions are given, and which elements of these are taken out."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names
        self.read: set[tuple[str, int | None]] = set()
        self.loops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        for leaf in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.names:
                self.read.add((self.names[id(leaf)], None))
        if func is Tensor.__getitem__ and id(args[0]) in self.names:
            first = args[1][0] if isinstance(args[1], tuple) and args[1] else args[1]
            if type(first) is int:
                self.read.add((self.names[id(args[0])], first))
        if func is nn.functional.embedding and args[0].numel() == 1 and id(args[1]) in self.names:
            self.read.add((self.names[id(args[1])], int(args[0])))
        return func(*args, **(kwargs or {}))


class _NotedList(list[Any]):
    """A list that notes which of its items are read."""

    def __init__(self, items: Sequence[Any], name: str, reading: _Reading) -> None:
        super().__init__(items)
        self.name, self.reading = name, reading

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if isinstance(place, slice):
            return _NotedList(found, self.name, self.reading) if not place.start else found
        self.reading.read.add((self.name, place))
        return found

    def __iter__(self) -> Iterator[Any]:
        # What goes through all of it says nothing of blocks; what goes through it beside them stops
        # with them, and does not come back for more after the last.
        self.reading.loops += 1
        name = f"{self.name} (in loop {self.reading.loops})"
        for place, item in enumerate(super().__iter__()):
            yield item
            self.reading.read.add((name, place))


@contextmanager
def _lists_noted(trial: Trial, length: int, reading: _Reading) -> Iterator[None]:
    """Enter a context in which lists of a length note what is read of them.

    Those of modules, and of what they hold beside modules, such as a configuration; and only where
    not all items are alike, for else it does not matter which is read.
    """
    owners: dict[int, tuple[str, Any]] = {}
    for path, module in trial.modules.items():
        owners[id(module)] = path, module
        for name, value in vars(module).items():
            if hasattr(value, "__dict__") and not isinstance(value, (Tensor, type)):
                owners.setdefault(id(value), (below(path, name), value))
    swapped: list[tuple[dict[str, Any], str, list[Any], str]] = []
    for path, owner in owners.values():
        for name, value in vars(owner).items():
            if type(value) is not list or len(value) != length:
                continue
            if all(isinstance(item, (str, int, float)) for item in value) and len(set(value)) > 1:
                swapped.append((vars(owner), name, value, below(path, name)))
    try:
        for state, name, value, path in swapped:
            state[name] = _NotedList(value, path, reading)
        yield
    finally:
        for state, name, value, _ in swapped:
            state[name] = value


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
    names = {key: ".".join(filter(None, places[0])) for key, (_, places) in trial.tensors.items()}
    following = [child for child in children[place + 1 :] if child is not None]
    reads, inputs = [], []
    for left_out in ([], [place]):
        reading = _Reading(names)
        with (
            trial.smaller(trial.sizes, {run.path: left_out}, [run]),
            _lists_noted(trial, len(children), reading),
            _given(following) as given,
            reading,
        ):
            returned = trial.run({})
        reads.append(reading.read)
        inputs.append(given)
    own = {names[id(t)] for t in (*block.parameters(), *block.buffers()) if id(t) in names}
    unread = sorted((n, -1 if i is None else i) for n, i in reads[0] - reads[1] if n not in own)
    if unread:
        name, item = unread[0]
        which = name if item < 0 else f"{name}[{item}]"
        return f"{which} is paired with a block by its place, and would go with another one"
    if trial.is_random or not following:
        return None
    with _given(following) as after:
        _changed(trial, block, lambda x: x + 1 + x.abs())
    usual, without = inputs
    if _differ(usual.get(following[0], []), after.get(following[0], [])):
        for child in following:
            beside = zip(*(g.get(child, []) for g in (usual, after, without)), strict=False)
            if any(_same(u, a) and not _same(u, w) for u, a, w in beside):
                return "what a block is given beside the output of the one before tells its place"
        return None
    if alike(returned, _changed(trial, block, torch.zeros_like)):
        return None  # such as the terms of a sum
    return "they stand side by side, and the code tells them by their places, as experts"


@contextmanager
def _given(blocks: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """Enter a context that notes the tensors that blocks are given when they first run."""
    found: dict[nn.Module, list[Tensor]] = {}

    def note(block: nn.Module, args: Any, kwargs: Any) -> None:
        leaves = leaves_of((args, list(kwargs.values())))
        found.setdefault(block, [leaf.detach().clone() for leaf in leaves])

    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _differ(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return len(ours) != len(theirs) or not all(map(_same, ours, theirs))


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
