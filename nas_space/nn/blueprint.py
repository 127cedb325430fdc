"""What an elastic layer is under some arguments: attributes, and cuts of its tensors.

Worked out once for each combination of values, and then only looked up.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

from torch import Tensor, nn

from ..errors import SpaceError
from ..mutable.node import key_of
from .freezing import Cut
from .parametrized import evaluated, expressions_in, signature_of
from .segments import AxisLayout, layout_of
from .structure import OF_EVERY_MODULE

__all__ = [
    "REFUSALS",
    "Blueprint",
    "LayerForm",
    "LayerSpec",
    "ModuleForm",
    "Placing",
    "Shape",
    "Template",
    "as_call",
    "defaults_of",
    "layouts_of",
    "refusal",
]

Shape: TypeAlias = tuple[Any, ...]
Placing: TypeAlias = "Callable[[AxisLayout], int]"
"""What says of a segmented axis which elements are there."""


class LayerSpec(Protocol):
    """What a class of elastic layers says; see :class:`.elastic.ElasticModule`."""

    @property
    def plain(self) -> type[nn.Module]:
        """The plain layer."""

    @property
    def kept(self) -> frozenset[str]:
        """Attributes that all architectures have in common."""

    @property
    def derived(self) -> frozenset[str]:
        """Attributes that hold tensors once more."""

    def shapes(self, arguments: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        """Return tensor name to shape."""

    def cut(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the part of a tensor that has a shape."""


class ModuleForm:
    """A module of an elastic layer, itself or a child, under some arguments.

    Attributes
    ----------
    attributes
        Those in which it differs.
    cuts
        By tensor, what takes the part of it that is used; ``None`` is taken of one that a
        plain layer with these arguments does not have.
    """

    __slots__ = ("attributes", "cuts")

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.cuts: dict[str, Cut] = {}


class LayerForm:
    """What an elastic layer is under some arguments.

    Attributes
    ----------
    arguments
        The plain arguments.
    parts
        The layer itself under ``''``, and its children by name.
    """

    __slots__ = ("arguments", "parts")

    def __init__(self, arguments: dict[str, Any], parts: dict[str, ModuleForm]) -> None:
        self.arguments = arguments
        self.parts = parts


