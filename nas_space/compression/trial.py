"""Cut the network for real, run it, and hold it to the original: in what meets, and in numbers.

What meets says nothing of code that treats channels by their places, such as a constant that is
made of ``torch.arange``.  So channels are also put in another order, which must change nothing,
and where no normalisation stands between, a cut must give what silencing the same channels does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .calling import undisturbed
from .depth import OptionalBlocks
from .equations import Solution
from .identity import Identities, Misplaced
from .kernels import Kernel, shrunk, silent
from .layouts import Dimension, Layout, indices
from .polynomials import Polynomial
from .symbolic import Trace, forgetting_caches, keeping, leaves_of, tensors_of

__all__ = ["BY_PLACE", "Layouts", "Members", "Trial", "alike", "layout_at"]

Layouts: TypeAlias = "Mapping[Polynomial | Dimension, Layout]"
"""By size how it is laid out; by dimension, where that is of its own."""

Members: TypeAlias = "tuple[tuple[Dimension, int], ...]"
"""The elements of dimensions that are one channel."""

BY_PLACE = "what the code does to channels depends on their places"


class Trial:
    """Runs parts of a network.

    Parameters
    ----------
    net
        The network, in evaluation mode.  It is left as it was.
    args, kwargs
        Its inputs.
    trace, solution
        What the symbolic run has shown.
    """

    def __init__(
        self, net: nn.Module, args: Any, kwargs: Any, trace: Trace, solution: Solution
    ) -> None:
        self.net, self.args, self.kwargs = net, args, kwargs
        self.solution = solution
        self.sizes = dict(solution.sizes)
        self.outputs = [[solution.of(size) for size in shape] for shape in trace.outputs]
        self.is_partial = bool(trace.notes)
        self.modules = dict(net.named_modules())
        self.tensors = tensors_of(net)
        self.axes: dict[int, dict[int, Polynomial]] = {}
        self.attributes: list[tuple[nn.Module, str, int | None, Polynomial]] = []
        ids = {place: key for key, (_, places) in self.tensors.items() for place in places}
        for name, origin in solution.origins.items():
            size = solution.resolve(Polynomial.name(name))
            if not size.names:
                continue
            if origin.dim is None:
                module = self.modules[origin.path]
                self.attributes.append((module, origin.name, origin.place, size))
            else:
                self.axes.setdefault(ids[origin.path, origin.name], {})[origin.dim] = size
        self.identities: Identities | None = None
        self.returned: list[Tensor] = []
        self.is_random = False
        self.normalised: set[str] = set()
        """Variables whose elements are more than added up: to silence one is not to cut it."""

    def record(self) -> None:
        """Run the original, and keep what it returns."""
        followed = {self.tensors[key][0]: list(axes) for key, axes in self.axes.items()}
        self.identities = Identities(followed)
        with self.identities.recording():
            self.returned = self.run({})
        self.is_random = not alike(self.run({}, seed=1), self.returned)
        self.normalised = self._owners(self.identities.normalised)
        if self.is_partial:  # whose parts keep the sizes that they return
            self.outputs = [list(map(Polynomial.constant, leaf.shape)) for leaf in self.returned]

    def lost(self) -> dict[str, set[str]]:
        """Return the variables of channels on which the effect of a function is not known."""
        assert self.identities is not None
        return {name: self._owners(numbers) for name, numbers in self.identities.lost.items()}

    def _owners(self, numbers: Iterable[int]) -> set[str]:
        assert self.identities is not None
        roots = self.identities.roots()
        members = self._members()
        return set().union(*(members.get(int(roots[n]), set()) for n in numbers if n >= 0))

    def _members(self) -> dict[int, set[str]]:
        """By class of elements, the variables that they are of."""
        assert self.identities is not None
        owners: dict[int, frozenset[str]] = {}
        for (key, dim), start in self.identities.starts.items():
            size = self.axes[key][dim]
            extent = self.tensors[key][0].shape[dim]
            owners.update(dict.fromkeys(range(start, start + extent), size.names))
        roots = self.identities.roots()
        members: dict[int, set[str]] = {}
        for number, names in owners.items():
            members.setdefault(int(roots[number]), set()).update(names)
        return members

    def attempt(
        self,
        values: Mapping[str, int],
        layouts: Layouts,
        without: Mapping[str, Sequence[int]] | None = None,
        runs: Sequence[OptionalBlocks] = (),
        orders: Mapping[str, Any] | None = None,
    ) -> None:
        """Run the network with smaller sizes, and without some blocks.

        Parameters
        ----------
        values
            Of the variables that are smaller.
        layouts
            How each size is laid out.
        without
            By path of a container, the places of the blocks that are left out.
        runs
            The runs of blocks, for the attributes that number them.
        orders
            Of some variables, the order in which channels are put.

        Raises
        ------
        Misplaced
            If channels meet that never met before, or numbers come out as they should not.
        Exception
            Whatever the code of the network raises.
        """
        assert self.identities is not None
        full = {**self.sizes, **values}
        blocks = without or {}
        check: Any = nullcontext() if blocks else self.identities.checking()
        with self.smaller(full, blocks, runs), check:
            returned = self.run(self._cut(values, layouts, orders or {}))
        shapes = [tuple(leaf.shape) for leaf in returned]
        expected = [tuple(size.evaluate(full) for size in shape) for shape in self.outputs]
        if shapes != expected:
            raise Misplaced(f"returns {shapes} instead of {expected}")
        if blocks or self.is_random:
            return
        if not all(
            size in layouts or size.names.isdisjoint({*values, *(orders or {})})
            for shape in self.outputs
            for size in shape
        ):
            return  # an output is laid out in a way that no tensor is
        if orders and not alike(returned, self._taken(self.returned, {}, layouts, orders)):
            raise Misplaced(BY_PLACE)
        if values and self.normalised.isdisjoint(values):
            silent = self._taken(self.run(self._silenced(values, layouts)), values, layouts, {})
            if not alike(returned, silent):
                raise Misplaced("it is not the network in which the same channels are silent")

    def attempt_kernels(self, kernels: Sequence[Kernel]) -> None:
        """Run the network with smaller kernels; as :meth:`attempt`."""
        with shrunk(self.net, kernels) as weights:
            returned = self.run(weights)
        silenced = self.run(silent(self.net, kernels))
        if [leaf.shape for leaf in returned] != [leaf.shape for leaf in silenced]:
            raise Misplaced("it returns tensors of other sizes")
        if not self.is_random and not alike(returned, silenced):
            raise Misplaced("it is not the network in which the outer taps are zero")

    def _silenced(self, values: Mapping[str, int], layouts: Layouts) -> dict[str, Tensor]:
        """Parameters in which what would be cut away is zero."""
        found: dict[str, Tensor] = {}
        for key, axes in self.axes.items():
            tensor, places = self.tensors[key]
            if not isinstance(tensor, nn.Parameter):
                continue
            silent = tensor.detach()
            for dim, size in axes.items():
                if size.names.isdisjoint(values):
                    continue
                kept, whole = indices(layout_at(layouts, (key, dim), size), values, self.sizes)
                mask = torch.zeros(whole, dtype=tensor.dtype, device=tensor.device)
                mask[torch.from_numpy(kept).to(tensor.device)] = 1
                silent = silent * mask.view(-1, *(1,) * (tensor.dim() - dim - 1))
            if silent is not tensor:
                found |= {(f"{path}.{name}" if path else name): silent for path, name in places}
        return found

    def _taken(
        self,
        leaves: Sequence[Tensor],
        values: Mapping[str, int],
        layouts: Layouts,
        orders: Mapping[str, Any],
    ) -> list[Tensor]:
        """What a network returns, with the same elements that a cut would leave, in its order."""
        found = []
        for leaf, shape in zip(leaves, self.outputs, strict=True):
            part = leaf
            for dim, size in enumerate(shape):
                if not size.names.isdisjoint({*values, *orders}):
                    kept, _ = indices(layouts[size], values, self.sizes, orders)
                    part = _taken(part, dim, kept)
            found.append(part)
        return found

    def _cut(
        self,
        values: Mapping[str, int],
        layouts: Layouts,
        orders: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for key in self.axes:
            cut = self._cut_one(key, values, layouts, orders)
            if cut is not None:
                for path, name in self.tensors[key][1]:
                    found[f"{path}.{name}" if path else name] = cut
        return found

    def _cut_one(
        self, key: int, values: Mapping[str, int], layouts: Layouts, orders: Mapping[str, Any]
    ) -> Tensor | None:
        """Return what a cut leaves of a tensor; ``None`` if that is all."""
        cut: Tensor | None = None
        # Tensors are told apart by identity: what is followed is the parameter itself.
        for dim, size in self.axes[key].items():
            if size.names.isdisjoint({*values, *orders}):
                continue
            layout = layout_at(layouts, (key, dim), size)
            kept, _ = indices(layout, values, self.sizes, orders)
            cut = _taken(self.tensors[key][0] if cut is None else cut, dim, kept)
        return cut

    def channels(self) -> list[Members]:
        """Return the channels of the original: which elements of dimensions are one."""
        assert self.identities is not None
        return _channels(self.identities, {key: key for key in self.axes})

    def channels_of(self, values: Mapping[str, int], layouts: Layouts) -> list[Members]:
        """Return the channels of a smaller network, whatever the order of its elements."""
        names: dict[str, Tensor] = {}
        tensors: dict[int, Tensor] = {}
        for key in self.axes:
            cut = self._cut_one(key, values, layouts, {})
            tensors[key] = self.tensors[key][0] if cut is None else cut
            if cut is not None:
                names |= {f"{p}.{n}" if p else n: cut for p, n in self.tensors[key][1]}
        own = Identities({tensors[key]: list(axes) for key, axes in self.axes.items()})
        with self.smaller({**self.sizes, **values}, {}, ()), own.recording():
            self.run(names)
        return _channels(own, {id(tensor): key for key, tensor in tensors.items()})

    def run(self, tensors: Mapping[str, Tensor], seed: int = 0) -> list[Tensor]:
        """Return what the network returns with other tensors, by their paths."""
        with torch.no_grad(), forgetting_caches(self.net), undisturbed(self.net):
            torch.manual_seed(seed)
            if tensors:
                result = torch.func.functional_call(self.net, dict(tensors), self.args, self.kwargs)
            else:
                result = self.net(*self.args, **self.kwargs)
        return leaves_of(result)

    @contextmanager
    def smaller(
        self,
        values: Mapping[str, int],
        blocks: Mapping[str, Sequence[int]],
        runs: Sequence[OptionalBlocks],
    ) -> Iterator[None]:
        """Enter a context in which attributes say other sizes, and some blocks are left out."""
        with keeping(self.net):
            for module, name, place, size in self.attributes:
                value = size.evaluate(values)
                if place is not None:
                    items = list(vars(module)[name])
                    items[place] = value
                    value = tuple(items)
                vars(module)[name] = value
            for path, left_out in blocks.items():
                children = self.modules[path]._modules
                kept = [c for i, c in enumerate(children.values()) if i not in left_out]
                children.clear()
                children.update({str(i): child for i, child in enumerate(kept)})
                counters = next(run.counters for run in runs if run.path == path)
                for number, child in enumerate(kept):
                    for inner, name in counters if child is not None else ():
                        vars(child.get_submodule(inner))[name] = number
            yield


def layout_at(layouts: Layouts, dimension: Dimension, size: Polynomial) -> Layout:
    """Return how a dimension is laid out."""
    own = layouts.get(dimension)
    return layouts[size] if own is None else own


def _channels(identities: Identities, keys: Mapping[int, int]) -> list[Members]:
    """Return the classes of elements, in the order of the first."""
    roots = identities.roots()
    found: dict[int, list[tuple[Dimension, int]]] = {}
    for (tensor, dim), start in identities.starts.items():
        for place in range(identities.lengths[tensor, dim]):
            found.setdefault(int(roots[start + place]), []).append(((keys[tensor], dim), place))
    return list(map(tuple, found.values()))


def alike(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Return whether two lists of tensors differ by rounding only, as far as they are finite."""
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            return False
        if not one.is_floating_point() or not one.numel():
            continue
        largest = float(other.abs().max())
        if not math.isfinite(largest):
            continue  # such as a weight that is divided by its norm, which silence makes zero
        error = float((one - other).abs().max())
        if not error <= torch.finfo(one.dtype).eps ** 0.4 * largest:
            return False
    return True


def _taken(tensor: Tensor, dim: int, kept: Any) -> Tensor:
    if np.array_equal(kept, np.arange(len(kept))):
        return tensor.narrow(dim, 0, len(kept))
    return tensor.index_select(dim, torch.from_numpy(kept).to(tensor.device))
