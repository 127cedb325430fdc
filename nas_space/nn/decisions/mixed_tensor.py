"""``MixedTensor``: the tensors of a mixture know which of their elements each architecture has.

A tensor of elastic width is as wide as the widest, and beside each dimension that differs goes
an *axis*: for every value of the labels, where the elements of that architecture are, in order.
Data movement carries the axes along, what works element by element joins them where they agree,
and an elastic layer weights what it reads by what the tensor says (``blending.py``).

Any other function mixes elements, or is one that nobody here knows.  It is then run once for
each combination of values, on the elements that are there, and what comes out is a tensor of
*cases*, one for each: nothing is summed before a layer reads it, so nothing is approximated.
Numbers that depend on a width, such as ``x.shape[1]``, are numbers of cases as well.

There is nothing of this where widths are plain: only what an elastic layer of several widths
gives is a tensor of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...errors import NasSpaceError, SpaceError
from ...mutable.node import Node, key_of, leaves
from ..module_path import running_module
from ..segments import Indices, Places, layout_of, leading
from .marginals import Marginals, Support, labels_of

if TYPE_CHECKING:
    from .weighted import Weighted

Values: TypeAlias = "Callable[[Any], Any]"
"""Reads expressions under one combination of values."""

Atoms: TypeAlias = "tuple[Node, ...]"

MOST_CASES = 1024
"""Up to how many combinations of values one function is run for."""


def union(*groups: Sequence[Node]) -> Atoms:
    """Return the expressions of several groups, each once; nodes must not be compared."""
    return tuple({id(node): node for group in groups for node in group}.values())


def reader_of(atoms: Sequence[Node], value: Sequence[Any]) -> Values:
    """Return what reads some expressions at some values."""
    known = {id(node): item for node, item in zip(atoms, value, strict=True)}
    return lambda expression: known[id(expression)]


class MixedAxis:
    """Where the elements of one dimension are, for every value of some expressions.

    Parameters
    ----------
    atoms
        The expressions.
    size
        How long the dimension is in the tensor that has it.
    indices
        Gives the places of the elements under some values, in order.
    support
        The codes that labels may have.
    """

    __slots__ = ("_memo", "_readers", "atoms", "indices", "size", "support")

    def __init__(
        self, atoms: Atoms, size: int, indices: Callable[[Values], Indices], support: Support
    ) -> None:
        self.atoms = atoms
        self.size = size
        self.indices = indices
        names = frozenset().union(*map(labels_of, atoms))
        self.support = tuple((name, codes) for name, codes in support if name in names)
        self._memo: dict[Any, Any] = {}
        self._readers: list[Values] | None = None

    def readers(self) -> list[Values]:
        """Return what reads the expressions, for each combination of their values."""
        if self._readers is None:
            self._readers = readers_of(self.atoms, self.support)
        return self._readers

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what follows from the axis, worked out once.

        What the key names by its identity has to be kept by what is made.
        """
        if key not in self._memo:
            if len(self._memo) > _REMEMBERED:
                self._memo.clear()
            self._memo[key] = make()
        return self._memo[key]

    def is_like(self, other: MixedAxis) -> bool:
        """Whether the same elements are there under all values."""
        if self is other:
            return True
        found: bool = self.remember(("like", id(other)), lambda: (other, self._compared(other)))[1]
        return found

    def always_meets(self, other: MixedAxis) -> bool:
        """Whether each element, where it is there, is beside the same element of another axis."""
        if self is other:
            return True
        met: dict[int, int] = {}
        for values in readers_of(union(self.atoms, other.atoms), self.support + other.support):
            mine, its = self.indices(values).tolist(), other.indices(values).tolist()
            if any(met.setdefault(a, b) != b for a, b in zip(mine, its, strict=False)):
                return False
        return True

    def _compared(self, other: MixedAxis) -> bool:
        if self.size != other.size:
            return False
        return all(
            np.array_equal(self.indices(values), other.indices(values))
            for values in readers_of(union(self.atoms, other.atoms), self.support + other.support)
        )


