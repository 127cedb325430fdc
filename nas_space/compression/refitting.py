"""Fit what reads a cut group, so that a smaller network does what the larger one did.

A layer whose input has lost channels can make up for some of them: what it reads is correlated
with what is gone.  Its weights are fitted by least squares, on data without labels, layer by layer
in the order of the forward, each on what the layers before it give after they were fitted
themselves.  With few data the problem is ill-posed, so the present weights are the prior of a
ridge regression.

What is fitted decides whether this helps.  Where the output of a layer is added to something, as
in a residual block, the *sum* is what the teacher's network goes on with, and the smaller network
has another addend: fitting the output alone leaves that error in, and adds to it from block to
block.  And where the sum is normalised row by row, a row counts for its direction, not its size:
the few tokens on which transformers put outputs a hundred times larger than elsewhere (Sun et al.,
Massive Activations in Large Language Models, arXiv 2402.17762) would otherwise be all that is
fitted.  Both are found by following the output through the forward.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from ..errors import UsageError
from ..nn.computed_tensors import assign, is_assignable, mask_of
from ..training.modes import preserved_modes
from .adopted import AdoptedBlocks
from .calling import call, filled_rows
from .layouts import indices
from .parts import running
from .sorting import TensorLayout, channels_last, input_dim, is_weight

__all__ = ["paths", "refit"]

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_DROPOUTS = {"dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d"}
_ROWS = 1 << 15  # at once in float64: patches of convolutions are many


class _Reached(Exception):  # noqa: N818 - a forward that has gone as far as it is needed
    pass


def refit(
    space: nn.Module,
    plan: TensorLayout,
    network: nn.Module,
    arch: Mapping[str, Any],
    batches: Sequence[Any],
    teacher: nn.Module,
    model_arch: Mapping[str, Any] | None,
    ridge: float,
) -> None:
    """Fit the layers of a network that read less than those of the teacher: channels, or places.

    Parameters
    ----------
    teacher
        Its channels in the order of the space.
    model_arch
        What the teacher was frozen to; ``None`` for the original.
    """
    ours, theirs = dict(network.named_modules()), dict(teacher.named_modules())
    pairs = dict(paths(space, arch))
    models = {large: large for large in theirs}
    if model_arch is not None:
        _check_larger(arch, model_arch)
        models = {large: small for small, large in paths(space, model_arch)}
    layers: dict[str, str] = {}
    for small, large in pairs.items():
        dim = None if large not in models else input_dim(theirs[models[large]])
        if dim is None or small not in ours:
            continue
        less = zip(_weight(ours[small]).shape, _weight(theirs[models[large]]).shape, strict=True)
        if any(a < b for place, (a, b) in enumerate(less) if place != 1 - dim):
            layers[small] = large
    kept = {
        small: _kept(plan, arch, model_arch, large, theirs[models[large]])
        for small, large in layers.items()
    }
    before = {path: copy.deepcopy(ours[path].state_dict()) for path in layers}
    with preserved_modes(network), preserved_modes(teacher):
        network.eval()
        teacher.eval()
        try:
            with running("the network"):
                calls, sizes = _calls(network, batches[0], layers)
            most = sum(p.numel() * p.element_size() for p in teacher.parameters())
            for group in _groups(calls, {path: len(batches) * sizes[path] for path in calls}, most):
                followed = {theirs[models[layers[path]]]: calls[path] for path in group}
                with running("the teacher"):
                    wanted = [_followed(teacher, followed, batch) for batch in batches]
                for path in group:
                    layer, model = ours[path], theirs[models[layers[path]]]
                    targets = [passages.pop(model) for passages in wanted]
                    rows = _Rows(network, layer, model, kept[path], calls[path], batches, targets)
                    _fit(layer, rows, ridge)
        except BaseException:
            for path, state in before.items():
                ours[path].load_state_dict(state)
            raise


def _check_larger(arch: Mapping[str, Any], model_arch: Mapping[str, Any]) -> None:
    for label, value in arch.items():
        if label in model_arch and value > model_arch[label]:
            raise UsageError(
                f"the network has {value} of {label}, its teacher {model_arch[label]}; give a "
                "teacher that is larger in every choice, or the original"
            )


def _groups(paths: Iterable[str], sizes: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Layers in their order, so many at once that what the teacher has there takes ``most`` bytes.

    The forward of the teacher runs once for each of these groups.
    """
    group: list[str] = []
    for path in paths:
        if group and sum(map(sizes.__getitem__, [*group, path])) > most:
            yield group
            group = []
        group.append(path)
    if group:
        yield group


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _kept(
    plan: TensorLayout,
    arch: Mapping[str, Any],
    model_arch: Mapping[str, Any] | None,
    path: str,
    layer: nn.Module,
) -> Tensor | None:
    """The outputs of the teacher's layer that the smaller one has; ``None`` for all."""
    out = 1 - (input_dim(layer) or 0)
    for axis in plan.axes:
        if axis.dim == out and any(is_weight(path, layer, place) for place in axis.places):
            kept, whole = indices(axis.layout, plan.values(arch), plan.sizes)
            if model_arch is not None:
                there, _ = indices(axis.layout, plan.values(model_arch), plan.sizes)
                numbers = np.full(whole, -1)
                numbers[there] = np.arange(len(there))
                kept = numbers[kept]
                if (kept < 0).any():
                    raise UsageError(
                        f"the teacher has not all channels that the network has of {path}; give "
                        "the original"
                    )
            return torch.from_numpy(kept)
    return None


