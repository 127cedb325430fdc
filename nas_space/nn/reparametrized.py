"""Tensors that others add to an elastic layer: weight norm, spectral norm, masks of pruning.

Utilities of torch take a weight out of a layer and compute it, at each forward, from tensors that
they put in its place: a length and a direction, a weight and its singular vectors, a weight and a
mask. In an elastic layer, each of these is cut as the weight would be, and the weight of an
architecture is computed from the parts: the norm of the rows that it has, not of those it lacks.
So an active architecture is the network that it freezes to, of which the same utility works on
the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ..errors import SpaceError
from .blueprint import LayerForm
from .computed_tensors import (
    PARAMETRIZATIONS,
    Hooked,
    compute_hooked,
    computed_by,
    hooks_of,
    is_reparametrized,
    light,
    parametrizations_of,
)
from .freezing import Cut, Freezer

__all__ = [
    "Computing",
    "Note",
    "Reparametrization",
    "defer",
    "part_of",
    "reparametrize",
    "run",
]


Note = Callable[[nn.Parameter, "Cut", Tensor], Tensor]
"""Gives what runs in the place of a part that was cut from a parameter."""


class _Added(NamedTuple):
    """A tensor that was added.

    Attributes
    ----------
    tensor
        The whole of it.
    name
        What is computed from it.
    whole
        The shape of that, in the layer that owns all weights.
    kind
        How it lies along that: ``like`` it, along its ``rows`` or its ``columns``.
    dim
        The dimension of the rows.
    """

    tensor: Tensor
    name: str
    whole: torch.Size
    kind: str
    dim: int

    def cut(self, cut: Cut, tensor: Tensor) -> Tensor | None:
        """Cut a tensor that lies as this one does, given what cuts the computed one."""
        shape, dim = self.whole, self.dim
        if tensor.numel() == 1 and tensor.dim() != len(shape):
            return tensor
        if self.kind == "rows":
            tensor = tensor.view([size if d == dim else 1 for d, size in enumerate(shape)])
        elif self.kind == "columns":
            tensor = tensor.view([1 if d == dim else size for d, size in enumerate(shape)])
        part = cut(tensor.expand(shape))
        if part is None:
            return None
        for d, (size, full) in enumerate(zip(tensor.shape, shape, strict=True)):
            if size == 1 and full != 1:
                part = part.narrow(d, 0, 1)
        return part if self.kind == "like" else part.reshape(-1)


class Reparametrization:
    """What computes some tensors of an elastic layer from others.

    Parameters
    ----------
    layer
        The layer.

    Raises
    ------
    SpaceError
        If something was added of which nothing says how it is cut.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.hooks: dict[str, Any] = {}
        self.lists: dict[str, Any] = parametrizations_of(layer)
        self.added: dict[int, _Added] = {}
        for hook, name, sources in hooks_of(layer):
            self._hook(hook, name, sources)
        for name, computed in self.lists.items():
            self._list(name, computed)
        known = layer.reference_tensors
        for name, tensor in (*layer._parameters.items(), *layer._buffers.items()):
            if tensor is None or id(tensor) in self.added or name in known or tensor.numel() == 1:
                continue
            self._refuse(f"the tensor {name!r} of shape {tuple(tensor.shape)}")
        for name, child in layer._modules.items():
            if name != PARAMETRIZATIONS and is_reparametrized(child):
                self._refuse(f"another way to compute the weights of its {name!r}")
        if isinstance(layer, nn.RNNBase) and self:
            self._refuse("another way to compute its weights, which torch keeps in one list,")

    def __bool__(self) -> bool:
        return bool(self.hooks or self.lists)

    def _refuse(self, what: str) -> None:
        raise SpaceError(
            f"something has given {what} to {type(self.layer).__name__}"
            f"({self.layer.extra_repr()}), and nothing says which part of it an architecture has; "
            "weight norm, spectral norm, pruning, and parametrizations whose own tensors have the "
            "shape of the weight are cut with it; for anything else, wrap a layer of your own: "
            "class MutableMine(ElasticModule, Mine, wraps=Mine), with shapes() for its tensors"
        )

    def _hook(self, hook: Any, name: str, sources: dict[str, str]) -> None:
        layer = self.layer
        self.hooks[name] = hook
        owned = layer._parameters | layer._buffers  # an attribute would be the part that is active
        found = {suffix: owned[name + suffix] for suffix in sources}
        whole = (found["_orig"] if "_orig" in found else found["_v"]).shape
        for suffix, kind in sources.items():
            tensor = found[suffix]
            self.added[id(tensor)] = _Added(tensor, name, whole, kind, getattr(hook, "dim", 0) or 0)

    def _list(self, name: str, computed: nn.Module) -> None:
        originals: dict[str, Tensor] = dict(computed.named_parameters(recurse=False))
        originals |= dict(computed.named_buffers(recurse=False))
        whole = max((t.shape for t in originals.values()), key=lambda shape: shape.numel())
        for key, tensor in originals.items():
            self._like(name, tensor, whole, f"the tensor {key!r} that {name!r} is computed from")
        for part in computed.children():
            kind = type(part).__name__
            if isinstance(part, parametrizations._SpectralNorm) and len(whole) > 1:
                dim = part.dim
                self.added[id(part._u)] = _Added(part._u, name, whole, "rows", dim)
                self.added[id(part._v)] = _Added(part._v, name, whole, "columns", dim)
                continue
            if isinstance(part, parametrizations._Orthogonal) and hasattr(part, "base"):
                self._refuse(
                    f"{name!r} by orthogonal(..., use_trivialization=True), of which a part is "
                    "orthogonal no more (take orthogonal_map='householder', "
                    "use_trivialization=False)"
                )
            own: tuple[tuple[str, Tensor], ...] = (*part.named_parameters(), *part.named_buffers())
            for key, tensor in own:
                self._like(name, tensor, whole, f"the tensor {key!r} of the parametrization {kind}")

    def _like(self, name: str, tensor: Tensor, whole: torch.Size, what: str) -> None:
        fits = tensor.dim() == len(whole) and all(
            size in (1, full) for size, full in zip(tensor.shape, whole, strict=True)
        )
        if not fits and tensor.numel() != 1:
            self._refuse(f"{what}, of shape {tuple(tensor.shape)},")
        self.added[id(tensor)] = _Added(tensor, name, whole, "like", 0)

    # -- what an architecture has ---------------------------------------------------------------

    def cut(self, form: LayerForm, tensor: Tensor) -> Cut:
        """Return what takes the part of an added tensor, or of one that lies as it does."""
        added = self.added[id(tensor)]
        return partial(added.cut, form.parts[""].cuts[added.name])

    def absent(self, form: LayerForm) -> frozenset[str]:
        """Return the names of what is not computed, since the architecture has no such tensor."""
        cuts = form.parts[""].cuts
        wholes = {added.name: added.whole for added in self.added.values()}
        return frozenset(
            name
            for name, whole in wholes.items()
            if cuts[name](torch.empty(whole, device="meta")) is None
        )

    def give(self, stand_in: Any, form: LayerForm, note: Note) -> None:
        """Give a stand-in the parts, and what computes the rest from them."""
        absent, contents = self.absent(form), stand_in.__dict__
        taken: dict[int, Tensor] = {}
        for key, added in self.added.items():
            if added.name in absent:
                continue
            cut = self.cut(form, added.tensor)
            part = cut(added.tensor)
            assert part is not None
            if isinstance(added.tensor, nn.Parameter):
                taken[key] = note(added.tensor, cut, part)
            else:
                taken[key] = part
                if part._base is not added.tensor and part is not added.tensor:
                    contents.setdefault("_copied", []).append((added.tensor, cut, part))
        for tensors in (self.layer._parameters, self.layer._buffers):
            contents |= {k: taken[id(t)] for k, t in tensors.items() if id(t) in taken}
        contents |= dict.fromkeys(absent)
        computing: dict[str, Any] = {
            name: Hooked(hook, name) for name, hook in self.hooks.items() if name not in absent
        }
        for name, computed in sorted(self.lists.items(), key=_after_weight):
            if name not in absent:
                computing[name] = _Listed(light(computed, taken))
        contents["_computing"] = Computing(computing)

    def frozen(self, freezer: Freezer, form: LayerForm) -> nn.Module:
        """Make the plain layer, which computes its tensors as the elastic one does."""
        layer, part, absent = self.layer, form.parts[""], self.absent(form)
        lists = [m for m in self.lists.values() for m in reversed(list(m.modules()))]
        for module in lists:  # those inside before those that hold them
            freezer.clone(module, None, None, self._cuts(module, form))
        new = freezer.clone(
            layer, layer.plain, part.attributes, {**part.cuts, **self._cuts(layer, form)}
        )
        for name in absent:
            vars(new).pop(name, None)
            new._parameters[name] = None
            for tensors in (new._parameters, new._buffers) if name in self.hooks else ():
                for key in [k for k, t in tensors.items() if t is None and k != name]:
                    if key.startswith(f"{name}_"):
                        del tensors[key]
            if name in self.lists:
                del cast(Any, new._modules[PARAMETRIZATIONS])[name]
        for number, hook in list(new._forward_pre_hooks.items()):
            if not isinstance(hook, _Deferred):
                continue
            hook.__class__ = hook.plain_hook  # torch's own again
            found = computed_by(hook)
            if found is not None and found[0] in absent:
                del new._forward_pre_hooks[number]
        compute_hooked(new)
        reparametrize(new)
        return new

    def _cuts(self, module: nn.Module, form: LayerForm) -> dict[str, Cut]:
        """Return what cuts the tensors of a module that were added."""
        found = (*module._parameters.items(), *module._buffers.items())
        return {
            name: self.cut(form, tensor)
            for name, tensor in found
            if tensor is not None and id(tensor) in self.added
        }


