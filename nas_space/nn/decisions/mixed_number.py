"""``MixedNumber``: a number, such as a width, that differs between architectures of a mixture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from torch import Tensor

from ...mutable.node import key_of
from .mixer import Atoms, Mixer, Values, union
from .refusals import Absent, PlainNeededError, here, named

__all__ = ["MixedNumber", "MixedShape", "Overriding", "number", "values_of"]


class Overriding:
    """Base class of arguments for which functions of torch are overridden."""

    override: ClassVar[Callable[[Any, Any, Any], Any]]
    """Gives what a function returns; the package sets it to the rules, which are above this."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types  # whatever they are
        return Overriding.override(function, args, kwargs or {})


class MixedNumber(Overriding):
    """A number that differs between the architectures of a mixture: a size, or computed from one.

    Comparisons give such numbers as well, so ``==`` is no identity: wherever numbers are compared
    as objects, it is by ``key``, which spells out how they were computed.  Only what needs a plain
    number (``int``, ``bool``, an index) asks for one, and gets it where all values agree.

    Parameters
    ----------
    mixer
        The mixture.
    atoms
        The expressions it depends on.
    at
        Gives the number for values of the atoms.
    key
        Equal for numbers that were computed in the same way.
    """

    def __init__(self, mixer: Mixer, atoms: Atoms, at: Values, key: Any) -> None:
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
            raise PlainNeededError(
                f"the forward pass{here()} needs a plain number where a size has the values "
                f"{sorted(found)} at once ({named(self.atoms)}); compute with it as a "
                "number (size // 2, size ** -0.5), or take a strategy that samples, such as "
                "RandomOneShot",
                self.atoms,
            )
        return found[0]

    def _with(self, name: str, other: Any, *, swapped: bool = False) -> Any:
        if isinstance(other, Tensor) or not isinstance(other, (int, float, MixedNumber)):
            return NotImplemented
        operator = getattr(__import__("operator"), name)
        # Nothing is computed here: the result is a function of values, as its operands are, and is
        # evaluated for those that are possible where it is asked for.
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


def _arithmetic(name: str, *, swapped: bool) -> Any:
    return lambda self, other: self._with(name, other, swapped=swapped)


for _name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
    setattr(MixedNumber, f"__{_name}__", _arithmetic(_name, swapped=False))
    setattr(MixedNumber, f"__r{_name}__", _arithmetic(_name, swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(MixedNumber, f"__{_name}__", _arithmetic(_name, swapped=False))


def number(mixer: Mixer, atoms: Atoms, at: Values, key: Any) -> Any:
    """Return a number that may differ: a plain one if it does not."""
    found = values_of(mixer, atoms, at)
    if len(found) == 1:
        return found[0]
    # Noted for ``Weighted.called``: if the forward fails on it in code that cannot say so, such as
    # a constructor of tensors, the forward is run once for each of its values.
    mixer.numbers.append(atoms)
    return MixedNumber(mixer, atoms, at, key)


def values_of(mixer: Mixer, atoms: Atoms, at: Values) -> list[Any]:
    """Return the distinct values of a number, among what is possible where the forward is."""
    found = {}
    for values in mixer.possible(atoms):
        with suppress(Absent):
            value = at(values)
            found[key_of(value)] = value
    return list(found.values())


class MixedShape(tuple[Any, ...]):
    """The sizes of a tensor, of which some differ."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return MixedShape(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Any:
        return MixedShape((*self, *other))

    def numel(self) -> Any:
        """Return how many elements there are."""
        total: Any = 1
        for size in self:
            total = total * size
        return total
