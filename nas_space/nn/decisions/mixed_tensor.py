"""``MixedTensor``: the tensors of a mixture know which of their elements each architecture has.

A tensor of elastic width is as wide as the widest, and beside each dimension that differs goes
an *axis*: for every value of the labels, the indices of that architecture's elements, in order.
Data movement carries the axes along, what works element by element joins them where they agree,
and an elastic layer weights what it reads by what the tensor says (``blending.py``).

The invariant of all rules: an element is what every architecture that has it computes there, or,
once a layer or a choice has averaged over several, their mean given that it is there.  It is *not*
scaled by the probability that it is there, so a batch norm or an activation sees what it would see
in each of these architectures.  The layer that sums over elements applies that probability, and so
reads none for an architecture that does not have it.

Any other function mixes elements, or is one that nobody here knows.  It is then run once for
each combination of values, on the elements that are there, and what comes out is a tensor of
*cases*, one for each: nothing is summed before a layer reads it, so nothing is approximated.
Numbers that depend on a width, such as ``x.shape[1]``, are numbers of cases as well.

There is nothing of this where widths are plain: only what an elastic layer of several widths
gives is a tensor of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ...mutable.node import key_of
from ..activation import current
from ..places import Places, leading
from ..structure import ATOMS
from .mixed_axis import Axes, MixedAxis
from .mixed_number import MixedNumber, MixedShape, Overriding, number
from .mixer import Atoms, Mixer, Values, union
from .refusals import Absent, refused

__all__ = ["MixedTensor", "mixed_in", "mixer_of", "narrowed"]


class MixedTensor(Overriding, Tensor):
    """A tensor of a mixture, of which some dimensions differ between architectures.

    Attributes
    ----------
    mixer
        The mixture.
    wide
        A tensor of all elements that any architecture has; ``None`` if there are cases.
    axes
        The axes of ``wide``.
    atoms
        The expressions that decide which elements are there, or which case it is.
    cases
        A tensor for each combination of values of the atoms, by the key of these values.
    copied
        Whether ``wide`` is a copy of what it was made of, where torch would give a view.
    """

    mixer: Mixer
    wide: Any  # a tensor, but for cases
    axes: Axes
    atoms: Atoms
    cases: dict[Any, Tensor]
    copied: bool

    @staticmethod
    def _made(mixer: Mixer, like: Tensor) -> MixedTensor:
        made: Any = Tensor._make_wrapper_subclass(
            MixedTensor, like.shape, dtype=like.dtype, device=like.device
        )
        made.mixer = mixer
        return made  # type: ignore[no-any-return]

    @classmethod
    def of(cls, mixer: Mixer, wide: Tensor, axes: Axes, *, copied: bool = False) -> Any:
        """Return a tensor with axes; a plain one if no dimension differs."""
        if not any(axes):
            return wide
        made = cls._made(mixer, wide)
        made.wide, made.axes, made.cases = wide, tuple(axes), {}
        made.atoms = union(*(axis.atoms for axis in axes if axis is not None))
        made.copied = copied
        return made

    @classmethod
    def of_cases(cls, mixer: Mixer, atoms: Atoms, cases: dict[Any, Tensor]) -> MixedTensor:
        """Return a tensor that is another one in each case."""
        made = cls._made(mixer, next(iter(cases.values())))
        made.wide, made.axes, made.cases, made.atoms = None, (), cases, atoms
        made.copied = False
        return made

    def is_copied_in(self, output: Tensor) -> bool:
        """Return whether an output is a view of a copy that stands for a view."""
        if not self.copied:
            return False
        wide: Tensor = self.wide
        return bool(wide.untyped_storage()._cdata == output.untyped_storage()._cdata)

    def at(self, values: Values) -> Tensor | None:
        """Return the tensor of an architecture; ``None`` of one that has no probability.

        Parameters
        ----------
        values
            Gives the values of the atoms.
        """
        if self.wide is None:
            return self.cases.get(key_of(tuple(map(values, self.atoms))))
        tensor: Tensor = self.wide
        sizes: list[int] = list(tensor.shape)
        for dim, axis in enumerate(self.axes):
            if axis is None:
                continue
            # A view wherever the indices are a few runs, as they are for widths and concatenations;
            # ``Places`` copies for others.  More indices than elements cannot be cut at all.
            there = axis.indices(values)
            if len(there) > axis.size:
                index = torch.from_numpy(there).to(tensor.device)
                tensor, sizes[dim] = tensor.index_select(dim, index), len(there)
            else:
                sizes[dim] = Places.of(there)
        return leading(tensor, sizes)

    def sizes(self) -> MixedShape:
        """Return its shape."""
        if self.wide is not None:
            return MixedShape(
                size if axis is None else self._size(axis)
                for size, axis in zip(self.wide.shape, self.axes, strict=True)
            )
        dims = {tensor.dim() for tensor in self.cases.values()}
        if len(dims) > 1:
            raise refused("shape", self.atoms, "the number of dimensions differs")
        return MixedShape(self._size_of_case(dim) for dim in range(dims.pop()))

    def _size(self, axis: MixedAxis) -> Any:
        return number(self.mixer, axis.atoms, lambda v: len(axis.indices(v)), ("size", id(axis)))

    def _size_of_case(self, dim: int) -> Any:
        atoms = self.atoms
        # The sizes and not the tensors: a number is kept in memos, and its activations would be.
        sizes = {key: tensor.shape[dim] for key, tensor in self.cases.items()}

        def at(values: Any) -> Any:
            try:
                return sizes[key_of(tuple(map(values, atoms)))]
            except KeyError:
                raise Absent from None

        key = ("sizes", tuple(map(id, atoms)), tuple(sizes.items()))
        return number(self.mixer, atoms, at, key)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # The wrapper has no storage.  What was handled above by no rule and not by cases ends here
        # and is refused, so no operator reads a mixture as if it were one tensor.
        del types, kwargs
        atoms = union(*(a.atoms for a in tree_flatten(args)[0] if isinstance(a, MixedTensor)))
        raise refused(str(function), atoms, "it is not told which elements there are")


def mixed_in(value: Any) -> list[Any]:
    """Return the tensors and numbers that differ, wherever they are in some arguments."""
    found: list[Any] = []
    stack = [value]  # not by torch's trees, which take ten times as long for a few arguments
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is Tensor or kind in ATOMS:
            continue
        if kind is MixedTensor or kind is MixedNumber:
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack += item[::-1]
        elif kind is dict:
            if item:
                stack += [*item.values()][::-1]
        elif kind is slice:
            stack += (item.step, item.stop, item.start)
    return found


def mixer_of(mixed: Sequence[Any]) -> Mixer:
    """Return the mixture that runs here, of which some tensors are."""
    running: Any = current()
    mixer: Mixer = mixed[0].mixer if running is None or running.is_single else running
    return mixer


def narrowed(value: Any, values: Values) -> Any:
    """Return arguments as one architecture has them, given the values of their atoms."""
    if isinstance(value, MixedTensor):
        found = value.at(values)
        if found is None:
            raise Absent
        return found
    if isinstance(value, MixedNumber):
        return value.at(values)
    if isinstance(value, slice):
        return slice(*(narrowed(part, values) for part in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: narrowed(item, values) for key, item in value.items()}
    if type(value) in (tuple, list, MixedShape):
        items = [narrowed(item, values) for item in value]
        return items if type(value) is list else tuple(items)
    return value
