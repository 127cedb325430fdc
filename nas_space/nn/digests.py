"""Digests: short names for networks, whatever their weights."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from .structure import ATOMS

__all__ = ["described", "network_digest"]

_LEFT_OUT = frozenset({"_architecture", "training", "_parameters", "_buffers", "_modules"})
"""What is no part of the structure, or is described apart from the other attributes."""


def network_digest(network: nn.Module) -> str:
    """Return a short digest, equal for two networks exactly if they compute alike, given weights.

    It covers, module by module and in order: the class, the plain attributes, the shapes and
    types of tensors, and which tensors and modules are the same one.

    Parameters
    ----------
    network
        A plain network.
    """
    text = "\n".join(described(network))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def described(network: nn.Module) -> list[str]:
    """Return what a digest is of, line by line: attributes are those with ``=``."""
    return list(_described(network, "", {}))


def _described(module: nn.Module, path: str, seen: dict[int, str]) -> Iterator[str]:
    if id(module) in seen:
        yield f"{path} is {seen[id(module)]}"
        return
    seen[id(module)] = path
    yield f"{path}: {_name(type(module))}"
    for kind in ("_parameters", "_buffers"):
        for name, tensor in vars(module)[kind].items():
            yield f"{path}.{name} {kind}: {_tensor(tensor, f'{path}.{name}', seen)}"
    for name, value in sorted(vars(module).items()):
        if name not in _LEFT_OUT:
            text = _value(value, f"{path}.{name}", seen)
            if text != "{}":  # hooks, of which there are none
                yield f"{path}.{name} = {text}"
    for name, child in module._modules.items():
        if child is None:
            yield f"{path}.{name}: None"
        else:
            yield from _described(child, f"{path}.{name}", seen)


def _tensor(tensor: Any, path: str, seen: dict[int, str]) -> str:
    if tensor is None:
        return "None"
    known = seen.setdefault(id(tensor), path)
    if known != path:
        return f"is {known}"
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _value(value: Any, path: str, seen: dict[int, str]) -> str:
    """Return an attribute in words that are the same in every process."""
    if type(value) in ATOMS:
        return _name(value) if isinstance(value, (type, types.BuiltinFunctionType)) else repr(value)
    if isinstance(value, torch.Tensor):
        return _tensor(value, path, seen)
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return _name(value)
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return f"partial{_value(parts, path, seen)}"
    if id(value) in seen:
        return f"is {seen[id(value)]}"
    if isinstance(value, nn.Module):
        return "\n".join(_described(value, path, seen))
    seen[id(value)] = path
    if isinstance(value, Mapping):
        items = [
            f"{_value(key, f'{path}.key', seen)}: {_value(item, f'{path}[{place}]', seen)}"
            for place, (key, item) in enumerate(value.items())
        ]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple)):
        items = [_value(item, f"{path}[{place}]", seen) for place, item in enumerate(value)]
        return f"{_name(type(value))}[{', '.join(items)}]"
    if isinstance(value, (set, frozenset)):
        return f"{_name(type(value))}{sorted(_value(item, path, seen) for item in value)}"
    inside = getattr(value, "__dict__", {})
    return f"{_name(type(value))}{_value(inside, path, seen)}"


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