def part_of(stand_in: Any, name: str) -> Tensor:
    """Return a tensor of a stand-in, which may have to be computed."""
    computing: Computing | None = stand_in.__dict__.get("_computing")
    if computing is not None and name in computing.computing:
        return computing.computing[name](stand_in)
    return cast(Tensor, stand_in.__dict__[name])


def _after_weight(item: tuple[str, Any]) -> bool:
    return item[0] != "weight"  # which layers read first


class Computing:
    """Computes tensors of a stand-in before its forward.

    Parameters
    ----------
    computing
        Name to what computes it, of the stand-in.
    """

    def __init__(self, computing: dict[str, Callable[[Any], Tensor]]) -> None:
        self.computing = computing

    def modules(self) -> Iterator[nn.Module]:
        """Go through the modules that compute."""
        for compute in self.computing.values():
            if isinstance(compute, _Listed):
                yield from compute.computed.modules()

    def __call__(self, stand_in: Any) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {name: compute(stand_in) for name, compute in self.computing.items()}


class _Listed(NamedTuple):
    """Computes a tensor as a list of parametrizations does."""

    computed: nn.Module

    def __call__(self, stand_in: Any) -> Tensor:
        del stand_in  # the list has parts of its own
        return cast(Tensor, type(self.computed).forward(self.computed))


