"""Regions: parts of a space that are compiled by themselves, so that no draw compiles anything.

A compiled space would be compiled again for each architecture.  Here its parts are, each for
as few forms as it has: what is the same in every architecture once, and what has elastic layers
once for each way to run it.  The widths of these are no reason for another program: it takes the
slices as inputs, of which sizes are symbols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..mutable.node import leaves
from .activation import current
from .choice import LayerChoice
from .elastic import ElasticModule, put_back
from .freezing import Freezer
from .parametrized import ParametrizedModule, expressions_in
from .repeat import Repeat
from .structure import Survey, is_plain_layer

__all__ = ["compile_regions"]

MOST_FORMS = 16
"""A part that has more is compiled in smaller parts."""

_LISTS = (nn.ModuleList, nn.ModuleDict)
"""They are not run themselves."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

Found: TypeAlias = "Plain | Elastic"


def compile_regions(space: nn.Module, **options: Any) -> list[str]:
    """Compile the parts of a space, each when it is first run.

    A part is compiled once if it is the same in every architecture, and otherwise once for each
    value of what is more than a width: a kernel, or what is chosen within.  So after every part
    has run, no further architecture compiles anything.  Single layers are left as they are;
    elastic ones run as ever in a strategy that mixes architectures.

    Compiled code rounds otherwise than what ``freeze`` makes, which is not compiled.  What a
    module counts or remembers in its ``forward``, beside tensors, may be lost.

    Parameters
    ----------
    space
        The space.
    options
        For ``torch.compile``.

    Returns
    -------
    list of str
        The paths of the parts.
    """
    found = dict(regions_of(space, options))
    for region in found.values():
        region.module.__dict__["_compiled_call_impl"] = region
    return list(found)


def regions_of(root: nn.Module, options: dict[str, Any]) -> Iterator[tuple[str, Found]]:
    """Return the regions in a module by path: the largest ones, and plain ones within these.

    The latter are for strategies that run a mixture, for which elastic layers are not cut.

    Parameters
    ----------
    root
        A space.
    options
        For ``torch.compile``.
    """
    survey = Survey()

    def look(module: nn.Module, path: str, *, elastic: bool) -> Iterator[tuple[str, Found]]:
        for name, child in module.named_children():
            at = f"{path}.{name}" if path else name
            if survey(child) is None:
                if _is_worth_it(child):
                    yield at, Plain(child, options)
                elif isinstance(child, _LISTS):
                    yield from look(child, at, elastic=elastic)
                continue
            here = elastic and _has_few_forms(child, survey)
            if here:
                yield at, Elastic(child, _decisive(child, survey), options)
            yield from look(child, at, elastic=elastic and not here)

    seen: set[int] = set()
    for path, region in look(root, "", elastic=True):
        if id(region.module) not in seen:
            seen.add(id(region.module))
            yield path, region


def _is_worth_it(module: nn.Module) -> bool:
    """Return whether there is something to fuse: a layer of torch is a kernel already."""
    if isinstance(module, (ElasticModule, *_LISTS)):
        return False
    return any(True for _ in module.children()) or not is_plain_layer(module)


def _has_few_forms(module: nn.Module, survey: Survey) -> bool:
    # Candidates and blocks apart have fewer forms than together.
    if isinstance(module, (ParametrizedModule, LayerChoice, Repeat, *_LISTS)):
        return False
    elastic = list(filter(_is_elastic, module.modules()))
    if not elastic or any(layer.reparametrization is not None for layer in elastic):
        return False
    sizes = [leaf.size or math.inf for leaf in _decisive(module, survey)]
    return math.prod(sizes) <= MOST_FORMS


def _is_elastic(module: nn.Module) -> TypeGuard[ElasticModule]:
    return isinstance(module, ElasticModule) and module.is_parametrized


def _decisive(module: nn.Module, survey: Survey) -> list[Any]:
    """Return the labels on which more depends than sizes."""
    found: dict[Any, None] = {}
    for part in module.modules():
        if _is_elastic(part):
            sizes = _sizes(part)
            held = [e for n, a in part.args.items() if n not in sizes for e in expressions_in(a)]
        else:
            held = survey.own(part)
        found |= dict.fromkeys(leaves(*held))
    return list(found)


def _sizes(layer: ElasticModule) -> frozenset[str]:
    return layer.sizes | {"groups"} if _is_depthwise(layer) else layer.sizes