def _calls(
    network: nn.Module, batch: Any, layers: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, int]]:
    """How often each layer runs, in the order in which they first do; how many bytes it returns."""
    calls: dict[str, int] = {}
    sizes: dict[str, int] = {}

    def count(path: str) -> Any:
        def hook(_: Any, __: Any, out: Tensor) -> None:
            calls[path] = calls.get(path, 0) + 1
            sizes[path] = sizes.get(path, 0) + out.numel() * out.element_size()

        return hook

    handles = [network.get_submodule(path).register_forward_hook(count(path)) for path in layers]
    try:
        with torch.no_grad():
            call(network, batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls, sizes


def _fit(layer: nn.Module, rows: _Rows, ridge: float) -> None:
    """Least squares by the normal equations, which are summed over batches, in float64.

    What is no linear layer, or whose inputs are constant or not finite, stays as it is; so does
    what is computed from tensors of which nothing says how they would make another weight.  What
    was pruned stays zero: the rest is fitted without it.
    """
    if not (is_assignable(layer, "weight") and is_assignable(layer, "bias")):
        return
    weight = _weight(layer)
    flat = _flat(layer, weight.detach().double())
    bias: Tensor | None = layer.bias if isinstance(layer.bias, Tensor) else None
    prior = flat.T if bias is None else torch.cat([flat.T, bias.detach().double()[None]])
    gram = torch.zeros(len(prior), len(prior), dtype=prior.dtype, device=prior.device)
    cross = torch.zeros_like(prior)
    checked = False
    for found in rows:
        if found is None:
            return
        x, y, now, counted = found
        for part in zip(*(torch.split(t, _ROWS) for t in (x, y, now, counted)), strict=True):
            a, b, c, k = (tensor.double() for tensor in part)
            if bias is not None:
                a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
            if not checked and not _is_linear(a, prior, c):
                return
            checked = True
            gram += a.T @ (k[:, None] * a)
            cross += a.T @ (k[:, None] * b)
    strength = ridge * gram.diagonal().mean()
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    left, right = gram + strength * eye, cross - gram @ prior
    if not ridge:  # of inputs that depend on each other, only the CPU has the least solution
        left, right = left.cpu(), right.cpu()
    solved = prior + _solved(left, right, _unpruned(layer, prior)).to(prior)
    if not torch.isfinite(solved).all():
        return
    inner = solved if bias is None else solved[:-1]
    wanted = {"weight": _unflat(layer, inner.T, weight)}
    if bias is not None:
        wanted["bias"] = solved[-1]
    assign(layer, {name: value.to(weight) for name, value in wanted.items()})


def _unpruned(layer: nn.Module, prior: Tensor) -> Tensor | None:
    """Which of what is fitted was not pruned; ``None`` if nothing was."""
    masks = {name: mask_of(layer, name) for name in ("weight", "bias")}
    if all(mask is None or bool(mask.all()) for mask in masks.values()):
        return None
    free = torch.ones(prior.shape, dtype=torch.bool)
    if masks["weight"] is not None:
        inner = _flat(layer, masks["weight"]).T
        free[: len(inner)] = inner
    if masks["bias"] is not None:
        free[-1] = masks["bias"]
    return free


def _solved(left: Tensor, right: Tensor, free: Tensor | None) -> Tensor:
    """Solve for each column, with zeros where it is not free."""
    if free is None:
        whole: Tensor = torch.linalg.lstsq(left, right).solution
        return whole
    solved = torch.zeros_like(right)
    patterns, which = torch.unique(free, dim=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T.to(left.device)):
        columns = (which == number).nonzero().flatten().to(left.device)
        rows = pattern.nonzero().flatten()
        part = torch.linalg.lstsq(left[rows][:, rows], right[rows][:, columns]).solution
        solved[rows[:, None], columns] = part
    return solved


def _is_linear(x: Tensor, prior: Tensor, returned: Tensor) -> bool:
    """Whether a layer does what torch's does: a class of its own may pad, scale, or add to it."""
    near = 1e-2 * float(returned.square().mean().sqrt()) + 1e-6
    return torch.allclose(x @ prior, returned, 1e-2, near)


def _flat(layer: nn.Module, weight: Tensor) -> Tensor:
    return weight.T if input_dim(layer) == 0 else weight.flatten(1)


def _unflat(layer: nn.Module, flat: Tensor, weight: Tensor) -> Tensor:
    return flat.T if input_dim(layer) == 0 else flat.reshape(weight.shape)


def _columns(layer: nn.Module, x: Tensor) -> Tensor:
    """What the weights of a layer are multiplied with: patches, for a convolution."""
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return channels_last(layer, x)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode)
    sizes = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for dim, (size, stride, dilation) in enumerate(sizes, 2):
        x = x.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    inner = len(layer.kernel_size)  # (batch, channels, places, kernel), the kernel last
    x = x.movedim(1, 1 + inner)
    return x.flatten(1 + inner).flatten(0, inner)


