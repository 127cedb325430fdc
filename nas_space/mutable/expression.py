"""``MutableExpression``: arithmetic on values that are not chosen yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from traceback import walk_stack
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from ..errors import ExpressionError, UsageError
from .context_stack import Entered
from .factor_sum import FactorSum
from .lazy import evaluate
from .mutable import Mutable, Values
from .node import Node, fresh, key_of, leaves, postorder
from .operators import ATOM, LOOKUP, OPERATORS, Operator
from .pickling import flatten, rebuild
from .printing import abbreviation, show

__all__ = ["PLAIN_NUMBERS", "Batch", "MutableExpression", "apply", "refuse_hidden"]

T_co = TypeVar("T_co", covariant=True)

PLAIN_NUMBERS: Entered[Callable[[Any], float]] = Entered("plain_numbers")
"""What gives the plain number that an expression stands for, where there is one."""


@runtime_checkable
class Batch(Protocol):
    """Many architectures; see :class:`.batch.SampleBatch`."""

    def evaluate(self, expression: Any) -> Any:
        """Return the value of an expression for each architecture."""


def _operation(name: str) -> Callable[..., MutableExpression[Any]]:
    """Return the method of an operator: a node of it over an expression, and what stands behind."""
    operator = OPERATORS[name]

    def method(self: Node, *others: Any) -> MutableExpression[Any]:
        return MutableExpression(operator, (self, *others))

    return method


def _comparison(name: str) -> Callable[..., MutableExpression[bool]]:
    return _operation(name)


def _reflected(name: str) -> Callable[..., MutableExpression[Any]]:
    """Return the method of an operator whose left operand is no expression."""
    operator = OPERATORS[name]

    def method(self: Node, other: Any) -> MutableExpression[Any]:
        return MutableExpression(operator, (other, self))

    return method


class MutableExpression(Node, Mutable, Generic[T_co]):
    """An operator over symbols, expressions and plain values.

    Expressions come from arithmetic on symbols, and from the static methods below where
    Python's syntax cannot be overloaded.  They are immutable and interned: the same
    expression written twice is one object.

    Parameters
    ----------
    operator
        An entry of the operator table.
    arguments
        Symbols, expressions and plain values.

    Examples
    --------
    >>> from nas_space.mutable import Categorical
    >>> width = Categorical([16, 32], label="width")
    >>> hidden = MutableExpression.max(width * 4, 100) // 8
    >>> hidden
    max(width * 4, 100) // 8
    >>> hidden.freeze({"width": 32})
    16
    >>> hidden is MutableExpression.max(width * 4, 100) // 8
    True
    """

    __array_ufunc__ = None  # a NumPy scalar on the left leaves the operator to us

    def __init__(self, operator: Operator, arguments: Iterable[Any]) -> None:
        checked = tuple([a if isinstance(a, Node) else _constant(a, operator) for a in arguments])
        # All at once, past the check that keeps nodes as they are: nodes are made by thousands.
        self.__dict__.update(
            operator=operator,
            arguments=checked,
            children=tuple([a for a in checked if isinstance(a, Node)]),
        )

    def key(self) -> Hashable:
        return (self.operator, *[key_of(argument) for argument in self.arguments])

    def structure(self) -> Node:
        return self

    def freeze_values(self, values: Values) -> T_co:
        return cast(T_co, fresh(values(self)))

    def leaf_symbols(self) -> list[Any]:
        """Return the symbols that the expression is over, each once, from left to right."""
        return [leaf for leaf in leaves(self) if leaf.words]

    def evaluate(self, values: Mapping[str, Any] | Iterable[Any]) -> Any:
        """Return the value under given values of the labels, without checking their domains.

        Parameters
        ----------
        values
            Label to value; one value for each of :meth:`leaf_symbols`; or a
            :class:`SampleBatch`, for a whole column.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> a, b = Categorical([1, 2], label="a"), Categorical([1, 2], label="b")
        >>> (a - b).evaluate({"a": 5, "b": 3}), (a - b).evaluate([5, 3])
        (2, 2)
        """
        if not isinstance(values, Mapping):
            if isinstance(values, Batch):
                return values.evaluate(self)
            names = [symbol.name for symbol in self.leaf_symbols()]
            values = dict(zip(names, values, strict=False))  # if one is missing, evaluation says
        given = values
        if self.operator is LOOKUP:  # without a walk, which takes most of the time
            return self.arguments[0].at(given)
        return evaluate(self, lambda leaf: leaf.take(given), None, given)

    def equals(self, other: Any) -> bool:
        """Return whether two expressions are the same, symbol for symbol.

        >>> from nas_space.mutable import Categorical
        >>> (Categorical([1, 2], label="a") + 1).equals(Categorical([1, 2], label="a") + 1)
        True
        """
        return self is other

    # -- printing -----------------------------------------------------------------------

    def __str__(self) -> str:
        texts: dict[Node, tuple[str, int]] = {}
        for node in postorder(self):
            texts[node] = node.text(texts)
        return texts[self][0]

    def __repr__(self) -> str:
        return str(self)

    def text(self, texts: Mapping[Node, tuple[str, int]]) -> tuple[str, int]:
        operator = cast(Operator, self.operator)
        text = show(self, operator, texts)
        short = abbreviation(self, text)
        return (text, operator.precedence) if short is None else (short, ATOM)

    # -- what cannot be done with an expression -------------------------------------------

    def __bool__(self) -> NoReturn:
        raise ExpressionError(
            f"{self} has no single truth value: it differs between architectures; instead of "
            "if, and, or, a < b < c, max, min use &, MutableExpression.condition(...), .case(...), "
            f".max(...), .min(...), and .equals(...) to compare structure{_plain_layer_hint()}"
        )

    def _refuse_number(self) -> NoReturn:
        raise ExpressionError(
            f"a plain number is needed here, but {self} differs between architectures; inside "
            "forward use nas_space.active(...), for the initial weights of a space float(...) in "
            "its constructor, and for a conversion "
            f"MutableExpression.to_int(...) or .to_float(...){_plain_layer_hint()}"
        )

    def __index__(self) -> NoReturn:  # noqa: PLE0305 - to say what to do instead
        self._refuse_number()

    def __int__(self) -> NoReturn:
        self._refuse_number()

    def __float__(self) -> float:
        read = PLAIN_NUMBERS.last()
        if read is None:
            self._refuse_number()
        number: float = read(self)
        return number

    # Its length differs between architectures. Not a method that raises: it is no Iterable.
    __iter__ = None

    def __contains__(self, item: object) -> NoReturn:
        raise ExpressionError(
            f"'in' needs a plain container, but {self} differs between architectures"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (MutableExpression, flatten(self))

    # -- the operators --------------------------------------------------------------------

    def __round__(self, ndigits: Any = None) -> MutableExpression[Any]:
        return apply("round", self) if ndigits is None else apply("round_to", self, ndigits)

    def __pow__(self, other: Any, modulo: Any = None) -> MutableExpression[Any]:
        return apply("pow", self, other) if modulo is None else apply("powmod", self, other, modulo)

    def __rpow__(self, other: Any, modulo: Any = None) -> MutableExpression[Any]:
        return apply("pow", other, self) if modulo is None else apply("powmod", other, self, modulo)

    def __trunc__(self) -> MutableExpression[int]:
        return apply("trunc", self)

    def __floor__(self) -> MutableExpression[int]:
        return apply("floor", self)

    def __ceil__(self) -> MutableExpression[int]:
        return apply("ceil", self)

    __getitem__ = _operation("getitem")
    __neg__ = _operation("neg")
    __pos__ = _operation("pos")
    __invert__ = _operation("invert")
    __abs__ = _operation("abs")
    __add__, __radd__ = _operation("add"), _reflected("add")
    __sub__, __rsub__ = _operation("sub"), _reflected("sub")
    __mul__, __rmul__ = _operation("mul"), _reflected("mul")
    __matmul__, __rmatmul__ = _operation("matmul"), _reflected("matmul")
    __truediv__, __rtruediv__ = _operation("truediv"), _reflected("truediv")
    __floordiv__, __rfloordiv__ = _operation("floordiv"), _reflected("floordiv")
    __mod__, __rmod__ = _operation("mod"), _reflected("mod")
    __divmod__, __rdivmod__ = _operation("divmod"), _reflected("divmod")
    __lshift__, __rlshift__ = _operation("lshift"), _reflected("lshift")
    __rshift__, __rrshift__ = _operation("rshift"), _reflected("rshift")
    __and__, __rand__ = _operation("and"), _reflected("and")
    __xor__, __rxor__ = _operation("xor"), _reflected("xor")
    __or__, __ror__ = _operation("or"), _reflected("or")
    __lt__ = _comparison("lt")
    __le__ = _comparison("le")
    __gt__ = _comparison("gt")
    __ge__ = _comparison("ge")
    __eq__ = _comparison("eq")  # type: ignore[assignment]
    __ne__ = _comparison("ne")  # type: ignore[assignment]
    __hash__ = Node.__hash__

    # -- what Python's syntax cannot say --------------------------------------------------

    @staticmethod
    def to_int(value: Any) -> Any:
        """Return ``int(value)``, truncating towards zero; an expression where that is needed."""
        return _apply_or_compute("int", value)

    @staticmethod
    def to_float(value: Any) -> Any:
        """Return ``float(value)``; an expression of it where that is needed."""
        return _apply_or_compute("float", value)

    @staticmethod
    def condition(predicate: Any, true: Any, false: Any) -> Any:
        """Return ``true`` where the predicate holds, else ``false``; only that one is evaluated.

        >>> from nas_space.mutable import Categorical
        >>> a = Categorical([1, 2], label="a")
        >>> MutableExpression.condition(a > 1, a * 10, 0).freeze({"a": 2})
        20
        >>> MutableExpression.condition(2 > 1, "plain", 0)
        'plain'
        """
        if not isinstance(predicate, Node):
            return true if predicate else false
        return apply("condition", predicate, true, false)

    @staticmethod
    def case(pairs: Iterable[tuple[Any, Any]]) -> Any:
        """Return the value of the first pair whose predicate holds.

        Parameters
        ----------
        pairs
            ``(predicate, value)`` pairs; make the last predicate ``True`` to cover the rest.

        Raises
        ------
        SampleValidationError
            On evaluation, if no predicate holds.
        UsageError
            Right away, if none can.
        """
        flat: list[Any] = []
        for predicate, value in pairs:
            if isinstance(predicate, Node):
                flat += [predicate, value]
            elif predicate:
                flat += [True, value]
                break
        if not flat:
            raise UsageError("no case holds; make the last predicate True to cover the rest")
        return flat[1] if flat[0] is True else apply("case", *flat)

    @staticmethod
    def switch_case(branch: Any, expressions: Mapping[Any, Any]) -> Any:
        """Return the value of the branch that ``branch`` selects; only that one is evaluated.

        >>> from nas_space.mutable import Categorical
        >>> op = Categorical(["conv", "pool"], label="op")
        >>> MutableExpression.switch_case(op, {"conv": 9, "pool": 0}).freeze({"op": "conv"})
        9
        """
        if not isinstance(branch, Node):
            if branch not in expressions:
                raise KeyError(
                    f"switch_case has no branch for {branch!r}; it has {list(expressions)!r}"
                )
            return expressions[branch]
        return apply("switch_case", branch, tuple(expressions), *expressions.values())

    @staticmethod
    def lookup(factors: FactorSum) -> Any:
        """Return the sum of some factors at the codes of those symbols that are active."""
        if not factors.symbols:
            return factors.constant
        return apply("lookup", factors, *factors.symbols)

    @staticmethod
    def max(first: Any, *others: Any) -> Any:
        """Return the largest, as the built-in ``max``: of several arguments, or of one iterable."""
        return _extreme("max", first, others)

    @staticmethod
    def min(first: Any, *others: Any) -> Any:
        """Return the smallest, as the built-in ``min``: of several arguments or of one iterable."""
        return _extreme("min", first, others)

    @staticmethod
    def sum(terms: Iterable[Any]) -> Any:
        """Return the sum as one flat node, which thousands of terms can go into."""
        items = list(terms)
        if not any(isinstance(item, Node) for item in items):
            return sum(items)
        return apply("sum", *items)

    def int(self) -> MutableExpression[Any]:
        """Return ``to_int(self)``."""
        return apply("int", self)

    def float(self) -> MutableExpression[Any]:
        """Return ``to_float(self)``."""
        return apply("float", self)


def apply(name: str, *arguments: Any) -> MutableExpression[Any]:
    """Return the node of an operator over arguments of which at least one is a node."""
    return MutableExpression(OPERATORS[name], arguments)


def _apply_or_compute(name: str, *arguments: Any) -> Any:
    if any(isinstance(argument, Node) for argument in arguments):
        return apply(name, *arguments)
    return OPERATORS[name].scalar(*arguments)


def _extreme(name: str, first: Any, others: tuple[Any, ...]) -> Any:
    items = (first, *others)
    if not others and not isinstance(first, Node):
        items = tuple(first)
    if len(items) == 1:
        return items[0]
    return _apply_or_compute(name, *items)


_ATOMS = frozenset({int, float, str, bool, type(None)})


def _constant(value: Any, operator: Operator) -> Any:
    """Return a plain argument, as the expression keeps it: nobody else can change it."""
    if type(value) in _ATOMS:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mutable) or hasattr(type(value), "__torch_function__"):
        kind = type(value).__name__
        raise ExpressionError(
            f"{operator.name!r} takes symbols, expressions and plain values, but got a {kind}; "
            "for the value that an expression has in forward, use nas_space.active(...)"
        )
    refuse_hidden(value, f"given to {operator.name!r}; give it as an argument of its own")
    return fresh(value)


def refuse_hidden(value: Any, where: str) -> None:
    """Refuse mutables inside of plain containers, where nothing could keep track of them.

    Parameters
    ----------
    value
        A plain value.
    where
        Ends the sentence: where it stands, and what to do.

    Raises
    ------
    ExpressionError
        If there is one.
    """
    inner: Iterable[Any] = ()
    if isinstance(value, (list, tuple, set, frozenset)):
        inner = value
    elif isinstance(value, dict):
        inner = [*value, *value.values()]
    for item in inner:
        if isinstance(item, Mutable):
            raise ExpressionError(
                f"{item} stands inside a {type(value).__name__}, where it cannot be tracked: "
                f"{where}"
            )
        refuse_hidden(item, where)


def _plain_layer_hint() -> str:
    """Names the layer to use when a plain torch.nn layer was given an expression."""
    for frame, _ in walk_stack(sys._getframe(2)):
        kind = type(frame.f_locals.get("self"))
        if frame.f_code.co_name == "__init__" and kind.__module__.startswith("torch.nn.modules"):
            name = kind.__name__
            return (
                f"; if it is an argument of a layer, use nas_space.nn.Mutable{name} "
                f"instead of torch.nn.{name}"
            )
    return ""
