"""Make a space of a network: its modules are adopted as they stand, with their tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from torch.nn.utils import parametrize

from .. import nn as layers
from ..mutable import Categorical
from ..mutable.expression import apply
from ..mutable.node import Node
from ..nn.blueprint import Blueprint, Template, defaults_of
from ..nn.computed_tensors import added_to, alike_in, as_constructed, is_reparametrized
from ..nn.elastic import ElasticModule
from ..nn.parametrized import expressions_in
from ..nn.reparametrized import defer, reparametrize
from ..nn.segments import flattened, layout_of
from .adopted import (
    Adopted,
    AdoptedBlock,
    AdoptedBlocks,
    AdoptedLayer,
    SizeBlueprint,
    adopted_class,
    takes_cache,
)
from .analysis import Analysis, kind_of
from .blocks import BlockRun, below, numbers
from .depth import OptionalBlocks
from .groups import Group
from .layouts import expression_of
from .options import Options
from .polynomials import Polynomial
from .sorting import Axis, TensorLayout, listed_in, names_in
from .symbolic import Origin, own_tensors
from .trial import layout_at

__all__ = ["Building"]


class Building:
    """Turns the modules of a network into those of a space, in place.

    Parameters
    ----------
    net
        The network.
    found
        What may vary in it.
    options
        What was asked for.

    Attributes
    ----------
    labels
        By name of a variable, the label of its choice.
    original
        The architecture that the network is.
    depths
        The groups of optional blocks.
    """

    def __init__(self, net: nn.Module, found: Analysis, options: Options) -> None:
        self.net, self.found, self.options = net, found, options
        self.modules = dict(net.named_modules())
        self.original: dict[str, Any] = {}
        self.labels = self._labels()
        self.values = self._values()
        self.depths: list[Group] = []
        self.tensors: dict[str, dict[str, dict[int, Any]]] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        self.optional: dict[str, Any] = {}
        self.runs: list[BlockRun] = []
        self.kernels: dict[str, Any] = {}
        self.sized: dict[tuple[str, tuple[int, ...]], list[str]] = {}
        self._sizes()
        self._blocks()
        self._kernels()

    # -- what is decided ------------------------------------------------------------------------

    def _labels(self) -> dict[str, str]:
        """One label for each variable, or one for all of a kind."""
        if self.options.share == "layer":
            return {width.name: width.label for width in self.found.widths.values()}
        shared: dict[Any, str] = {}
        labels: dict[str, str] = {}
        taken: set[str] = set()
        for width in self.found.widths.values():
            key = (kind_of(width.label), width.values)
            if key not in shared:
                label = key[0]
                while label in taken:
                    label += "'"
                taken.add(label)
                shared[key] = label
            labels[width.name] = shared[key]
        return labels

    def _values(self) -> dict[str, Any]:
        """By name of a variable, its choice, or its number."""
        solution = self.found.solution
        known: dict[str, Any] = {}
        values: dict[str, Any] = dict(solution.sizes)
        for width in self.found.widths.values():
            label = self.labels[width.name]
            if label not in known:
                known[label] = Categorical(list(width.values), label=label)
                self.original[label] = width.values[-1]
            values[width.name] = known[label]
        return values

    def _sizes(self) -> None:
        """By module, the sizes of its tensors and its attributes, where they vary."""
        solution, trial = self.found.solution, self.found.trial
        owned = {
            name for axes in trial.axes.values() for size in axes.values() for name in size.names
        }
        for key, axes in trial.axes.items():
            for path, name in trial.tensors[key][1]:
                for dim, size in axes.items():
                    layout = layout_at(self.found.layouts, (key, dim), size)
                    made = expression_of(layout, self.values)
                    if isinstance(made, Node):
                        self.tensors.setdefault(path, {}).setdefault(name, {})[dim] = made
        for name, origin in solution.origins.items():
            if origin.dim is not None:
                continue
            size = solution.resolve(Polynomial.name(name))
            if size.as_name() == name and name not in owned:
                size = self._of_dimensions(origin) or size
            made = size.evaluate(self.values)
            if not isinstance(made, Node):
                continue
            into = self.attributes.setdefault(origin.path, {})
            if origin.place is None:
                into[origin.name] = made
            else:
                items = list(into.get(origin.name, vars(self.modules[origin.path])[origin.name]))
                items[origin.place] = made
                into[origin.name] = tuple(items)

    def _of_dimensions(self, origin: Origin) -> Polynomial | None:
        """The size that an attribute has in common with all dimensions below of the same extent.

        An attribute that the forward does not read is for people, and for what libraries save.
        """
        prefix = f"{origin.path}." if origin.path else ""
        found = {
            size
            for key, axes in self.found.trial.axes.items()
            for path, _ in self.found.trial.tensors[key][1]
            if f"{path}.".startswith(prefix)
            for size in axes.values()
            if self.found.solution.value(size) == origin.size
        }
        return found.pop() if len(found) == 1 else None

    def _blocks(self) -> None:
        """By container, which of its blocks are there, and what numbers these."""
        for path in dict.fromkeys(run.path for run in self.found.runs):
            here = [run for run in self.found.runs if run.path == path]
            names = list(self.modules[path]._modules)
            # Something must be left of a container: of the first kind of its blocks.
            all_optional = sum(len(run.optional) for run in here) == here[0].total
            for run in here:
                least = 1 if all_optional and run is here[0] else 0
                paths = [below(path, names[place]) for place in run.optional]
                if len(paths) > least:
                    self._run_of_blocks(run, paths, least)
            there = {p: keep for p, keep in self.optional.items() if p.rpartition(".")[0] == path}
            for run_of_blocks in self.runs:
                if run_of_blocks.container == path:
                    for inner, name, number in numbers(names, run_of_blocks, there):
                        self.attributes.setdefault(inner, {})[name] = number
                    break

    def _run_of_blocks(self, run: OptionalBlocks, paths: list[str], least: int) -> None:
        is_counted = self.options.depth is True
        values = tuple(range(least, len(paths) + 1)) if is_counted else (0, 1)
        labels = {run.label: tuple(paths)} if is_counted else {f"{p}.depth": (p,) for p in paths}
        for label, places in labels.items():
            self.original[label] = values[-1]
            self.depths.append(Group(label, "depth", values[-1], values, places))
        choices = [Categorical(list(values), label=label) for label in labels]
        made = BlockRun(run.path, choices, paths, is_counted, run.counters)
        self.runs.append(made)
        self.optional |= made.conditions(least)

    def _kernels(self) -> None:
        """By convolution, the size of its kernel: one label for each, or for all of a kind."""
        known: dict[Any, Any] = {}
        for kernel in self.found.kernels:
            is_shared = self.options.share == "kind"
            label = kind_of(kernel.label) if is_shared else kernel.label
            if label in self.original and (label, kernel.values) not in known:
                label = kernel.label  # as of a kind with other sizes
            if (label, kernel.values) not in known:
                known[label, kernel.values] = Categorical(list(kernel.values), label=label)
                self.original[label] = kernel.size
            size = known[label, kernel.values]
            self.kernels[kernel.path] = kernel.arguments(self.modules[kernel.path], size)
            place = f"{below(kernel.path, 'kernel_size')}"
            self.sized.setdefault((label, kernel.values), []).append(place)

    def kernel_groups(self) -> list[Group]:
        """Return the groups of kernels."""
        return [
            Group(label, "kernel", values[-1], values, tuple(places))
            for (label, values), places in self.sized.items()
        ]

    def plan(self) -> TensorLayout:
        """Return how the tensors of the space are laid out."""
        trial, found = self.found.trial, self.found
        axes = [
            Axis(tuple(trial.tensors[key][1]), dim, layout_at(found.layouts, (key, dim), size))
            for key, of_tensor in trial.axes.items()
            for dim, size in of_tensor.items()
        ]
        # What is not saved is made anew by the constructor, in its own order.
        made_anew = {
            name
            for axis in axes
            for path, tensor in axis.places
            if tensor in self.modules[path]._non_persistent_buffers_set
            for name in names_in(axis.layout)
        }
        listed = frozenset().union(*(listed_in(axis.layout) for axis in axes))
        return TensorLayout(
            tuple(axis for axis in axes if names_in(axis.layout) & self.labels.keys()),
            {name: size for name, size in found.solution.sizes.items() if name in found.labels},
            dict(self.labels),
            frozenset(found.sortable & self.labels.keys() - made_anew - listed),
        )

    # -- building -------------------------------------------------------------------------------

    def run(self, root: type[nn.Module]) -> None:
        """Exchange classes, tensors stay where they are.

        Parameters
        ----------
        root
            What the network itself becomes.
        """
        done: set[nn.Module] = set()
        for path, module in self.modules.items():
            if module in done:
                continue
            if path and self._layer(path, module):
                done.update(module.modules())
                continue
            self._other(path, module, [] if path else [root])
            if path in self.optional:
                call = self.found.trace.calls[path]
                module.__dict__.update(_keep=self.optional[path], _returns=call.length)
            for run in self.runs:
                if run.container == path:
                    for choice in run.choices:
                        cast(Adopted, module).add_mutable(choice)

    def _other(self, path: str, module: nn.Module, bases: list[type[nn.Module]]) -> None:
        """Make what is no layer of torch mutable: a layer of one's own, blocks, what holds some."""
        tensors = self.tensors.get(path, {})
        attributes = self._sizes_said(path, module, tensors) | self.attributes.get(path, {})
        is_layer = not module._modules and not is_reparametrized(module)
        if path and tensors and is_layer and path not in self.optional:
            self._foreign_layer(module, tensors, attributes)
            return
        if path in {run.container for run in self.runs}:
            bases.append(AdoptedBlocks)
        if path in self.optional:
            bases.append(AdoptedBlock)
        if not bases and (tensors or attributes or takes_cache(type(module))):
            bases.append(Adopted)
        if bases:
            self._adopt(module, tuple(bases), tensors, attributes)

    def _adopt(
        self,
        module: nn.Module,
        bases: tuple[type[nn.Module], ...],
        tensors: Mapping[str, Mapping[int, Any]],
        attributes: Mapping[str, Any],
    ) -> None:
        module.__class__ = adopted_class(type(module), *bases)
        if tensors:
            vars(module)["_axis_layouts"] = {
                name: {dim: layout_of(size) for dim, size in axes.items()}
                for name, axes in tensors.items()
            }
        for name, value in attributes.items():
            made = apply("tuple", *value) if isinstance(value, tuple) else value
            setattr(module, name, made)

    def _foreign_layer(
        self,
        module: nn.Module,
        tensors: Mapping[str, Mapping[int, Any]],
        attributes: Mapping[str, Any],
    ) -> None:
        own = type(module)
        module.__class__ = adopted_class(own, AdoptedLayer)
        held = own_tensors(module)
        shapes = {
            name: tuple(axes.get(dim, size) for dim, size in enumerate(held[name].shape))
            for name, axes in tensors.items()
        }
        sizes = {
            name: apply("tuple", *value) if isinstance(value, tuple) else value
            for name, value in attributes.items()
        }
        blueprint = SizeBlueprint(cast(Any, type(module)), sizes, shapes, frozenset(held))
        module.__dict__.update(args=blueprint.arguments, _blueprint=blueprint)
        for name, value in sizes.items():
            setattr(module, name, value)

    def _layer(self, path: str, module: nn.Module) -> bool:
        """Make a layer of torch the elastic one, if its arguments say all that varies."""
        elastic = _KNOWN.get(parametrize.type_before_parametrizations(module))
        tensors = self.tensors.get(path, {}) | self._computed(path, module)
        if elastic is None or not (tensors or path in self.kernels):
            return False
        arguments = self._arguments(path, module, elastic.plain, tensors)
        if not any(map(expressions_in, arguments.values())):
            return False
        layouts = {
            name: tuple(map(layout_of, shape)) for name, shape in elastic.shapes(arguments).items()
        }
        for name, layout in layouts.items():
            tensor = getattr(module, name, None)
            if tensor is not None and tuple(a.extent for a in layout) != tuple(tensor.shape):
                return False
        reference = Template(as_constructed(module), elastic.derived)
        module.__class__ = elastic
        reparametrize(module)
        for hook in module._forward_pre_hooks.values():
            defer(module, hook)
        vars(module)["args"] = arguments
        vars(module)["_blueprint"] = Blueprint(elastic, arguments, reference, layouts)
        for name, value in arguments.items():
            if name in self.kernels.get(path, ()):
                setattr(module, name, apply("tuple", *value))
            elif isinstance(value, Node) and name in vars(module):
                setattr(module, name, value)
        return True

    def _computed(self, path: str, module: nn.Module) -> dict[str, dict[int, Any]]:
        """The sizes of tensors that are computed from others: from one that lies as they do."""
        found: dict[str, dict[int, Any]] = {}
        for name in added_to(module):
            for source in alike_in(module, name):
                holder, _, part = source.rpartition(".")
                sizes = self.tensors.get(below(path, holder) if holder else path, {}).get(part)
                if sizes:
                    found.setdefault(name, sizes)
        return found

    def _arguments(
        self,
        path: str,
        module: nn.Module,
        plain: type[nn.Module],
        tensors: Mapping[str, Mapping[int, Any]],
    ) -> dict[str, Any]:
        """The arguments of a layer's constructor, read from it."""
        state = vars(module)
        found: dict[str, Any] = {}
        for name in inspect.signature(plain).parameters:
            if name in ("device", "dtype"):
                continue
            tensor = module._parameters.get(name, module)
            if name == "bias":
                found[name] = getattr(module, "bias", None) is not None
            elif name in state and tensor is module:
                found[name] = state[name]
            elif name in defaults_of(plain):
                found[name] = defaults_of(plain)[name]
        sizes = self._size_arguments(path, module, tensors)
        # Of two expressions of one size, that of a tensor says where its elements are.
        made = {**self.attributes.get(path, {}), **sizes}
        found |= {name: value for name, value in made.items() if name in found}
        found |= self.kernels.get(path, {})
        return found

    def _sizes_said(
        self, path: str, module: nn.Module, tensors: Mapping[str, Mapping[int, Any]]
    ) -> dict[str, Any]:
        """What a class derived from a layer of torch says of its size, where that varies."""
        if not tensors:
            return {}
        said = self._size_arguments(path, module, tensors)
        return {name: v for name, v in said.items() if expressions_in(v) and name in vars(module)}

    def _size_arguments(
        self, path: str, module: nn.Module, tensors: Mapping[str, Mapping[int, Any]]
    ) -> dict[str, Any]:
        def size(name: str, dim: int) -> Any:
            tensor = getattr(module, name, None)
            known = tensors.get(name, {})
            return None if tensor is None else known.get(dim, tensor.shape[dim])

        found: dict[str, Any] = {}
        for kind, arguments in _SIZE_ARGUMENTS.items():
            if not isinstance(module, kind):
                continue
            for argument, places in arguments.items():
                made = next((s for p in places if (s := size(*p)) is not None), None)
                if made is not None:
                    found[argument] = made
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) and module.weight is not None:
            dims = range(len(module.normalized_shape))
            found["normalized_shape"] = tuple(size("weight", dim) for dim in dims)
        if isinstance(module, nn.modules.conv._ConvNd):
            groups = self.attributes.get(path, {}).get("groups", module.groups)
            argument = "out_channels" if module.transposed else "in_channels"
            if isinstance(groups, Node) or groups != 1:
                inner = size("weight", 1)
                depthwise = isinstance(inner, int) and inner == 1
                if depthwise and module.in_channels == module.out_channels:
                    # As many, at these places; and whoever calls the function with the weight never
                    # reads the attribute.
                    found["groups"] = groups = size("weight", 0)
                found[argument] = groups if depthwise else flattened(groups, inner)
        return found


