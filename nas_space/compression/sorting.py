"""Sort the channels of a network by importance, without changing what it computes.

A choice keeps the first channels.  Which these are is decided here: the channels of each width
are permuted, in all tensors that have them alike, so that the most important come first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError, suggest
from ..nn.computed_tensors import PARAMETRIZATIONS, alike_in, mask_of
from ..nn.copying import copied
from .calling import call, filled_rows
from .layouts import Layout, Listed, indices
from .parts import running
from .symbolic import leaves_of, tensors_of

__all__ = ["Axis", "Loss", "TensorLayout", "in_order", "is_weight", "sort"]

Loss = Callable[[Any], Tensor]
"""Of what a network returns, the number that is to change little."""


@dataclass(frozen=True)
class Axis:
    """A dimension of a tensor that varies: the places of the tensor, and the layout."""

    places: tuple[tuple[str, str], ...]
    dim: int
    layout: Layout


@dataclass(frozen=True)
class TensorLayout:
    """How the tensors of a space are laid out.

    Attributes
    ----------
    axes
        The dimensions that vary.
    sizes
        The variables, with their values in the original.
    labels
        By variable, the label that decides it.
    sortable
        The variables whose order may change.
    """

    axes: tuple[Axis, ...]
    sizes: Mapping[str, int]
    labels: Mapping[str, str]
    sortable: frozenset[str]

    def of(self, name: str) -> list[Axis]:
        """Return the axes that a variable is a part of."""
        return [axis for axis in self.axes if name in names_in(axis.layout)]

    def values(self, arch: Mapping[str, Any]) -> dict[str, int]:
        """Return the values of the variables in an architecture."""
        return {
            name: arch.get(self.labels[name], size) if name in self.labels else size
            for name, size in self.sizes.items()
        }


def names_in(layout: Layout) -> frozenset[str]:
    """Return the variables in a layout."""
    if isinstance(layout, int):
        return frozenset()
    if isinstance(layout, str):
        return frozenset({layout})
    if isinstance(layout, Listed):
        return frozenset({layout.name})
    return frozenset().union(*map(names_in, layout.parts))


def listed_in(layout: Layout) -> frozenset[str]:
    """Return the variables in a layout whose elements are listed for each value: none may move."""
    if isinstance(layout, (int, str)):
        return frozenset()
    if isinstance(layout, Listed):
        return frozenset({layout.name})
    return frozenset().union(*map(listed_in, layout.parts))


def sort(
    space: nn.Module,
    plan: TensorLayout,
    known: dict[str, np.ndarray[Any, Any]],
    batches: Sequence[Any],
    by: Any,
    loss: Loss | None,
) -> None:
    """Sort the channels of a space, and note their order; see :meth:`ElasticSpace.sort_channels`.

    Parameters
    ----------
    known
        By variable, the order in which the channels of the original come by now.
    """
    if by is None:
        by = "activation" if batches else "magnitude"
    if not callable(by) and by not in _SCORES:
        raise UsageError(
            f"channels are sorted by {', '.join(_SCORES)} or a function, not {by!r}"
            f"{suggest(str(by), _SCORES)}"
        )
    if by in {"activation", "taylor"} and not batches:
        raise UsageError(f"to sort by {by!r}, data is needed: batches of inputs of the network")
    modules = dict(space.named_modules())
    if callable(by):
        scores = _summed(plan, modules, lambda path, name, tensor: by(f"{path}.{name}", tensor))
    else:
        with running("the network"):
            scores = _SCORES[by](space, plan, modules, batches, loss or _energy)
    orders = {
        name: np.argsort(-scores[name], kind="stable")
        for name in sorted(plan.sortable)
        if name in scores and np.isfinite(scores[name]).all()
    }
    permute(plan, modules, orders)
    known.update({n: known[n][order] if n in known else order for n, order in orders.items()})


def permute(
    plan: TensorLayout, modules: Mapping[str, nn.Module], orders: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Permute the elements of tensors, in place."""
    with torch.no_grad():
        for axis in plan.axes:
            if names_in(axis.layout).isdisjoint(orders):
                continue
            order, _ = indices(axis.layout, {}, plan.sizes, orders)
            tensor = held(modules, axis)
            places = torch.from_numpy(order).to(tensor.device)
            tensor.copy_(tensor.index_select(axis.dim, places))