def run(stand_in: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the forward of a stand-in, of which some tensors may have to be computed first."""
    computing: Computing | None = stand_in.__dict__.get("_computing")
    if computing is not None:
        stand_in.__dict__.update(computing(stand_in))
    return type(stand_in).forward(stand_in, *args, **kwargs)


# -- hooks on elastic layers, and on frozen ones ----------------------------------------------


class _Deferred:
    """A hook that leaves an elastic layer alone: of that, the parts are computed when it runs."""

    __slots__ = ()
    plain_hook: Any

    def __call__(self, module: Any, inputs: Any) -> Any:
        if "_blueprint" in vars(module):
            return None
        return self.plain_hook.__call__(self, module, inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.plain_hook, vars(self))


@cache
def _deferred(kind: Any) -> Any:
    # The class of a hook can be changed to one whose first base it is, and which adds nothing.
    mine = {name: vars(_Deferred)[name] for name in ("__call__", "__reduce__")}
    return type(kind.__name__, (kind, _Deferred), {"plain_hook": kind, "__slots__": (), **mine})


def _restored(kind: Any, state: dict[str, Any]) -> Any:
    hook = object.__new__(_deferred(kind))
    vars(hook).update(state)
    return hook


def defer(layer: nn.Module, hook: Any) -> None:
    """Have a hook leave an elastic layer alone, if it computes one of its tensors."""
    found = computed_by(hook)
    if found is not None and not isinstance(hook, _Deferred):
        hook.__class__ = _deferred(cast(Any, type(hook)))
        vars(layer).pop(found[0], None)  # of now, and of all channels


def reparametrize(module: nn.Module) -> None:
    """Make a plain layer compute what its parametrizations compute, as torch does."""
    lists = module._modules.get(PARAMETRIZATIONS)
    if lists is None:
        return
    if not len(cast(Any, lists)):
        del module._modules[PARAMETRIZATIONS]
        return
    parametrize._inject_new_class(module)
    for name in cast(Any, lists):
        parametrize._inject_property(module, name)
        if hasattr(module, "active_part"):
            _inject_part(type(module), name)


def _inject_part(kind: type[nn.Module], name: str) -> None:
    """Have a class of one elastic layer give the part of a tensor that an architecture has."""
    own: property = vars(kind)[name]

    def part_or_whole(layer: Any) -> Any:
        part = layer.active_part(name)
        return own.fget(layer) if part is None and own.fget else part

    setattr(kind, name, property(part_or_whole, own.fset))