def _is_depthwise(layer: ElasticModule) -> bool:
    args = layer.args
    return (
        layer.plain in _CONVOLUTIONS
        and args["groups"] is args["in_channels"] is args["out_channels"]
        and bool(expressions_in(args["groups"]))
        and args["padding_mode"] == "zeros"
        and not isinstance(args["padding"], str)
    )


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """A function compiled by itself: what torch remembers, and limits, it does by code object."""

    def region(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    region.__code__ = region.__code__.replace()
    compiled: Any = torch.compile
    found: Callable[..., Any] = compiled(region, **options)
    return found


def _runs_eagerly(args: tuple[Any, ...]) -> bool:
    """Return whether somebody else follows what is run: another compiler, or a profiler."""
    if torch.compiler.is_compiling():
        return True
    return any(isinstance(each, Tensor) and each.is_meta for each in args)


class Plain:
    """A module that is the same in every architecture, compiled.

    Parameters
    ----------
    module
        The module.
    options
        For ``torch.compile``.
    """

    def __init__(self, module: nn.Module, options: dict[str, Any]) -> None:
        self.module: Any = module
        self.program = _compiled(self.module._call_impl, options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = self.module._call_impl if _runs_eagerly(args) else self.program
        return run(*args, **kwargs)


class Elastic:
    """A module with elastic layers, compiled once for each of its forms.

    A form is the frozen network of the module, which runs with the slices of the architecture
    that is active.

    Parameters
    ----------
    module
        The module.
    decisive
        The labels of which each value is another form.
    options
        For ``torch.compile``.
    """

    def __init__(self, module: nn.Module, decisive: list[Any], options: dict[str, Any]) -> None:
        self.module: Any = module
        self.options = options
        self.decisive = [leaf.name for leaf in decisive]
        self.forms: dict[Any, _Form] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        here = current()
        if here is None or not here.is_single or _runs_eagerly(args):
            return self.module._call_impl(*args, **kwargs)
        active = here.values.active
        key = (
            self.module.training,
            *[repr(active[label]) if label in active else None for label in self.decisive],
        )
        form = self.forms.get(key)
        if form is None:
            form = self.forms[key] = _Form(self.module, here.values, self.options)
        return form(here, args, kwargs)


class _Form:
    """One way to run a module: a program, and where its tensors are."""

    def __init__(self, module: nn.Module, values: Any, options: dict[str, Any]) -> None:
        from .depthwise import depthwise  # what it registers with torch takes time

        freezer = Freezer(values, device="meta")
        template = freezer.module(module)
        self.elastic: list[tuple[ElasticModule, list[_Tensor]]] = []
        self.fixed: list[tuple[dict[str, Any], str, str]] = []
        paths = {id(part): path for path, part in template.named_modules()}
        for part in module.modules():
            network = freezer.memo.known(part)
            path = paths.get(id(network))
            if path is None:
                continue  # not in this form, or a part of an elastic layer
            if _is_elastic(part):
                self.elastic.append((part, list(_tensors(part, network, path))))
                if _is_depthwise(part):
                    kind: Any = part.plain
                    network.__class__ = depthwise(kind)
            else:
                for held in (part._parameters, part._buffers):
                    for name, tensor in held.items():
                        if tensor is not None:
                            self.fixed.append((held, name, _join(path, name)))

        def run(tensors: dict[str, Tensor], args: Any, kwargs: Any) -> Any:
            return functional_call(template, tensors, args, kwargs)

        self.run = _compiled(run, options)

    def __call__(self, here: Any, args: Any, kwargs: Any) -> Any:
        tensors = {full: _unowned(held[name]) for held, name, full in self.fixed}
        stand_ins = []
        for layer, parts in self.elastic:
            stand_in = here.stand_in(layer)
            stand_ins.append(stand_in)
            for prefix, name, full, symbolic in parts:
                holder = stand_in.__dict__[prefix] if prefix else stand_in
                tensor = _unowned(holder.__dict__[name])
                _mark(tensor, symbolic)
                tensors[full] = tensor
        for each in args:
            if isinstance(each, Tensor) and each.dim() > 1:
                _mark(each, (1,))
        output = self.run(tensors, args, kwargs)
        for stand_in in stand_ins:
            put_back(stand_in)
        return output


_Tensor: TypeAlias = tuple[str, str, str, tuple[int, ...]]
"""The child of the layer that holds it, its name, its name in the form, and symbolic dimensions."""


def _tensors(layer: ElasticModule, network: nn.Module, path: str) -> Iterator[_Tensor]:
    shapes = layer.shapes(layer.args)
    for full, tensor in (*network.named_parameters(), *network.named_buffers()):
        prefix, _, name = full.rpartition(".")
        shape = shapes.get(full, tensor.shape)
        symbolic = tuple(dim for dim, size in enumerate(shape) if expressions_in(size))
        yield prefix, name, _join(path, full), symbolic


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unowned(tensor: Tensor) -> Tensor:
    """A parameter as a tensor like any other: of parameters torch takes the shapes for fixed."""
    return tensor.view_as(tensor) if isinstance(tensor, nn.Parameter) else tensor


def _mark(tensor: Tensor, dims: tuple[int, ...]) -> None:
    for dim in dims:
        torch._dynamo.maybe_mark_dynamic(tensor, dim)
