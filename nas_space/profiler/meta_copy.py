"""A twin of a space: the same modules, with meta tensors.

Everything that is followed runs on a twin, which reports what it runs, so the space itself stays
as it is, other threads may use it meanwhile, and no weight is touched.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..errors import SpaceError
from ..mutable.node import Node
from ..nn.copy_on_write import SharedWeights
from ..nn.structure import BOOKKEEPING, OF_EVERY_MODULE

__all__ = ["Followed", "Twins"]

_ATOMS = frozenset(
    {int, float, str, bool, bytes, complex, type(None), type, torch.dtype, torch.device, torch.Size}
)
_SHARED = frozenset({"_blueprint", "_instances", "_expressions", "_mutables", "args", *BOOKKEEPING})
"""What mutable modules hold and never change."""

_TRAIN = frozenset({nn.Module.train, SharedWeights.train})  # a twin shares no weights


@dataclass(slots=True, eq=False)
class Followed:
    """The forward of a module of the twin: reports that it runs.

    Attributes
    ----------
    report
        Runs the module; given this, and what it is called with.
    path
        Where the module is in the space.
    original
        The module of the space.
    forward
        What it does.
    """

    report: Callable[[Followed, tuple[Any, ...], dict[str, Any]], Any]
    path: str
    original: nn.Module
    forward: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.report(self, args, kwargs)


class Twins(dict[int, Any]):
    """Module of the space, by identity, to its twin; also a memory for ``copy.deepcopy``.

    Parameters
    ----------
    root
        The space.
    shadow
        Gives the meta tensor for a parameter or a buffer.
    report
        What the modules of the twin report to; nothing by default.
    """

    def __init__(
        self,
        root: nn.Module,
        shadow: Callable[[torch.Tensor], torch.Tensor],
        report: Callable[[Followed, tuple[Any, ...], dict[str, Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.shadow = shadow
        self.report = report
        self.originals = dict(root.named_modules())
        for path, module in self.originals.items():
            if isinstance(module, torch.jit.ScriptModule):
                raise SpaceError(
                    f"{path or 'the space'} is compiled by torch.jit, so what it does cannot be "
                    "followed; put the plain module in its place"
                )
            self[id(module)] = object.__new__(type(module))
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                self[id(tensor)] = tensor  # no copy of an object copies weights
        for path, module in self.originals.items():
            self._fill(self[id(module)], module, path)

    def _fill(self, twin: nn.Module, module: nn.Module, path: str) -> None:
        into = twin.__dict__
        shadow = self.shadow
        for name, value in vars(module).items():
            if type(value) in _ATOMS or name in _SHARED:
                into[name] = value
            elif name in OF_EVERY_MODULE and not value:
                into[name] = type(value)()  # a forward may register hooks: those of the twin
            elif name in ("_parameters", "_buffers"):
                tensors = value.items()
                for key, tensor in tensors:
                    if is_lazy(tensor):
                        raise SpaceError(
                            f"{path or 'the space'} has no shape for {key!r} yet: it is a lazy "
                            "module; run the space once first"
                        )
                into[name] = {key: None if t is None else shadow(t) for key, t in tensors}
            elif name == "_modules":
                into[name] = {key: None if m is None else self[id(m)] for key, m in value.items()}
            elif name != "forward":
                into[name] = self.value(value)
        own = vars(module).get("forward")
        if self.report is None:
            if own is not None:
                into["forward"] = self.value(own)
            return
        forward = types.MethodType(type(module).forward, twin) if own is None else self.value(own)
        into["forward"] = Followed(self.report, path, module, forward)

    def train(self, mode: bool) -> None:
        """Put the twin into a mode, module by module where no class has its own way to do so."""
        if all(type(module).train in _TRAIN for module in self.originals.values()):
            for key in map(id, self.originals.values()):
                vars(self[key])["training"] = mode
        else:
            self[id(self.originals[""])].train(mode)

    def value(self, value: Any) -> Any:
        """Return what the twin has for something that a module holds."""
        kind = type(value)
        if kind in _ATOMS or isinstance(value, (Node, torch.Tensor, type, types.FunctionType)):
            return value
        if kind is tuple and _ATOMS.issuperset(map(type, value)):
            return value
        if isinstance(value, nn.Module):
            return self.get(id(value), value)
        if isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "_fields"):
            return kind(self.value(item) for item in value)
        if kind is dict:
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.value(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {key: self.value(item) for key, item in value.keywords.items()}
            return functools.partial(
                self.value(value.func), *map(self.value, value.args), **keywords
            )
        try:
            return copy.deepcopy(value, self)
        except Exception:  # noqa: BLE001 - locks, files and the like: shared, as not copied
            return value