_REMEMBERED = 512
Axes: TypeAlias = "Sequence[MixedAxis | None]"
"""For each dimension its axis; ``None`` where it does not differ."""


def readers_of(atoms: Atoms, support: Support) -> list[Values]:
    """Return what reads some expressions, for each combination of values that they may have."""
    outcomes = Marginals({}, dict(support)).outcomes(atoms)
    return [reader_of(atoms, value) for value in outcomes.values]


_AXES: dict[Any, tuple[Any, MixedAxis | None]] = {}


def axis_of(size: Any, support: Support) -> MixedAxis | None:
    """Return the axis of what an elastic layer of some size gives; ``None`` if it is plain."""
    if not isinstance(size, Node):
        return None
    names = labels_of(size)
    support = tuple([(name, codes) for name, codes in support if name in names])
    key = (id(size), support)
    if key not in _AXES:
        if len(_AXES) > 4 * _REMEMBERED:
            _AXES.clear()
        _AXES[key] = (size, _axis_of(size, support))
    return _AXES[key][1]


def _axis_of(size: Any, support: Support) -> MixedAxis | None:
    layout = layout_of(size)
    atoms = tuple(layout.atoms)
    each = [layout.indices(values) for values in readers_of(atoms, support)]
    region = np.unique(np.concatenate(each))
    if all(len(one) == len(region) for one in each):
        return None
    return MixedAxis(
        atoms, len(region), lambda values: np.searchsorted(region, layout.indices(values)), support
    )


class Absent(Exception):  # noqa: N818 - not an error: what has no probability is left out
    """A tensor is not there under some values."""


# -- numbers ----------------------------------------------------------------------------------


class MixedNumber:
    """A number that differs between the architectures of a mixture: a size, and what follows.

    Parameters
    ----------
    mixer
        The mixture.
    atoms
        The expressions it depends on.
    at
        Gives its value under some values.
    key
        What tells it from others.
    """

    def __init__(self, mixer: Weighted, atoms: Atoms, at: Values, key: Any) -> None:
        self.mixer, self.atoms, self.at, self.key = mixer, atoms, at, key

    def only(self) -> Any:
        """Return its value, if there is only one.

        Raises
        ------
        SpaceError
            If there are several.
        """
        found = values_of(self.mixer, self.atoms, self.at)
        if len(found) > 1:
            raise SpaceError(
                f"the forward pass{_where()} needs a plain number where a size has the values "
                f"{sorted(found)} at once ({named(self.atoms)}); compute with it as a "
                "number (size // 2, size ** -0.5), or take a strategy that samples, such as "
                "RandomOneShot"
            )
        return found[0]

    def _with(self, name: str, other: Any, *, swapped: bool = False) -> Any:
        if isinstance(other, Tensor) or not isinstance(other, (int, float, MixedNumber)):
            return NotImplemented
        operator = getattr(__import__("operator"), name)
        mine, its = self.at, other.at if isinstance(other, MixedNumber) else None

        def at(values: Any) -> Any:
            pair = mine(values), its(values) if its is not None else other
            return operator(*(pair[::-1] if swapped else pair))

        key = (name, swapped, self.key, other.key if isinstance(other, MixedNumber) else other)
        atoms = union(self.atoms, other.atoms if isinstance(other, MixedNumber) else ())
        return number(self.mixer, atoms, at, key)

    def __bool__(self) -> bool:
        return bool(self.only())

    def __index__(self) -> int:
        return int(self.only())

    def __int__(self) -> int:
        return int(self.only())

    def __float__(self) -> float:
        return float(self.only())

    def __neg__(self) -> Any:
        return self._with("mul", -1)

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<{sorted(values_of(self.mixer, self.atoms, self.at))}>"

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return MixedTensor.__torch_function__(function, types, args, kwargs)


def _arithmetic(name: str, *, swapped: bool) -> Any:
    return lambda self, other: self._with(name, other, swapped=swapped)


