"""What a network and its inputs must be: else they are refused, by path, with what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import UsageError
from ..nn import ModelSpace, MutableModule
from .adopted import RESERVED, origin_of
from .calling import arguments_of
from .symbolic import own_tensors

__all__ = ["batches_in", "check_inputs", "check_network", "check_plain"]


def check_network(net: Any, space: type[nn.Module]) -> None:
    """Raise if a network cannot become a space.

    Parameters
    ----------
    net
        The network.
    space
        What it is to become: names that this has are taken.

    Raises
    ------
    UsageError
        With the path of the module, and what to do.
    """
    check_plain(net, "elastic")
    _check_names(net, space)


def check_plain(net: Any, method: str) -> None:
    """Raise if a network cannot be read: it is none, is wrapped, or its tensors are not plain.

    Parameters
    ----------
    net
        The network.
    method
        What takes it.

    Raises
    ------
    UsageError
        With the path of the module, and what to do.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(f"{method} takes a module of torch, but got a {type(net).__name__}")
    for path, module in net.named_modules():
        where = repr(path) if path else "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(f"{where} is compiled by torch.jit; give the module it was made of")
        if isinstance(module, torch._dynamo.eval_frame.OptimizedModule):
            raise UsageError(
                f"{where} is compiled by torch.compile; give the module it was made of, which is "
                "its attribute _orig_mod"
            )
        if isinstance(module, MutableModule):
            if "_architecture" in vars(module):
                raise UsageError(
                    f"{where} was frozen from a space written in code, whose class, "
                    f"{type(module).__name__}, it still has; write what it holds as a plain module"
                )
            if isinstance(module, ModelSpace) and not path:
                raise UsageError(
                    f"this {type(net).__name__} is a ModelSpace already; use it as it is, or give "
                    "a network that it is frozen to"
                )
            raise UsageError(
                f"{where}, a {type(module).__name__}, differs between architectures already; give "
                "a frozen network"
            )
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise UsageError(
                f"{where} is a {type(module).__name__}; give the module that it wraps, which is "
                "its attribute module"
            )
        if type(module).__module__.startswith(("torch.ao.", "torch.nn.quantized")):
            raise UsageError(
                f"{where}, a {type(module).__name__}, is quantised; make the network small first, "
                "and quantise what comes out"
            )
        for name, tensor in own_tensors(module).items():
            _check_tensor(f"{path}.{name}" if path else name, tensor)


def _check_tensor(path: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise UsageError(
            f"{path} has no shape yet: it is created lazily; run the network once first"
        )
    kind = type(tensor)
    if kind not in (Tensor, nn.Parameter, nn.Buffer) and hasattr(tensor, "placements"):
        raise UsageError(
            f"{path} is sharded over several devices ({kind.__name__}); gather it on one first"
        )
    if tensor.is_quantized or "quantized" in kind.__module__ or "bitsandbytes" in kind.__module__:
        raise UsageError(
            f"{path} is quantised; make the network small first, and quantise what comes out"
        )
    if tensor.is_meta:
        raise UsageError(f"{path} is on the meta device: it has no values; load the weights first")


def _check_names(net: nn.Module, space: type[nn.Module]) -> None:
    """Names of the network that a space has as well: one would hide the other."""
    taken = {name for name in dir(space) if not name.startswith("__")} - set(dir(nn.Module()))
    # A network that another space was frozen to says so, and what it says is put aside.
    arch, order = origin_of(net)
    is_note = isinstance(arch, dict) and isinstance(order, (str, type(None)))
    taken |= RESERVED - ({"_architecture", "_order"} if is_note else set())
    own = set(vars(net)) | set(net._modules) | set(net._parameters) | set(net._buffers)
    own |= {name for name in dir(type(net)) if not name.startswith("__")}
    both = sorted(taken & own)
    if both:
        raise UsageError(
            f"the network has an attribute {both[0]!r}, which a space has as well, so one would "
            "hide the other; rename it, or give the network as a part of another module: "
            "nn.Sequential(net)"
        )


def check_inputs(net: nn.Module, inputs: Any, who: str = "the network") -> None:
    """Raise if inputs do not fit a network, under the name by which it is told of.

    Raises
    ------
    UsageError
        If their form is none that is known, they are on another device, or the forward does not
        take them.
    """
    args, kwargs = arguments_of(inputs)
    devices = {t.device for t in (*net.parameters(), *net.buffers())}
    if len(devices) > 1:
        shown = ", ".join(sorted(map(str, devices)))
        raise UsageError(f"{who} is on several devices ({shown}); put it on one first")
    for path, tensor in _tensors(args, kwargs):
        if devices and tensor.device not in devices:
            (device,) = devices
            raise UsageError(
                f"{path} is on {tensor.device}, {who} on {device}; move the inputs there"
            )
    try:
        inspect.signature(net.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(
            f"the forward of {type(net).__name__} does not take these inputs: {error}; give a "
            "tensor, a tuple of arguments or a dict of arguments by name"
        ) from None


def batches_in(data: Any, net: nn.Module, method: str) -> list[Any]:
    """Return the batches in what was given as data, each of which the forward of a network takes.

    Raises
    ------
    UsageError
        There are none, or they are something else.
    """
    if isinstance(data, (Tensor, Mapping)):
        raise UsageError(
            f"{method} takes batches of inputs, but got a single {type(data).__name__}; give a "
            "list of it"
        )
    batches = list(data)
    if not batches:
        raise UsageError(
            f"{method} needs data, batches of inputs of the network, but there are none; a "
            "generator gives its batches once"
        )
    for batch in batches:
        check_inputs(net, batch)
    return batches


def _tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for place, value in (*enumerate(args), *kwargs.items()):
        name = f"input {place}" if isinstance(place, int) else f"input {place!r}"
        for leaf in torch.utils._pytree.tree_leaves(value):
            if isinstance(leaf, Tensor):
                yield name, leaf
