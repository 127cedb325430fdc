"""Evaluation of one architecture: a walk that visits only the branches that are taken.

The same walk answers two questions: what is the value, and which leaves were needed for
it.  A label is *active* exactly when its leaf was needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .node import Node
from .operators import CASE, CONDITION, SWITCH

Lookup = Callable[[Any], Any]
"""Gives the value of a leaf; raises where there is none."""


def switch_index(keys: tuple[Any, ...], value: Any) -> int:
    """Which branch of a ``switch_case`` a value selects."""
    for index, key in enumerate(keys):
        if key == value:
            return index
    raise KeyError(f"switch_case has no branch for {value!r}; its branches are {list(keys)!r}")


def lazy_step(node: Node, known: dict[Node, Any]) -> tuple[bool, Any]:
    """The next thing a lazy node needs, given what is known.

    Returns ``(True, argument)`` when the node's value is that argument's value, and
    ``(False, argument)`` when that argument must be known before anything can be said.
    """
    arguments = node.arguments
    if node.operator is CONDITION:
        predicate, yes, no = arguments
        if isinstance(predicate, Node) and predicate not in known:
            return False, predicate
        return True, yes if known.get(predicate, predicate) else no
    if node.operator is SWITCH:
        selector, keys = arguments[0], arguments[1]
        if isinstance(selector, Node) and selector not in known:
            return False, selector
        value = known[selector] if isinstance(selector, Node) else selector
        return True, arguments[2 + switch_index(keys, value)]
    assert node.operator is CASE
    for predicate, value in zip(arguments[::2], arguments[1::2], strict=True):
        if isinstance(predicate, Node):
            if predicate not in known:
                return False, predicate
            predicate = known[predicate]
        if predicate:
            return True, value
    raise ValueError(f"no case holds in {node}; make the last predicate True to cover the rest")


class Walk:
    """An evaluation under way: it can be stopped at a leaf, copied, and gone on with.

    Parameters
    ----------
    root
        What is evaluated.
    known
        Values found so far, shared with the caller; leaves in it are those that were needed.
    """

    __slots__ = ("known", "root", "stack")

    def __init__(self, root: Node, known: dict[Node, Any] | None = None) -> None:
        self.root = root
        self.known: dict[Node, Any] = {} if known is None else known
        self.stack: list[Node] = [root]

    def copy(self) -> Walk:
        """An independent walk at the same point."""
        other = Walk(self.root, dict(self.known))
        other.stack = list(self.stack)
        return other

    def next_leaf(self) -> Any | None:
        """Goes on to the next leaf that is needed; ``None`` at the end."""
        stack, known = self.stack, self.known
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            operator = node.operator
            if operator is None:
                return node
            if operator.lazy:
                settled, argument = lazy_step(node, known)
                if isinstance(argument, Node) and argument not in known:
                    stack.append(argument)
                elif settled:
                    known[node] = known[argument] if isinstance(argument, Node) else argument
                    stack.pop()
                continue
            missing = [child for child in node.children if child not in known]
            if missing:
                missing.reverse()
                stack.extend(missing)
                continue
            try:
                known[node] = operator.scalar(
                    *(known[a] if isinstance(a, Node) else a for a in node.arguments)
                )
            except Exception as error:
                error.add_note(f"while evaluating {node}")
                raise
            stack.pop()
        return None

    def run(self, lookup: Lookup) -> Any:
        """Walks to the end and returns the value of the root."""
        while (leaf := self.next_leaf()) is not None:
            self.known[leaf] = lookup(leaf)
        return self.known[self.root]


def evaluate(root: Any, lookup: Lookup, known: dict[Node, Any] | None = None) -> Any:
    """The value of an expression (of a plain value: itself).

    Parameters
    ----------
    root
        A node or a plain value.
    lookup
        Gives the value of a leaf.
    known
        Values found earlier under the same architecture; filled in.
    """
    if not isinstance(root, Node):
        return root
    if known is not None and root in known:
        return known[root]
    return Walk(root, known).run(lookup)