def in_order(
    net: nn.Module, plan: TensorLayout, orders: Mapping[str, np.ndarray[Any, Any]]
) -> nn.Module:
    """Return a network with its channels in another order; the network itself stays as it is.

    The copy shares the tensors that have no such channels.

    Raises
    ------
    UsageError
        The network cannot be copied.
    """
    moved: dict[int, Any] = {id(tensor): tensor for tensor, _ in tensors_of(net).values()}
    modules = dict(net.named_modules())
    with torch.no_grad():
        for axis in plan.axes:
            if names_in(axis.layout).isdisjoint(orders):
                continue
            order, _ = indices(axis.layout, {}, plan.sizes, orders)
            # One for all its places, unless the ties were lost, as when weights were loaded.
            for key, tensor in {id(t := held(modules, axis, p)): t for p in axis.places}.items():
                places = torch.from_numpy(order).to(tensor.device)
                part = moved[key].index_select(axis.dim, places)
                is_parameter = isinstance(tensor, nn.Parameter)
                moved[key] = nn.Parameter(part, False) if is_parameter else part
    try:
        return copied(net, moved)
    except Exception as error:
        raise UsageError(
            f"the teacher cannot be copied to put its channels in the order of the space: {error}; "
            "give a network that the space was frozen to, or none"
        ) from error


def held(
    modules: Mapping[str, nn.Module], axis: Axis, place: tuple[str, str] | None = None
) -> Tensor:
    """Return the tensor of an axis; at which of its places, if they may have several."""
    path, name = place or axis.places[0]
    module = modules[path]
    found = module._parameters.get(name)
    return module._buffers[name] if found is None else found  # type: ignore[return-value]


def _along(score: Tensor, axis: Axis, plan: TensorLayout, name: str) -> np.ndarray[Any, Any]:
    """Return a score of the elements of a dimension as one of the values of a variable."""
    total = np.zeros(plan.sizes[name])
    flat = score.detach().double().cpu().numpy()
    for value in range(plan.sizes[name]):
        order = {name: np.array([value])}
        kept, _ = indices(axis.layout, {name: 1}, plan.sizes, order)
        total[value] = flat[kept].sum()
    return total


def _summed(
    plan: TensorLayout,
    modules: Mapping[str, nn.Module],
    score: Callable[[str, str, Tensor], Tensor],
) -> dict[str, np.ndarray[Any, Any]]:
    """By variable, the sums of scores of the elements of parameters."""
    totals: dict[str, np.ndarray[Any, Any]] = {}
    for axis in plan.axes:
        tensor = held(modules, axis)
        names = names_in(axis.layout) & plan.sortable
        if not names or not isinstance(tensor, nn.Parameter):
            continue
        made = score(*axis.places[0], tensor).detach()
        others = [dim for dim in range(made.dim()) if dim != axis.dim]
        flat = made.sum(others) if others else made
        for name in names:
            found = _along(flat, axis, plan, name)
            totals[name] = totals.get(name, 0) + found
    return totals


def _magnitude(
    space: nn.Module, plan: TensorLayout, modules: Mapping[str, nn.Module], batches: Any, loss: Any
) -> dict[str, np.ndarray[Any, Any]]:
    del space, batches, loss
    return _summed(
        plan, modules, lambda path, name, tensor: _seen(modules[path], name, tensor) ** 2
    )


