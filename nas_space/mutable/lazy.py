"""Lazy evaluation of one architecture, which visits only the branches that are taken.

Two questions are asked of an expression.  Its *value* is what :class:`Walk` finds.  What it
*needs*, the labels that an architecture decides, is what :func:`needed` lists: a label is
active exactly when its leaf is needed.  Both take the same way at the same branches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from ..errors import SampleValidationError
from .node import Leaf, Node
from .operators import CONDITION, LOOKUP, SWITCH

__all__ = [
    "Asking",
    "Branch",
    "Condition",
    "LastCase",
    "Lookup",
    "SwitchBranch",
    "Walk",
    "evaluate",
    "needed",
    "stops",
    "way",
]

Lookup = Callable[[Any], Any]
"""Gives the value of a leaf; raises where there is none."""


class Branch:
    """A branch point of an evaluation: its selector's value decides how it goes on.

    Attributes
    ----------
    selector
        The node whose value decides.
    """

    __slots__ = ("selector",)

    def __init__(self, selector: Node) -> None:
        self.selector = selector

    def choose(self, value: Any) -> Any:
        """Return where a value leads: an argument of the lazy node, or a further branch."""
        raise NotImplementedError


class Condition(Branch):
    """Two ways, by truth."""

    __slots__ = ("no", "yes")

    def __init__(self, selector: Node, yes: Any, no: Any) -> None:
        super().__init__(selector)
        self.yes, self.no = yes, no

    def choose(self, value: Any) -> Any:
        return self.yes if value else self.no


class LastCase(Condition):
    """One way, where the selector holds."""

    __slots__ = ()

    def choose(self, value: Any) -> Any:
        if value:
            return self.yes
        raise _no_case(self.no)


class SwitchBranch(Branch):
    """A way for each of some values."""

    __slots__ = ("ways",)

    def __init__(self, selector: Node, ways: dict[Any, Any]) -> None:
        super().__init__(selector)
        self.ways = ways

    def choose(self, value: Any) -> Any:
        try:
            return self.ways[value]
        except (KeyError, TypeError):  # not there, or nothing that could be a key
            raise SampleValidationError(
                f"{self.selector} is {value!r}, for which switch_case has no branch; "
                f"its branches are {list(self.ways)!r}"
            ) from None


class Asking(Branch):
    """A look-up in a sum of factors, as a chain of branches: one for each symbol that is active.

    Whether a symbol is active may depend on the codes of those before, so the chain is made as it
    is walked.

    Parameters
    ----------
    factors
        The sum of factors.
    codes
        Symbol to code, of those that are known.
    symbol
        The next one, which is active.
    """

    __slots__ = ("codes", "factors")

    def __init__(self, factors: Any, codes: dict[Any, int], symbol: Any) -> None:
        super().__init__(symbol)
        self.factors, self.codes = factors, codes

    def choose(self, value: Any) -> Any:
        symbol: Any = self.selector
        return _asking(self.factors, {**self.codes, symbol: symbol.code(value)})


def _asking(factors: Any, codes: dict[Any, int]) -> Any:
    symbol = factors.next_needed(codes)
    return factors.at_codes(codes) if symbol is None else Asking(factors, codes, symbol)


_NOTHING = object()


def way(node: Node) -> Any:
    """Return where a lazy node leads: a branch, or an argument where there is nothing to decide."""
    return node.remember("_way", _find_way)


def _find_way(node: Node) -> Any:
    arguments = node.arguments
    if node.operator is CONDITION:
        predicate, yes, no = arguments
        if isinstance(predicate, Node):
            return Condition(predicate, yes, no)
        return yes if predicate else no
    if node.operator is LOOKUP:
        return _asking(arguments[0], {})
    if node.operator is SWITCH:
        return SwitchBranch(arguments[0], dict(zip(arguments[1], arguments[2:], strict=True)))
    # Cases are tried first to last, so the chain of branches is built from the last: ``rest`` is
    # where an architecture goes if no predicate up to here holds.  A predicate that is the constant
    # true cuts off what stands behind it, and one that is the constant false is left out.
    rest: Any = _NOTHING
    for predicate, value in zip(arguments[-2::-2], arguments[::-2], strict=True):
        if not isinstance(predicate, Node):
            rest = value if predicate else rest
        elif rest is _NOTHING:
            rest = LastCase(predicate, value, node)
        else:
            rest = Condition(predicate, value, rest)
    if rest is _NOTHING:
        raise _no_case(node)
    return rest


def _no_case(node: Node) -> SampleValidationError:
    return SampleValidationError(
        f"no case holds in {node}; make the last predicate True to cover the rest"
    )


class Walk:
    """A resumable evaluation of a value, which stops at each leaf that it needs.

    Whoever asks decides each leaf when it is reached: a draw, a sample, or a proposal of a
    strategy.  So it is a loop with a stack of its own: it can stop anywhere, and an expression may
    be deeper than Python's recursion.  Each node is computed once, as values are shared in
    ``known``.

    Parameters
    ----------
    root
        What is evaluated.
    known
        Values found so far, shared with the caller; leaves in it are those that were needed.
    sample
        Label to value, of all labels that are active, if that is known: what is not in it need
        not be asked for.
    """

    __slots__ = ("known", "root", "sample", "stack")

    def __init__(
        self,
        root: Node,
        known: dict[Node, Any] | None = None,
        sample: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.sample = sample
        self.known: dict[Node, Any] = {} if known is None else known
        self.stack: list[Node] = [root]

    def next_leaf(self) -> Leaf | None:
        """Go on to the next leaf that is needed; ``None`` at the end."""
        stack, known = self.stack, self.known
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            operator = node.operator
            if operator is None:
                return cast(Leaf, node)
            if operator is LOOKUP and self.sample is not None:
                known[node] = node.arguments[0].at(self.sample)
                continue
            if operator.lazy:
                # From the start at each visit: what was decided is in ``known``, so going the same
                # way again costs a look-up for each branch, and no state has to be kept.
                found = way(node)
                while isinstance(found, Branch) and found.selector in known:
                    found = found.choose(known[found.selector])
                if isinstance(found, Branch):
                    stack.append(found.selector)
                elif not isinstance(found, Node):
                    known[node] = found
                elif found in known:
                    known[node] = known[found]
                else:
                    stack.append(found)
                continue
            missing = [child for child in node.children if child not in known]
            if missing:
                missing.reverse()
                stack.extend(missing)
                continue
            try:
                known[node] = operator.scalar(
                    *[known[a] if isinstance(a, Node) else a for a in node.arguments]
                )
            except Exception as error:
                error.add_note(f"while evaluating {node}")
                raise
            stack.pop()
        return None

    def run(self, lookup: Lookup) -> Any:
        """Walk to the end and return the value of the root."""
        while (leaf := self.next_leaf()) is not None:
            self.known[leaf] = lookup(leaf)
        return self.known[self.root]


def evaluate(
    root: Any,
    lookup: Lookup,
    known: dict[Node, Any] | None = None,
    sample: Mapping[str, Any] | None = None,
) -> Any:
    """Return the value of an expression (of a plain value: itself).

    Parameters
    ----------
    root
        A node or a plain value.
    lookup
        Gives the value of a leaf.
    known
        Values found earlier under the same architecture; filled in.
    sample
        As of :class:`Walk`.
    """
    return Walk(root, known, sample).run(lookup) if isinstance(root, Node) else root


def needed(root: Node, known: dict[Node, Any]) -> Iterator[Leaf]:
    """Yield each leaf that an architecture needs, once, in the order in which it is needed.

    Evaluates nothing but what decides at branches, so it is much faster than a walk.  The order is
    that of a depth-first search that decides each selector before it enters a branch, so whatever
    a symbol's activity depends on is asked for before the symbol.

    Parameters
    ----------
    root
        The structure of a space.
    known
        Values of leaves.  The caller adds that of each leaf before asking for the next one.
    """
    # A branch that was passed leads where it led before, as its selector keeps its value, so parts
    # that are shared are entered once: the cost is linear in the size of the graph, not in the
    # number of paths through it.  ``trail`` is the stack of iterators of the nodes that are open.
    passed: set[Branch] = set()
    trail = [iter(stops(root))]
    while trail:
        for stop in trail[-1]:
            if not isinstance(stop, Branch):
                if stop not in known:
                    yield stop
                continue
            if stop in passed:
                continue
            passed.add(stop)
            selector = stop.selector
            if selector not in known:
                if isinstance(selector, Leaf):
                    yield selector  # the caller adds its value to ``known`` before it goes on
                else:
                    walk = Walk(selector, known)
                    while (leaf := walk.next_leaf()) is not None:
                        yield leaf
            further = stop.choose(known[selector])
            if isinstance(further, Node):
                trail.append(iter(stops(further)))
                break
            if isinstance(further, Branch):
                trail.append(iter((further,)))
                break
        else:
            trail.pop()


def stops(root: Node) -> tuple[Leaf | Branch, ...]:
    """Return the leaves and branches that a node leads to without anything to decide, in order."""
    return root.remember("_stops", _find_stops)


def _find_stops(root: Node) -> tuple[Leaf | Branch, ...]:
    found: list[Leaf | Branch] = []
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Leaf):
            found.append(node)
        elif node.operator is not None and node.operator.lazy:
            further = way(node)
            if isinstance(further, Branch):
                found.append(further)
            elif isinstance(further, Node):
                stack.append(further)
        else:
            stack.extend(reversed(node.children))
    return tuple(found)
