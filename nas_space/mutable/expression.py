"""`MutableExpression`: arithmetic on values that are not chosen yet."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, NoReturn, TypeVar, cast

from ..errors import ExpressionError
from .base import Mutable, Values
from .evaluation import evaluate
from .node import Node, key_of, postorder
from .operators import OPERATORS, Operator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_LONGEST = 2000
"""Sub-expressions that print longer than this are abbreviated."""


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
    >>> width = Categorical([16, 32], label='width')
    >>> hidden = MutableExpression.max(width * 4, 100) // 8
    >>> hidden
    max(width * 4, 100) // 8
    >>> hidden.freeze({'width': 32})
    16
    >>> hidden is MutableExpression.max(width * 4, 100) // 8
    True
    """

    operator: Operator | None

    def __init__(self, operator: Operator, arguments: tuple[Any, ...]) -> None:
        for argument in arguments:
            _refuse_hidden(argument, operator)
        self.operator = operator
        self.arguments = arguments
        self.children = tuple(a for a in arguments if isinstance(a, Node))

    def key(self) -> Hashable:
        assert self.operator is not None
        return (self.operator.name, *map(key_of, self.arguments))

    def structure(self) -> Node:
        return self

    def freeze_values(self, values: Values) -> T_co:
        return cast(T_co, values(self))

    def evaluate(self, values: Mapping[str, Any] | Iterable[Any]) -> Any:
        """The value under given values of the labels, without checking their domains.

        Parameters
        ----------
        values
            Label to value; an iterable that gives the next value for each label as it is
            first needed, from left to right; or a :class:`SampleBatch`, for a whole column.

        Examples
        --------
        >>> from nas_space.mutable import Categorical
        >>> a, b = Categorical([1, 2], label='a'), Categorical([1, 2], label='b')
        >>> (a - b).evaluate({'a': 5, 'b': 3}), (a - b).evaluate([5, 3])
        (2, 2)
        """
        from .batch import SampleBatch

        if isinstance(values, SampleBatch):
            return values.evaluate(self)
        if isinstance(values, Mapping):
            return evaluate(self, lambda leaf: leaf.take(values))
        supply = iter(values)
        taken: dict[str, Any] = {}

        def lookup(leaf: Any) -> Any:
            if leaf.label not in taken:
                taken[leaf.label] = next(supply)
            return taken[leaf.label]

        return evaluate(self, lookup)

    def equals(self, other: Any) -> bool:
        """Whether two expressions are the same, symbol for symbol.

        >>> from nas_space.mutable import Categorical
        >>> (Categorical([1, 2], label='a') + 1).equals(Categorical([1, 2], label='a') + 1)
        True
        """
        return self is other

    # -- printing -----------------------------------------------------------------------

    def __str__(self) -> str:
        texts: dict[Node, tuple[str, int]] = {}
        for node in postorder(self):
            texts[node] = node.text(texts)  # type: ignore[attr-defined]
        return texts[self][0]

    def __repr__(self) -> str:
        return str(self)

    def text(self, texts: dict[Node, tuple[str, int]]) -> tuple[str, int]:
        """How the node prints, with its precedence, given how its children do."""
        operator = self.operator
        assert operator is not None
        if operator.name == "switch_case":
            keys = self.arguments[1]
            shown = [_shown(argument, texts)[0] for argument in self.arguments[2:]]
            cases = ", ".join(f"{key!r}: {value}" for key, value in zip(keys, shown, strict=True))
            text = f"switch_case({_shown(self.arguments[0], texts)[0]}, {{{cases}}})"
        elif not operator.template:
            text = f"{operator.name}({', '.join(_shown(a, texts)[0] for a in self.arguments)})"
        else:
            parts = []
            for place, argument in enumerate(self.arguments):
                shown_text, precedence = _shown(argument, texts)
                tight = operator.precedence + (place > 0 if operator.name != "pow" else place == 0)
                if operator.precedence == 6:
                    tight = 7  # comparisons do not chain
                bare = operator.precedence >= 18 and place > 0
                parts.append(shown_text if bare or precedence >= tight else f"({shown_text})")
            text = operator.template.format(*parts)
        if len(text) > _LONGEST:
            return "...", 18
        return text, operator.precedence

    # -- what cannot be done with an expression -------------------------------------------

    def __bool__(self) -> NoReturn:
        raise ExpressionError(
            f"{self} has no single truth value: it differs between architectures; use "
            "MutableExpression.condition(...), .case(...), .max(...) or .min(...) instead of if, and, "
            f"or, max, min, and .equals(...) to compare structure{_plain_layer_hint()}"
        )

    def _refuse_number(self) -> NoReturn:
        raise ExpressionError(
            f"a plain number is needed here, but {self} differs between architectures; inside forward "
            "use nas_space.active(...), inside a constructor ensure_frozen(...), and for a conversion "
            f"MutableExpression.to_int(...) or .to_float(...){_plain_layer_hint()}"
        )

    def __index__(self) -> NoReturn:
        self._refuse_number()

    def __int__(self) -> NoReturn:
        self._refuse_number()

    def __float__(self) -> NoReturn:
        self._refuse_number()

    def __iter__(self) -> NoReturn:
        raise ExpressionError(f"{self} cannot be iterated over: its length differs between architectures")

    def __contains__(self, item: object) -> NoReturn:
        raise ExpressionError(f"'in' needs a plain container, but {self} differs between architectures")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (_program(self),)

    # -- the operators --------------------------------------------------------------------

    def __getitem__(self, key: Any) -> MutableExpression[Any]:
        return apply("getitem", self, key)

    def __round__(self, ndigits: Any = None) -> MutableExpression[Any]:
        return apply("round", self) if ndigits is None else apply("round_to", self, ndigits)

    def __trunc__(self) -> MutableExpression[int]:
        return apply("trunc", self)

    def __floor__(self) -> MutableExpression[int]:
        return apply("floor", self)

    def __ceil__(self) -> MutableExpression[int]:
        return apply("ceil", self)

    def __neg__(self) -> MutableExpression[Any]:
        return apply("neg", self)

    def __pos__(self) -> MutableExpression[Any]:
        return apply("pos", self)

    def __invert__(self) -> MutableExpression[Any]:
        return apply("invert", self)

    def __abs__(self) -> MutableExpression[Any]:
        return apply("abs", self)

    def __add__(self, other: Any) -> MutableExpression[Any]:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> MutableExpression[Any]:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> MutableExpression[Any]:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> MutableExpression[Any]:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> MutableExpression[Any]:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> MutableExpression[Any]:
        return apply("mul", other, self)

    def __matmul__(self, other: Any) -> MutableExpression[Any]:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> MutableExpression[Any]:
        return apply("matmul", other, self)

    def __truediv__(self, other: Any) -> MutableExpression[Any]:
        return apply("truediv", self, other)

    def __rtruediv__(self, other: Any) -> MutableExpression[Any]:
        return apply("truediv", other, self)

    def __floordiv__(self, other: Any) -> MutableExpression[Any]:
        return apply("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> MutableExpression[Any]:
        return apply("floordiv", other, self)

    def __mod__(self, other: Any) -> MutableExpression[Any]:
        return apply("mod", self, other)

    def __rmod__(self, other: Any) -> MutableExpression[Any]:
        return apply("mod", other, self)

    def __divmod__(self, other: Any) -> MutableExpression[Any]:
        return apply("divmod", self, other)

    def __rdivmod__(self, other: Any) -> MutableExpression[Any]:
        return apply("divmod", other, self)

    def __pow__(self, other: Any, modulo: Any = None) -> MutableExpression[Any]:
        return apply("pow", self, other) if modulo is None else apply("powmod", self, other, modulo)

    def __rpow__(self, other: Any, modulo: Any = None) -> MutableExpression[Any]:
        return apply("pow", other, self) if modulo is None else apply("powmod", other, self, modulo)

    def __lshift__(self, other: Any) -> MutableExpression[Any]:
        return apply("lshift", self, other)

    def __rlshift__(self, other: Any) -> MutableExpression[Any]:
        return apply("lshift", other, self)

    def __rshift__(self, other: Any) -> MutableExpression[Any]:
        return apply("rshift", self, other)

    def __rrshift__(self, other: Any) -> MutableExpression[Any]:
        return apply("rshift", other, self)

    def __and__(self, other: Any) -> MutableExpression[Any]:
        return apply("and", self, other)

    def __rand__(self, other: Any) -> MutableExpression[Any]:
        return apply("and", other, self)

    def __xor__(self, other: Any) -> MutableExpression[Any]:
        return apply("xor", self, other)

    def __rxor__(self, other: Any) -> MutableExpression[Any]:
        return apply("xor", other, self)

    def __or__(self, other: Any) -> MutableExpression[Any]:
        return apply("or", self, other)

    def __ror__(self, other: Any) -> MutableExpression[Any]:
        return apply("or", other, self)

    def __lt__(self, other: Any) -> MutableExpression[bool]:
        return apply("lt", self, other)

    def __le__(self, other: Any) -> MutableExpression[bool]:
        return apply("le", self, other)

    def __gt__(self, other: Any) -> MutableExpression[bool]:
        return apply("gt", self, other)

    def __ge__(self, other: Any) -> MutableExpression[bool]:
        return apply("ge", self, other)

    def __eq__(self, other: object) -> MutableExpression[bool]:  # type: ignore[override]
        return apply("eq", self, other)

    def __ne__(self, other: object) -> MutableExpression[bool]:  # type: ignore[override]
        return apply("ne", self, other)

    __hash__ = Node.__hash__

    # -- what Python's syntax cannot say --------------------------------------------------

    @staticmethod
    def to_int(value: Any) -> Any:
        """``int(value)``, truncating towards zero; an expression of it where that is needed."""
        return _apply_or_compute("int", value)

    @staticmethod
    def to_float(value: Any) -> Any:
        """``float(value)``; an expression of it where that is needed."""
        return _apply_or_compute("float", value)

    @staticmethod
    def condition(predicate: Any, true: Any, false: Any) -> Any:
        """``true`` where the predicate holds, else ``false``; only that one is evaluated.

        >>> from nas_space.mutable import Categorical
        >>> a = Categorical([1, 2], label='a')
        >>> MutableExpression.condition(a > 1, a * 10, 0).freeze({'a': 2})
        20
        >>> MutableExpression.condition(2 > 1, 'plain', 0)
        'plain'
        """
        if not isinstance(predicate, Node):
            return true if predicate else false
        return apply("condition", predicate, true, false)

    @staticmethod
    def case(pairs: Iterable[tuple[Any, Any]]) -> Any:
        """The value of the first pair whose predicate holds.

        Parameters
        ----------
        pairs
            ``(predicate, value)`` pairs; make the last predicate ``True`` to cover the rest.

        Raises
        ------
        ValueError
            On evaluation, if no predicate holds.
        """
        flat: list[Any] = []
        for predicate, value in pairs:
            if isinstance(predicate, Node):
                flat += [predicate, value]
            elif predicate:
                flat += [True, value]
                break
        if not flat:
            raise ValueError("no case holds; make the last predicate True to cover the rest")
        return flat[1] if flat[0] is True else apply("case", *flat)

    @staticmethod
    def switch_case(branch: Any, expressions: Mapping[Any, Any]) -> Any:
        """The value of the branch that ``branch`` selects; only that one is evaluated.

        >>> from nas_space.mutable import Categorical
        >>> op = Categorical(['conv', 'pool'], label='op')
        >>> MutableExpression.switch_case(op, {'conv': 9, 'pool': 0}).freeze({'op': 'conv'})
        9
        """
        if not isinstance(branch, Node):
            if branch not in expressions:
                raise KeyError(f"switch_case has no branch for {branch!r}; it has {list(expressions)!r}")
            return expressions[branch]
        return apply("switch_case", branch, tuple(expressions), *expressions.values())

    @staticmethod
    def max(first: Any, *others: Any) -> Any:
        """The largest, as the built-in ``max``: of several arguments, or of one iterable."""
        return _extreme("max", first, others)

    @staticmethod
    def min(first: Any, *others: Any) -> Any:
        """The smallest, as the built-in ``min``: of several arguments, or of one iterable."""
        return _extreme("min", first, others)

    @staticmethod
    def sum(terms: Iterable[Any]) -> Any:
        """The sum as one flat node, which thousands of terms can go into."""
        items = list(terms)
        if not any(isinstance(item, Node) for item in items):
            return sum(items)
        return apply("sum", *items)

    def int(self) -> MutableExpression[Any]:
        """``to_int(self)``."""
        return apply("int", self)

    def float(self) -> MutableExpression[Any]:
        """``to_float(self)``."""
        return apply("float", self)


def apply(name: str, *arguments: Any) -> MutableExpression[Any]:
    """The node of an operator over arguments of which at least one is a node."""
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


def _shown(argument: Any, texts: dict[Node, tuple[str, int]]) -> tuple[str, int]:
    if isinstance(argument, Node):
        return texts[argument]
    text = repr(argument)
    return text, 13 if text.startswith("-") else 18


def _refuse_hidden(argument: Any, operator: Operator) -> None:
    """Symbols inside a list or a dict would not be seen by anything that walks the expression."""
    if isinstance(argument, (list, tuple, set, frozenset)):
        inner: Iterable[Any] = argument
    elif isinstance(argument, dict):
        inner = [*argument, *argument.values()]
    else:
        if isinstance(argument, Mutable) and not isinstance(argument, Node):
            raise ExpressionError(
                f"{operator.name} takes symbols, expressions and plain values, but got {argument!r}"
            )
        return
    for item in inner:
        if isinstance(item, Mutable):
            raise ExpressionError(
                f"{item} stands inside a {type(argument).__name__} given to {operator.name!r}, where it "
                "cannot be tracked; give it as an argument of its own, or choose among whole lists "
                "with Categorical([[...], [...]])"
            )
        _refuse_hidden(item, operator)


def _plain_layer_hint() -> str:
    """Names the layer to use when a plain torch.nn layer was given an expression."""
    frame = sys._getframe(2)
    while frame is not None:  # type: ignore[redundant-expr]
        owner = frame.f_locals.get("self")
        module = type(owner).__module__
        if module.startswith("torch.nn.modules") and frame.f_code.co_name == "__init__":
            name = type(owner).__name__
            return f"; if it is an argument of a layer, use nas_space.nn.Mutable{name} instead of torch.nn.{name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


# Pickles hold a flat program rather than nested nodes: an expression may be deeper than
# Python's recursion limit.


class _Place(int):
    """In a program, a reference to an earlier step."""


def _program(root: Node) -> list[tuple[Any, ...]]:
    places: dict[Node, int] = {}
    program: list[tuple[Any, ...]] = []
    for node in postorder(root):
        if node.operator is None:
            program.append((None, node))
        else:
            arguments = tuple(_Place(places[a]) if isinstance(a, Node) else a for a in node.arguments)
            program.append((node.operator, arguments))
        places[node] = len(program) - 1
    return program


def _rebuild(program: list[tuple[Any, ...]]) -> Any:
    nodes: list[Any] = []
    for operator, content in program:
        if operator is None:
            nodes.append(content)
        else:
            arguments = tuple(nodes[a] if type(a) is _Place else a for a in content)
            nodes.append(MutableExpression(operator, arguments))
    return nodes[-1]