_NORMS = (nn.modules.batchnorm._NormBase,)
_PER_CHANNEL = (("weight", 0), ("running_mean", 0))
_SIZE_ARGUMENTS: dict[Any, dict[str, tuple[tuple[str, int], ...]]] = {
    nn.Linear: {"in_features": (("weight", 1),), "out_features": (("weight", 0),)},
    nn.Bilinear: {
        "in1_features": (("weight", 1),),
        "in2_features": (("weight", 2),),
        "out_features": (("weight", 0),),
    },
    (nn.Conv1d, nn.Conv2d, nn.Conv3d): {
        "in_channels": (("weight", 1),),
        "out_channels": (("weight", 0),),
    },
    (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d): {
        "in_channels": (("weight", 0),),
        "out_channels": (("weight", 1),),
    },
    _NORMS: {"num_features": _PER_CHANNEL},
    nn.GroupNorm: {"num_channels": _PER_CHANNEL},
    nn.PReLU: {"num_parameters": (("weight", 0),)},
    (nn.Embedding, nn.EmbeddingBag): {"embedding_dim": (("weight", 1),)},
}
"""Which dimension of which tensor an argument of a layer of torch is."""

_KNOWN: dict[type[nn.Module], type[ElasticModule]] = {
    elastic.plain: elastic
    for name in layers.__all__
    if name.startswith("Mutable")
    and isinstance(elastic := getattr(layers, name), type)
    and issubclass(elastic, ElasticModule)
    and hasattr(elastic, "plain")
    and elastic.plain is not nn.MultiheadAttention
}
"""The layers of torch that have an elastic form.

Attention is not among them: torch's encoder layers read its tensors past it, so they must be cut
when they are read.
"""