# -- following what a layer returns ------------------------------------------------------------


@dataclass
class _Passage:
    """What a layer was given and returned in one call, and what happened to that.

    ``total`` is the sum that its output went into, of so many ``addends``; ``reader`` the module
    that takes it, and ``followed`` the tensor that it is by now.
    """

    given: Tensor
    returned: Tensor
    total: Tensor
    followed: Tensor
    addends: int = 0
    reader: nn.Module | None = None


class _Following(TorchFunctionMode):
    """Follows what layers return to the sums that they go into, and to what reads these."""

    def __init__(self, calls: Mapping[nn.Module, int]) -> None:
        super().__init__()
        self.calls = calls
        self.passages: dict[nn.Module, list[_Passage]] = {layer: [] for layer in calls}
        self.open: list[_Passage] = []

    def begin(self, layer: nn.Module, args: Any, out: Any) -> None:
        given, returned = args[0].detach().clone(), out.detach().clone()
        self.open.append(_Passage(given, returned, returned, out))
        self.passages[layer].append(self.open[-1])

    def read(self, module: nn.Module, args: Any) -> None:
        if module._modules:
            return
        read = [passage for passage in self.open if args and args[0] is passage.followed]
        if not type(module).__name__.startswith("Dropout") and not isinstance(module, nn.Identity):
            for passage in read:
                passage.reader = module
            self.close(read)

    def close(self, passages: Sequence[_Passage]) -> None:
        if not passages:
            return
        self.open = [passage for passage in self.open if all(passage is not p for p in passages)]
        done = all(len(self.passages[layer]) == n for layer, n in self.calls.items())
        if done and not self.open:
            raise _Reached

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        used = [p for p in self.open if any(arg is p.followed for arg in args)]
        if not used:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _ADDITIONS and not kwargs and len(args) == 2 and _alike(*args):
            sums = [
                passage.total + (args[1] if args[0] is passage.followed else args[0]).detach()
                for passage in used
            ]  # before the call, which may add in place
            out = func(*args, **kwargs)
            for passage, total in zip(used, sums, strict=True):
                passage.total, passage.followed = total, out
                passage.addends += 1
            return out
        out = func(*args, **kwargs)
        if name in _DROPOUTS:
            for passage in used:
                passage.followed = out
        elif isinstance(out, Tensor):
            self.close(used)
        return out