class Blueprint:
    """What makes the form of an elastic layer out of values.

    Parameters
    ----------
    layer
        The class of the elastic layer.
    arguments
        Some of which are expressions.
    reference
        What torch gave the layer that owns the weights.
    layouts
        By tensor, how its dimensions are laid out.

    Attributes
    ----------
    wanted
        The expressions among the arguments: they decide the sizes of tensors.
    atoms
        Those that decide beside them which elements of a tensor are there.
    """

    def __init__(
        self,
        layer: LayerSpec,
        arguments: dict[str, Any],
        reference: Template,
        layouts: Mapping[str, tuple[AxisLayout, ...]],
    ) -> None:
        self.layer = layer
        self.arguments = arguments
        self.reference = reference
        self.layouts = layouts
        self.segmented = {
            name: found
            for name, layout in layouts.items()
            if (found := {dim: each for dim, each in enumerate(layout) if not each.is_prefix})
        }
        self.symbolic = frozenset(n for n, value in arguments.items() if expressions_in(value))
        self.wanted = [e for value in arguments.values() for e in expressions_in(value)]
        known = {id(expression) for expression in self.wanted}
        atoms = [atom for axis in self._segmented_axes() for atom in axis.atoms]
        self.atoms = list({id(a): a for a in atoms if id(a) not in known}.values())
        self.forms: dict[Any, LayerForm] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Blueprint, (self.layer, self.arguments, self.reference, self.layouts)

    def form(self, values: Any) -> LayerForm:
        """Return the form under some values; made once for each of their combinations."""
        key = tuple([key_of(values(expression)) for expression in self.wanted])
        if self.segmented:
            key = (key, *[axis.key(values) for axis in self._segmented_axes()])
        return self._remembered(key, lambda: self.make(values, lambda axis: axis.places(values)))

    def form_by_size(self, values: Any) -> LayerForm:
        """Return a form whose tensors have the right shapes, but are what comes first.

        For who knows the values of ``wanted`` only, and does not look at tensors.
        """
        key = tuple([key_of(values(expression)) for expression in self.wanted])
        return self._remembered(("by size", key), lambda: self.make(values))

    def _remembered(self, key: Any, make: Callable[[], LayerForm]) -> LayerForm:
        found = self.forms.get(key)
        if found is None:
            if len(self.forms) >= _REMEMBERED:
                self.forms.clear()
            found = self.forms[key] = make()
        return found

    def _segmented_axes(self) -> Iterator[AxisLayout]:
        for found in self.segmented.values():
            yield from found.values()

    def extents(self, values: Any, places: Placing | None = None) -> dict[str, Shape | None]:
        """Return the shapes of tensors under some values; ``None`` for what a layer lacks.

        Parameters
        ----------
        values
            Of the expressions among the arguments.
        places
            Where the elements of a segmented axis are; without it, only their number counts.
        """
        arguments = self._evaluated(values)
        template = _template(self.layer, arguments)
        shapes = self.layer.shapes(arguments)
        absent = self._absent(arguments, template, shapes)
        shapes = self._placed(shapes, places)
        return {name: None if name in absent else shapes[name] for name in self.layouts}

    def _placed(self, shapes: dict[str, Shape], places: Placing | None) -> dict[str, Shape]:
        if places is not None:
            for name, found in self.segmented.items():
                if name not in shapes:
                    continue
                shape = list(shapes[name])
                for dim, axis in found.items():
                    shape[dim] = places(axis)
                shapes[name] = tuple(shape)
        return shapes

    def _evaluated(self, values: Any) -> dict[str, Any]:
        return {name: evaluated(value, values) for name, value in self.arguments.items()}

    def make(self, values: Any, places: Placing | None = None) -> LayerForm:
        """Return a new form; see :meth:`extents`."""
        layer, reference = self.layer, self.reference
        arguments = self._evaluated(values)
        template = _template(layer, arguments)
        parts = {name: ModuleForm() for name in reference.attributes}
        for name, part in parts.items():
            for key, value in template.attributes[name].items():
                common = not name and key in layer.kept
                known = reference.attributes[name].get(key, layer)
                if not common and (_differs(known, value) or (not name and key in self.symbolic)):
                    part.attributes[key] = value
        shapes = layer.shapes(arguments)
        absent = self._absent(arguments, template, shapes)
        self._check(arguments, template, shapes, absent)
        for name, shape in self._placed(shapes, places).items():
            prefix, _, leaf = name.rpartition(".")
            parts[prefix].cuts[leaf] = partial(layer.cut, name, shape=shape)
        for name in absent:
            prefix, _, leaf = name.rpartition(".")
            parts[prefix].cuts[leaf] = _nothing
        return LayerForm(arguments, parts)

    def _check(
        self,
        arguments: Mapping[str, Any],
        template: Template,
        shapes: Mapping[str, Shape],
        absent: frozenset[str],
    ) -> None:
        """Raise if the class says of a tensor another shape than the plain layer has.

        The plain layer of the same arguments is at hand, so what a class says is never taken on
        trust: a tensor that it forgets would keep the shape of another architecture, and one of
        a wrong shape may be broadcast without a complaint.
        """
        # What it says nothing of, such as a counter of batches, is the same for all; and it may
        # say something of what a plain layer has with other switches only.
        said = {**self.reference.tensors, **shapes}
        wrong = []
        for name, has in template.tensors.items():
            if name in absent or name not in said:
                continue
            owned = tuple(axis.extent for axis in self.layouts.get(name, ()))
            if tuple(said[name]) != has:
                wrong.append(f"{name} {said[name]}, but that has {has}")
            elif any(size > most for size, most in zip(has, owned, strict=False)):
                wrong.append(f"{name} {has}, but with expressions it said {owned} at most")
        if wrong:
            raise SpaceError(
                f"shapes() of {cast(Any, self.layer).__name__} says for "
                f"{self.layer.plain.__name__}({as_call(arguments)}): {'; '.join(sorted(wrong))}"
            )

    def _absent(
        self, arguments: dict[str, Any], template: Template, shapes: Mapping[str, Shape]
    ) -> frozenset[str]:
        """Return the tensors that the plain layer of some arguments lacks.

        Those of which the class says no shape, and those that torch leaves out because of a
        switch, such as ``bias=False``.
        """
        missing = self.layouts.keys() - shapes.keys()
        off = [name for name in self.symbolic if arguments[name] is False]
        if off:
            on = _template(self.layer, arguments | dict.fromkeys(off, True))
            missing |= on.tensors.keys() - template.tensors.keys()
        return frozenset(missing)