for _name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
    setattr(MixedNumber, f"__{_name}__", _arithmetic(_name, swapped=False))
    setattr(MixedNumber, f"__r{_name}__", _arithmetic(_name, swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(MixedNumber, f"__{_name}__", _arithmetic(_name, swapped=False))


def number(mixer: Weighted, atoms: Atoms, at: Values, key: Any) -> Any:
    """Return a number that may differ: a plain one if it does not."""
    found = values_of(mixer, atoms, at)
    return found[0] if len(found) == 1 else MixedNumber(mixer, atoms, at, key)


def values_of(mixer: Weighted, atoms: Atoms, at: Values) -> list[Any]:
    """Return the distinct values of a number that may differ."""
    found = {}
    for values in mixer.possible(atoms):
        with suppress(Absent):
            value = at(values)
            found[key_of(value)] = value
    return list(found.values())


class MixedShape(tuple[Any, ...]):
    """The sizes of a tensor, of which some differ."""

    __slots__ = ()

    def numel(self) -> Any:
        """Return how many elements there are."""
        total: Any = 1
        for size in self:
            total = total * size
        return total


# -- tensors ----------------------------------------------------------------------------------


class MixedTensor(Tensor):
    """A tensor of a mixture, of which some dimensions differ between architectures.

    Attributes
    ----------
    mixer
        The mixture.
    wide
        All elements that any architecture has; ``None`` if there are cases.
    axes
        Of ``wide``.
    atoms
        The expressions that decide which elements are there, or which case.
    cases
        By the key of the values of these: the tensor.
    copied
        Whether ``wide`` is a copy of what it was made of, where torch would give a view.
    """

    mixer: Weighted
    wide: Any  # a tensor, but for cases
    axes: Axes
    atoms: Atoms
    cases: dict[Any, Tensor]
    copied: bool

    @staticmethod
    def _made(mixer: Weighted, like: Tensor) -> MixedTensor:
        made: Any = Tensor._make_wrapper_subclass(
            MixedTensor, like.shape, dtype=like.dtype, device=like.device
        )
        made.mixer = mixer
        return made  # type: ignore[no-any-return]

    @classmethod
    def of(cls, mixer: Weighted, wide: Tensor, axes: Axes, *, copied: bool = False) -> Any:
        """Return a tensor with axes; a plain one if no dimension differs."""
        if not any(axes):
            return wide
        made = cls._made(mixer, wide)
        made.wide, made.axes, made.cases = wide, tuple(axes), {}
        made.atoms = union(*(axis.atoms for axis in axes if axis is not None))
        made.copied = copied
        return made

    @classmethod
    def of_cases(cls, mixer: Weighted, atoms: Atoms, cases: dict[Any, Tensor]) -> MixedTensor:
        """Return a tensor that is another one in each case."""
        made = cls._made(mixer, next(iter(cases.values())))
        made.wide, made.axes, made.cases, made.atoms = None, (), cases, atoms
        made.copied = False
        return made

    def at(self, values: Values) -> Tensor | None:
        """Return what it is under some values; ``None`` if that has no probability."""
        if self.wide is None:
            return self.cases.get(key_of(tuple(map(values, self.atoms))))
        tensor: Tensor = self.wide
        sizes: list[int] = list(tensor.shape)
        for dim, axis in enumerate(self.axes):
            if axis is None:
                continue
            there = axis.indices(values)
            if len(there) > axis.size:  # some elements are there several times
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
        # Not the tensor itself, which would live as long as what is remembered of its size.
        sizes = {key: tensor.shape[dim] for key, tensor in self.cases.items()}

        def at(values: Any) -> Any:
            try:
                return sizes[key_of(tuple(map(values, atoms)))]
            except KeyError:
                raise Absent from None

        key = ("sizes", tuple(map(id, atoms)), tuple(sizes.items()))
        return number(self.mixer, atoms, at, key)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        from .functions import apply

        del types  # whatever they are
        return apply(function, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
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
        if kind is MixedTensor or kind is MixedNumber:
            found.append(item)
        elif isinstance(item, (tuple, list)):
            stack.extend(reversed(item))
        elif kind is dict:
            stack.extend(reversed(item.values()))
        elif kind is slice:
            stack.extend((item.step, item.stop, item.start))
    return found


def mixer_of(mixed: Sequence[Any]) -> Weighted:
    """Return the mixture that runs here, of which some tensors are."""
    from ..activation import current

    here = current()
    return here if here is not None and not here.is_single else mixed[0].mixer  # type: ignore[return-value]


def narrowed(value: Any, values: Values) -> Any:
    """Return arguments as they are under some values."""
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


def by_cases(
    name: str, mixer: Weighted, atoms: Atoms, run: Callable[[Values], Any]
) -> Iterator[tuple[Values, Tensor, Any]]:
    """Yield what something gives under each combination of values, and the weight of that.

    Raises
    ------
    SpaceError
        If torch refuses one of them, or there are too many.
    """
    for values, weight, context in mixer.outcomes_of(atoms, lambda n: too_many(name, atoms, n)):
        try:
            with context:
                output = run(values)
        except Absent:
            continue
        except NasSpaceError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
            which = {str(atom): values(atom) for atom in atoms}
            raise refused(name, atoms, f"where they are {which}, torch says: {error}") from error
        yield values, weight, output


def run_by_cases(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what a function gives, run once for each combination of values."""
    mixed = mixed_in((args, kwargs))
    mixer, atoms = mixer_of(mixed), union(*(item.atoms for item in mixed))

    def run(values: Values) -> Any:
        narrow_args, narrow_kwargs = narrowed((args, kwargs), values)
        return function(*narrow_args, **narrow_kwargs)

    outputs = [(v, out) for v, _, out in by_cases(name, mixer, atoms, run)]
    return gathered(name, mixer, atoms, outputs)


def gathered(
    name: str, mixer: Weighted, atoms: Atoms, outputs: Sequence[tuple[Values, Any]]
) -> Any:
    """Return one structure of tensors of cases, of a structure for each case."""
    flat, form = tree_flatten(outputs[0][1])
    each = [(values, *tree_flatten(output)) for values, output in outputs]
    if any(other != form for _, _, other in each):
        raise refused(name, atoms, "what it gives has another form for other values")
    made = []
    for place, first in enumerate(flat):
        items = {key_of(tuple(map(values, atoms))): found[place] for values, found, _ in each}
        if isinstance(first, Tensor):
            made.append(MixedTensor.of_cases(mixer, atoms, items))
        elif len({key_of(item) for item in items.values()}) == 1:
            made.append(first)
        else:
            raise refused(name, atoms, "what it gives is no tensor, and differs")
    return tree_unflatten(made, form)


# -- what is said -----------------------------------------------------------------------------


def named(atoms: Sequence[Node]) -> str:
    """Return the labels that some expressions depend on, for messages."""
    labels = [repr(str(symbol.name)) for symbol in leaves(*atoms)]
    return f"label{'s' if len(labels) > 1 else ''} {', '.join(labels)}"


def _where() -> str:
    path = running_module()
    return f" of {path!r}" if path else ""


def refused(name: str, atoms: Sequence[Node], why: str) -> SpaceError:
    """Return the error for a function that cannot be mixed."""
    path = running_module()
    return SpaceError(
        f"{name!r} cannot be mixed over sizes that depend on the {named(atoms)}: {why}"
        f"{f' (path: {path})' if path else ''}; take a strategy that samples, such as "
        "RandomOneShot, or a layer of nas_space.nn that does the same"
    )


def too_many(name: str, atoms: Sequence[Node], cases: int) -> SpaceError:
    """Return the error for what would have to be run too often."""
    return refused(
        name, atoms, f"it has to be run once for each of {cases} combinations, above {MOST_CASES}"
    )


Array: TypeAlias = "npt.NDArray[Any]"
