"""Modules of somebody else's, made mutable as they are: the same object, with another class.

A module keeps its code and its contents.  Its class becomes one that is made of its own and of
:class:`Adopted`: attributes that say sizes are expressions, which read as numbers under an active
architecture, and its tensors are cut when they are read.  Frozen, it has its own class again.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from torch import Tensor, nn

from ..errors import ExpressionError
from ..mutable import MutableExpression
from ..mutable.containers import side_by_side
from ..mutable.node import Node
from ..nn.activation import current
from ..nn.blueprint import Blueprint, LayerForm, ModuleForm, Shape
from ..nn.computed_tensors import compute_hooked
from ..nn.elastic import ElasticModule
from ..nn.freezing import dense
from ..nn.module import MutableModule
from ..nn.places import Places, leading
from ..nn.segments import AxisLayout, layout_of
from ..nn.structure import BOOKKEEPING

if TYPE_CHECKING:
    from ..nn.freezing import Freezer
    from ..nn.structure import Survey

__all__ = [
    "RESERVED",
    "Adopted",
    "AdoptedBlock",
    "AdoptedBlocks",
    "AdoptedLayer",
    "SizeBlueprint",
    "adopted_class",
    "origin_of",
    "takes_cache",
]

_CUTS, _KEEP, _RETURNS = "_axis_layouts", "_keep", "_returns"
"""Where a module keeps how its tensors are laid out; a block, whether it is there, and how long a
tuple it returns, if it does."""

RESERVED = BOOKKEEPING | {
    _CUTS, _KEEP, _RETURNS, "_blueprint", "_elastic", "_expressions", "_instances", "_mutables",
    "_order",
}  # fmt: skip
"""What spaces, the modules in them and frozen networks keep, under names that are then taken."""


def origin_of(network: nn.Module) -> tuple[Any, Any]:
    """Return the note on a network: its architecture, and the digest of an order."""
    return vars(network).get("_architecture"), vars(network).get("_order")


class Adopted(MutableModule):
    """What a module of somebody else's also is, in a space.

    Attributes
    ----------
    own_class
        Its own class, which it has in a frozen network.
    """

    own_class: ClassVar[type[nn.Module]]

    def __getattr__(self, name: str) -> Any:
        layouts = self.__dict__.get(_CUTS)
        if layouts is not None and name in layouts and (activation := current()) is not None:
            for tensors in (self._parameters, self._buffers):
                tensor = tensors.get(name)
                if tensor is not None:
                    return _alike(_cut(_places(layouts[name], activation.values), tensor), tensor)
        return super().__getattr__(name)

    def describe(self, survey: Survey) -> Node | None:
        # A label may be only that of parameters which a module of one's own has, beside its layers.
        parts = [survey.contents(self), *(size.structure() for size in self._sizes())]
        return side_by_side([part for part in parts if part is not None])

    def _sizes(self) -> list[Any]:
        """What says how its tensors are cut."""
        layouts: dict[str, dict[int, AxisLayout]] = self.__dict__.get(_CUTS, {})
        return [atom for axes in layouts.values() for axis in axes.values() for atom in axis.atoms]

    def own_expressions(self) -> list[Any]:
        keep = self.__dict__.get(_KEEP)
        own = super().own_expressions()
        return [*([keep] if isinstance(keep, Node) else []), *own, *self._sizes()]

    def cuts(self, values: Any) -> dict[str, Any]:
        """Return, by tensor, what takes the part of it that is there under some values."""
        layouts: dict[str, dict[int, AxisLayout]] = self.__dict__.get(_CUTS, {})
        return {name: partial(_cut, _places(axes, values)) for name, axes in layouts.items()}

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        network = freezer.clone(self, type(self).own_class, None, self.cuts(freezer.values))
        for name in (_CUTS, _KEEP, _RETURNS):
            vars(network).pop(name, None)
        compute_hooked(network)
        return network

    def __reduce_ex__(self, protocol: Any) -> Any:
        cls = type(self)
        return _blank, (cls.__bases__[:-1], cls.own_class), self.__getstate__()  # type: ignore[no-untyped-call]


def _places(axes: Mapping[int, AxisLayout], values: Any) -> dict[int, Any]:
    """By dimension, how many elements are there under some values, and which."""
    return {
        dim: values(axis.size) if axis.is_prefix else axis.places(values)
        for dim, axis in axes.items()
    }


def _cut(places: Mapping[int, Any], tensor: Tensor) -> Tensor:
    for dim, size in places.items():
        if isinstance(size, Places):
            tensor = size.take(tensor, dim)
        elif not (type(size) is int and size == tensor.shape[dim]):
            tensor = tensor.narrow(dim, 0, size)
    return tensor


def _alike(part: Tensor, whole: Tensor) -> Tensor:
    """A part that runs as it would in a frozen network, where it is a tensor of its own."""
    if part is whole:
        return whole
    part = dense(part, whole)
    if whole.requires_grad and not part.requires_grad:
        part = part.detach().requires_grad_()
    return part


class AdoptedLayer(ElasticModule):
    """A layer of somebody else's, with tensors of its own: cut as the elastic layers are.

    Its arguments are not those of a constructor, but its sizes: attributes by name, and the
    dimensions of its tensors.
    """

    own_class: ClassVar[type[nn.Module]]

    def shapes(self, arguments: Mapping[str, Any]) -> dict[str, Shape]:  # type: ignore[override]
        return {
            name: tuple(arguments.get(f"{name}[{dim}]", size) for dim, size in enumerate(shape))
            for name, shape in cast(SizeBlueprint, self.blueprint).shapes.items()
        }

    def own_expressions(self) -> list[Any]:
        sizes = cast(SizeBlueprint, self.blueprint).arguments.values()
        return [size for size in sizes if isinstance(size, Node)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        cls = type(self)
        return _blank, (cls.__bases__[:-1], cls.own_class), self.__getstate__()  # type: ignore[no-untyped-call]


class SizeBlueprint(Blueprint):
    """What makes a layer of somebody else's out of values: from its sizes alone.

    Parameters
    ----------
    layer
        The class of the layer.
    attributes
        Expressions by name.
    shapes
        By tensor, its sizes; of those that vary.
    tensors
        The names of all tensors.
    """

    def __init__(
        self,
        layer: type[AdoptedLayer],
        attributes: Mapping[str, Any],
        shapes: Mapping[str, Shape],
        tensors: frozenset[str],
    ) -> None:
        self.attributes, self.shapes = dict(attributes), dict(shapes)
        sizes = {
            f"{name}[{dim}]": size
            for name, shape in shapes.items()
            for dim, size in enumerate(shape)
        }
        layouts = {name: tuple(map(layout_of, shape)) for name, shape in shapes.items()}
        reference: Any = _Reference(tensors)
        super().__init__(cast(Any, layer), {**attributes, **sizes}, reference, layouts)

    def __reduce__(self) -> tuple[Any, ...]:
        own = cast("type[AdoptedLayer]", self.layer).own_class
        return _size_blueprint, (own, self.attributes, self.shapes, self.reference.tensors)

    def extents(self, values: Any, places: Any = None) -> dict[str, Shape | None]:
        return dict(self._shapes(self._evaluated(values), places))

    def _shapes(self, arguments: dict[str, Any], places: Any) -> dict[str, Shape]:
        return {
            name: tuple(
                arguments[f"{name}[{dim}]"] if places is None or axis.is_prefix else places(axis)
                for dim, axis in enumerate(layout)
            )
            for name, layout in self.layouts.items()
        }

    def make(self, values: Any, places: Any = None) -> LayerForm:
        arguments = self._evaluated(values)
        form = ModuleForm()
        form.attributes = {name: arguments[name] for name in self.attributes}
        form.cuts = {
            name: partial(_leading, shape=shape)
            for name, shape in self._shapes(arguments, places).items()
        }
        return LayerForm(arguments, {"": form})


def _size_blueprint(own: type[nn.Module], *arguments: Any) -> SizeBlueprint:
    return SizeBlueprint(cast(Any, adopted_class(own, AdoptedLayer)), *arguments)


def _leading(tensor: Tensor, shape: Shape) -> Tensor:
    return leading(tensor, shape)


class _Reference:
    """The tensors of a layer that no constructor of torch has made, and no attributes."""

    def __init__(self, tensors: frozenset[str]) -> None:
        self.attributes: dict[str, dict[str, Any]] = {"": {}}
        self.tensors = tensors
        self.count = len(tensors)


class AdoptedBlock(Adopted):
    """A block that only some architectures have."""

    def describe(self, survey: Survey) -> Node | None:
        inner = super().describe(survey)
        keep = self.__dict__[_KEEP]
        return None if inner is None else MutableExpression.condition(keep, inner, None)

    def freeze_module(self, freezer: Freezer) -> Any:
        if not freezer.values(self.__dict__[_KEEP]):
            return ABSENT
        return super().freeze_module(freezer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        activation = current()
        own = type(self).own_class.forward
        if activation is None or activation.is_single:  # which leaves it out of its list
            return own(self, *args, **kwargs)

        def branch(there: bool) -> Any:
            return functools.partial(own, self) if there else self._passed

        return activation.choose(self.__dict__[_KEEP], branch, args, kwargs)

    def _passed(self, *args: Any, **kwargs: Any) -> Any:
        """The input in the place of the output, in the form of the latter."""
        first = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        length = self.__dict__[_RETURNS]
        return first if length is None else (first, *[None] * (length - 1))


ABSENT: Any = nn.Identity()
"""What is left of a block that an architecture does not have."""


class AdoptedBlocks(Adopted):
    """A list of blocks of which some are there under an architecture only."""

    def kept(self) -> list[nn.Module]:
        """Return the blocks that are there; without an architecture, or under several, all."""
        blocks = cast("list[nn.Module]", list(self._modules.values()))
        activation = current()
        if activation is None or not activation.is_single:
            return blocks
        return self.there(activation.values)

    def there(self, values: Any) -> list[nn.Module]:
        """Return the blocks that are there under some values."""
        blocks = cast("list[nn.Module]", list(self._modules.values()))
        return [
            block
            for block in blocks
            if not isinstance(block, AdoptedBlock) or values(vars(block)[_KEEP])
        ]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.kept())

    def __len__(self) -> int:
        return len(self.kept())

    def __getitem__(self, index: Any) -> Any:
        kept = self.kept()
        if not isinstance(index, slice):
            return kept[index]
        return (nn.Sequential if isinstance(self, nn.Sequential) else _listed)(*kept[index])

    def freeze_module(self, freezer: Freezer) -> nn.Module:
        made = {
            name: freezer.child(name, block)
            for name, block in self._modules.items()
            if block is not None
        }
        kept = {name: block for name, block in made.items() if block is not ABSENT}
        if all(name.isdigit() for name in kept):
            kept = {str(number): block for number, block in enumerate(kept.values())}
        light = object.__new__(type(self))
        vars(light).update(vars(self))
        vars(light)["_modules"] = {}
        network = Adopted.freeze_module(light, freezer)
        freezer.memo.pop(id(light), None)  # whose identity another object may have soon
        if isinstance(network, type(self).own_class):
            network._modules.update(kept)
        return network


def _listed(*blocks: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(blocks)


def takes_cache(original: type[nn.Module]) -> bool:
    """Return whether the forward of a class keeps keys and values, unless it is told not to."""
    return "use_cache" in inspect.signature(original.forward).parameters


def _without_cache(original: Any) -> Any:
    """A forward that keeps no keys and values where several architectures run as one.

    A cache is an object that the forward fills.  What runs once for each architecture would find
    there what another one has left.
    """
    own = original.forward
    place = list(inspect.signature(own).parameters).index("use_cache")

    @functools.wraps(own)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        activation = current()
        if activation is not None and not activation.is_single and len(args) < place:
            kwargs.setdefault("use_cache", False)
        return own(self, *args, **kwargs)

    return forward


def _extra_repr(original: Any) -> Any:
    """What a class shows of itself; where that asks for a size that differs, the expressions."""

    @functools.wraps(original.extra_repr)
    def extra_repr(self: Any) -> str:
        try:
            return cast(str, original.extra_repr(self))
        except (ExpressionError, KeyError):  # torch's convolutions read their `__dict__`
            own = self.__dict__.get("_expressions", {})
            return ", ".join(f"{name}={value}" for name, value in own.items())

    return extra_repr


@cache
def _made_class(bases: Any, original: Any) -> Any:
    metas = {type(cls) for cls in (*bases, original)}
    most = [meta for meta in metas if not any(m is not meta and issubclass(m, meta) for m in metas)]
    meta = most[0] if len(most) == 1 else type("Meta", tuple(most), {})
    contents = {
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "own_class": original,
        # Before those of ours, which are those of torch's modules.
        "extra_repr": _extra_repr(original),
        "__repr__": original.__repr__,
    }
    if takes_cache(original) and AdoptedBlock not in bases:  # which is told by who calls it
        contents["forward"] = _without_cache(original)
    made = types.new_class(
        original.__name__, (*bases, original), {"metaclass": meta}, lambda ns: ns.update(contents)
    )
    if issubclass(made, ElasticModule):
        made.plain = made.wraps = original
    return made


def adopted_class(original: type[nn.Module], *bases: type[nn.Module]) -> type[nn.Module]:
    """Return the class of instances of a class, in a space: always the same one.

    Parameters
    ----------
    own_class
        Their own class.
    bases
        What they also are: :class:`Adopted`, or classes derived from it.
    """
    return cast("type[nn.Module]", cast(Any, _made_class)(bases, original))


def _blank(bases: Any, original: Any) -> Any:
    return object.__new__(_made_class(bases, original))