def _seen(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A parameter as the forward sees it: without what was pruned."""
    mask = mask_of(module, name.removesuffix("_orig"))
    return tensor if mask is None else tensor * mask


def _taylor(
    space: nn.Module,
    plan: TensorLayout,
    modules: Mapping[str, nn.Module],
    batches: Sequence[Any],
    loss: Loss,
) -> dict[str, np.ndarray[Any, Any]]:
    """The square of the first-order change of the loss, if the channel were zero."""
    axes: dict[int, list[Axis]] = {}
    for axis in plan.axes:
        if names_in(axis.layout) & plan.sortable:
            axes.setdefault(id(held(modules, axis)), []).append(axis)
    changes: dict[str, np.ndarray[Any, Any]] = {}

    def note(parameter: nn.Parameter) -> None:
        """Take what a gradient tells, and let it go: all together are as large as the network."""
        gradient, parameter.grad = parameter.grad, None
        for axis in axes.get(id(parameter), ()):
            assert gradient is not None
            others = [dim for dim in range(parameter.dim()) if dim != axis.dim]
            change = parameter.detach() * gradient
            flat = change.sum(others) if others else change
            for name in names_in(axis.layout) & plan.sortable:
                changes[name] = changes.get(name, 0) + _along(flat, axis, plan, name)

    parameters = [p for p in space.parameters() if p.requires_grad]
    gradients = [p.grad for p in parameters]
    handles = [
        p.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
        for p in parameters
    ]
    totals: dict[str, np.ndarray[Any, Any]] = {}
    try:
        for parameter in parameters:
            parameter.grad = None
        for batch in batches:
            changes.clear()
            with torch.enable_grad(), space.activate(space.original):  # type: ignore[operator]
                loss(call(space, batch)).backward()  # type: ignore[no-untyped-call]
            for name, change in changes.items():
                totals[name] = totals.get(name, 0) + change**2
    finally:
        for handle in handles:
            handle.remove()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    return totals


def _activation(
    space: nn.Module,
    plan: TensorLayout,
    modules: Mapping[str, nn.Module],
    batches: Sequence[Any],
    loss: Any,
) -> dict[str, np.ndarray[Any, Any]]:
    """The power of the channel, times the power of the weights that read it."""
    del loss
    readers: dict[str, Axis] = {}
    for axis in plan.axes:
        path = axis.places[0][0].partition(f".{PARAMETRIZATIONS}")[0]
        if (
            names_in(axis.layout) & plan.sortable
            and input_dim(modules[path]) == axis.dim
            and is_weight(path, modules[path], axis.places[0])
        ):
            readers[path] = axis
    powers: dict[str, Tensor] = {}
    now: list[Any] = [None]  # the batch that runs: its mask says which rows are padding

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            x = channels_last(module, args[0]).detach()
            filled = filled_rows(now[0], args[0])
            x = (x if filled is None else x[filled]).double()
            powers[path] = powers.get(path, 0) + (x**2).sum(0)

        return hook

    handles = [modules[path].register_forward_pre_hook(watch(path)) for path in readers]
    try:
        for batch in batches:
            now[0] = batch
            with torch.no_grad(), space.activate(space.original):  # type: ignore[operator]
                call(space, batch)
    finally:
        for handle in handles:
            handle.remove()
    totals: dict[str, np.ndarray[Any, Any]] = {}
    for path, axis in readers.items():
        if path not in powers:
            continue
        weight = held(modules, axis) if axis.places[0] == (path, "weight") else None
        weight = _weight_of(modules[path]) if weight is None else weight.detach()
        weight = weight.double()
        others = [dim for dim in range(weight.dim()) if dim != axis.dim]
        read = (weight**2).sum(others)
        if read.shape != powers[path].shape:
            continue
        for name in names_in(axis.layout) & plan.sortable:
            totals[name] = totals.get(name, 0) + _along(read * powers[path], axis, plan, name)
    missing = _magnitude(space, plan, modules, (), None)
    return {name: totals.get(name, score) for name, score in missing.items()}


def is_weight(path: str, layer: nn.Module, place: tuple[str, str]) -> bool:
    """Return whether a tensor is the weight of a layer, or what that is computed from, alike."""
    source = ".".join(place).removeprefix(f"{path}.")
    return place == (path, "weight") or source in alike_in(layer, "weight")


def _weight_of(layer: nn.Module) -> Tensor:
    """The whole weight of a layer, which may be computed."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def input_dim(module: nn.Module) -> int | None:
    """Return the dimension of a layer's weight that its input is contracted with."""
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        groups = getattr(module, "groups", 1)  # which may vary
        return 1 if type(groups) is int and groups == 1 else None
    if type(module).__name__ == "Conv1D":  # of transformers: a linear layer the other way round
        return 0
    return None


def channels_last(module: nn.Module, x: Tensor) -> Tensor:
    """Return the input of a layer as a matrix: a row for each place, a column for each channel."""
    if isinstance(module, nn.modules.conv._ConvNd):
        x = x.movedim(1, -1)
    return x.reshape(-1, x.shape[-1])


def _energy(outputs: Any) -> Tensor:
    """The mean square of what a network returns: there is always one."""
    found = [leaf for leaf in leaves_of(outputs) if leaf.is_floating_point()]
    return torch.stack([leaf.float().square().mean() for leaf in found]).sum()


_SCORES: dict[str, Any] = {
    "magnitude": _magnitude,
    "activation": _activation,
    "taylor": _taylor,
}
