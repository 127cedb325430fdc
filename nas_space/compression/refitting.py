"""Fit what reads a cut group, so that a smaller network does what the larger one did.

A layer whose input has lost channels can make up for some of them: what it reads is correlated
with what is gone.  Its weights are fitted by least squares to the output that the same layer has
in the teacher, on data without labels, layer by layer in the order of the forward, each on what
the layers before it give after they were fitted themselves.  With few data the problem is
ill-posed, so the present weights are the prior of a ridge regression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .adopted import AdoptedBlocks
from .calling import call
from .layouts import indices
from .sorting import TensorLayout, channels_last, input_dim

__all__ = ["refit"]


class _Reached(Exception):  # noqa: N818 - a forward that has gone as far as it is needed
    pass


def refit(
    space: nn.Module,
    plan: TensorLayout,
    network: nn.Module,
    arch: Mapping[str, Any],
    data: Iterable[Any],
    teacher: nn.Module,
    ridge: float,
    orders: Mapping[str, Any],
) -> list[str]:
    """Fit the layers of a network that read fewer channels than those of the teacher.

    Parameters
    ----------
    orders
        In which order the channels of the teacher come in the space.

    Returns
    -------
    list of str
        The paths of the layers that were fitted, in the order in which they were.
    """
    batches = list(data)
    if not batches:
        raise UsageError("refit needs data: batches of inputs of the network")
    ours, theirs = dict(network.named_modules()), dict(teacher.named_modules())
    pairs = dict(_paths(space, arch))
    values = plan.values(arch)
    layers: dict[str, str] = {}
    for small, large in pairs.items():
        dim = None if large not in theirs else input_dim(theirs[large])
        if dim is None or small not in ours:
            continue
        if _weight(ours[small]).shape[dim] < _weight(theirs[large]).shape[dim]:
            layers[small] = large
    training = [(module, module.training) for net in (network, teacher) for module in net.modules()]
    try:
        network.eval()
        teacher.eval()
        order = _order(network, batches[0], layers)
        for path in order:
            large = layers[path]
            kept = _kept(plan, values, large, theirs[large], orders)
            _fit(network, ours[path], teacher, theirs[large], batches, kept, ridge)
    finally:
        for module, mode in training:
            module.training = mode
    return order


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _kept(
    plan: TensorLayout,
    values: Mapping[str, int],
    path: str,
    layer: nn.Module,
    orders: Mapping[str, Any],
) -> Tensor | None:
    """The outputs of the teacher's layer that the smaller one has; ``None`` for all."""
    out = 1 - (input_dim(layer) or 0)
    for axis in plan.axes:
        if (path, "weight") in axis.places and axis.dim == out:
            return torch.from_numpy(indices(axis.layout, values, plan.sizes, orders)[0])
    return None


def _order(network: nn.Module, batch: Any, layers: Mapping[str, str]) -> list[str]:
    """The layers in the order in which they run."""
    found: dict[str, None] = {}
    handles = [
        network.get_submodule(path).register_forward_pre_hook(
            lambda *_, path=path: found.setdefault(path)
        )
        for path in layers
    ]
    try:
        with torch.no_grad():
            call(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(found)


def _fit(
    network: nn.Module,
    layer: nn.Module,
    teacher: nn.Module,
    model: nn.Module,
    batches: Sequence[Any],
    kept: Tensor | None,
    ridge: float,
) -> None:
    """Least squares by the normal equations, which are summed over batches."""
    weight = _weight(layer)
    flat = _flat(layer, weight.detach().double())
    bias: Tensor | None = layer.bias if isinstance(layer.bias, Tensor) else None
    gram = cross = None
    for batch in batches:
        x = _columns(layer, _seen(network, layer, batch, 0)).double()
        y = channels_last(model, _seen(teacher, model, batch, 1)).double()
        if kept is not None:
            y = y.index_select(1, kept.to(y.device))
        if bias is not None:
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        gram = x.T @ x if gram is None else gram + x.T @ x
        cross = x.T @ y if cross is None else cross + x.T @ y
    assert gram is not None
    assert cross is not None
    prior = flat.T if bias is None else torch.cat([flat.T, bias.detach().double()[None]])
    strength = ridge * gram.diagonal().mean()
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solved = prior + torch.linalg.solve(gram + strength * eye, cross - gram @ prior)
    if not torch.isfinite(solved).all():
        return  # nothing to fit: the inputs are constant, or not finite
    with torch.no_grad():
        if bias is not None:
            bias.copy_(solved[-1])
            solved = solved[:-1]
        weight.copy_(_unflat(layer, solved.T, weight))


def _flat(layer: nn.Module, weight: Tensor) -> Tensor:
    return weight.T if input_dim(layer) == 0 else weight.flatten(1)


def _unflat(layer: nn.Module, flat: Tensor, weight: Tensor) -> Tensor:
    return flat.T if input_dim(layer) == 0 else flat.reshape(weight.shape)


def _columns(layer: nn.Module, x: Tensor) -> Tensor:
    """What the weights of a layer are multiplied with: patches, for a convolution."""
    if isinstance(layer, nn.Conv2d):
        if isinstance(layer.padding, str):
            raise UsageError("refit does not know paddings by name; give them as numbers")
        patches = nn.functional.unfold(
            x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
        )
        return patches.movedim(1, -1).flatten(0, 1)
    return channels_last(layer, x)


def _seen(net: nn.Module, layer: nn.Module, batch: Any, which: int) -> Tensor:
    """What a layer is given (0), or returns (1); the forward goes no further."""
    seen: list[Tensor] = []

    def before(_: nn.Module, args: Any) -> None:
        seen.append(args[0].detach())
        raise _Reached

    def after(_: nn.Module, __: Any, out: Any) -> None:
        seen.append(out.detach())
        raise _Reached

    handle: Any = (
        layer.register_forward_hook(after) if which else layer.register_forward_pre_hook(before)
    )
    try:
        with torch.no_grad():
            call(net, batch)
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


def _paths(space: nn.Module, arch: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of modules in a frozen network, with those in the space."""
    with space.activate(arch):  # type: ignore[operator]
        yield from _below(space, "", "")


def _below(module: nn.Module, small: str, large: str) -> Iterator[tuple[str, str]]:
    yield small, large
    children = [(name, child) for name, child in module._modules.items() if child is not None]
    if isinstance(module, AdoptedBlocks):
        there = {id(block) for block in module.kept()}
        children = [(name, child) for name, child in children if id(child) in there]
    numbered = isinstance(module, AdoptedBlocks) and all(name.isdigit() for name, _ in children)
    for number, (name, child) in enumerate(children):
        ours = str(number) if numbered else name
        yield from _below(
            child, f"{small}.{ours}" if small else ours, f"{large}.{name}" if large else name
        )