_REMEMBERED = 1024
"""How many forms a layer remembers."""


def layouts_of(
    layer: LayerSpec, arguments: Mapping[str, Any], reference: Template
) -> dict[str, tuple[AxisLayout, ...]]:
    """Return how the dimensions of each tensor are laid out, as the class says.

    Raises
    ------
    SpaceError
        If it gives no shape, or says nothing of a parameter of the plain layer.
    """
    shapes, name_of = layer.shapes(arguments), cast(Any, layer).__name__
    for name, shape in shapes.items():
        if not isinstance(shape, (tuple, list)):
            raise SpaceError(
                f"shapes() of {name_of} is to give a tuple of sizes for {name}, but gives {shape!r}"
            )
    forgotten = reference.parameters - shapes.keys()
    if forgotten:
        raise SpaceError(
            f"shapes() of {name_of} says nothing of {', '.join(sorted(forgotten))}, which "
            f"{layer.plain.__name__} has"
        )
    return {name: tuple(map(layout_of, shape)) for name, shape in shapes.items()}


def _nothing(tensor: Tensor) -> None:
    del tensor  # it is left out


class Template:
    """The attributes that torch itself gives a plain layer, and the tensors it has.

    Raises
    ------
    SpaceError
        If an attribute holds tensors, which nothing would cut, and is not ``derived``.
    """

    def __init__(self, layer: nn.Module, derived: frozenset[str] = frozenset()) -> None:
        ignored = OF_EVERY_MODULE | derived
        self.attributes = {
            name: {k: v for k, v in vars(module).items() if k not in ignored}
            for name, module in (("", layer), *layer.named_children())
        }
        for attributes in self.attributes.values():
            for name, value in attributes.items():
                if _holds_tensors(value):
                    raise SpaceError(
                        f"{type(layer).__name__} keeps tensors in the attribute {name!r}, where "
                        "they cannot be cut; make it a parameter or a buffer, or say in `derived` "
                        "of the elastic layer that derive(layer) makes it from these"
                    )
        self.tensors = {
            name: tuple(tensor.shape)
            for name, tensor in (*layer.named_parameters(), *layer.named_buffers())
        }
        """The shape of each, by its name."""
        self.parameters = {n for n, found in layer._parameters.items() if found is not None}
        """Those of its own, without its children's."""
        self.count = len(layer._parameters) + len(layer._buffers)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    if isinstance(value, dict):
        return any(map(_holds_tensors, value.values()))
    return isinstance(value, (Tensor, weakref.ref))


def _template(layer: LayerSpec, arguments: Mapping[str, Any]) -> Template:
    return _template_of(cast(Any, layer.plain), layer.derived, _Arguments(arguments))


@lru_cache(maxsize=4096)
def _template_of(plain: Any, derived: frozenset[str], arguments: _Arguments) -> Template:
    on_meta = {"device": "meta"} if "device" in defaults_of(plain) else {}
    try:
        return Template(plain(**arguments.given, **on_meta), derived)
    except REFUSALS as error:
        raise refusal(plain, arguments.given, error) from error


class _Arguments:
    """Arguments as a key of a cache."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.key = tuple([(name, key_of(value)) for name, value in given.items()])

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arguments) and self.key == other.key


REFUSALS = (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError)
"""What torch's constructors raise."""


class TorchRefusesError(SpaceError):
    """A plain layer does not take some arguments."""


def refusal(plain: type, arguments: Mapping[str, Any], error: Exception) -> TorchRefusesError:
    """Return the error for arguments that a plain layer does not take."""
    return TorchRefusesError(f"torch refuses {plain.__name__}({as_call(arguments)}): {error}")


@cache
def _defaults(plain: Any) -> Mapping[str, Any]:
    parameters = list(signature_of(plain).parameters.values())[1:]
    return MappingProxyType({p.name: p.default for p in parameters if p.default is not p.empty})


def defaults_of(plain: type[nn.Module]) -> Mapping[str, Any]:
    """Return the default arguments of a class."""
    return _defaults(cast(Any, plain))


def _differs(a: Any, b: Any) -> bool:
    return type(a) is not type(b) or not (a is b or a == b)


def as_call(arguments: Mapping[str, Any]) -> str:
    """Return arguments as they stand in a call."""
    return ", ".join(f"{name}={value}" for name, value in arguments.items())
