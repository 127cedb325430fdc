"""Tensors of a layer that utilities of torch compute anew: which, from what, and how it is undone.

Hooks of ``torch.nn.utils`` (weight norm, spectral norm, pruning) and parametrizations take a tensor
out of a layer, and compute it from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn, norm_except_dim
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

__all__ = [
    "PARAMETRIZATIONS",
    "Hooked",
    "added_to",
    "alike_in",
    "as_constructed",
    "assign",
    "compute_hooked",
    "computed_by",
    "hooked",
    "hooks_of",
    "is_assignable",
    "is_reparametrized",
    "light",
    "mask_of",
    "parametrizations_of",
    "whole",
]

_HOOKS: tuple[tuple[Any, str, dict[str, str]], ...] = (
    (WeightNorm, "name", {"_g": "like", "_v": "like"}),
    (SpectralNorm, "name", {"_orig": "like", "_u": "rows", "_v": "columns"}),
    (BasePruningMethod, "_tensor_name", {"_orig": "like", "_mask": "like"}),
)
"""Hooks that compute a tensor: where they keep its name, and what they compute it from."""

PARAMETRIZATIONS = "parametrizations"
"""The name under which ``torch.nn.utils.parametrize`` keeps what it adds."""


def computed_by(hook: Any) -> tuple[str, dict[str, str]] | None:
    """Return which tensor a hook computes, and from what; ``None`` of another hook."""
    for kind, attribute, sources in _HOOKS:
        if isinstance(hook, kind):
            return getattr(hook, attribute), sources
    return None


def hooks_of(layer: nn.Module) -> Iterator[tuple[Any, str, dict[str, str]]]:
    """Yield the hooks that compute tensors, the names of these, and what they are computed from."""
    for hook in layer._forward_pre_hooks.values():
        found = computed_by(hook)
        if found is not None:
            yield hook, *found


def hooked(layer: nn.Module) -> Mapping[str, Any]:
    """Return by name the hooks that compute tensors."""
    if not vars(layer).get("_forward_pre_hooks"):
        return _NO_HOOKS
    return {name: hook for hook, name, _ in hooks_of(layer)}


_NO_HOOKS: Mapping[str, Any] = MappingProxyType({})


def parametrizations_of(layer: nn.Module) -> Any:
    """Return by name what computes tensors of a layer by ``torch.nn.utils.parametrize``."""
    lists: Any = layer._modules.get(PARAMETRIZATIONS)
    return {} if lists is None else dict(lists.items())


def is_reparametrized(module: nn.Module | None) -> bool:
    """Return whether utilities of torch compute some tensor of a module itself."""
    return module is not None and (PARAMETRIZATIONS in module._modules or bool(hooked(module)))


def added_to(layer: nn.Module) -> dict[str, list[str]]:
    """Return by name of what is computed the tensors that it is computed from, by their paths.

    Of a parametrization, those that took the place of the tensor.
    """
    found = {name: [name + suffix for suffix in sources] for _, name, sources in hooks_of(layer)}
    for name, computed in parametrizations_of(layer).items():
        held = (*computed._parameters, *computed._buffers)
        found[name] = [f"{PARAMETRIZATIONS}.{name}.{key}" for key in held]
    return found


def alike_in(layer: nn.Module, name: str) -> list[str]:
    """Return those tensors that one is computed from which have its shape, by their paths."""
    found = []
    for path in added_to(layer).get(name, ()):
        holder, _, own = path.rpartition(".")
        if getattr(layer.get_submodule(holder), own).shape == getattr(layer, name).shape:
            found.append(path)
    return found


def as_constructed(layer: nn.Module) -> nn.Module:
    """Return a layer as its constructor makes it: with tensors where others are computed from."""
    added = added_to(layer)
    if not added:
        return layer
    plain: nn.Module = object.__new__(parametrize.type_before_parametrizations(layer))
    vars(plain).update((key, value) for key, value in vars(layer).items() if key not in added)
    others = {path for paths in added.values() for path in paths}
    for kind in ("_parameters", "_buffers"):
        vars(plain)[kind] = {k: t for k, t in vars(layer)[kind].items() if k not in others}
    plain._parameters |= {name: nn.Parameter(getattr(layer, name).detach()) for name in added}
    inner = {name: child for name, child in layer._modules.items() if name != PARAMETRIZATIONS}
    vars(plain)["_modules"] = inner
    return plain


def whole(layer: nn.Module, name: str) -> Tensor:
    """Return what a hook computes, of all channels, as in evaluation."""
    evaluated = light(layer, {})
    evaluated.training = False  # else spectral norm would go a step further
    return Hooked(hooked(layer)[name], name)(evaluated)


def compute_hooked(layer: nn.Module) -> None:
    """Compute anew what hooks compute, as before a forward in evaluation."""
    with torch.no_grad():
        vars(layer).update({name: whole(layer, name) for name in hooked(layer)})


class Hooked(NamedTuple):
    """Computes a tensor as a hook does."""

    hook: Any
    name: str

    def __call__(self, stand_in: Any) -> Tensor:
        plain_hook = getattr(self.hook, "plain_hook", type(self.hook))
        plain_hook.__call__(self.hook, stand_in, None)
        return cast(Tensor, stand_in.__dict__[self.name])


def light(module: nn.Module, taken: dict[int, Tensor]) -> nn.Module:
    """Return a module that is like another, with other tensors."""
    made = object.__new__(type(module))
    made.__dict__.update(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        tensors = module.__dict__[kind].items()
        made.__dict__[kind] = {k: t if t is None else taken.get(id(t), t) for k, t in tensors}
    made.__dict__["_modules"] = {
        k: child if child is None else light(child, taken) for k, child in module._modules.items()
    }
    return made


def mask_of(layer: nn.Module, name: str) -> Tensor | None:
    """Return where pruning leaves the elements of a tensor."""
    if not isinstance(hooked(layer).get(name), BasePruningMethod):
        return None
    return cast(Tensor, getattr(layer, f"{name}_mask")) != 0


def is_assignable(layer: nn.Module, name: str) -> bool:
    """Return whether something says how a tensor would be computed that has other values."""
    if name in hooked(layer):
        return not isinstance(hooked(layer)[name], SpectralNorm)
    return all(hasattr(p, "right_inverse") for p in parametrizations_of(layer).get(name, ()))


def assign(layer: nn.Module, wanted: Mapping[str, Tensor]) -> bool:
    """Give a layer other tensors; those that it computes, by what they are computed from.

    Parameters
    ----------
    wanted
        By name, what the layer is to have.

    Returns
    -------
    bool
        Whether it has.  If something else is computed, the layer stays as it was.
    """
    added, hooks = added_to(layer), hooked(layer)
    before = {key: value.clone() for key, value in layer.state_dict().items()} if added else {}
    with torch.no_grad():
        for name, value in wanted.items():
            hook = hooks.get(name)
            if isinstance(hook, WeightNorm):
                getattr(layer, f"{name}_v").copy_(value)
                getattr(layer, f"{name}_g").copy_(norm_except_dim(value, 2, hook.dim))
            elif isinstance(hook, BasePruningMethod):
                mask, own = getattr(layer, f"{name}_mask"), getattr(layer, f"{name}_orig")
                own.copy_(torch.where(mask != 0, value, own))
            elif hook is None and (name not in added or is_assignable(layer, name)):
                setattr(layer, name, value) if name in added else getattr(layer, name).copy_(value)
        compute_hooked(layer)
        computed = added.keys() & wanted.keys()
        if all(torch.allclose(getattr(layer, n), wanted[n], 1e-3, 1e-5) for n in computed):
            return True
        layer.load_state_dict(before)
        compute_hooked(layer)
        return False
