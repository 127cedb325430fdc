"""Expressions of this library as NNI's: the same operators over symbols of the same labels."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from ..errors import SpaceError
from ..mutable import Categorical, CategoricalMultiple, MutableSymbol, Numerical
from ..mutable.node import Node, postorder
from ..mutable.operators import CASE, CONDITION, SWITCH, Operator
from ..mutable.symbols import MISSING

__all__ = ["Expressions", "Unreadable", "subsets_class"]


class Expressions:
    """What makes NNI's form of an expression; the same one each time.

    Laziness is lost: NNI computes every branch of a ``switch_case``.
    """

    def __init__(self) -> None:
        self._known: dict[Node, Any] = {}

    def __call__(self, expression: Any) -> Any:
        """NNI's form of an expression; a plain value is its own."""
        if not isinstance(expression, Node):
            return expression
        known = self._known
        for node in postorder(expression):
            if node not in known:
                known[node] = self._symbol(node) if node.operator is None else self._node(node)
        return known[expression]

    def label(self, symbol: MutableSymbol[Any]) -> Any:
        """Return the label of a symbol as NNI takes it: whole, whatever scope is around."""
        from nni.mutable.utils import label

        return label(list(symbol.label.parts))

    def _node(self, node: Node) -> Any:
        from nni.mutable import MutableExpression

        # The three lazy operators have constructors there; any other is its Python function, which
        # NNI calls on values and prints by a template, so it need not know the operator.
        operator: Any = node.operator
        arguments = [self._known.get(a, a) if isinstance(a, Node) else a for a in node.arguments]
        if operator is CONDITION:
            return MutableExpression.condition(*arguments)
        if operator is CASE:
            pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
            return MutableExpression.case(pairs)
        if operator is SWITCH:
            branch, keys, *values = arguments
            return MutableExpression.switch_case(branch, dict(zip(keys, values, strict=True)))
        return MutableExpression(operator.scalar, _template(operator, len(arguments)), arguments)

    def _symbol(self, symbol: Any) -> Any:
        import nni.mutable as theirs

        default = {} if symbol.default_value is MISSING else {"default": symbol.default_value}
        common: dict[str, Any] = {"label": self.label(symbol), **default}
        if isinstance(symbol, (Categorical, CategoricalMultiple)):
            weights = symbol._given_weights
            common["weights"] = None if weights is None else list(weights)
            if isinstance(symbol, Categorical):
                return theirs.Categorical(list(symbol.values), **common)
            return subsets_class()(list(symbol.values), n_chosen=symbol.n_chosen, **common)
        if isinstance(symbol, Numerical):
            (low, high), keywords = symbol.arguments_of_call()
            given = {k: v for k, v in keywords.items() if v is not None and k != "default"}
            return theirs.Numerical(**given | {"low": low, "high": high} | common)
        raise SpaceError(f"NNI has no counterpart for {symbol!r}")


@cache
def subsets_class() -> Any:
    """Return NNI's choice of several values, which its TPE takes as one among all subsets."""
    from nni.mutable import CategoricalMultiple as Base

    class Subsets(Base):  # type: ignore[misc]
        def as_legacy_dict(self) -> dict[str, Any]:
            return {"_type": "choice", "_value": list(self.grid())}

    return Subsets


def _template(operator: Operator, arguments: int) -> str:
    """Return how NNI prints an operator."""
    if isinstance(operator.template, str) and operator.template:
        return operator.template
    return f"{operator.name}({', '.join(['{}'] * arguments)})"


class Unreadable:
    """Stands for an expression that a module holds: NNI has no value of it in ``forward``.

    Parameters
    ----------
    expression
        What it stands for.
    where
        The attribute that holds it.
    """

    def __init__(self, expression: Any, where: str) -> None:
        self.expression = expression
        self.where = where

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Say why there is no value."""
        raise SpaceError(
            f"forward reads {self.where}, which is {self.expression}: NNI has no counterpart for "
            "an expression that forward reads; the limit is NNI's"
        )

    # Python looks operators up in the class, so each has to be named: whatever forward does with
    # the value first is what is refused, and not what becomes of a wrong number later.
    __bool__ = __index__ = __int__ = __float__ = __iter__ = __len__ = __getitem__ = refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = refuse
    __rtruediv__ = __floordiv__ = __rfloordiv__ = __pow__ = __rpow__ = __neg__ = __call__ = refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = refuse
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.expression}>"

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            if isinstance(value, Unreadable):
                value.refuse()
        return NotImplemented