def _alike(one: Any, other: Any) -> bool:
    return isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape


def _followed(
    net: nn.Module, calls: Mapping[nn.Module, int], batch: Any
) -> dict[nn.Module, list[_Passage]]:
    """What becomes of the outputs of layers; the forward goes no further."""
    following = _Following(calls)
    handles: list[Any] = [layer.register_forward_hook(following.begin) for layer in calls]
    handles.append(register_module_forward_pre_hook(following.read))
    try:
        with torch.no_grad(), following:
            call(net, batch)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return following.passages


def _normalises(module: nn.Module | None, x: Tensor) -> bool:
    """Whether a module gives the same whatever the size of each row: a layer or RMS norm."""
    if module is None:
        return False
    factors = torch.linspace(1, 3, x[..., 0].numel(), device=x.device).to(x.dtype)
    with torch.no_grad():
        one, other = module(x), module(x * factors.reshape(x.shape[:-1])[..., None])
    if not _alike(one, x) or not _alike(other, x):
        return False
    return bool(torch.allclose(one, other, rtol=1e-2, atol=1e-2 * float(one.std())))


@dataclass
class _Rows:
    """The rows that a layer is fitted on.

    ``targets`` is what became of the outputs of its ``model`` in the teacher, by batch and call.
    """

    network: nn.Module
    layer: nn.Module
    model: nn.Module
    kept: Tensor | None
    calls: int
    batches: Sequence[Any]
    targets: Sequence[Sequence[_Passage]]
    by_direction: bool | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor] | None]:
        """Yield what the layer is given, is to return and returns, and what a row counts.

        ``None`` where the teacher has other rows, as where rows are channels that were cut.
        """
        for batch, theirs in zip(self.batches, self.targets, strict=True):
            mine = _followed(self.network, {self.layer: self.calls}, batch)[self.layer]
            for ours, wanted in zip(mine, theirs, strict=False):
                yield self._of(batch, ours, wanted)

    def _of(
        self, batch: Any, ours: _Passage, wanted: _Passage
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        if self.by_direction is None:
            self.by_direction = _normalises(ours.reader, ours.total)
        alike = ours.addends == wanted.addends
        target = channels_last(self.model, wanted.total if alike else wanted.returned)
        if self.by_direction and alike:
            size = target.double().square().mean(1)
            counted = size.mean() / size.clamp_min(1e-6 * size.mean())
        else:
            counted = torch.ones(len(target), dtype=torch.float64, device=target.device)
        if self.kept is not None:
            target = target.index_select(1, self.kept.to(target.device))
        now, x = channels_last(self.layer, ours.returned), _columns(self.layer, ours.given)
        if not len(x) == len(now) == len(target):
            return None
        if alike:
            target = target - (channels_last(self.layer, ours.total) - now)
        filled = filled_rows(batch, ours.given)
        if filled is not None:
            x, target, now, counted = (t[filled] for t in (x, target, now, counted))
        return x, target, now, counted


# -- the modules of two networks ---------------------------------------------------------------


def paths(space: nn.Module, arch: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the paths of modules in a frozen network, with those in the space."""
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
