"""What stands in the way of varying a module: its names, and tensors that are held twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..nn.computed_tensors import PARAMETRIZATIONS, is_reparametrized
from ..nn.structure import OF_EVERY_MODULE
from .adopted import RESERVED, Adopted
from .blocks import below
from .symbolic import Origin, own_tensors

__all__ = ["Obstacles"]

_TAKEN = RESERVED | {
    name for name in set(dir(Adopted)) - set(dir(nn.Module())) if not name.startswith("__")
}
"""Names that what varies has, and a module of somebody else's may not."""


class Obstacles:
    """Says why what a module holds cannot vary.

    Parameters
    ----------
    net
        The network.
    """

    def __init__(self, net: nn.Module) -> None:
        self.modules = dict(net.named_modules())
        self.kept: dict[int, tuple[str, str]] = {}
        for path, module in self.modules.items():
            for name, value in vars(module).items():
                # Torch's own list of the weights of a recurrent layer is made anew with them.
                is_known = isinstance(module, nn.RNNBase) and name == "_flat_weights"
                if name not in OF_EVERY_MODULE and not is_known:
                    self.kept.update((id(t), (path, name)) for t in _tensors_in(value))

    def of(self, origin: Origin) -> str | None:
        """Return the reason for a dimension or an attribute; ``None`` if there is none."""
        return self._taken_name(origin) or (
            self._held_twice(origin) if origin.dim is not None else None
        )

    def _taken_name(self, origin: Origin) -> str | None:
        """Its class has a name that a mutable module has, too."""
        module = self.modules[origin.path]
        if not origin.path or type(module).__module__.startswith("torch.nn."):
            return None  # of the network itself it is refused; torch's layers have elastic forms
        own = {*vars(module), *module._modules, *module._parameters, *module._buffers}
        taken = _TAKEN if module._modules else _TAKEN | {"args"}  # which elastic layers keep
        both = taken & (own | set(dir(type(module))))
        if not both:
            return None
        return (
            f"{origin.path} has an attribute {min(both)!r}, which everything has that varies; "
            "rename it"
        )

    def _held_twice(self, origin: Origin) -> str | None:
        """What holds a tensor beside its module, such as a list, would go on to hold all of it."""
        owner = origin.path.partition(f".{PARAMETRIZATIONS}")[0]
        if isinstance(self.modules[owner], nn.RNNBase) and is_reparametrized(self.modules[owner]):
            return (
                f"torch keeps the weights of {owner} in one list, and some are computed from "
                "others; make these parameters, as torch.nn.utils.remove_weight_norm does"
            )
        tensor = own_tensors(self.modules[origin.path])[origin.name]
        if id(tensor) not in self.kept:
            return None
        path, name = self.kept[id(tensor)]
        place = f"{origin.path}.{origin.name}"
        return f"{place} is held by the attribute {below(path, name)} as well, uncut"


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors that an attribute is or holds, in lists, tuples and dictionaries."""
    items, seen = [value], set[int]()
    while items:
        item = items.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple, dict)) and id(item) not in seen:
            seen.add(id(item))  # it may hold itself
            items.extend(item.values() if isinstance(item, dict) else item)
